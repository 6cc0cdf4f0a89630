/* table.c: see table.h. */
#include "nn/table.h"

#include "base/mapping.h"
#include "base/pool.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS_A_TILE 1024
#define FD_MIN      3 /* behind the standard streams */

static size_t row_bytes(const struct sdw_table *table)
{
    return (size_t)table->array.dim[1] * sdw_dtype_bytes(table->array.dtype);
}

/* Of a row's bytes: enough to see that another file lies there now (FNV-1a's step on words). */
static uint32_t sum_of(const char *bytes, size_t count)
{
    uint64_t sum = 14695981039346656037u, word = 0;
    for (; count >= sizeof word; bytes += sizeof word, count -= sizeof word) {
        memcpy(&word, bytes, sizeof word);
        sum = (sum ^ word) * 1099511628211u;
        sum ^= sum >> 29;
    }
    for (; count > 0; bytes++, count--)
        sum = (sum ^ (unsigned char)*bytes) * 1099511628211u;
    return (uint32_t)(sum ^ sum >> 32);
}

static void sum_rows(void *context, int64_t tile, int thread)
{
    struct sdw_table *table = context;
    int64_t end = (tile + 1) * ROWS_A_TILE;
    (void)thread;
    for (int64_t row = tile * ROWS_A_TILE; row < end && row < table->array.dim[0]; row++)
        table->sums[row] = sum_of((const char *)table->array.data + (size_t)row * row_bytes(table),
                                  row_bytes(table));
}

/* The rows lie in the file as they are: notes where, and what is in them. */
static bool stay_in_file(struct sdw_table *table)
{
    const struct sdw_mapping *mapping = table->array.mapping;
    int64_t rows = table->array.dim[0];
    table->sums = malloc((size_t)rows * sizeof *table->sums);
    table->fd = fcntl(mapping->fd, F_DUPFD_CLOEXEC, FD_MIN);
    table->start = (const char *)table->array.data - (const char *)mapping->start;
    if (!table->sums || table->fd < FD_MIN)
        return false;
    sdw_pool_run((rows + ROWS_A_TILE - 1) / ROWS_A_TILE, sum_rows, table);
    return true;
}

static bool copy(struct sdw_table *table)
{
    size_t bytes = (size_t)table->array.dim[0] * row_bytes(table);
    table->held = malloc(bytes);
    return table->held && memcpy(table->held, table->array.data, bytes);
}

void sdw_table_load(struct sdw_table *table, struct sdw_loader *loader, const char *name, int rows,
                    int channels)
{
    *table = (struct sdw_table){0};
    if (!sdw_load_array(loader, &table->array, name, rows, channels))
        return;
    struct sdw_array array = table->array;
    if (array.data && !(array.mapping ? stay_in_file : copy)(table))
        sdw_loader_out_of_memory(loader);
    sdw_loader_forget(loader, &array);
    table->array.data = table->held;
    table->array.mapping = NULL;
}

void sdw_table_free(struct sdw_table *table)
{
    if (table->fd >= FD_MIN)
        close(table->fd);
    free(table->sums);
    free(table->held);
    *table = (struct sdw_table){0};
}

static enum sdw_status read_row(const struct sdw_table *table, float *to, char *bytes, int32_t id,
                                struct sdw_error *err)
{
    size_t size = row_bytes(table);
    ssize_t got = pread(table->fd, bytes, size, table->start + (off_t)id * (off_t)size);
    if (got < 0)
        return sdw_fail_errno(err, "cannot read row %d of the token table from the model's file",
                              id);
    if ((size_t)got != size || sum_of(bytes, size) != table->sums[id])
        return sdw_fail(err, SDW_MODEL,
                        "the model's file was changed after it was loaded (row %d of its token "
                        "table): start the worker again",
                        id);
    struct sdw_array row = {.data = bytes, .dtype = table->array.dtype, .rank = 1};
    row.dim[0] = table->array.dim[1];
    sdw_array_to_f32(to, &row, 0, row.dim[0]);
    return SDW_OK;
}

enum sdw_status sdw_table_read(const struct sdw_table *table, float *to, const int32_t *ids,
                               int count, struct sdw_error *err)
{
    int64_t channels = table->array.dim[1];
    if (!table->sums && !table->held) {
        memset(to, 0, (size_t)count * (size_t)channels * sizeof *to);
        return SDW_OK;
    }
    char *bytes = malloc(row_bytes(table));
    if (!bytes)
        return sdw_fail(err, SDW_MEMORY, "no memory for a row of the token table");
    enum sdw_status status = SDW_OK;
    for (int i = 0; i < count && !status; i++, to += channels)
        if (table->held)
            sdw_array_to_f32(to, &table->array, ids[i] * channels, channels);
        else
            status = read_row(table, to, bytes, ids[i], err);
    free(bytes);
    return status;
}
