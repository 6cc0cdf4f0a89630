/* cpu.h: the CPU as a device.
 *
 * Every operator has a plain reference (ref_*.c), the oracle; `--isa reference` runs on those
 * alone. The fast versions beside them fill the same table, per instruction set (kernels.h), and
 * take linear layers and direct convolutions to oneDNN where it is there. */
#ifndef SDW_BACKEND_CPU_CPU_H
#define SDW_BACKEND_CPU_CPU_H

#include "tensor/backend.h"
#include "tensor/weight.h"

extern const struct sdw_backend sdw_backend_cpu;

/* Instruction sets, from the least on; each includes the ones before. */
enum sdw_isa {
    SDW_ISA_REFERENCE,
    SDW_ISA_PORTABLE,
    SDW_ISA_AVX2,
    SDW_ISA_AVX512,
    SDW_ISA_AVX512_BF16,
    SDW_ISA_AMX_BF16,
    SDW_ISA_COUNT
};

struct sdw_amx_weight;
struct sdw_cpu_kernels;
struct sdw_onednn;
struct sdw_winograd;

struct sdw_cpu {
    struct sdw_device base;
    enum sdw_isa isa;
    const struct sdw_cpu_kernels *kernels;
    struct sdw_onednn *onednn; /* NULL where oneDNN is not built in or not wanted */
    struct sdw_ops ops;        /* this device's copy of the table */
    void *workspace;           /* grows to what the greediest operator needs, and stays */
    size_t workspace_bytes;
    float *staging; /* see sdw_cpu_staging */
    int64_t staging_floats;
};

/* One of the forms is filled: plain for the reference and for our own kernel, else oneDNN's,
 * Winograd's or that of AMX. */
struct sdw_cpu_weight {
    struct sdw_weight base;
    float *plain; /* reference: [o][i][k][k]; matrix.c: panels */
    float *bias;  /* [o], zeros where the layer has none */
    struct sdw_onednn_weight *onednn;
    struct sdw_winograd *winograd;
    float *tiled; /* winograd_f32.c */
    struct sdw_amx_weight *amx;
};

/* Zeroed memory for `count` elements of `bytes` bytes, aligned to 64; NULL after the device has
 * failed. */
void *sdw_cpu_alloc(struct sdw_device *dev, size_t count, size_t bytes);

/* The device's work space, at least `bytes` large, for the length of one operator; NULL after the
 * device has failed. */
void *sdw_cpu_workspace(struct sdw_device *dev, size_t bytes);

/* The numbers of an array on the host as f32, for packing; overwritten by the next call, gone with
 * the next sync. NULL after the device has failed. */
float *sdw_cpu_staging(struct sdw_device *dev, const struct sdw_array *array);

void sdw_cpu_limits(struct sdw_device *dev, struct sdw_limits *limits);

/* Whether multiply-adds of bf16 are faster here than those of f32, by trial: a millisecond. */
bool sdw_cpu_bf16_pays(const struct sdw_cpu_kernels *kernels);

/* ref_*.c: the oracle. */
void sdw_ref_fill(struct sdw_ops *ops);

void sdw_ref_linear(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_weight *weight, enum sdw_act act,
                    const struct sdw_tensor *residual);
void sdw_ref_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_weight *weight,
                    const struct sdw_tensor *residual);
void sdw_ref_attention(struct sdw_device *dev, const struct sdw_tensor *out,
                       const struct sdw_tensor *q, const struct sdw_tensor *k,
                       const struct sdw_tensor *v, struct sdw_attention_geometry geometry);
void sdw_ref_group_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                        const struct sdw_tensor *in, const struct sdw_norm *norm, enum sdw_act act,
                        const struct sdw_tensor *add);
void sdw_ref_layer_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                        const struct sdw_tensor *in, const struct sdw_norm *norm);
void sdw_ref_geglu(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *in);
void sdw_ref_act(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in,
                 enum sdw_act act);
void sdw_ref_add(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *a,
                 const struct sdw_tensor *b);
void sdw_ref_concat(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *a, const struct sdw_tensor *b);
void sdw_ref_embed(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *table, const struct sdw_tensor *ids);
void sdw_ref_cast(struct sdw_device *dev, const struct sdw_tensor *out,
                  const struct sdw_tensor *in);

/* For the references: element i of a tensor of any float type. */
float sdw_ref_get(const struct sdw_tensor *t, int64_t i);
void sdw_ref_set(const struct sdw_tensor *t, int64_t i, float value);
double sdw_ref_act_value(double x, enum sdw_act act);

/* The fast rows: they replace references in `ops`. */
void sdw_cpu_linear(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_weight *weight, enum sdw_act act,
                    const struct sdw_tensor *residual);
void sdw_cpu_conv2d(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_weight *weight,
                    const struct sdw_tensor *residual);
void sdw_cpu_attention(struct sdw_device *dev, const struct sdw_tensor *out,
                       const struct sdw_tensor *q, const struct sdw_tensor *k,
                       const struct sdw_tensor *v, struct sdw_attention_geometry geometry);
void sdw_cpu_group_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                        const struct sdw_tensor *in, const struct sdw_norm *norm, enum sdw_act act,
                        const struct sdw_tensor *add);
void sdw_cpu_layer_norm(struct sdw_device *dev, const struct sdw_tensor *out,
                        const struct sdw_tensor *in, const struct sdw_norm *norm);
void sdw_cpu_geglu(struct sdw_device *dev, const struct sdw_tensor *out,
                   const struct sdw_tensor *in);
void sdw_cpu_act(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *in,
                 enum sdw_act act);
void sdw_cpu_add(struct sdw_device *dev, const struct sdw_tensor *out, const struct sdw_tensor *a,
                 const struct sdw_tensor *b);
void sdw_cpu_concat(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *a, const struct sdw_tensor *b);
void sdw_cpu_cast(struct sdw_device *dev, const struct sdw_tensor *out,
                  const struct sdw_tensor *in);

/* pointwise.c: out [n,2h or 2h-1,2w or 2w-1,c] is in at twice its size, nearest neighbour. */
void sdw_cpu_double(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in);

/* matrix.c: linear layers and convolutions on our own f32 kernel, from panels that it packs. */
bool sdw_matrix_pack(struct sdw_device *dev, struct sdw_cpu_weight *weight,
                     const struct sdw_array *array);
void sdw_matrix_run(struct sdw_device *dev, const struct sdw_tensor *out,
                    const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                    enum sdw_act act, const struct sdw_tensor *residual);

/* winograd_f32.c: 3x3 convolutions with stride 1 and padding 1 whose channels come in multiples of
 * 16, all of f32. */
bool sdw_winograd_f32_usable(int in, int out);
bool sdw_winograd_f32_pack(struct sdw_device *dev, struct sdw_cpu_weight *weight,
                           const struct sdw_array *array);
void sdw_winograd_f32_run(struct sdw_device *dev, const struct sdw_tensor *out,
                          const struct sdw_tensor *in, const struct sdw_cpu_weight *weight,
                          const struct sdw_tensor *residual);

/* For the rows that walk over f32 rows whatever the tensor's type: row r of t, widened into `room`
 * unless it is f32. */
const float *sdw_cpu_row(const struct sdw_cpu_kernels *kernels, const struct sdw_tensor *t,
                         int64_t r, float *room);

#endif
