/* matrix.cu: linear layers and convolutions as one matrix product, out [rows,o] = A [rows,kk*i] .
 * W^T, where A is never stored: a row of it is read from the picture where it is needed (implicit
 * GEMM, Chetlur et al. 2014). It is what runs where cuBLASLt or cuDNN is missing or declines. */
#include "backend/cuda/kernel.h"

/* Where the window of a row of A begins. */
struct window {
    int64_t image; /* first row of pixels of its image, as it is stored */
    int y, x;
    bool real; /* false past the last row */
};

static __device__ __forceinline__ window window_of(const sdw_cuda_matrix &a, int64_t row)
{
    window at;
    at.real = row < a.rows;
    int x = (int)(row % a.ow);
    int64_t rest = row / a.ow;
    int y = (int)(rest % a.oh);
    at.image = rest / a.oh * ((a.h + a.doubled) >> a.doubled);
    at.y = y * a.stride - a.top;
    at.x = x * a.stride - a.left;
    return at;
}

/* Element `k` of a row of A: where it lies in `in`, or -1 where it is zero. */
static __device__ __forceinline__ int64_t element_of(const sdw_cuda_matrix &a, const window &at,
                                                     int k)
{
    int position = k / a.i, y = at.y + position / a.kernel, x = at.x + position % a.kernel;
    bool inside =
        at.real && position < a.kernel * a.kernel && y >= 0 && y < a.h && x >= 0 && x < a.w;
    int64_t row = at.image + (y >> a.doubled);
    int width = (a.w + a.doubled) >> a.doubled;
    return inside ? (row * width + (x >> a.doubled)) * a.i + k % a.i : -1;
}

static __device__ __forceinline__ void finish(const sdw_cuda_matrix &a, int64_t row, int column,
                                              float sum)
{
    if (row >= a.rows || column >= a.o)
        return;
    int64_t at = row * a.o + column;
    float value = activate(sum + a.bias[column], a.act);
    set(a.out, a.out_type, at, a.residual ? value + get(a.residual, a.out_type, at) : value);
}

/* ---- 16 bits: a block of 256 threads makes 128 x 128 of out, 32 of k at a time; a warp 64 x 32
 * ---- */

#define BLOCK  128
#define DEEP   32
#define PITCH  (DEEP + 8) /* eight rows of 16 bytes lie in different banks */
#define PIECES 2          /* of 8 elements, that a thread brings of each operand */

template <typename T> struct tiles {
    T a[2][BLOCK][PITCH], w[2][BLOCK][PITCH];
};

/* Rows and columns of 8 elements from the picture and the weight into one side of `to`. */
template <typename T>
static __device__ __forceinline__ void bring(tiles<T> &to, int side, const sdw_cuda_matrix &a,
                                             const window (&at)[PIECES], int k0)
{
    int depth = a.kernel * a.kernel * a.i;
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        int piece = threadIdx.x + 256 * p, row = piece / 4, k = piece % 4 * 8;
        int o = blockIdx.y * BLOCK + row;
        T *a_to = &to.a[side][row][k], *w_to = &to.w[side][row][k];
        const T *in = (const T *)a.in, *weight = (const T *)a.weight;
        if (a.vector) {
            int64_t from = element_of(a, at[p], k0 + k);
            copy_async(a_to, in + (from < 0 ? 0 : from), from >= 0);
            bool inside = o < a.o && k0 + k < depth;
            copy_async(w_to, weight + (inside ? (int64_t)o * depth + k0 + k : 0), inside);
            continue;
        }
        for (int j = 0; j < 8; j++) {
            int64_t from = element_of(a, at[p], k0 + k + j);
            bool inside = o < a.o && k0 + k + j < depth;
            a_to[j] = from < 0 ? T{0} : in[from];
            w_to[j] = inside ? weight[(int64_t)o * depth + k0 + k + j] : T{0};
        }
    }
}

template <typename T>
static __device__ __forceinline__ void multiply_tiles(float (&c)[4][4][4], const tiles<T> &of,
                                                      int side)
{
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int row = warp % 2 * 64, column = warp / 2 * 32;
#pragma unroll
    for (int k = 0; k < DEEP; k += 16) {
        uint32_t a[4][4], b[2][4];
#pragma unroll
        for (int m = 0; m < 4; m++)
            load_matrices(a[m], &of.a[side][row + m * 16 + lane % 16][k + lane / 16 * 8]);
#pragma unroll
        for (int n = 0; n < 2; n++)
            load_matrices(
                b[n],
                &of.w[side][column + n * 16 + lane / 16 * 8 + lane % 8][k + lane / 8 % 2 * 8]);
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int n = 0; n < 4; n++)
                multiply(c[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1], T());
    }
}

#define STRIP (32 + 4) /* floats of a row of a warp's strip */

/* A warp's 64 x 32 of out, 16 rows at a time by way of shared memory, so that its lanes write
 * neighbours and the arithmetic of an element stands here once. */
static __device__ __forceinline__ void write_tile(const sdw_cuda_matrix &a, float *strip,
                                                  const float (&c)[4][4][4])
{
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int64_t row = (int64_t)blockIdx.x * BLOCK + warp % 2 * 64;
    int column = blockIdx.y * BLOCK + warp / 2 * 32;
#pragma unroll
    for (int m = 0; m < 4; m++) {
#pragma unroll
        for (int n = 0; n < 4; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                strip[(lane / 4 + e / 2 * 8) * STRIP + n * 8 + lane % 4 * 2 + e % 2] = c[m][n][e];
        __syncwarp();
#pragma unroll 1
        for (int i = 0; i < 16; i++)
            finish(a, row + m * 16 + i, column + lane, strip[i * STRIP + lane]);
        __syncwarp();
    }
}

/* Grid: ceil(rows / 128), ceil(o / 128); 256 threads; shared: tiles<T>. While one side of the tiles
 * is multiplied, the other is on its way. */
template <typename T> static __device__ void matrix_product(const sdw_cuda_matrix &a)
{
    tiles<T> &tile = *(tiles<T> *)dynamic_shared();
    window at[PIECES];
    int64_t first = (int64_t)blockIdx.x * BLOCK;
    for (int p = 0; p < PIECES; p++)
        at[p] = window_of(a, first + (threadIdx.x + 256 * p) / 4);
    float c[4][4][4] = {};
    int steps = (a.kernel * a.kernel * a.i + DEEP - 1) / DEEP;
    bring(tile, 0, a, at, 0);
    copy_commit();
    for (int s = 0; s < steps; s++) {
        if (s + 1 < steps)
            bring(tile, (s + 1) % 2, a, at, (s + 1) * DEEP);
        copy_commit(); /* an empty group at the end: the count below stays right */
        copy_wait<1>();
        __syncthreads(); /* all of side s%2 is here */
        multiply_tiles(c, tile, s % 2);
        __syncthreads(); /* it may be written again */
    }
    write_tile(a, (float *)dynamic_shared() + threadIdx.x / WARP * 16 * STRIP, c);
}

KERNEL __launch_bounds__(256) sdw_matrix_f16(const sdw_cuda_matrix a)
{
    matrix_product<f16>(a);
}

KERNEL __launch_bounds__(256) sdw_matrix_bf16(const sdw_cuda_matrix a)
{
    matrix_product<bf16>(a);
}

/* ---- f32: a block of 256 threads makes 64 x 64, 16 of k at a time; a thread 4 x 4 ---- */

#define SIDE  64
#define DEPTH 16

/* Grid: ceil(rows / 64), ceil(o / 64); 256 threads */
KERNEL __launch_bounds__(256) sdw_matrix_f32(const sdw_cuda_matrix a)
{
    __shared__ float left[DEPTH][SIDE + 4], right[DEPTH][SIDE + 4];
    int depth = a.kernel * a.kernel * a.i;
    int64_t first = (int64_t)blockIdx.x * SIDE;
    int column = blockIdx.y * SIDE, mine = threadIdx.x % SIDE, above = threadIdx.x / SIDE;
    window at = window_of(a, first + mine);
    float c[4][4] = {};
    for (int k0 = 0; k0 < depth; k0 += DEPTH) {
        for (int k = above; k < DEPTH; k += 4) {
            int64_t from = element_of(a, at, k0 + k);
            bool inside = column + mine < a.o && k0 + k < depth;
            left[k][mine] = from < 0 ? 0 : ((const float *)a.in)[from];
            right[k][mine] =
                inside ? ((const float *)a.weight)[(int64_t)(column + mine) * depth + k0 + k] : 0;
        }
        __syncthreads();
        for (int k = 0; k < DEPTH; k++)
#pragma unroll
            for (int m = 0; m < 4; m++)
#pragma unroll
                for (int n = 0; n < 4; n++)
                    c[m][n] +=
                        left[k][threadIdx.x / 16 * 4 + m] * right[k][threadIdx.x % 16 * 4 + n];
        __syncthreads();
    }
    float *sums = &left[0][0]; /* four of a thread at a time */
#pragma unroll
    for (int m = 0; m < 4; m++) {
#pragma unroll
        for (int n = 0; n < 4; n++)
            sums[n * 256 + threadIdx.x] = c[m][n];
#pragma unroll 1
        for (int n = 0; n < 4; n++)
            finish(a, first + threadIdx.x / 16 * 4 + m, column + threadIdx.x % 16 * 4 + n,
                   sums[n * 256 + threadIdx.x]);
    }
}
