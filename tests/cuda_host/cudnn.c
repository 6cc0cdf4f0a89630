/* cudnn.c: a few functions that stand in for cuDNN's: descriptors are bags of attributes, and a
 * plan computes its convolution on this machine, in f32, when the stand-in of the driver lets it.
 * So the control flow of backend/cuda/cudnn.c runs as it would: plan, time, compare, remember,
 * record.
 *
 * Every shape has four engines: one that is known not to repeat itself, one that wants too much
 * work space, a good one, and a wrong one. SDW_CUDA_HOST in the environment: "cudnn-none" (no
 * engines), "cudnn-wrong" (the good one is not, either), "cudnn-fails" (plans do not run).
 *
 * The real library is asked for its plans by test_cudnn_plans.c. */
#include "cuda_host/host.h"

#include "base/half.h"

#include <assert.h>
#include <cudnn_graph.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT         __attribute__((visibility("default")))
#define ATTRIBUTES_MAX 12
#define BYTES_MAX      64 /* of an attribute */

enum { CHANGING, GREEDY, GOOD, WRONG, ENGINES };

struct image {
    void *data;
    int64_t id;
    cudnnDataType_t type;
    int64_t size[4], step[4]; /* n, c, h, w */
};

/* What a plan computes: a convolution, or an attention. */
struct work {
    struct image out;
    union {
        struct {
            struct image in, weight, bias, residual;
            int64_t stride, top, left;
        };
        struct {
            struct image q, k, v, scale;
        };
    };
    bool attends;
    float error; /* that is added */
};

struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalized;
    int engine;         /* of a configuration, a plan */
    struct work *plans; /* of a plan; its graph may be gone */
    int count;
    struct attribute {
        cudnnBackendAttributeName_t name;
        int64_t count;
        _Alignas(8) unsigned char bytes[BYTES_MAX];
    } attribute[ATTRIBUTES_MAX];
};

static int alive;

/* For tests: plans that were made ready, and their runs, since the library was opened. */
EXPORT int cuda_host_cudnn_plans, cuda_host_cudnn_runs;

static bool machine_is(const char *name)
{
    const char *wanted = getenv("SDW_CUDA_HOST");
    return wanted && strcmp(wanted, name) == 0;
}

static const struct attribute *attribute_of(const struct descriptor *d,
                                            cudnnBackendAttributeName_t name)
{
    for (int i = 0; i < d->count; i++)
        if (d->attribute[i].name == name)
            return &d->attribute[i];
    return NULL;
}

/* An attribute that must be there, as an array. */
static const void *value_of(const struct descriptor *d, cudnnBackendAttributeName_t name)
{
    const struct attribute *attribute = attribute_of(d, name);
    assert(attribute);
    return attribute->bytes;
}

static const struct descriptor *part_of(const struct descriptor *d,
                                        cudnnBackendAttributeName_t name)
{
    const struct descriptor *part = *(struct descriptor *const *)value_of(d, name);
    assert(part->finalized);
    return part;
}

EXPORT size_t cudnnGetVersion(void)
{
    return CUDNN_VERSION;
}

EXPORT const char *cudnnGetErrorString(cudnnStatus_t status)
{
    return status == CUDNN_STATUS_EXECUTION_FAILED ? "CUDNN_STATUS_EXECUTION_FAILED" : "CUDNN_?";
}

EXPORT cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    *handle = (cudnnHandle_t)&alive;
    return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    (void)handle;
    assert(alive == 0 && "a descriptor that nobody destroyed");
    return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    return handle == (cudnnHandle_t)&alive && stream ? CUDNN_STATUS_SUCCESS
                                                     : CUDNN_STATUS_BAD_PARAM;
}

EXPORT cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                                  cudnnBackendDescriptor_t *made)
{
    struct descriptor *d = calloc(1, sizeof *d);
    assert(d);
    d->type = type;
    alive++;
    *made = d;
    return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t made)
{
    struct descriptor *d = made;
    alive--;
    free(d->plans);
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

static size_t bytes_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    case CUDNN_TYPE_CHAR: return 1;
    default: return 4;
    }
}

EXPORT cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t to,
                                              cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t count,
                                              const void *values)
{
    struct descriptor *d = to;
    size_t bytes = bytes_of(type) * (size_t)count;
    if (name == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION) { /* as it was written below */
        if (count != sizeof *d->plans || !(d->plans = malloc(sizeof *d->plans)))
            return CUDNN_STATUS_NOT_SUPPORTED;
        memcpy(d->plans, values, sizeof *d->plans);
        return CUDNN_STATUS_SUCCESS;
    }
    if (d->finalized || d->count == ATTRIBUTES_MAX || bytes > BYTES_MAX)
        return CUDNN_STATUS_NOT_SUPPORTED;
    d->attribute[d->count].name = name;
    d->attribute[d->count].count = count;
    memcpy(d->attribute[d->count++].bytes, values, bytes);
    return CUDNN_STATUS_SUCCESS;
}

/* Proposals of a list: configurations that lead to its graph. */
static int64_t propose(const struct descriptor *list, struct descriptor **config, int64_t max)
{
    int64_t count = 0;
    for (; count < ENGINES && count < max && !machine_is("cudnn-none"); count++) {
        config[count]->engine = (int)count;
        config[count]->count = list->count;
        memcpy(config[count]->attribute, list->attribute, sizeof list->attribute);
        config[count]->finalized = true;
    }
    return count;
}

EXPORT cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const from,
                                              cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t max,
                                              int64_t *count, void *values)
{
    const struct descriptor *d = from;
    (void)type;
    *count = 1;
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: *count = propose(d, values, max); break;
    case CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION:
        *count = sizeof *d->plans;
        if (max >= *count)
            memcpy(values, d->plans, sizeof *d->plans);
        break;
    case CUDNN_ATTR_ENGINECFG_ENGINE: (*(struct descriptor **)values)->engine = d->engine; break;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX: *(int64_t *)values = d->engine; break;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        *count = d->engine == CHANGING;
        if (*count)
            *(cudnnBackendNumericalNote_t *)values = CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
        break;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        *(int64_t *)values = d->engine == GREEDY ? (int64_t)1 << 30 : 4096;
        break;
    default: return CUDNN_STATUS_NOT_SUPPORTED;
    }
    return CUDNN_STATUS_SUCCESS;
}

/* ---- a plan runs ---- */

static float get(const struct image *image, int64_t n, int64_t c, int64_t h, int64_t w)
{
    int64_t at = n * image->step[0] + c * image->step[1] + h * image->step[2] + w * image->step[3];
    return image->type == CUDNN_DATA_FLOAT  ? ((const float *)image->data)[at]
           : image->type == CUDNN_DATA_HALF ? sdw_f16_to_f32(((const uint16_t *)image->data)[at])
                                            : sdw_bf16_to_f32(((const uint16_t *)image->data)[at]);
}

static void set(const struct image *image, int64_t n, int64_t c, int64_t h, int64_t w, float value)
{
    int64_t at = n * image->step[0] + c * image->step[1] + h * image->step[2] + w * image->step[3];
    if (image->type == CUDNN_DATA_FLOAT)
        ((float *)image->data)[at] = value;
    else
        ((uint16_t *)image->data)[at] =
            image->type == CUDNN_DATA_HALF ? sdw_f32_to_f16(value) : sdw_f32_to_bf16(value);
}

static float sum_at(const struct work *a, int64_t n, int64_t c, int64_t h, int64_t w)
{
    float sum = 0;
    for (int64_t y = 0; y < a->weight.size[2]; y++)
        for (int64_t x = 0; x < a->weight.size[3]; x++) {
            int64_t from_h = h * a->stride - a->top + y, from_w = w * a->stride - a->left + x;
            if (from_h < 0 || from_h >= a->in.size[2] || from_w < 0 || from_w >= a->in.size[3])
                continue;
            for (int64_t i = 0; i < a->in.size[1]; i++)
                sum += get(&a->in, n, i, from_h, from_w) * get(&a->weight, c, i, y, x);
        }
    return sum;
}

static void convolve(const void *arguments)
{
    const struct work *a = arguments;
    for (int64_t n = 0; n < a->out.size[0]; n++)
        for (int64_t h = 0; h < a->out.size[2]; h++)
            for (int64_t w = 0; w < a->out.size[3]; w++)
                for (int64_t c = 0; c < a->out.size[1]; c++) {
                    float sum = sum_at(a, n, c, h, w) + get(&a->bias, 0, c, 0, 0) + a->error;
                    if (a->residual.data)
                        sum += get(&a->residual, n, c, h, w);
                    set(&a->out, n, c, h, w, sum);
                }
}

/* out [n,heads,queries,width] = softmax(scale q k^T) v, the weights of a query in one row. */
static void attend(const void *arguments)
{
    const struct work *a = arguments;
    int64_t keys = a->k.size[2], width = a->q.size[3];
    float *weight = malloc((size_t)keys * sizeof *weight), scale = *(const float *)a->scale.data;
    assert(weight);
    for (int64_t row = 0; row < a->q.size[0] * a->q.size[1] * a->q.size[2]; row++) {
        int64_t i = row % a->q.size[2], head = row / a->q.size[2] % a->q.size[1];
        int64_t n = row / a->q.size[2] / a->q.size[1];
        float largest = -INFINITY, total = 0;
        for (int64_t key = 0; key < keys; key++) {
            weight[key] = 0;
            for (int64_t w = 0; w < width; w++)
                weight[key] += scale * get(&a->q, n, head, i, w) * get(&a->k, n, head, key, w);
            largest = fmaxf(largest, weight[key]);
        }
        for (int64_t key = 0; key < keys; key++)
            total += weight[key] = expf(weight[key] - largest);
        for (int64_t w = 0; w < width; w++) {
            float sum = a->error;
            for (int64_t key = 0; key < keys; key++)
                sum += weight[key] / total * get(&a->v, n, head, key, w);
            set(&a->out, n, head, i, w, sum);
        }
    }
    free(weight);
}

/* What a tensor's descriptor says. */
static struct image image_of(const struct descriptor *tensor)
{
    struct image image = {0};
    memcpy(&image.id, value_of(tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID), sizeof image.id);
    memcpy(image.size, value_of(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS), sizeof image.size);
    memcpy(image.step, value_of(tensor, CUDNN_ATTR_TENSOR_STRIDES), sizeof image.step);
    memcpy(&image.type, value_of(tensor, CUDNN_ATTR_TENSOR_DATA_TYPE), sizeof image.type);
    return image;
}

/* conv, + bias, and + residual where there is a third operation. */
static void read_convolution(struct work *a, struct descriptor *const *operation, int64_t count)
{
    const struct descriptor *conv = operation[0], *bias = operation[1],
                            *last = operation[count - 1];
    const struct descriptor *geometry =
        part_of(conv, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
    a->in = image_of(part_of(conv, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X));
    a->weight = image_of(part_of(conv, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W));
    a->bias = image_of(part_of(bias, CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
    if (count == 3)
        a->residual = image_of(part_of(last, CUDNN_ATTR_OPERATION_POINTWISE_BDESC));
    a->out = image_of(part_of(last, CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    a->stride = *(const int64_t *)value_of(geometry, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    const int64_t *before = value_of(geometry, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    a->top = before[0];
    a->left = before[1];
}

static void read_attention(struct work *a, const struct descriptor *operation)
{
    a->attends = true;
    a->q = image_of(part_of(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC));
    a->k = image_of(part_of(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC));
    a->v = image_of(part_of(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC));
    a->out = image_of(part_of(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC));
    a->scale = image_of(part_of(operation, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC));
}

static struct work *work_of(const struct descriptor *plan)
{
    const struct descriptor *config = part_of(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    struct work *a = calloc(1, sizeof *a);
    const struct attribute *graph = attribute_of(
        part_of(config, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH), CUDNN_ATTR_OPERATIONGRAPH_OPS);
    assert(a && graph);
    struct descriptor *const *operation = (struct descriptor *const *)(const void *)graph->bytes;
    if (operation[0]->type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR)
        read_attention(a, operation[0]);
    else
        read_convolution(a, operation, graph->count);
    a->error = config->engine == WRONG || machine_is("cudnn-wrong") ? 1 : 0;
    return a;
}

EXPORT cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t made)
{
    struct descriptor *d = made;
    d->finalized = true;
    if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR && !d->plans) {
        cuda_host_cudnn_plans++;
        d->engine = part_of(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->engine;
        d->plans = work_of(d);
    }
    return CUDNN_STATUS_SUCCESS;
}

/* Where an operand lies, by its name in the pack; aligned, as its descriptor promised. */
static void find(struct image *image, const struct descriptor *pack, size_t align)
{
    const struct attribute *ids = attribute_of(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    void *const *pointers = value_of(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (int64_t i = 0; i < ids->count; i++)
        if (((const int64_t *)(const void *)ids->bytes)[i] == image->id)
            image->data = pointers[i];
    assert(!image->id || (image->data && (size_t)image->data % align == 0));
}

EXPORT cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                         cudnnBackendDescriptor_t pack)
{
    static const struct host_kernel convolution = {"convolve", sizeof(struct work), convolve};
    static const struct host_kernel attention = {"attend", sizeof(struct work), attend};
    static float scales[1024]; /* by value: read now, for whenever the work is done */
    static int scale_count;
    struct work a = *((const struct descriptor *)plan)->plans;
    (void)handle;
    if (machine_is("cudnn-fails"))
        return CUDNN_STATUS_EXECUTION_FAILED;
    find(&a.out, pack, 16);
    if (a.attends) {
        find(&a.q, pack, 16);
        find(&a.k, pack, 16);
        find(&a.v, pack, 16);
        find(&a.scale, pack, sizeof(float));
        float *scale = &scales[scale_count++ % 1024];
        *scale = *(const float *)a.scale.data;
        a.scale.data = scale;
    } else {
        find(&a.in, pack, 16);
        find(&a.weight, pack, 16);
        find(&a.bias, pack, 16);
        find(&a.residual, pack, 16);
    }
    cuda_host_cudnn_runs++;
    return host_queue(a.attends ? &attention : &convolution, &a)
               ? CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER
               : CUDNN_STATUS_SUCCESS;
}
