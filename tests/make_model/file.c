/* file.c: golden/README.md's recipe: FNV-1a over the name seeds SplitMix64, whose upper 24 bits are
 * a number in -1..1, scaled by the kind of tensor. Every number follows from its index alone, so
 * all threads make them at once. */
#include "make_model.h"

#include "base/half.h"
#include "base/pool.h"
#include "base/text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK            (1 << 20) /* numbers written at a time */
#define TILE             (1 << 14) /* numbers of a thread's piece */
#define HEADER_BYTES_MAX (16u << 20)

bool make_file_add(struct make_file *file, const char *name, const char *dtype, int rank,
                   const int64_t *dim)
{
    static const char *const known[] = {"F16", "F32", "I64"};
    const char *type = NULL;
    for (int i = 0; i < 3; i++)
        if (dtype && strcmp(known[i], dtype) == 0)
            type = known[i];
    if (!type || rank < 1 || rank > SDW_RANK_MAX) {
        fprintf(stderr, "make_model: %s: dtype %s, %d dimensions\n", name, dtype ? dtype : "?",
                rank);
        return false;
    }
    if (file->count == file->capacity) {
        int more = file->capacity ? 2 * file->capacity : 256;
        struct make_tensor *grown = realloc(file->tensor, (size_t)more * sizeof *grown);
        if (!grown)
            return false;
        file->tensor = grown;
        file->capacity = more;
    }
    struct make_tensor *tensor = &file->tensor[file->count];
    *tensor = (struct make_tensor){.name = strdup(name), .dtype = type, .rank = rank};
    memcpy(tensor->dim, dim, (size_t)rank * sizeof *dim);
    file->count += tensor->name != NULL;
    return tensor->name != NULL;
}

static int64_t element_count(const struct make_tensor *tensor)
{
    int64_t count = 1;
    for (int i = 0; i < tensor->rank; i++)
        count *= tensor->dim[i];
    return count;
}

int64_t make_file_parameters(const struct make_file *file)
{
    int64_t count = 0;
    for (int i = 0; i < file->count; i++)
        count += element_count(&file->tensor[i]);
    return count;
}

static size_t element_bytes(const struct make_tensor *tensor)
{
    return tensor->dtype[0] == 'I' ? 8 : tensor->dtype[1] == '3' ? 4 : 2;
}

/* ---- the numbers ---- */

static uint64_t seed_of(const struct make_file *file, const struct make_tensor *tensor)
{
    char key[1024];
    snprintf(key, sizeof key, "golden-1/%s/%s/%s", file->model, file->component, tensor->name);
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a, 64 bits */
    for (const char *c = key; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return hash;
}

/* Output i of SplitMix64, as a number in -1..1. */
static double unit_value(uint64_t seed, int64_t i)
{
    uint64_t a = seed + ((uint64_t)i + 1) * 0x9E3779B97F4A7C15u;
    a = (a ^ a >> 30) * 0xBF58476D1CE4E5B9u;
    a = (a ^ a >> 27) * 0x94D049BB133111EBu;
    return 2 * ((double)((a ^ a >> 31) >> 40) * 0x1p-24) - 1;
}

static bool ends_with(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcmp(name + n - m, ending) == 0;
}

/* A number is offset + scale * unit_value. */
static void kind_of(const struct make_tensor *tensor, double *offset, double *scale)
{
    *offset = 0;
    if (tensor->rank == 1) {
        *offset = ends_with(tensor->name, ".weight") ? 1 : 0;
        *scale = 0.1;
    } else if (ends_with(tensor->name, "token_embedding.weight")) {
        *scale = 0.5;
    } else if (ends_with(tensor->name, "position_embedding.weight")) {
        *scale = 0.2;
    } else {
        *scale = sqrt(3.0 / (double)(element_count(tensor) / tensor->dim[0]));
    }
}

struct job {
    const struct make_tensor *tensor;
    uint64_t seed;
    double offset, scale;
    int64_t first, count; /* of this chunk */
    void *to;
};

static void make_tile(void *context, int64_t tile, int thread)
{
    (void)thread;
    const struct job *job = context;
    int64_t end = (tile + 1) * TILE < job->count ? (tile + 1) * TILE : job->count;
    for (int64_t i = tile * TILE; i < end; i++) {
        if (job->tensor->dtype[0] == 'I') {
            ((int64_t *)job->to)[i] = job->first + i; /* position_ids */
            continue;
        }
        float value = (float)(job->offset + job->scale * unit_value(job->seed, job->first + i));
        if (job->tensor->dtype[1] == '3')
            ((float *)job->to)[i] = value;
        else
            ((uint16_t *)job->to)[i] = sdw_f32_to_f16(value);
    }
}

static bool write_tensor(FILE *out, const struct make_file *file, const struct make_tensor *tensor,
                         void *chunk)
{
    struct job job = {.tensor = tensor, .seed = seed_of(file, tensor), .to = chunk};
    kind_of(tensor, &job.offset, &job.scale);
    int64_t total = element_count(tensor);
    for (job.first = 0; job.first < total; job.first += CHUNK) {
        job.count = total - job.first < CHUNK ? total - job.first : CHUNK;
        sdw_pool_run((job.count + TILE - 1) / TILE, make_tile, &job);
        if (fwrite(chunk, element_bytes(tensor), (size_t)job.count, out) != (size_t)job.count)
            return false;
    }
    return true;
}

/* ---- the file ---- */

static bool write_header(FILE *out, const struct make_file *file)
{
    struct sdw_text text;
    sdw_text_init(&text, HEADER_BYTES_MAX);
    bool good = sdw_text_printf(&text, NULL, "{") == SDW_OK;
    int64_t at = 0;
    for (int i = 0; i < file->count && good; i++) {
        const struct make_tensor *tensor = &file->tensor[i];
        int64_t end = at + element_count(tensor) * (int64_t)element_bytes(tensor);
        good = sdw_text_printf(&text, NULL, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "",
                               tensor->name, tensor->dtype) == SDW_OK;
        for (int d = 0; d < tensor->rank && good; d++)
            good =
                sdw_text_printf(&text, NULL, "%s%" PRId64, d ? "," : "", tensor->dim[d]) == SDW_OK;
        good = good && sdw_text_printf(&text, NULL, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}",
                                       at, end) == SDW_OK;
        at = end;
    }
    good = good && sdw_text_printf(&text, NULL, "}") == SDW_OK;
    while (good && text.length % 8 != 0) /* the data begin aligned */
        good = sdw_text_printf(&text, NULL, " ") == SDW_OK;
    uint64_t length = text.length;
    good = good && fwrite(&length, 8, 1, out) == 1 &&
           fwrite(text.data, 1, text.length, out) == text.length;
    sdw_text_free(&text);
    return good;
}

bool make_file_write(struct make_file *file, const char *path)
{
    FILE *out = fopen(path, "wb");
    void *chunk = malloc((size_t)CHUNK * sizeof(int64_t));
    bool good = out && chunk && write_header(out, file);
    for (int i = 0; i < file->count; i++) {
        good = good && write_tensor(out, file, &file->tensor[i], chunk);
        free(file->tensor[i].name);
    }
    good = (out && fclose(out) == 0) && good;
    if (!good)
        perror(path);
    free(chunk);
    free(file->tensor);
    return good;
}
