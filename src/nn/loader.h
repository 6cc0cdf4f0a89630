/* loader.h: from named arrays of a file to packed weights on a device.
 *
 * A layer asks for what it needs by name and shape; the loader keeps the first error, so that a
 * model's loading reads as its structure, without a check a line, and after an error all later
 * requests return NULL. Everything packed is noted in a `struct sdw_parameters`, which the model
 * owns: freeing a model is one call.
 *
 * Without weights (NULL) nothing is looked up: shapes alone are packed, on a device that reads no
 * data (backend/trace). */
#ifndef SDW_NN_LOADER_H
#define SDW_NN_LOADER_H

#include "tensor/backend.h"
#include "weights/weights.h"

#define SDW_LOADER_NAME_MAX 256 /* bytes of a weight's full name */

/* What a model has on its device. */
struct sdw_parameters {
    struct sdw_device *dev;
    struct sdw_pointers {
        void **entry;
        int count, capacity;
    } weights, buffers; /* struct sdw_weight; norms and embedding tables */
    size_t bytes;       /* of all of them */
    int64_t count;      /* numbers, as in the file */
};

void sdw_parameters_free(struct sdw_parameters *parameters);

struct sdw_loader {
    struct sdw_device *dev;
    const struct sdw_weights *weights;
    struct sdw_parameters *parameters;
    char prefix[SDW_LOADER_NAME_MAX]; /* "down_blocks.0.resnets.1." */
    struct sdw_error error;
};

/* Tells of every tensor that a loader without weights is asked for: tests/make_model learns from it
 * what a model's files hold. A process has one listener; NULL for none. */
struct sdw_loader_listener {
    void (*heard)(void *context, const char *name, int rank, const int64_t *dim);
    void *context;
};
void sdw_loader_listen(const struct sdw_loader_listener *listener);

/* *parameters must be zeroed. */
void sdw_loader_init(struct sdw_loader *loader, struct sdw_device *dev,
                     const struct sdw_weights *weights, struct sdw_parameters *parameters);
/* The loader's first error, or the device's: after it the model may run. */
enum sdw_status sdw_loader_finish(struct sdw_loader *loader, struct sdw_error *err);

/* For what a layer allocates itself. */
void sdw_loader_out_of_memory(struct sdw_loader *loader);

/* Names below are looked up under "prefix.name."; leave takes what enter returned. */
size_t sdw_loader_enter(struct sdw_loader *loader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sdw_loader_leave(struct sdw_loader *loader, size_t mark);

/* Is there a weight of that name? True in a trace. */
bool sdw_loader_has(const struct sdw_loader *loader, const char *name);

enum sdw_bias { SDW_BIAS_NONE, SDW_BIAS };

/* NAME.weight [out,in] or [out,in,1,1], and NAME.bias [out]. */
struct sdw_weight *sdw_load_linear(struct sdw_loader *loader, const char *name, int in, int out,
                                   enum sdw_bias bias);
/* NAME.weight [out,in,kernel,kernel] and NAME.bias [out]. */
struct sdw_weight *sdw_load_conv(struct sdw_loader *loader, const char *name, int in, int out,
                                 int kernel, struct sdw_conv_geometry geometry);
/* NAME.weight and NAME.bias [channels], to f32. groups 0: a layer norm. */
struct sdw_norm sdw_load_norm(struct sdw_loader *loader, const char *name, int channels, int groups,
                              float epsilon);
/* NAME.weight [rows,channels] as it lies on the host; sdw_loader_forget when it has been read. */
bool sdw_load_array(struct sdw_loader *loader, struct sdw_array *array, const char *name, int rows,
                    int channels);
void sdw_loader_forget(const struct sdw_loader *loader, const struct sdw_array *array);
/* NAME.weight [rows,channels] as a tensor [1,rows,1,channels] of the compute type. */
struct sdw_tensor sdw_load_table(struct sdw_loader *loader, const char *name, int rows,
                                 int channels);

/* A convolution that keeps its input's size. */
static inline struct sdw_conv_geometry sdw_conv_same(int kernel)
{
    int pad = kernel / 2;
    return (struct sdw_conv_geometry){
        .stride = 1, .top = pad, .left = pad, .bottom = pad, .right = pad};
}

/* 3x3, of the picture at twice its size. */
static inline struct sdw_conv_geometry sdw_conv_doubled(void)
{
    struct sdw_conv_geometry geometry = sdw_conv_same(3);
    geometry.doubled = true;
    return geometry;
}

#endif
