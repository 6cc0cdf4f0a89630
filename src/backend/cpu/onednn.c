/* onednn.c: see onednn.h.
 *
 * Activations are plain NHWC on both sides, so nothing is reordered; weights are brought once into
 * the format that oneDNN prefers for the layer (`any`). Each weight keeps the few primitives that
 * it was used with, by shape and epilogue. oneDNN runs on OpenMP's threads, the same as our pool's;
 * its scratch memory is the device's work space. */
#include "backend/cpu/onednn.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef SDW_HAVE_ONEDNN

#include <oneapi/dnnl/dnnl.h>
#include <string.h>

#define PRIMITIVES_MAX                                                                             \
    12 /* shapes and epilogues that one weight is used with; the oldest makes room */
#define ROWS_GUESS 4096 /* rows of a linear layer for which its weight's format is chosen */
#define SIDE_GUESS                                                                                 \
    32 /* width of the picture for which a convolution's weight's format is chosen                 \
        */

/* ---- what differs between 2.x, where a memory descriptor is a struct, and 3.x, where it is an
 * object ---- */

#if DNNL_VERSION_MAJOR >= 3
#define MD(md)   (md)
#define BEST_ISA dnnl_cpu_isa_default
typedef const_dnnl_memory_desc_t const_md;
static dnnl_status_t md_make(dnnl_memory_desc_t *md, int rank, const dnnl_dims_t dims,
                             dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_create_with_tag(md, rank, dims, type, tag);
}
static void md_free(dnnl_memory_desc_t md)
{
    dnnl_memory_desc_destroy(md);
}
static dnnl_memory_desc_t md_copy(const_md from)
{
    dnnl_memory_desc_t md = NULL;
    dnnl_memory_desc_clone(&md, from);
    return md;
}
static size_t md_bytes(const_md md)
{
    return dnnl_memory_desc_get_size(md);
}
static void append_sum(dnnl_post_ops_t ops)
{
    dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
}
static void append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha)
{
    dnnl_post_ops_append_eltwise(ops, kind, alpha, 0.0f);
}
#else
#define MD(md)   (&(md))
#define BEST_ISA dnnl_cpu_isa_all
typedef const dnnl_memory_desc_t *const_md;
static dnnl_status_t md_make(dnnl_memory_desc_t *md, int rank, const dnnl_dims_t dims,
                             dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(md, rank, dims, type, tag);
}
static void md_free(dnnl_memory_desc_t md)
{
    (void)md;
}
static dnnl_memory_desc_t md_copy(const_md from)
{
    return *from;
}
static size_t md_bytes(const_md md)
{
    return dnnl_memory_desc_get_size(md);
}
static void append_sum(dnnl_post_ops_t ops)
{
    dnnl_post_ops_append_sum(ops, 1.0f);
}
static void append_eltwise(dnnl_post_ops_t ops, dnnl_alg_kind_t kind, float alpha)
{
    dnnl_post_ops_append_eltwise(ops, 1.0f, kind, alpha, 0.0f);
}
#endif

struct sdw_onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    char version[32];
};

enum residual { NO_RESIDUAL, RESIDUAL_IN_PLACE, RESIDUAL_ELSEWHERE };

/* What a primitive was made for. */
struct key {
    int n, h, w; /* of the input; a linear layer has n rows, h = w = 0 */
    enum sdw_dtype out;
    enum sdw_act act;
    enum residual residual;
};

struct primitive {
    struct key key;
    dnnl_primitive_t primitive;
    dnnl_memory_t src, dst, residual, scratch;
    size_t scratch_bytes;
    dnnl_memory_t
        weight; /* a copy in another format, where the packed one does not suit; or NULL */
    void *weight_data;
};

struct sdw_onednn_weight {
    struct sdw_onednn *onednn;
    enum sdw_dtype compute;
    dnnl_memory_desc_t md; /* of the packed weight */
    dnnl_memory_t memory, bias;
    void *data;
    struct primitive cache[PRIMITIVES_MAX];
    int cached, oldest;
};

static dnnl_data_type_t type_of(enum sdw_dtype dtype)
{
    return dtype == SDW_BF16 ? dnnl_bf16 : dnnl_f32;
}

struct sdw_onednn *sdw_onednn_open(enum sdw_isa isa)
{
    static const dnnl_cpu_isa_t limits[SDW_ISA_COUNT] = {
        [SDW_ISA_AVX2] = dnnl_cpu_isa_avx2,
        [SDW_ISA_AVX512] = dnnl_cpu_isa_avx512_core,
        [SDW_ISA_AVX512_BF16] = dnnl_cpu_isa_avx512_core_bf16,
        [SDW_ISA_AMX_BF16] = BEST_ISA,
    };
    struct sdw_onednn *onednn = calloc(1, sizeof *onednn);
    if (!onednn)
        return NULL;
    dnnl_set_max_cpu_isa(
        limits[isa]); /* refused after the first primitive: then it stays as it was */
    if (dnnl_engine_create(&onednn->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&onednn->stream, onednn->engine, dnnl_stream_default_flags) !=
            dnnl_success) {
        sdw_onednn_close(onednn);
        return NULL;
    }
    const dnnl_version_t *version = dnnl_version();
    snprintf(onednn->version, sizeof onednn->version, "oneDNN %d.%d.%d", version->major,
             version->minor, version->patch);
    return onednn;
}

void sdw_onednn_close(struct sdw_onednn *onednn)
{
    if (!onednn)
        return;
    if (onednn->stream)
        dnnl_stream_destroy(onednn->stream);
    if (onednn->engine)
        dnnl_engine_destroy(onednn->engine);
    free(onednn);
}

const char *sdw_onednn_version(const struct sdw_onednn *onednn)
{
    return onednn->version;
}

/* The five descriptors of a layer: src, weight, bias, dst and nothing else. */
struct layer {
    dnnl_memory_desc_t src, weight, bias, dst;
    bool linear;
    dnnl_dims_t stride, dilation, before, after;
};

static void layer_free(struct layer *layer)
{
    md_free(layer->src);
    md_free(layer->weight);
    md_free(layer->bias);
    md_free(layer->dst);
}

/* Describes `weight`'s layer for an input of key's size; `packed` is the weight's format, or NULL
 * to let oneDNN choose. */
static bool layer_make(struct layer *layer, const struct sdw_weight *weight, const struct key *key,
                       enum sdw_dtype compute, const_md packed)
{
    const struct sdw_conv_geometry *g = &weight->geometry;
    int k = weight->kernel, rank = k ? 4 : 2;
    *layer = (struct layer){.linear = k == 0};
    dnnl_dims_t src = {key->n, weight->in, key->h, key->w},
                kernel = {weight->out, weight->in, k, k};
    dnnl_dims_t dst = {key->n, weight->out}, bias = {weight->out};
    if (k) {
        dst[2] = (key->h + g->top + g->bottom - k) / g->stride + 1;
        dst[3] = (key->w + g->left + g->right - k) / g->stride + 1;
        layer->stride[0] = layer->stride[1] = g->stride;
        layer->before[0] = g->top;
        layer->before[1] = g->left;
        layer->after[0] = g->bottom;
        layer->after[1] = g->right;
    }
    dnnl_format_tag_t plain = k ? dnnl_nhwc : dnnl_nc;
    bool ok = md_make(&layer->src, rank, src, type_of(compute), plain) == dnnl_success &&
              md_make(&layer->dst, rank, dst, type_of(key->out), plain) == dnnl_success &&
              md_make(&layer->bias, 1, bias, dnnl_f32, dnnl_a) == dnnl_success;
    if (packed)
        layer->weight = md_copy(packed);
    else
        ok = ok && md_make(&layer->weight, rank, kernel, type_of(compute), dnnl_format_tag_any) ==
                       dnnl_success;
    return ok;
}

static dnnl_status_t describe(dnnl_primitive_desc_t *pd, struct sdw_onednn *onednn,
                              const struct layer *layer, const_dnnl_primitive_attr_t attr)
{
    dnnl_prop_kind_t prop = dnnl_forward_inference;
#if DNNL_VERSION_MAJOR >= 3
    if (layer->linear)
        return dnnl_inner_product_forward_primitive_desc_create(
            pd, onednn->engine, prop, layer->src, layer->weight, layer->bias, layer->dst, attr);
    return dnnl_convolution_forward_primitive_desc_create(
        pd, onednn->engine, prop, dnnl_convolution_direct, layer->src, layer->weight, layer->bias,
        layer->dst, layer->stride, layer->dilation, layer->before, layer->after, attr);
#else
    if (layer->linear) {
        dnnl_inner_product_desc_t op;
        dnnl_status_t status = dnnl_inner_product_forward_desc_init(
            &op, prop, &layer->src, &layer->weight, &layer->bias, &layer->dst);
        return status ? status : dnnl_primitive_desc_create(pd, &op, attr, onednn->engine, NULL);
    }
    dnnl_convolution_desc_t op;
    dnnl_status_t status = dnnl_convolution_forward_desc_init(
        &op, prop, dnnl_convolution_direct, &layer->src, &layer->weight, &layer->bias, &layer->dst,
        layer->stride, layer->before, layer->after);
    return status ? status : dnnl_primitive_desc_create(pd, &op, attr, onednn->engine, NULL);
#endif
}

/* Activation, then residual, fused behind the sums. */
static dnnl_primitive_attr_t epilogue(const struct key *key, const struct layer *layer)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    if (dnnl_primitive_attr_create(&attr) != dnnl_success)
        return NULL;
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (dnnl_post_ops_create(&ops) != dnnl_success)
        return attr;
    switch (key->act) {
    case SDW_ACT_SILU: append_eltwise(ops, dnnl_eltwise_swish, 1.0f); break;
    case SDW_ACT_QUICK_GELU: append_eltwise(ops, dnnl_eltwise_swish, 1.702f); break;
    case SDW_ACT_GELU: append_eltwise(ops, dnnl_eltwise_gelu_erf, 0.0f); break;
    default: break;
    }
    if (key->residual == RESIDUAL_IN_PLACE)
        append_sum(ops);
    else if (key->residual == RESIDUAL_ELSEWHERE)
        dnnl_post_ops_append_binary(ops, dnnl_binary_add, MD(layer->dst));
    dnnl_primitive_attr_set_post_ops(attr, ops);
    dnnl_post_ops_destroy(ops);
    return attr;
}

static struct key guess(const struct sdw_weight *weight, enum sdw_dtype compute)
{
    if (weight->kernel)
        return (struct key){2, SIDE_GUESS, SIDE_GUESS, compute, SDW_ACT_NONE, NO_RESIDUAL};
    return (struct key){ROWS_GUESS, 0, 0, compute, SDW_ACT_NONE, NO_RESIDUAL};
}

/* Copies `from` to `to`, in to's format. */
static bool convert(struct sdw_onednn *onednn, const_md from_md, dnnl_memory_t from, const_md to_md,
                    dnnl_memory_t to)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t run = NULL;
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    bool ok = dnnl_reorder_primitive_desc_create(&pd, from_md, onednn->engine, to_md,
                                                 onednn->engine, NULL) == dnnl_success &&
              dnnl_primitive_create(&run, pd) == dnnl_success &&
              dnnl_primitive_execute(run, onednn->stream, 2, args) == dnnl_success &&
              dnnl_stream_wait(onednn->stream) == dnnl_success;
    if (run)
        dnnl_primitive_destroy(run);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    return ok;
}

/* Brings the f32 weight into the chosen format. */
static bool reorder(struct sdw_device *dev, struct sdw_onednn_weight *packed,
                    const struct sdw_weight *weight, float *values)
{
    dnnl_dims_t dims = {weight->out, weight->in, weight->kernel, weight->kernel};
    dnnl_memory_desc_t plain = {0};
    dnnl_memory_t from = NULL;
    dnnl_engine_t engine = packed->onednn->engine;
    bool ok =
        md_make(&plain, weight->kernel ? 4 : 2, dims, dnnl_f32,
                weight->kernel ? dnnl_oihw : dnnl_nc) == dnnl_success &&
        dnnl_memory_create(&from, MD(plain), engine, values) == dnnl_success &&
        dnnl_memory_create(&packed->memory, MD(packed->md), engine, packed->data) == dnnl_success &&
        convert(packed->onednn, MD(plain), from, MD(packed->md), packed->memory);
    if (!ok)
        sdw_device_fail(dev, SDW_DEVICE, "%s cannot pack a weight [%d,%d,%d,%d]",
                        packed->onednn->version, weight->out, weight->in, weight->kernel,
                        weight->kernel);
    if (from)
        dnnl_memory_destroy(from);
    md_free(plain);
    return ok;
}

/* Asks oneDNN which format it wants and allocates it. */
static bool choose_format(struct sdw_device *dev, struct sdw_onednn_weight *packed,
                          struct sdw_cpu_weight *weight)
{
    struct key key = guess(&weight->base, packed->compute);
    struct layer layer;
    dnnl_primitive_desc_t pd = NULL;
    bool ok = layer_make(&layer, &weight->base, &key, packed->compute, NULL) &&
              describe(&pd, packed->onednn, &layer, NULL) == dnnl_success;
    if (ok) {
        packed->md = md_copy(dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0));
        weight->base.bytes = md_bytes(MD(packed->md));
        packed->data = dev->ops->buffer_new(dev, weight->base.bytes);
        dnnl_primitive_desc_destroy(pd);
        ok = packed->data &&
             dnnl_memory_create(&packed->bias, MD(layer.bias), packed->onednn->engine,
                                weight->bias) == dnnl_success;
    }
    if (!ok)
        sdw_device_fail(dev, SDW_DEVICE, "%s has no layer %d -> %d, kernel %d, in %s",
                        packed->onednn->version, weight->base.in, weight->base.out,
                        weight->base.kernel, sdw_dtype_name(packed->compute));
    layer_free(&layer);
    return ok;
}

bool sdw_onednn_pack(struct sdw_device *dev, struct sdw_cpu_weight *weight,
                     const struct sdw_array *array)
{
    struct sdw_onednn_weight *packed = calloc(1, sizeof *packed);
    float *values = sdw_cpu_staging(dev, array);
    weight->onednn = packed;
    if (!packed || !values) {
        sdw_device_fail(dev, SDW_MEMORY, "%s: no memory for a weight", dev->id);
        return false;
    }
    packed->onednn = ((struct sdw_cpu *)dev)->onednn;
    packed->compute = dev->compute;
    return choose_format(dev, packed, weight) && reorder(dev, packed, &weight->base, values);
}

static void primitive_free(struct primitive *p)
{
    if (p->primitive)
        dnnl_primitive_destroy(p->primitive);
    dnnl_memory_t memories[] = {p->src, p->dst, p->residual, p->scratch, p->weight};
    for (size_t i = 0; i < sizeof memories / sizeof memories[0]; i++)
        if (memories[i])
            dnnl_memory_destroy(memories[i]);
    free(p->weight_data);
    *p = (struct primitive){0};
}

void sdw_onednn_weight_free(struct sdw_onednn_weight *weight)
{
    if (!weight)
        return;
    for (int i = 0; i < weight->cached; i++)
        primitive_free(&weight->cache[i]);
    if (weight->memory)
        dnnl_memory_destroy(weight->memory);
    if (weight->bias)
        dnnl_memory_destroy(weight->bias);
    md_free(weight->md);
    free(weight->data);
    free(weight);
}

static bool is_slow(const_dnnl_primitive_desc_t pd)
{
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name);
    return strncmp(name, "ref", 3) == 0;
}

/* The format that was chosen for usual pictures leaves only oneDNN's reference for some tiny ones
 * (2x2, 8x8 with stride 2), a hundred times slower: those get a copy of the weight in the format
 * that they want. *pd is replaced where that helps. */
static bool suit_weight(struct sdw_device *dev, struct primitive *p,
                        struct sdw_onednn_weight *packed, const struct sdw_weight *weight,
                        const_dnnl_primitive_attr_t attr, dnnl_primitive_desc_t *pd)
{
    struct layer layer;
    dnnl_primitive_desc_t other = NULL;
    bool ok = true;
    if (!is_slow(*pd))
        return true;
    if (layer_make(&layer, weight, &p->key, packed->compute, NULL) &&
        describe(&other, packed->onednn, &layer, attr) == dnnl_success && !is_slow(other)) {
        const_md md = dnnl_primitive_desc_query_md(other, dnnl_query_weights_md, 0);
        p->weight_data = dev->ops->buffer_new(dev, md_bytes(md));
        ok = p->weight_data &&
             dnnl_memory_create(&p->weight, md, packed->onednn->engine, p->weight_data) ==
                 dnnl_success &&
             convert(packed->onednn, MD(packed->md), packed->memory, md, p->weight);
        dnnl_primitive_desc_t chosen = other;
        other = *pd;
        *pd = chosen;
    }
    if (other)
        dnnl_primitive_desc_destroy(other);
    layer_free(&layer);
    return ok;
}

static bool primitive_make(struct sdw_device *dev, struct primitive *p,
                           struct sdw_onednn_weight *packed, const struct sdw_weight *weight)
{
    struct layer layer;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_engine_t engine = packed->onednn->engine;
    bool ok = layer_make(&layer, weight, &p->key, packed->compute, MD(packed->md));
    dnnl_primitive_attr_t attr = ok ? epilogue(&p->key, &layer) : NULL;
    ok = attr && describe(&pd, packed->onednn, &layer, attr) == dnnl_success;
    ok = ok && suit_weight(dev, p, packed, weight, attr, &pd);
    if (ok) {
        const_md scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
        p->scratch_bytes = md_bytes(scratch);
        ok = dnnl_primitive_create(&p->primitive, pd) == dnnl_success &&
             dnnl_memory_create(&p->src, MD(layer.src), engine, DNNL_MEMORY_NONE) == dnnl_success &&
             dnnl_memory_create(&p->dst, MD(layer.dst), engine, DNNL_MEMORY_NONE) == dnnl_success &&
             dnnl_memory_create(&p->residual, MD(layer.dst), engine, DNNL_MEMORY_NONE) ==
                 dnnl_success &&
             dnnl_memory_create(&p->scratch, scratch, engine, DNNL_MEMORY_NONE) == dnnl_success;
    }
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    layer_free(&layer);
    return ok;
}

static bool same_key(const struct key *a, const struct key *b)
{
    return a->n == b->n && a->h == b->h && a->w == b->w && a->out == b->out && a->act == b->act &&
           a->residual == b->residual;
}

/* The primitive for `key`, from the cache or new. */
static struct primitive *primitive_get(struct sdw_device *dev, struct sdw_onednn_weight *packed,
                                       const struct sdw_weight *weight, const struct key *key)
{
    for (int i = 0; i < packed->cached; i++)
        if (same_key(&packed->cache[i].key, key))
            return &packed->cache[i];
    struct primitive made = {.key = *key};
    if (!primitive_make(dev, &made, packed, weight)) {
        primitive_free(&made);
        sdw_device_fail(dev, SDW_DEVICE,
                        "%s has no layer %d -> %d, kernel %d, for an input [%d,%d,%d] in %s",
                        packed->onednn->version, weight->in, weight->out, weight->kernel, key->n,
                        key->h, key->w, sdw_dtype_name(packed->compute));
        return NULL;
    }
    int at = packed->cached < PRIMITIVES_MAX ? packed->cached++ : packed->oldest++ % PRIMITIVES_MAX;
    primitive_free(&packed->cache[at]);
    packed->cache[at] = made;
    return &packed->cache[at];
}

/* oneDNN's best convolutions know how to add to what is in `out` already, but not how to add
 * another tensor, so a convolution's residual is copied there first. */
void sdw_onednn_run(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                    enum sdw_act act, const struct sdw_tensor *residual)
{
    struct sdw_onednn_weight *packed = weight->onednn;
    bool linear = weight->base.kernel == 0;
    struct key key = {linear ? (int)sdw_tensor_rows(in) : in->n,
                      linear ? 0 : in->h,
                      linear ? 0 : in->w,
                      out->dtype,
                      act,
                      NO_RESIDUAL};
    if (residual && residual->data != out->data && !linear) {
        sdw_cpu_cast(dev, out, residual);
        residual = out;
    }
    if (residual)
        key.residual = residual->data == out->data ? RESIDUAL_IN_PLACE : RESIDUAL_ELSEWHERE;
    struct primitive *p = primitive_get(dev, packed, &weight->base, &key);
    void *scratch = p ? sdw_cpu_workspace(dev, p->scratch_bytes) : NULL;
    if (!scratch)
        return;
    dnnl_memory_set_data_handle(p->src, in->data);
    dnnl_memory_set_data_handle(p->dst, out->data);
    dnnl_memory_set_data_handle(p->scratch, scratch);
    dnnl_exec_arg_t args[6] = {{DNNL_ARG_SRC, p->src},
                               {DNNL_ARG_WEIGHTS, p->weight ? p->weight : packed->memory},
                               {DNNL_ARG_BIAS, packed->bias},
                               {DNNL_ARG_DST, p->dst},
                               {DNNL_ARG_SCRATCHPAD, p->scratch}};
    int count = 5;
    if (key.residual == RESIDUAL_ELSEWHERE) {
        int after_act = act == SDW_ACT_NONE ? 0 : 1; /* its place among the post-operations */
        dnnl_memory_set_data_handle(p->residual, residual->data);
        args[count++] = (dnnl_exec_arg_t){
            DNNL_ARG_ATTR_MULTIPLE_POST_OP(after_act) | DNNL_ARG_SRC_1, p->residual};
    }
    if (dnnl_primitive_execute(p->primitive, packed->onednn->stream, count, args) != dnnl_success ||
        dnnl_stream_wait(packed->onednn->stream) != dnnl_success)
        sdw_device_fail(dev, SDW_DEVICE, "%s failed in a layer %d -> %d", packed->onednn->version,
                        weight->base.in, weight->base.out);
}

#else

struct sdw_onednn *sdw_onednn_open(enum sdw_isa isa)
{
    (void)isa;
    return NULL;
}

void sdw_onednn_close(struct sdw_onednn *onednn)
{
    (void)onednn;
}

const char *sdw_onednn_version(const struct sdw_onednn *onednn)
{
    (void)onednn;
    return "";
}

bool sdw_onednn_pack(struct sdw_device *dev, struct sdw_cpu_weight *weight,
                     const struct sdw_array *array)
{
    (void)dev, (void)weight, (void)array;
    return false;
}

void sdw_onednn_weight_free(struct sdw_onednn_weight *weight)
{
    (void)weight;
}

void sdw_onednn_run(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                    enum sdw_act act, const struct sdw_tensor *residual)
{
    (void)dev, (void)out, (void)in, (void)weight, (void)act, (void)residual;
}

#endif
