/* cudnn.c: which of cuDNN's plans, or our own kernel, computes a convolution or an attention.
 *
 * Nothing of the library is trusted that was not seen: at a shape's first use each plan runs beside
 * our kernel on the same operands, and one whose result is further from it than roundings explain
 * is dropped, with a line in the log. What the library compiles for a shape takes it some tenths of
 * a second. */
#include "backend/cuda/cudnn.h"

#include "backend/cuda/cudnn_cache.h"
#include "backend/cuda/cudnn_graph.h"
#include "backend/cuda/plans.h"
#include "base/clock.h"
#include "base/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROPOSALS_MAX 3
#define ALIGN         16u /* bytes, of every operand */
#define THREADS       256 /* of pointwise.cu and measure.cu */
#define BLOCKS        128 /* of a comparison */
#define OWN           (-1)

/* How a shape is computed. */
struct choice {
    struct sdw_cudnn_plan plan; /* none: by our own kernel */
    bool dropped;               /* it failed; a tape may still hold it */
};

struct sdw_cudnn {
    struct sdw_cudnn_api api;
    struct sdw_cudnn_target target;
    char version[32];
    struct sdw_cudnn_cache cache;
    struct sdw_cuda_plans plans;
    struct choice choice[2 * SDW_CUDA_PLANS_MAX]; /* where plans has its shape */
};

struct sdw_cudnn *sdw_cudnn_open(const struct sdw_cuda *cuda)
{
    struct sdw_cudnn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    sdw_cuda_enter(cuda);
    const char *fault = sdw_cudnn_api_open(&c->api);
    if (!fault && c->api.cudnnCreate(&c->target.handle))
        fault = "does not start";
    if (!fault && c->api.cudnnSetStream(c->target.handle, (cudaStream_t)cuda->stream))
        fault = "takes no stream";
    if (fault) {
        sdw_log_warn("cuDNN %d %s: convolutions run on our own, slower kernel", CUDNN_MAJOR, fault);
        sdw_cudnn_close(c);
        return NULL;
    }
    size_t version = c->api.cudnnGetVersion();
    char maker[160];
    snprintf(maker, sizeof maker, "%s, %d.%d, %d multiprocessors, cuDNN %zu, compute in %s",
             cuda->card.name, cuda->card.major, cuda->card.minor, cuda->card.processors, version,
             sdw_dtype_name(cuda->base.compute));
    sdw_cudnn_cache_open(&c->cache, maker);
    snprintf(c->version, sizeof c->version, "cuDNN %zu.%zu", version / 10000, version / 100 % 100);
    return c;
}

void sdw_cudnn_close(struct sdw_cudnn *c)
{
    if (!c)
        return;
    for (int i = 0; i < 2 * SDW_CUDA_PLANS_MAX; i++)
        sdw_cudnn_plan_free(&c->choice[i].plan, &c->api);
    if (c->target.handle)
        c->api.cudnnDestroy(c->target.handle);
    sdw_cudnn_api_close(&c->api);
    free(c);
}

const char *sdw_cudnn_version(const struct sdw_cudnn *c)
{
    return c->version;
}

/* ---- one call ---- */

#define OPERANDS_MAX 5

/* What a call reads and writes, and where the library may work meanwhile. Either a convolution, of
 * `in` by `weight`, or an attention. */
struct call {
    struct sdw_cuda *cuda;
    const struct sdw_tensor *out, *in, *residual;
    const struct sdw_cuda_weight *weight; /* NULL: an attention */
    size_t
        copy_bytes; /* at the begin of the work space, of the picture at twice its size; 0: none */
    const struct sdw_tensor *q, *k, *v;
    struct sdw_attention_geometry geometry;

    int count; /* of operands but out, by their names in the graph */
    int64_t id[OPERANDS_MAX];
    const void *at[OPERANDS_MAX];
};

static void add_operand(struct call *call, int64_t id, const void *at)
{
    call->id[call->count] = id;
    call->at[call->count++] = at;
}

/* The picture at twice its size, which the library does not know. */
static void copy_twice(const struct call *call)
{
    const struct sdw_tensor *out = call->out;
    struct sdw_cuda_twice a = {.out = call->cuda->workspace,
                               .in = call->in->data,
                               .h = out->h,
                               .w = out->w,
                               .packs = call->in->c / 8};
    a.count = (int64_t)out->n * a.h * a.w * a.packs;
    struct sdw_cuda_grid grid = {(a.count + THREADS - 1) / THREADS, 1, 1, THREADS, 0};
    sdw_cuda_launch(&call->cuda->base, SDW_CUDA_KERNEL_twice, grid, &a);
}

static cudnnStatus_t run_plan(const struct call *call, const struct sdw_cudnn_plan *plan, void *out)
{
    const struct sdw_cudnn *c = call->cuda->cudnn;
    const struct sdw_cudnn_api *api = &c->api;
    char *workspace = (char *)call->cuda->workspace + call->copy_bytes;
    int64_t id[OPERANDS_MAX + 1] = {SDW_CUDNN_OUT};
    const void *at[OPERANDS_MAX + 1] = {out};
    int count = call->count + 1;
    cudnnBackendDescriptor_t pack = NULL;
    memcpy(id + 1, call->id, sizeof call->id);
    memcpy(at + 1, call->at, sizeof call->at);
    if (call->copy_bytes)
        copy_twice(call);
    cudnnStatus_t status =
        api->cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (!status)
        status = api->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                                               CUDNN_TYPE_INT64, count, id);
    if (!status)
        status = api->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                                               CUDNN_TYPE_VOID_PTR, count, at);
    if (!status)
        status = api->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE,
                                               CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (!status)
        status = api->cudnnBackendFinalize(pack);
    if (!status)
        status = api->cudnnBackendExecute(c->target.handle, plan->plan, pack);
    if (pack)
        api->cudnnBackendDestroyDescriptor(pack);
    return status;
}

/* ---- a shape's first use ---- */

struct trial {
    const struct call *call;
    const struct sdw_cudnn_plan *plans;
    void *own, *theirs; /* results, beside the real output, which the residual may be */
};

static bool run_way(void *context, int way)
{
    const struct trial *trial = context;
    const struct call *call = trial->call;
    struct sdw_device *dev = &call->cuda->base;
    struct sdw_tensor out = *call->out;
    if (way != OWN)
        return run_plan(call, &trial->plans[way], trial->theirs) == CUDNN_STATUS_SUCCESS &&
               !dev->failure.status;
    out.data = trial->own;
    if (call->weight)
        sdw_cuda_conv2d_own(dev, &out, call->in, &call->weight->base, call->residual);
    else
        sdw_cuda_attention_own(dev, &out, call->q, call->k, call->v, call->geometry);
    return !dev->failure.status;
}

/* How far the plan's result is from our kernel's, relative to what the operator added. */
static double distance(const struct trial *trial)
{
    const struct call *call = trial->call;
    struct sdw_device *dev = &call->cuda->base;
    float sums[2 * BLOCKS];
    double apart = 0, size = 0;
    int64_t count = sdw_tensor_count(call->out);
    int width = count % 8 == 0 ? 8 : 1;
    struct sdw_cuda_compare a = {.sums = call->cuda->workspace,
                                 .got = trial->theirs,
                                 .wanted = trial->own,
                                 .less = call->residual ? call->residual->data : NULL,
                                 .count = count / width,
                                 .step = BLOCKS * THREADS,
                                 .type = (int)call->out->dtype,
                                 .width = width};
    struct sdw_cuda_grid grid = {BLOCKS, 1, 1, THREADS, 0};
    sdw_cuda_launch(dev, SDW_CUDA_KERNEL_compare, grid, &a);
    sdw_cuda_download(dev, sums, a.sums, sizeof sums);
    for (int i = 0; i < BLOCKS; i++) {
        apart += sums[2 * i];
        size += sums[2 * i + 1];
    }
    return dev->failure.status ? INFINITY : apart == 0 ? 0 : sqrt(apart / size);
}

/* One unit in the last place of the compute type. Two results that differ in the order of f32 sums
 * are a thousandth of that apart, and less than half of it where both were rounded to the type;
 * sums that were kept in the type, or another layout, are several of it apart. An attention rounds
 * its probabilities, too. */
static double distance_max(const struct call *call)
{
    double unit = call->cuda->base.compute == SDW_F16 ? 0x1p-10 : 0x1p-7;
    return call->weight ? unit : 2 * unit;
}

/* The fastest of the plans whose result is right, or OWN. */
static int fastest(const struct trial *trial, int count, const char *name)
{
    struct sdw_cuda *cuda = trial->call->cuda;
    const struct sdw_cuda_trial timed = {run_way, (void *)(uintptr_t)trial};
    double max = distance_max(trial->call);
    float own_ms = sdw_cuda_time(cuda, &timed, OWN), best_ms = own_ms;
    int best = OWN;
    for (int i = 0; i < count && own_ms >= 0; i++) {
        int engine = trial->plans[i].engine;
        if (!run_way((void *)(uintptr_t)trial, i)) {
            sdw_log_debug("%s: %s: engine %d does not run", cuda->base.id, name, engine);
            continue;
        }
        double apart = distance(trial);
        if (!(apart <= max)) {
            sdw_log_warn("%s: cuDNN's engine %d is not used for %s: its result is %.1e from ours, "
                         "%.1e at most is right",
                         cuda->base.id, engine, name, apart, max);
            continue;
        }
        float ms = sdw_cuda_time(cuda, &timed, i);
        if (ms >= 0 && ms < best_ms) {
            best_ms = ms;
            best = i;
        }
        sdw_log_debug("%s: %s: engine %d %.3f ms, ours %.3f ms, %.1e apart", cuda->base.id, name,
                      engine, (double)ms, (double)own_ms, apart);
    }
    return best;
}

static struct sdw_cudnn_shape shape_of(const struct call *call)
{
    const struct sdw_conv_geometry *g = &call->weight->base.geometry;
    const struct sdw_tensor *out = call->out, *in = call->in;
    return (struct sdw_cudnn_shape){.n = in->n,
                                    .h = g->doubled ? out->h : in->h,
                                    .w = g->doubled ? out->w : in->w,
                                    .in = in->c,
                                    .out = out->c,
                                    .oh = out->h,
                                    .ow = out->w,
                                    .kernel = call->weight->base.kernel,
                                    .stride = g->stride,
                                    .top = g->top,
                                    .left = g->left,
                                    .bottom = g->bottom,
                                    .right = g->right,
                                    .compute = in->dtype,
                                    .out_type = out->dtype,
                                    .residual = call->residual != NULL};
}

static struct sdw_cudnn_heads heads_of(const struct call *call)
{
    return (struct sdw_cudnn_heads){.n = call->q->n,
                                    .queries = call->q->h * call->q->w,
                                    .keys = call->k->h * call->k->w,
                                    .heads = call->geometry.heads,
                                    .width = call->q->c / call->geometry.heads,
                                    .compute = call->q->dtype};
}

/* The library's plans for a call, and its name for the log. */
static int plan(struct sdw_cudnn_plan *plans, char *name, size_t size, const struct call *call)
{
    const struct sdw_cudnn *c = call->cuda->cudnn;
    size_t room = SDW_CUDA_WORKSPACE_BYTES - call->copy_bytes;
    if (!call->weight) {
        struct sdw_cudnn_heads h = heads_of(call);
        snprintf(name, size, "attention [%d,%d] x %d, %d heads of %d", h.n, h.queries, h.keys,
                 h.heads, h.width);
        return sdw_cudnn_plans_attend(plans, PROPOSALS_MAX, &c->api, &c->target, &h, room);
    }
    struct sdw_cudnn_shape s = shape_of(call);
    snprintf(name, size, "conv2d %dx%d/%d [%d,%d,%d,%d] -> %d %s%s", s.kernel, s.kernel, s.stride,
             s.n, s.h, s.w, s.in, s.out, sdw_dtype_name(s.out_type),
             s.residual ? " + residual" : "");
    return sdw_cudnn_plans_convolve(plans, PROPOSALS_MAX, &c->api, &c->target, &s, room);
}

static struct sdw_cuda_key key_of(const struct call *call)
{
    if (!call->weight) {
        struct sdw_cudnn_heads h = heads_of(call);
        return (struct sdw_cuda_key){{-1, h.n, h.queries, h.keys, h.heads, h.width}};
    }
    struct sdw_cudnn_shape s = shape_of(call);
    return (struct sdw_cuda_key){{s.n, s.h, s.w, s.in, s.out, s.oh, s.ow, s.kernel, s.stride, s.top,
                                  s.left, s.bottom, s.right, s.out_type, s.residual,
                                  call->weight->base.geometry.doubled}};
}

/* The choice that an earlier process made: true with *plan, or with none where it was our kernel.
 * Its result is compared once more. */
static bool remembered(struct sdw_cudnn_plan *plan, const struct call *call,
                       const struct sdw_cuda_key *key, struct trial trial)
{
    const struct sdw_cudnn *c = call->cuda->cudnn;
    size_t length = 0, room = SDW_CUDA_WORKSPACE_BYTES - call->copy_bytes;
    char *text = sdw_cudnn_cache_read(&c->cache, key, &length);
    bool known = text && length == 0;
    *plan = (struct sdw_cudnn_plan){0};
    if (length && sdw_cudnn_plan_restore(plan, &c->api, &c->target, text, length, room)) {
        trial.plans = plan;
        known =
            run_way(&trial, OWN) && run_way(&trial, 0) && distance(&trial) <= distance_max(call);
        if (!known)
            sdw_cudnn_plan_free(plan, &c->api);
    }
    free(text);
    return known;
}

static void remember(const struct sdw_cudnn *c, const struct sdw_cuda_key *key,
                     const struct sdw_cudnn_plan *plan)
{
    size_t length = 0;
    char *text = plan->plan ? sdw_cudnn_plan_text(plan, &c->api, &length) : NULL;
    if (text || !plan->plan)
        sdw_cudnn_cache_write(&c->cache, key, text ? text : "", length);
    free(text);
}

/* The fastest of the library's plans that is right; none: our kernel. Kept for the next process,
 * but for a shape of which the library, this time, proposed nothing. */
static struct sdw_cudnn_plan measured(const struct call *call, const struct sdw_cuda_key *key,
                                      struct trial trial)
{
    struct sdw_cudnn_plan plans[PROPOSALS_MAX], chosen = {0};
    const struct sdw_cudnn_api *api = &call->cuda->cudnn->api;
    double start = sdw_clock_seconds();
    char name[96];
    int count = plan(plans, name, sizeof name, call);
    trial.plans = plans;
    int best = count ? fastest(&trial, count, name) : OWN;
    for (int i = 0; i < count; i++)
        if (i == best)
            chosen = plans[i];
        else
            sdw_cudnn_plan_free(&plans[i], api);
    if (count && !call->cuda->base.failure.status)
        remember(call->cuda->cudnn, key, &chosen);
    sdw_log_debug("%s: %s: %d proposals, %s, chosen in %.2f s", call->cuda->base.id, name, count,
                  chosen.plan ? "cuDNN" : "ours", sdw_clock_seconds() - start);
    return chosen;
}

/* False: not now, there is no memory for trials. */
static bool choose(struct choice *choice, const struct call *call, const struct sdw_cuda_key *key)
{
    struct sdw_cuda *cuda = call->cuda;
    size_t bytes = sdw_tensor_bytes(call->out);
    CUdeviceptr own = sdw_cuda_memory_new(cuda, bytes), theirs = sdw_cuda_memory_new(cuda, bytes);
    struct trial trial = {call, NULL, (void *)(uintptr_t)own, (void *)(uintptr_t)theirs};
    bool room = own && theirs;
    *choice = (struct choice){.dropped = false};
    if (room && !remembered(&choice->plan, call, key, trial))
        choice->plan = measured(call, key, trial);
    if (own)
        cuda->driver.cuMemFree(own);
    if (theirs)
        cuda->driver.cuMemFree(theirs);
    return room;
}

/* The choice for a shape, made now if it is new; NULL: our own kernel, this time. */
static struct choice *choice_of(const struct call *call)
{
    struct sdw_cuda *cuda = call->cuda;
    struct sdw_cudnn *c = cuda->cudnn;
    const struct sdw_cuda_key key = key_of(call);
    bool fresh;
    int place = sdw_cuda_plans_find(&c->plans, &key, &fresh);
    /* Planning waits for the GPU, which a recording must not. */
    if (place < 0 || (fresh && cuda->recording))
        return NULL;
    if (fresh && !choose(&c->choice[place], call, &key))
        return NULL;
    if (fresh)
        sdw_cuda_plans_keep(&c->plans, place, &key);
    return &c->choice[place];
}

/* True when the library computes it. */
static bool run(const struct call *call)
{
    struct sdw_device *dev = &call->cuda->base;
    sdw_cuda_enter(call->cuda);
    struct choice *choice = choice_of(call);
    if (!choice || !choice->plan.plan || choice->dropped || dev->failure.status)
        return false;
    cudnnStatus_t status = run_plan(call, &choice->plan, call->out->data);
    choice->dropped = status != CUDNN_STATUS_SUCCESS;
    if (choice->dropped)
        sdw_log_warn("%s: cuDNN's engine %d fails (%s): our own kernel runs in its place", dev->id,
                     choice->plan.engine, call->cuda->cudnn->api.cudnnGetErrorString(status));
    return !choice->dropped;
}

/* ---- the rows ---- */

bool sdw_cudnn_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                      const struct sdw_tensor *in, const struct sdw_cuda_weight *weight,
                      const struct sdw_tensor *residual)
{
    struct call call = {.cuda = (struct sdw_cuda *)dev,
                        .out = out,
                        .in = in,
                        .residual = residual,
                        .weight = weight};
    uintptr_t addresses =
        (uintptr_t)out->data | (uintptr_t)in->data | (residual ? (uintptr_t)residual->data : 0);
    if (!call.cuda->cudnn || dev->compute == SDW_F32 || addresses % ALIGN != 0)
        return false;
    if (weight->base.geometry.doubled) {
        call.copy_bytes = (size_t)(sdw_tensor_rows(out) * in->c) * sdw_dtype_bytes(in->dtype);
        call.copy_bytes = (call.copy_bytes + 255) / 256 * 256;
        if (in->c % 8 != 0 || call.copy_bytes > SDW_CUDA_WORKSPACE_BYTES / 2)
            return false;
    }
    add_operand(&call, SDW_CUDNN_IN, call.copy_bytes ? call.cuda->workspace : in->data);
    add_operand(&call, SDW_CUDNN_WEIGHT, weight->weight);
    add_operand(&call, SDW_CUDNN_BIAS, weight->bias);
    if (residual)
        add_operand(&call, SDW_CUDNN_RESIDUAL, residual->data);
    bool theirs = run(&call);
    ((struct sdw_weight *)(uintptr_t)&weight->base)->form = theirs ? ", cuDNN" : ", own";
    return theirs;
}

bool sdw_cudnn_attention(struct sdw_device *dev, const struct sdw_tensor *out,
                         const struct sdw_tensor *q, const struct sdw_tensor *k,
                         const struct sdw_tensor *v, struct sdw_attention_geometry geometry)
{
    struct call call = {
        .cuda = (struct sdw_cuda *)dev, .out = out, .q = q, .k = k, .v = v, .geometry = geometry};
    uintptr_t addresses =
        (uintptr_t)out->data | (uintptr_t)q->data | (uintptr_t)k->data | (uintptr_t)v->data;
    if (!call.cuda->cudnn || dev->compute == SDW_F32 || addresses % ALIGN != 0 || geometry.causal ||
        q->c / geometry.heads % 8 != 0)
        return false;
    add_operand(&call, SDW_CUDNN_QUERY, q->data);
    add_operand(&call, SDW_CUDNN_KEY, k->data);
    add_operand(&call, SDW_CUDNN_VALUE, v->data);
    add_operand(&call, SDW_CUDNN_SCALE, &call.geometry.scale);
    return run(&call);
}
