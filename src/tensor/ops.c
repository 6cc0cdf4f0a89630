/* ops.c: the front of the operator table. Checks what every device relies on, once; drops calls
 * after a failure; and times them when somebody profiles. */
#include "tensor/ops.h"

#include "base/clock.h"
#include "tensor/backend.h"
#include "tensor/profile.h"
#include "tensor/weight.h"

#include <assert.h>
#include <stdio.h>

static bool same_shape(const struct sdw_tensor *a, const struct sdw_tensor *b)
{
    return a->n == b->n && a->h == b->h && a->w == b->w && a->c == b->c;
}

static bool is_float(const struct sdw_device *dev, const struct sdw_tensor *t)
{
    return t->dtype == dev->compute || t->dtype == dev->stream || t->dtype == SDW_F32;
}

/* What an operator that is no matrix product reads and writes. */
static double traffic(const struct sdw_tensor *out, const struct sdw_tensor *in)
{
    return (double)(sdw_tensor_bytes(out) + sdw_tensor_bytes(in));
}

/* ", oneDNN": which form of the weight answers, where the device tells. */
static const char *form(const struct sdw_weight *weight)
{
    return weight->form ? weight->form : "";
}

/* Runs `call` when the device is well, timed under the formatted name when it is being profiled. */
#define RUN(dev, flops, moved, call, ...)                                                          \
    do {                                                                                           \
        if (sdw_device_stopped(dev))                                                               \
            return;                                                                                \
        if (!(dev)->profile) {                                                                     \
            (dev)->ops->call;                                                                      \
            return;                                                                                \
        }                                                                                          \
        struct sdw_profile_row row = {.calls = 1, .operations = flops, .bytes = moved};            \
        snprintf(row.name, sizeof row.name, __VA_ARGS__);                                          \
        double start = sdw_clock_seconds();                                                        \
        (dev)->ops->call;                                                                          \
        (dev)->ops->sync(dev);                                                                     \
        row.seconds = sdw_clock_seconds() - start;                                                 \
        sdw_profile_add((dev)->profile, &row);                                                     \
    } while (0)

void sdw_linear(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in,
                const struct sdw_weight *weight, enum sdw_act act,
                const struct sdw_tensor *residual)
{
    if (dev->failure.status)
        return;
    assert(weight->kernel == 0 && in->c == weight->in && out->c == weight->out);
    assert(sdw_tensor_rows(in) == sdw_tensor_rows(out) && in->dtype == dev->compute &&
           is_float(dev, out));
    assert(!residual || (same_shape(residual, out) && residual->dtype == out->dtype));
    double operations = 2.0 * (double)sdw_tensor_rows(in) * in->c * out->c;
    RUN(dev, operations, 0, linear(dev, out, in, weight, act, residual), "linear [%lld,%d] -> %d%s",
        (long long)sdw_tensor_rows(in), in->c, out->c, form(weight));
}

void sdw_conv2d(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in,
                const struct sdw_weight *weight, const struct sdw_tensor *residual)
{
    if (dev->failure.status)
        return;
    const struct sdw_conv_geometry *g = &weight->geometry;
    int k = weight->kernel;
    assert(k > 0 && in->c == weight->in && out->c == weight->out && in->n == out->n);
    if (g->doubled)
        assert(k == 3 && (out->h + 1) / 2 == in->h && (out->w + 1) / 2 == in->w);
    else
        assert(out->h == (in->h + g->top + g->bottom - k) / g->stride + 1 &&
               out->w == (in->w + g->left + g->right - k) / g->stride + 1);
    assert(in->dtype == dev->compute && is_float(dev, out));
    assert(!residual || (same_shape(residual, out) && residual->dtype == out->dtype));
    double operations = 2.0 * (double)sdw_tensor_rows(out) * in->c * out->c * k * k;
    RUN(dev, operations, 0, conv2d(dev, out, in, weight, residual),
        "conv2d %dx%d/%d%s [%d,%d,%d,%d] -> %d%s", k, k, g->stride, g->doubled ? " doubled" : "",
        in->n, in->h, in->w, in->c, out->c, form(weight));
}

void sdw_attention(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *q,
                   const struct sdw_tensor *k, const struct sdw_tensor *v,
                   struct sdw_attention_geometry geometry)
{
    if (dev->failure.status)
        return;
    assert(geometry.heads > 0 && q->c % geometry.heads == 0);
    assert(same_shape(out, q) && same_shape(k, v) && k->n == q->n && k->c == q->c);
    assert(q->dtype == dev->compute && k->dtype == dev->compute && v->dtype == dev->compute);
    assert(out->dtype == dev->compute);
    double operations = 4.0 * q->n * ((double)q->h * q->w) * ((double)k->h * k->w) * q->c;
    RUN(dev, operations, 0, attention(dev, out, q, k, v, geometry),
        "attention [%d,%d,%d] x %d, %d heads%s", q->n, q->h * q->w, q->c, k->h * k->w,
        geometry.heads, geometry.causal ? ", causal" : "");
}

void sdw_group_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_norm *norm, enum sdw_act act,
                    const struct sdw_tensor *add)
{
    if (dev->failure.status)
        return;
    assert(same_shape(out, in) && norm->groups > 0 && in->c % norm->groups == 0);
    assert(is_float(dev, in) && is_float(dev, out));
    assert(!add || (add->n == in->n && add->h == 1 && add->w == 1 && add->c == in->c &&
                    is_float(dev, add)));
    RUN(dev, 0, traffic(out, in), group_norm(dev, out, in, norm, act, add),
        "group_norm [%d,%d,%d,%d]", in->n, in->h, in->w, in->c);
}

void sdw_layer_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_norm *norm)
{
    assert(same_shape(out, in) && is_float(dev, in) && is_float(dev, out));
    RUN(dev, 0, traffic(out, in), layer_norm(dev, out, in, norm), "layer_norm [%lld,%d]",
        (long long)sdw_tensor_rows(in), in->c);
}

void sdw_geglu(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in)
{
    assert(sdw_tensor_rows(out) == sdw_tensor_rows(in) && in->c == 2 * out->c);
    assert(is_float(dev, in) && is_float(dev, out));
    RUN(dev, 0, traffic(out, in), geglu(dev, out, in), "geglu [%lld,%d]",
        (long long)sdw_tensor_rows(in), in->c);
}

void sdw_act(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in,
             enum sdw_act act)
{
    assert(same_shape(out, in) && is_float(dev, in) && is_float(dev, out) && act < SDW_ACT_COUNT);
    RUN(dev, 0, traffic(out, in), act(dev, out, in, act), "act [%lld,%d]",
        (long long)sdw_tensor_rows(in), in->c);
}

void sdw_add(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *a,
             const struct sdw_tensor *b)
{
    assert(same_shape(out, a) && b->c == a->c && (b->n == a->n || b->n == 1));
    assert((b->h == a->h && b->w == a->w) || (b->h == 1 && b->w == 1));
    assert(is_float(dev, a) && is_float(dev, b) && is_float(dev, out));
    RUN(dev, 0, traffic(out, a) + (double)sdw_tensor_bytes(b), add(dev, out, a, b), "add [%lld,%d]",
        (long long)sdw_tensor_rows(a), a->c);
}

void sdw_concat(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *a,
                const struct sdw_tensor *b)
{
    assert(out->c == a->c + b->c && out->n == a->n && out->h == a->h && out->w == a->w);
    assert(a->n == b->n && a->h == b->h && a->w == b->w);
    assert(is_float(dev, a) && is_float(dev, b) && is_float(dev, out));
    RUN(dev, 0, traffic(out, a) + (double)sdw_tensor_bytes(b), concat(dev, out, a, b),
        "concat [%lld,%d+%d]", (long long)sdw_tensor_rows(a), a->c, b->c);
}

void sdw_embed(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *table,
               const struct sdw_tensor *ids)
{
    assert(ids->dtype == SDW_I32 && ids->c == 1 && sdw_tensor_rows(ids) == sdw_tensor_rows(out));
    assert(out->c == table->c && is_float(dev, table) && is_float(dev, out));
    RUN(dev, 0, traffic(out, out), embed(dev, out, table, ids), "embed [%lld,%d]",
        (long long)sdw_tensor_rows(ids), out->c);
}

void sdw_cast(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in)
{
    assert(sdw_tensor_count(out) == sdw_tensor_count(in) && out->c == in->c);
    assert(is_float(dev, in) && is_float(dev, out));
    RUN(dev, 0, traffic(out, in), cast(dev, out, in), "cast [%lld,%d]",
        (long long)sdw_tensor_rows(in), in->c);
}
