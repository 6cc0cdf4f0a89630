/* params.h: one request for an image, and the one table that says what a request may hold.
 *
 * A row of the table (params.c) serves JSON bodies, their errors, the command line, the docs and
 * the PNG's metadata. The struct travels by value in the job; sdw_params_free frees what it owns.
 */
#ifndef SDW_PIPELINE_PARAMS_H
#define SDW_PIPELINE_PARAMS_H

#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SDW_PARAMS_STEPS_MAX       150
#define SDW_PARAMS_IMAGES_MAX      8           /* of one job */
#define SDW_PARAMS_SIDE_MIN        64          /* pixels */
#define SDW_PARAMS_SIDE_MAX        2048        /* pixels */
#define SDW_PARAMS_TEXT_MAX        8192        /* bytes of a prompt */
#define SDW_PARAMS_VALUES_MAX      1000        /* of a JSON body, at any depth */
#define SDW_PARAMS_UNKNOWN_MAX     8           /* keys without a meaning that are told */
#define SDW_PARAMS_TIMEOUT_MS_MAX  604800000   /* a week */
#define SDW_PARAMS_FAULTS_MAX      32          /* faults of one request that are told */
#define SDW_PARAMS_IMAGE_BYTES_MAX (24u << 20) /* of an input image's file */

/* An input image as it came: a whole PNG, JPEG or WebP file, which was decoded once to see that it
 * is sound. */
struct sdw_params_image {
    uint8_t *bytes; /* owned; NULL: none was given */
    size_t length;
    int width, height; /* pixels, after EXIF's orientation */
};

struct sdw_params {
    char *prompt;          /* owned, never NULL in a sound request */
    char *negative_prompt; /* owned; NULL: none was given */
    char *prompt_syntax;   /* owned; NULL: "weighted" */
    char *sampler;         /* owned; NULL: the model's */
    char *schedule;        /* owned; NULL: the model's */
    int steps;             /* 0: the model's; likewise width and height */
    int width, height;     /* pixels, multiples of 8 */
    double guidance_scale;
    bool guidance_given; /* else the model's */
    uint64_t seed;
    bool seed_given; /* else one is drawn; sdw_params_complete draws it */
    int n;           /* images, seeds counted up from `seed`; 0: one */
    int clip_skip;   /* layers of the text encoder left out at its end */
    char *operation; /* owned; NULL: what the images say */
    struct sdw_params_image init_image, mask_image;
    double strength; /* 0..1: how much of the input is replaced by noise */
    bool strength_given;
    char *inpaint_method; /* owned; NULL: "blend" */
    int mask_blur;        /* pixels */
    bool paste_back;      /* kept pixels of an inpaint are the input's own */
    bool paste_back_given;
    char *rng;               /* owned; NULL: "torch-cpu" */
    double guidance_rescale; /* 0: off */
    double eta;              /* of ddim */
    bool preview;
    bool cancel_on_disconnect;
    int timeout_ms; /* from the submit to the end; 0: none */
    int priority;   /* -100..100; higher runs first */
};

void sdw_params_free(struct sdw_params *params);

/* What the loaded model makes of a request that leaves things open, and what it can. */
struct sdw_params_defaults {
    int steps, width, height;
    double guidance_scale;
    const char *sampler;
    int multiple;         /* of width and height: pixels a latent, times what the UNet halves */
    int prompt_bytes_max; /* 0: SDW_PARAMS_TEXT_MAX */
    bool (*sampler_known)(const char *name);  /* NULL: any */
    bool (*schedule_known)(const char *name); /* NULL: any */
    /* Whether the machine can draw a complete request now: SDW_MEMORY with the numbers where not.
     * From any thread. NULL: nobody knows. */
    enum sdw_status (*fits)(void *context, const struct sdw_params *params, struct sdw_error *err);
    void *context;
};

enum sdw_param_kind {
    SDW_PARAM_TEXT,
    SDW_PARAM_INTEGER,
    SDW_PARAM_REAL,
    SDW_PARAM_SEED,
    SDW_PARAM_FLAG,
    SDW_PARAM_IMAGE
};

/* Other names of one parameter, or the only values it takes: none after the first NULL. */
#define SDW_PARAM_NAMES_MAX 4

struct sdw_param_row {
    const char *name;
    enum sdw_param_kind kind;
    size_t offset, given; /* in struct sdw_params; given: of the flag that says so, or 0 */
    double min, max;
    bool required;
    const char *fallback; /* default, in words */
    const char *help;
    const char *aliases[SDW_PARAM_NAMES_MAX];
    const char *choices[SDW_PARAM_NAMES_MAX];
};

extern const struct sdw_param_row sdw_param_rows[];
extern const int sdw_param_count;

/* By name or alias; NULL when there is none. Underscores of the name may be dashes. */
const struct sdw_param_row *sdw_params_row(const char *name);

/* One thing wrong with a request. */
struct sdw_fault {
    char field[32];
    char constraint[48]; /* "range(1..=150)" */
    char message[200];   /* "steps must be between 1 and 150, got 500" */
    char value[96];      /* as JSON, cut; "" when there was none */
};

struct sdw_faults {
    int count;
    struct sdw_fault fault[SDW_PARAMS_FAULTS_MAX];
    int unknown; /* keys that no row knows: not wrong, but told */
    char unknown_key[SDW_PARAMS_UNKNOWN_MAX][32];
};

/* Reads a JSON body into *params. Every fault is noted; *params is sound when there is none.
 * Returns SDW_INVALID with the first fault's message otherwise; for a body that is not a JSON
 * object, the fault's field is "body". */
enum sdw_status sdw_params_parse(struct sdw_params *params, const char *json, size_t length,
                                 const struct sdw_params_defaults *defaults,
                                 struct sdw_faults *faults, struct sdw_error *err);

/* Writes a request as the JSON object that sdw_params_parse reads back: what is as if it had not
 * been given is left out. Images are base64, or with `digests` only the SHA-256 of their files, as
 * "init_image_sha256" (for metadata, which need not carry the input). */
enum sdw_status sdw_params_write(struct sdw_text *out, const struct sdw_params *params,
                                 bool digests, struct sdw_error *err);

/* Sets one parameter from the command line's text; underscores of the name may be dashes, and the
 * text of an image is the path of its file. False when there is no such parameter; a bad value is a
 * fault. */
bool sdw_params_set(struct sdw_params *params, const char *name, const char *value,
                    struct sdw_faults *faults);

/* After sdw_params_set: what holds for a whole request (a prompt, sizes that the model can, a known
 * sampler). */
enum sdw_status sdw_params_check(const struct sdw_params *params,
                                 const struct sdw_params_defaults *defaults,
                                 struct sdw_faults *faults, struct sdw_error *err);

/* What a sound request asks for. */
enum sdw_operation { SDW_GENERATION, SDW_TRANSFORM, SDW_INPAINT };
enum sdw_operation sdw_params_operation(const struct sdw_params *params);

/* Steps that a complete request will be told of, all its images together. */
int sdw_params_steps(const struct sdw_params *params);

/* Fills in what the request left open, and draws a seed where none was given. An image job gets
 * the size of its input, rounded down to what the model can and scaled into
 * SDW_PARAMS_SIDE_MIN..MAX; of a size given by half, the other half follows its shape. */
void sdw_params_complete(struct sdw_params *params, const struct sdw_params_defaults *defaults);

/* Of a complete request: notes a fault when the machine has not the memory for it. */
enum sdw_status sdw_params_fit(const struct sdw_params *params,
                               const struct sdw_params_defaults *defaults,
                               struct sdw_faults *faults, struct sdw_error *err);

#endif
