/* resnet.c: what lies between the two convolutions is read only by a norm, so it is kept in the
 * compute type; what is added up from block to block is kept in the stream type.
 *
 * The largest tensors of a VAE decide how much memory a picture takes, so the order of the lines is
 * the one with the lowest peak: at most three tensors live at a time, and two where a block of the
 * compute type is done with its input early (halves). */
#include "nn/resnet.h"

#include "nn/layers.h"
#include "tensor/weight.h"

#include <assert.h>

void sdw_resnet_load(struct sdw_resnet *resnet, struct sdw_loader *loader, int in, int out,
                     int time_width, int groups, float epsilon)
{
    *resnet = (struct sdw_resnet){.channels = out};
    resnet->norm1 = sdw_load_norm(loader, "norm1", in, groups, epsilon);
    resnet->conv1 = sdw_load_conv(loader, "conv1", in, out, 3, sdw_conv_same(3));
    if (time_width > 0)
        resnet->time = sdw_load_linear(loader, "time_emb_proj", time_width, out, SDW_BIAS);
    resnet->norm2 = sdw_load_norm(loader, "norm2", out, groups, epsilon);
    resnet->conv2 = sdw_load_conv(loader, "conv2", out, out, 3, sdw_conv_same(3));
    if (in != out)
        resnet->shortcut = sdw_load_linear(loader, "conv_shortcut", in, out, SDW_BIAS);
}

/* What the second convolution's result is added to. */
static struct sdw_tensor shortcut_forward(struct sdw_device *dev, const struct sdw_resnet *resnet,
                                          struct sdw_tensor *in, bool keep)
{
    if (!resnet->shortcut)
        return *in;
    struct sdw_tensor x = sdw_operand(dev, in); /* [n,h,w,in] */
    if (!keep && x.data != in->data)
        sdw_tensor_free(dev, in);
    struct sdw_tensor out = sdw_linear_new(dev, resnet->shortcut, &x, SDW_ACT_NONE, dev->stream);
    if (!keep || x.data != in->data)
        sdw_tensor_free(dev, &x);
    return out;
}

#define BAND_ROWS      16                 /* of conv_in_place: an eighth is computed twice */
#define BAND_BYTES_MIN ((size_t)16 << 20) /* smaller tensors do not matter */

/* Can hidden [n,h,w,channels] take the place of `in`? Where its rows are half as long, a band of
 * them ends before the rows of `in` that the next band reads. */
static bool halves(const struct sdw_device *dev, const struct sdw_resnet *resnet,
                   const struct sdw_tensor *in)
{
    return resnet->shortcut && in->dtype == dev->compute && in->n == 1 &&
           2 * resnet->channels <= in->c && sdw_tensor_bytes(in) >= BAND_BYTES_MIN;
}

/* conv(in) in in's own memory, a band of rows at a time. A band is read with a row more at either
 * end, whose own results are thrown away: they lack a neighbour. */
static struct sdw_tensor conv_in_place(struct sdw_device *dev, const struct sdw_weight *conv,
                                       const struct sdw_tensor *in)
{
    struct sdw_tensor out = *in, room;
    out.c = conv->out;
    room = sdw_tensor_new(dev, out.dtype, 1, BAND_ROWS + 2, out.w, out.c);
    for (int start = 0, end; start < in->h; start = end) {
        end = start + BAND_ROWS < in->h ? start + BAND_ROWS : in->h;
        int above = start > 0, rows = end - start + above + (end < in->h);
        struct sdw_tensor from = sdw_tensor_strip(in, start - above, rows);
        struct sdw_tensor band = sdw_tensor_strip(&room, 0, rows);
        sdw_conv2d(dev, &band, &from, conv, NULL);
        band = sdw_tensor_strip(&room, above, end - start);
        struct sdw_tensor to = sdw_tensor_strip(&out, start, end - start);
        sdw_cast(dev, &to, &band);
    }
    sdw_tensor_free(dev, &room);
    return out;
}

struct sdw_tensor sdw_resnet_forward(struct sdw_device *dev, const struct sdw_resnet *resnet,
                                     struct sdw_tensor in, bool keep, const struct sdw_tensor *time)
{
    assert(resnet->shortcut || in.dtype == dev->stream);
    struct sdw_tensor h, hidden, sum; /* [n,h,w,in], twice [n,h,w,channels] */
    if (!keep && halves(dev, resnet, &in)) {
        sum = shortcut_forward(dev, resnet, &in, true);
        sdw_group_norm(dev, &in, &in, &resnet->norm1, SDW_ACT_SILU, NULL);
        hidden = conv_in_place(dev, resnet->conv1, &in);
    } else {
        h = sdw_group_norm_new(dev, &resnet->norm1, &in, SDW_ACT_SILU, NULL);
        hidden = sdw_conv_new(dev, resnet->conv1, &h, dev->compute);
        sdw_tensor_free(dev, &h);
        sum = shortcut_forward(dev, resnet, &in, keep);
    }

    struct sdw_tensor t = {0}; /* [n,1,1,channels] */
    if (resnet->time)
        t = sdw_linear_new(dev, resnet->time, time, SDW_ACT_NONE, dev->compute);
    sdw_group_norm(dev, &hidden, &hidden, &resnet->norm2, SDW_ACT_SILU, resnet->time ? &t : NULL);
    sdw_tensor_free(dev, &t);

    struct sdw_tensor out = sum;
    if (keep && !resnet->shortcut)
        out = sdw_tensor_new(dev, dev->stream, in.n, in.h, in.w, resnet->channels);
    sdw_conv2d(dev, &out, &hidden, resnet->conv2, &sum);
    sdw_tensor_free(dev, &hidden);
    return out;
}

/* Scratch memory that lies after a tensor of `taken` bytes up to the end of one of `bytes`. */
static struct sdw_tensor gap(struct sdw_device *dev, size_t bytes, size_t taken)
{
    int rows = bytes > taken ? (int)((bytes - taken) / SDW_SCRATCH_ALIGN) : 0;
    int width = SDW_SCRATCH_ALIGN / (int)sdw_dtype_bytes(SDW_F32);
    return rows ? sdw_tensor_new(dev, SDW_F32, 1, rows, 1, width) : (struct sdw_tensor){0};
}

struct sdw_tensor sdw_upsample_forward(struct sdw_device *dev, const struct sdw_weight *conv,
                                       struct sdw_tensor in, bool keep, int h, int w,
                                       enum sdw_dtype dtype)
{
    struct sdw_tensor x, out = {.dtype = dtype, .n = in.n, .h = h, .w = w, .c = conv->out};
    if (keep) {
        x = sdw_operand(dev, &in);
    } else {
        /* The copy goes behind the place of the result, in's and more, so that no gap is left. */
        struct sdw_tensor more = gap(dev, sdw_tensor_bytes(&out), sdw_tensor_bytes(&in));
        x = sdw_operand_take(dev, &in);
        sdw_tensor_free(dev, &more);
    }
    out = sdw_tensor_new(dev, dtype, in.n, h, w, conv->out);
    sdw_conv2d(dev, &out, &x, conv, NULL);
    if (keep)
        sdw_operand_free(dev, &x, &in);
    else
        sdw_tensor_free(dev, &x);
    return out;
}
