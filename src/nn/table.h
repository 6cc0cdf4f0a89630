/* table.h: an embedding table that stays in its file. Of the 49,408 rows of SD's table of tokens a
 * prompt reads 77, so they are read when they are asked for, instead of being kept: 76 MB in bf16.
 *
 * A file may change under a running worker. Every row is compared with a sum of what it was at
 * load, and nothing is mapped: a file that is cut short, overwritten or out of reach makes an
 * error, never a wrong picture or a dead process. */
#ifndef SDW_NN_TABLE_H
#define SDW_NN_TABLE_H

#include "nn/loader.h"

#include <sys/types.h>

struct sdw_table {
    struct sdw_array array; /* [rows,channels]; its data are NULL where the file is read */
    void *held;             /* a copy, where the file has the rows in another form; else NULL */
    int fd;                 /* 0: no file is read */
    off_t start;            /* of row 0 in the file */
    uint32_t *sums;         /* [rows] of the file's bytes */
};

/* NAME.weight [rows,channels]. Zeroed or loaded, also where that failed, a table may be freed. */
void sdw_table_load(struct sdw_table *table, struct sdw_loader *loader, const char *name, int rows,
                    int channels);
void sdw_table_free(struct sdw_table *table);

/* to [count,channels] = the rows of these ids, each 0..rows-1; zeros in a trace. SDW_MODEL when the
 * file is not what it was. */
enum sdw_status sdw_table_read(const struct sdw_table *table, float *to, const int32_t *ids,
                               int count, struct sdw_error *err);

#endif
