/* params.h: what the host tells each kernel: the same lines are compiled as C by the launchers and
 * as Metal Shading Language in front of the kernels. int and float have one size in both.
 *
 * Element types are SDW_METAL_F32 and any other number, which means the 16-bit type of this device;
 * activations are the numbers of enum sdw_act. device.c asserts that they agree. */
#ifndef SDW_BACKEND_METAL_PARAMS_H
#define SDW_BACKEND_METAL_PARAMS_H

#define SDW_METAL_F32 0 /* SDW_F32 */

#define SDW_METAL_SILU       1
#define SDW_METAL_GELU       2
#define SDW_METAL_QUICK_GELU 3

/* Threads of a group, in every kernel: one dimension. */
#define SDW_METAL_THREADS 256

/* matrix.metal: out [rows,out] from in [rows,in]; a convolution reads the row of an output pixel
 * from the picture. Tiles are 64 rows of 64 outputs, the sum goes in steps of 16. */
#define SDW_METAL_TILE      64
#define SDW_METAL_TILE_STEP 16

struct sdw_metal_matrix {
    int rows, in, out; /* of a convolution: in is taps*taps*channels */
    int out_type, act, residual;
    int taps; /* width of a convolution's kernel; 0: linear, and what follows is not read */
    int channels, h, w, oh, ow;
    int stride, top, left;
    int doubled; /* 1: h and w are those of the picture at twice its size */
};

/* attention.metal: queries a group, keys a step, by the width of a head; a thread holds up to
 * SDW_METAL_ATTENTION_SUMS of the group's outputs in registers. */
#define SDW_METAL_ATTENTION_SUMS 16
/* attention_simdgroups.metal: the same number of registers, as matrices of 8 x 8 in the group. */
#define SDW_METAL_ATTENTION_MATRICES (SDW_METAL_ATTENTION_SUMS * SDW_METAL_THREADS / 64)

struct sdw_metal_attention {
    int queries, keys, channels, width;
    int query_tile, key_tile;
    int causal;
    float scale;
};

/* norm.metal: a group of a group norm is `pixels` runs of `width` channels; a row of a layer norm
 * is a group of one pixel and all channels. */
struct sdw_metal_norm {
    int pixels, channels, width;
    int in_type, out_type, add_type, act;
    int add;
    float epsilon;
};

/* pointwise.metal: one thread an element of out. */
struct sdw_metal_pointwise {
    unsigned int count; /* of out */
    int in_type, other_type, out_type;
    int act;
    int channels, other_channels;     /* a row of out; of b in add and concat */
    int h, w;                         /* add: of a */
    int repeat_images, repeat_pixels; /* add: b has one image; one pixel */
};

#endif
