/* cudnn_graph.c: cuDNN's descriptors are made, filled by numbered attributes, and finalized, which
 * is where they are checked. A build keeps what it made and stops at the first refusal, so that a
 * graph reads as the list of its parts. */
#include "backend/cuda/cudnn_graph.h"

#include "backend/cuda/library.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MADE_MAX     24  /* descriptors of a graph */
#define CONFIGS_MAX  12  /* proposals that are looked at, */
#define ATTEMPTS_MAX 6   /* and made ready, of each list */
#define PLANNING_S   1.0 /* of a shape, after which no further proposal is made ready */
#define NOTES_MAX    CUDNN_NUMERICAL_NOTE_TYPE_COUNT
#define ALIGN        16 /* bytes, of every operand */

/* Names of what lies between the operations. */
enum { PRODUCT = 16, WITH_BIAS };

const char *sdw_cudnn_api_open(struct sdw_cudnn_api *api)
{
    char name[64];
    bool all = true;
    snprintf(name, sizeof name, "libcudnn.so.%d", CUDNN_MAJOR);
    *api = (struct sdw_cudnn_api){.library = sdw_cuda_library_open(name, "SDW_CUDA_CUDNN")};
    if (!api->library)
        return "is not on this machine";
#define FIND(row)                                                                                  \
    SDW_CUDA_LIBRARY_TAKE(api->row, api->library, #row);                                           \
    all &= api->row != NULL;
    SDW_CUDNN_TABLE(FIND)
#undef FIND
    return all ? NULL : "lacks a function";
}

void sdw_cudnn_api_close(struct sdw_cudnn_api *api)
{
    sdw_cuda_library_close(api->library);
    *api = (struct sdw_cudnn_api){0};
}

struct build {
    const struct sdw_cudnn_api *api;
    cudnnBackendDescriptor_t made[MADE_MAX];
    int count;
    bool fine;
};

static cudnnBackendDescriptor_t make(struct build *b, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t made = NULL;
    b->fine = b->fine && b->count < MADE_MAX &&
              b->api->cudnnBackendCreateDescriptor(type, &made) == CUDNN_STATUS_SUCCESS;
    if (b->fine)
        b->made[b->count++] = made;
    return made;
}

static void put(struct build *b, cudnnBackendDescriptor_t to, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    b->fine = b->fine && b->api->cudnnBackendSetAttribute(to, name, type, count, values) ==
                             CUDNN_STATUS_SUCCESS;
}

static void put_part(struct build *b, cudnnBackendDescriptor_t to, cudnnBackendAttributeName_t name,
                     cudnnBackendDescriptor_t part)
{
    put(b, to, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

static void finish(struct build *b, cudnnBackendDescriptor_t made)
{
    b->fine = b->fine && b->api->cudnnBackendFinalize(made) == CUDNN_STATUS_SUCCESS;
}

static void clear(struct build *b)
{
    while (b->count)
        b->api->cudnnBackendDestroyDescriptor(b->made[--b->count]);
}

static cudnnDataType_t type_of(enum sdw_dtype dtype)
{
    return dtype == SDW_F32   ? CUDNN_DATA_FLOAT
           : dtype == SDW_F16 ? CUDNN_DATA_HALF
                              : CUDNN_DATA_BFLOAT16;
}

/* A virtual tensor is one that no memory holds; one by value lies on the host. */
static cudnnBackendDescriptor_t describe(struct build *b, int64_t id, enum sdw_dtype dtype,
                                         const int64_t (*dimensions)[4],
                                         const int64_t (*strides)[4])
{
    cudnnBackendDescriptor_t t = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    const cudnnDataType_t type = type_of(dtype);
    const bool is_virtual = id >= PRODUCT, by_value = id == SDW_CUDNN_SCALE;
    const int64_t align = by_value ? sizeof(float) : ALIGN;
    put(b, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    put(b, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, *dimensions);
    put(b, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, *strides);
    put(b, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    put(b, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    put(b, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    put(b, t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    finish(b, t);
    return t;
}

/* The library lists dimensions as n, c, h, w whatever lies in memory, which its strides tell: here
 * [n,h,w,c]. */
static cudnnBackendDescriptor_t tensor(struct build *b, int64_t id, enum sdw_dtype dtype, int64_t n,
                                       int64_t h, int64_t w, int64_t c)
{
    const int64_t dimensions[] = {n, c, h, w}, strides[] = {h * w * c, 1, w * c, c};
    return describe(b, id, dtype, &dimensions, &strides);
}

/* out = conv(in, weight), with f32 sums */
static cudnnBackendDescriptor_t convolve(struct build *b, const struct sdw_cudnn_shape *s,
                                         cudnnBackendDescriptor_t out)
{
    cudnnBackendDescriptor_t in = tensor(b, SDW_CUDNN_IN, s->compute, s->n, s->h, s->w, s->in);
    cudnnBackendDescriptor_t weight =
        tensor(b, SDW_CUDNN_WEIGHT, s->compute, s->out, s->kernel, s->kernel, s->in);
    cudnnBackendDescriptor_t conv = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    const int64_t two = 2, ones[] = {1, 1}, strides[] = {s->stride, s->stride};
    const int64_t before[] = {s->top, s->left}, after[] = {s->bottom, s->right};
    const cudnnDataType_t sums = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const float one = 1, zero = 0;
    put(b, conv, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    put(b, conv, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &sums);
    put(b, conv, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    put(b, conv, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, ones);
    put(b, conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    put(b, conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    put(b, conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    finish(b, conv);
    cudnnBackendDescriptor_t operation =
        make(b, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    put(b, operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    put(b, operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    put_part(b, operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, conv);
    put_part(b, operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, in);
    put_part(b, operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, weight);
    put_part(b, operation, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, out);
    finish(b, operation);
    return operation;
}

/* out = x + y */
static cudnnBackendDescriptor_t add(struct build *b, cudnnBackendDescriptor_t out,
                                    cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t y)
{
    cudnnBackendDescriptor_t kind = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    put(b, kind, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    put(b, kind, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &type);
    finish(b, kind);
    cudnnBackendDescriptor_t operation = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    put_part(b, operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, kind);
    put_part(b, operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    put_part(b, operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, y);
    put_part(b, operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out);
    finish(b, operation);
    return operation;
}

static cudnnBackendDescriptor_t graph(struct build *b, const struct sdw_cudnn_target *target,
                                      const cudnnBackendDescriptor_t *operations, int count)
{
    cudnnBackendDescriptor_t made = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (!target->device)
        put(b, made, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
    put(b, made, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, operations);
    finish(b, made);
    return made;
}

/* conv, + bias, + residual: the last one's result is out. */
static cudnnBackendDescriptor_t graph_of_shape(struct build *b,
                                               const struct sdw_cudnn_target *target,
                                               const struct sdw_cudnn_shape *s)
{
    cudnnBackendDescriptor_t operation[3];
    int count = 0;
    cudnnBackendDescriptor_t product = tensor(b, PRODUCT, SDW_F32, s->n, s->oh, s->ow, s->out);
    operation[count++] = convolve(b, s, product);
    cudnnBackendDescriptor_t out =
        tensor(b, SDW_CUDNN_OUT, s->out_type, s->n, s->oh, s->ow, s->out);
    cudnnBackendDescriptor_t sum =
        s->residual ? tensor(b, WITH_BIAS, SDW_F32, s->n, s->oh, s->ow, s->out) : out;
    operation[count++] = add(b, sum, product, tensor(b, SDW_CUDNN_BIAS, SDW_F32, 1, 1, 1, s->out));
    if (s->residual)
        operation[count++] = add(
            b, out, sum, tensor(b, SDW_CUDNN_RESIDUAL, s->out_type, s->n, s->oh, s->ow, s->out));
    return graph(b, target, operation, count);
}

/* As n, heads, tokens, width; in memory [n,tokens,heads*width]. */
static cudnnBackendDescriptor_t rows(struct build *b, int64_t id, const struct sdw_cudnn_heads *s,
                                     int64_t tokens)
{
    const int64_t dimensions[] = {s->n, s->heads, tokens, s->width}, c = s->heads * s->width;
    const int64_t strides[] = {tokens * c, s->width, c, 1};
    return describe(b, id, s->compute, &dimensions, &strides);
}

/* The library's own attention: one operation. */
static cudnnBackendDescriptor_t graph_of_heads(struct build *b,
                                               const struct sdw_cudnn_target *target,
                                               const struct sdw_cudnn_heads *s)
{
    const int64_t ones[] = {1, 1, 1, 1};
    cudnnBackendDescriptor_t query = rows(b, SDW_CUDNN_QUERY, s, s->queries);
    cudnnBackendDescriptor_t key = rows(b, SDW_CUDNN_KEY, s, s->keys);
    cudnnBackendDescriptor_t value = rows(b, SDW_CUDNN_VALUE, s, s->keys);
    cudnnBackendDescriptor_t out = rows(b, SDW_CUDNN_OUT, s, s->queries);
    cudnnBackendDescriptor_t scale = describe(b, SDW_CUDNN_SCALE, SDW_F32, &ones, &ones);
    cudnnBackendDescriptor_t operation = make(b, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    put_part(b, operation, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, query);
    put_part(b, operation, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, key);
    put_part(b, operation, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, value);
    put_part(b, operation, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, out);
    put_part(b, operation, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    finish(b, operation);
    return graph(b, target, &operation, 1);
}

/* What the engine of a configuration is known for, and its number. */
static bool welcome(const struct sdw_cudnn_api *api, cudnnBackendDescriptor_t config, int *number)
{
    struct build b = {.api = api, .fine = true};
    cudnnBackendDescriptor_t engine = make(&b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendNumericalNote_t note[NOTES_MAX];
    int64_t count = 0, index = -1;
    bool fine =
        b.fine &&
        api->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                                      &engine) == CUDNN_STATUS_SUCCESS &&
        api->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1,
                                      &count, &index) == CUDNN_STATUS_SUCCESS &&
        api->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                      CUDNN_TYPE_NUMERICAL_NOTE, NOTES_MAX, &count,
                                      note) == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; i < count && i < NOTES_MAX && fine; i++)
        fine = note[i] != CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS &&
               note[i] != CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION &&
               note[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    clear(&b);
    *number = (int)index;
    return fine;
}

/* An execution plan for the target, still to be filled. */
static cudnnBackendDescriptor_t new_plan(struct build *b, const struct sdw_cudnn_target *target)
{
    cudnnBackendDescriptor_t made = make(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (target->device)
        put_part(b, made, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, target->device);
    else
        put(b, made, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
    return made;
}

/* Finalizes it; false, with nothing left, where it cannot be run, or wants more work space. */
static bool make_ready(struct sdw_cudnn_plan *plan, struct build *b, cudnnBackendDescriptor_t made,
                       size_t workspace_bytes_max)
{
    int64_t count = 0, bytes = 0;
    finish(b, made);
    bool fine = b->fine &&
                b->api->cudnnBackendGetAttribute(made, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                                 CUDNN_TYPE_INT64, 1, &count,
                                                 &bytes) == CUDNN_STATUS_SUCCESS &&
                bytes >= 0 && (uint64_t)bytes <= workspace_bytes_max;
    if (fine)
        *plan = (struct sdw_cudnn_plan){.plan = made, .workspace_bytes = (size_t)bytes};
    else
        clear(b);
    return fine;
}

static bool make_ready_by(struct sdw_cudnn_plan *plan, const struct sdw_cudnn_api *api,
                          const struct sdw_cudnn_target *target, cudnnBackendDescriptor_t config,
                          size_t workspace_bytes_max)
{
    struct build b = {.api = api, .fine = true};
    cudnnBackendDescriptor_t made = new_plan(&b, target);
    put_part(&b, made, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    if (!make_ready(plan, &b, made, workspace_bytes_max))
        return false;
    plan->config = config;
    return true;
}

char *sdw_cudnn_plan_text(const struct sdw_cudnn_plan *plan, const struct sdw_cudnn_api *api,
                          size_t *length)
{
    int64_t bytes = 0, got = 0;
    if (api->cudnnBackendGetAttribute(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                      CUDNN_TYPE_CHAR, 0, &bytes, NULL) != CUDNN_STATUS_SUCCESS ||
        bytes <= 0)
        return NULL;
    char *text = malloc((size_t)bytes);
    if (text && (api->cudnnBackendGetAttribute(
                     plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                     bytes, &got, text) != CUDNN_STATUS_SUCCESS ||
                 got <= 0 || got > bytes)) {
        free(text);
        return NULL;
    }
    *length = (size_t)got;
    return text;
}

bool sdw_cudnn_plan_restore(struct sdw_cudnn_plan *plan, const struct sdw_cudnn_api *api,
                            const struct sdw_cudnn_target *target, const char *text, size_t length,
                            size_t workspace_bytes_max)
{
    struct build b = {.api = api, .fine = true};
    cudnnBackendDescriptor_t made = new_plan(&b, target);
    put(&b, made, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)length,
        text);
    return make_ready(plan, &b, made, workspace_bytes_max);
}

/* Appends the plans of one list of proposals. */
static int propose(struct sdw_cudnn_plan *plans, int max, const struct sdw_cudnn_api *api,
                   const struct sdw_cudnn_target *target, cudnnBackendDescriptor_t graph,
                   cudnnBackendHeurMode_t mode, size_t workspace_bytes_max)
{
    struct build b = {.api = api, .fine = true};
    cudnnBackendDescriptor_t config[CONFIGS_MAX];
    cudnnBackendDescriptor_t list = make(&b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    int64_t found = 0;
    int count = 0, attempts = 0;
    double start = sdw_clock_seconds();
    put_part(&b, list, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    put(&b, list, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (target->device)
        put_part(&b, list, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, target->device);
    finish(&b, list);
    for (int i = 0; i < CONFIGS_MAX; i++)
        config[i] = make(&b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    bool fine = b.fine && api->cudnnBackendGetAttribute(list, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGS_MAX,
                                                        &found, config) == CUDNN_STATUS_SUCCESS;
    for (int i = 0; i < found && i < CONFIGS_MAX && fine && count < max; i++) {
        int engine;
        if (count && sdw_clock_seconds() - start > PLANNING_S)
            break;
        if (attempts == ATTEMPTS_MAX || !welcome(api, config[i], &engine))
            continue;
        attempts++;
        if (!make_ready_by(&plans[count], api, target, config[i], workspace_bytes_max))
            continue;
        plans[count++].engine = engine;
        for (int k = 0; k < b.count; k++) /* it is the plan's now */
            if (b.made[k] == config[i])
                b.made[k--] = b.made[--b.count];
    }
    clear(&b);
    return count;
}

/* Of a graph that is done with then. */
static int propose_all(struct sdw_cudnn_plan *plans, int max, struct build *b,
                       const struct sdw_cudnn_target *target, cudnnBackendDescriptor_t made,
                       size_t workspace_bytes_max)
{
    int count = 0;
    if (b->fine)
        count = propose(plans, max, b->api, target, made, CUDNN_HEUR_MODE_A, workspace_bytes_max);
    /* One of the other list is enough: some of them are compiled for half a minute. */
    if (b->fine && count == 0)
        count =
            propose(plans, 1, b->api, target, made, CUDNN_HEUR_MODE_FALLBACK, workspace_bytes_max);
    clear(b);
    return count;
}

int sdw_cudnn_plans_convolve(struct sdw_cudnn_plan *plans, int max, const struct sdw_cudnn_api *api,
                             const struct sdw_cudnn_target *target,
                             const struct sdw_cudnn_shape *shape, size_t workspace_bytes_max)
{
    struct build b = {.api = api, .fine = true};
    cudnnBackendDescriptor_t made = graph_of_shape(&b, target, shape);
    return propose_all(plans, max, &b, target, made, workspace_bytes_max);
}

int sdw_cudnn_plans_attend(struct sdw_cudnn_plan *plans, int max, const struct sdw_cudnn_api *api,
                           const struct sdw_cudnn_target *target,
                           const struct sdw_cudnn_heads *heads, size_t workspace_bytes_max)
{
    struct build b = {.api = api, .fine = true};
    cudnnBackendDescriptor_t made = graph_of_heads(&b, target, heads);
    return propose_all(plans, max, &b, target, made, workspace_bytes_max);
}

void sdw_cudnn_plan_free(struct sdw_cudnn_plan *plan, const struct sdw_cudnn_api *api)
{
    if (plan->plan)
        api->cudnnBackendDestroyDescriptor(plan->plan);
    if (plan->config)
        api->cudnnBackendDestroyDescriptor(plan->config);
    *plan = (struct sdw_cudnn_plan){0};
}
