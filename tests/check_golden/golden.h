/* golden.h: what the sections of check_golden share.
 *
 * Each section compares one room of the program with tensors that the reference implementation
 * computed (see
 * ../shared/golden/README.md for what each tensor is and where the tolerances come from), and
 * prints a line a case. */
#ifndef SDW_TESTS_GOLDEN_H
#define SDW_TESTS_GOLDEN_H

#include "base/status.h"
#include "tensor/tensor.h"
#include "weights/weights.h"

#include <stdbool.h>
#include <stdint.h>

struct sdw_device;
struct sdw_model_config;

struct golden {
    const char *dir;         /* laid out as ../shared/golden */
    const char *models;      /* folder of the models, DIR/models unless told */
    const char *filter;      /* only cases whose name contains it; NULL for all */
    struct sdw_device *dev;  /* where models run */
    double tolerance_factor; /* 1 on the CPU in f32; 0 to compare by PSNR, for 16-bit types */
    int passed, failed, skipped;
};

/* True when the case is to be run: its name, "section/case", contains the filter. */
bool golden_wanted(const struct golden *g, const char *name);

/* One line and one count each. `error` passes when it is at most `tolerance` (NaN fails). A skip
 * that the filter does not want is none. */
void golden_report(struct golden *g, const char *name, double error, double tolerance);
void golden_fail(struct golden *g, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void golden_skip(struct golden *g, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Opens g->dir/path. NULL when it does not exist; a broken file counts as a failure named `path`.
 */
struct sdw_weights *golden_open(struct golden *g, const char *path);

/* An F32 copy of an array (the caller frees it), NULL when it is absent. *count may be NULL. */
float *golden_floats(const struct sdw_weights *file, int64_t *count, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Largest |got - want| over the largest |want|. */
double golden_relative_error(const float *got, const float *want, int64_t count);

/* What the arithmetic of a model gave: its relative error against `tolerance` times the factor, or
 * its PSNR against GOLDEN_DB_MIN. */
void golden_compare(struct golden *g, const char *name, const float *got, const float *want,
                    int64_t count, double tolerance);

/* The peak signal to noise ratio against GOLDEN_DB_MIN; `peak` is the signal's largest value. */
#define GOLDEN_DB_MIN 40
void golden_report_psnr(struct golden *g, const char *name, const float *got, const float *want,
                        int64_t count, double peak);

/* Reads the configuration of models/NAME. A failure is counted, and false returned. */
bool golden_model(struct golden *g, const char *name, struct sdw_model_config *config);

/* Calls check for every .safetensors file of a section's folder, in order of their names; `stem` is
 * the name without the ending. A section without a folder is counted as skipped. */
void golden_each_file(struct golden *g, const char *section,
                      void (*check)(struct golden *g, const char *stem,
                                    const struct sdw_weights *file));

/* The sections, in the order in which they run. */
void golden_tokenizer(struct golden *g);
void golden_noise(struct golden *g);
void golden_sched(struct golden *g);
void golden_text(struct golden *g);
void golden_unet(struct golden *g);
void golden_vae(struct golden *g);
void golden_pipe(struct golden *g);

#endif
