/* attention.cu: softmax(scale q k^T) v by head, a tile of keys at a time with a running maximum and
 * sum, so that the scores are never stored (Dao et al. 2022, Milakov and Gimelshein 2018).
 *
 * Three kernels: f32 without tensor cores; 16 bits for heads of up to 160, where a warp keeps its
 * 16 queries' output in registers; and 16 bits for wider heads (the VAE's 512), where the warps of
 * a block share 32 queries and divide the output's columns. Products are of 16 bits, sums and
 * softmax f32. Score s of key j counts as 2^(s*scale*log2(e) - maximum). */
#include "backend/cuda/kernel.h"

/* Element offset of token `i` of head `h` of image `n`, among `tokens` of an image. */
static __device__ __forceinline__ int64_t token(const sdw_cuda_attention &a, int n, int tokens,
                                                int i, int h)
{
    return ((int64_t)n * tokens + i) * a.heads * a.width + (int64_t)h * a.width;
}

static __device__ __forceinline__ bool seen(const sdw_cuda_attention &a, int query, int key)
{
    return key < a.keys && (!a.causal || key <= query);
}

/* Keys that the queries below `end` see. */
static __device__ __forceinline__ int keys_before(const sdw_cuda_attention &a, int end)
{
    return a.causal ? min(a.keys, end) : a.keys;
}

/* Rows first..first+count-1 of one head to shared memory, `padded` columns each, zeros where there
 * is nothing: past the last token, past the head's width. */
template <typename T>
static __device__ __forceinline__ void bring(T *to, int pitch, const void *all,
                                             const sdw_cuda_attention &a, int tokens, int first,
                                             int count, int padded)
{
    const T *from = (const T *)all + token(a, blockIdx.z, tokens, 0, blockIdx.y);
    int64_t step = (int64_t)a.heads * a.width;
    int pieces = padded / 8;
    for (int p = threadIdx.x; p < count * pieces; p += blockDim.x) {
        int row = p / pieces, column = p % pieces * 8;
        bool real = first + row < tokens;
        T *at = to + row * pitch + column;
        if (a.vector) {
            bool inside = real && column < a.width;
            copy_async(at, inside ? from + (first + row) * step + column : from, inside);
            continue;
        }
        for (int j = 0; j < 8; j++)
            at[j] = real && column + j < a.width ? from[(first + row) * step + column + j] : T{0};
    }
}

template <typename T> static __device__ __forceinline__ uint32_t two(float low, float high)
{
    T a, b;
    narrow(&a, low);
    narrow(&b, high);
    return a.bits | (uint32_t)b.bits << 16;
}

/* ---- heads of up to 160: a block of 4 warps has 64 queries, a warp 16 ---- */

#define QUERIES 64
#define KEYS    64

/* What a warp keeps: a lane has of query rows lane/4 and lane/4+8 the columns 2*(lane%4) and the
 * next of every 8. */
template <int wide> struct rows {
    float out[wide / 8][4];
    float top[2], sum[2]; /* sum: this lane's share */
};

/* s [16 queries, 64 keys] = q k^T of a warp */
template <typename T, int wide>
static __device__ __forceinline__ void score(float (&s)[KEYS / 8][4],
                                             const uint32_t (&q)[wide / 16][4], const T *keys)
{
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int n = 0; n < KEYS / 16; n++)
#pragma unroll
        for (int k = 0; k < wide / 16; k++) {
            uint32_t b[4];
            load_matrices(b, keys + (n * 16 + lane / 16 * 8 + lane % 8) * (wide + 8) + k * 16 +
                                 lane / 8 % 2 * 8);
            multiply(s[2 * n], q[k], b[0], b[1], T());
            multiply(s[2 * n + 1], q[k], b[2], b[3], T());
        }
}

/* Scores to powers relative to the new maximum; what was summed before shrinks to it. */
template <int wide>
static __device__ __forceinline__ void soften(float (&s)[KEYS / 8][4], rows<wide> &r,
                                              const sdw_cuda_attention &a, int query, int key)
{
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = r.top[half];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; e++) {
                bool counts = seen(a, query + 8 * half, key + n * 8 + lane % 4 * 2 + e % 2);
                s[n][e] = counts ? s[n][e] * a.scale_log2 : -INFINITY;
                top = fmaxf(top, s[n][e]);
            }
        top = fmaxf(top, __shfl_xor_sync(ALL, top, 1)); /* four lanes share a row */
        top = fmaxf(top, __shfl_xor_sync(ALL, top, 2));
        float shrink = power_of_two(r.top[half] - top);
        r.top[half] = top;
        r.sum[half] *= shrink;
#pragma unroll
        for (int n = 0; n < wide / 8; n++) {
            r.out[n][2 * half] *= shrink;
            r.out[n][2 * half + 1] *= shrink;
        }
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; e++) {
                s[n][e] = power_of_two(s[n][e] - top);
                r.sum[half] += s[n][e];
            }
    }
}

/* out [16,wide] += p [16,64] v [64,wide] of a warp: scores lie in registers as a product's left
 * side wants them. */
template <typename T, int wide>
static __device__ __forceinline__ void gather(rows<wide> &r, const float (&p)[KEYS / 8][4],
                                              const T *values)
{
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
        uint32_t left[4] = {two<T>(p[2 * k][0], p[2 * k][1]), two<T>(p[2 * k][2], p[2 * k][3]),
                            two<T>(p[2 * k + 1][0], p[2 * k + 1][1]),
                            two<T>(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < wide / 16; n++) {
            uint32_t b[4];
            load_transposed(b, values + (k * 16 + lane / 8 % 2 * 8 + lane % 8) * (wide + 8) +
                                   n * 16 + lane / 16 * 8);
            multiply(r.out[2 * n], left, b[0], b[1], T());
            multiply(r.out[2 * n + 1], left, b[2], b[3], T());
        }
    }
}

template <typename T, int wide>
static __device__ __forceinline__ void write_rows(rows<wide> &r, const sdw_cuda_attention &a,
                                                  int query)
{
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = r.sum[half];
        sum += __shfl_xor_sync(ALL, sum, 1);
        sum += __shfl_xor_sync(ALL, sum, 2);
        if (query + 8 * half >= a.queries)
            continue;
        T *to = (T *)a.out + token(a, blockIdx.z, a.queries, query + 8 * half, blockIdx.y);
#pragma unroll
        for (int n = 0; n < wide / 8; n++) {
            int column = n * 8 + lane % 4 * 2;
            float low = r.out[n][2 * half] / sum, high = r.out[n][2 * half + 1] / sum;
            if (a.vector && column < a.width)
                *(uint32_t *)(to + column) = two<T>(low, high);
            else if (column < a.width) {
                narrow(to + column, low);
                if (column + 1 < a.width)
                    narrow(to + column + 1, high);
            }
        }
    }
}

/* Grid: ceil(queries / 64), heads, n; 128 threads; shared: 3 * 64 * (wide + 8) elements. Values
 * travel while scores are computed, the next keys while values are summed. */
template <typename T, int wide> static __device__ void attend(const sdw_cuda_attention &a)
{
    const int pitch = wide + 8; /* rows of 16 bytes lie in different banks */
    T *q = (T *)dynamic_shared(), *k = q + QUERIES * pitch, *v = k + KEYS * pitch;
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, first = blockIdx.x * QUERIES;
    int query = first + warp * 16 + lane / 4, keys = keys_before(a, first + QUERIES);
    bring(q, pitch, a.q, a, a.queries, first, QUERIES, wide);
    bring(k, pitch, a.k, a, a.keys, 0, KEYS, wide);
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    uint32_t left[wide / 16][4];
#pragma unroll
    for (int i = 0; i < wide / 16; i++)
        load_matrices(left[i], q + (warp * 16 + lane % 16) * pitch + i * 16 + lane / 16 * 8);
    rows<wide> r = {};
    r.top[0] = r.top[1] = -INFINITY;
    for (int key = 0; key < keys; key += KEYS) {
        copy_wait<0>();
        __syncthreads(); /* these keys are here, the last values are read */
        bring(v, pitch, a.v, a, a.keys, key, KEYS, wide);
        copy_commit();
        float s[KEYS / 8][4] = {};
        score<T, wide>(s, left, k);
        __syncthreads(); /* the keys are read */
        if (key + KEYS < keys)
            bring(k, pitch, a.k, a, a.keys, key + KEYS, KEYS, wide);
        copy_commit();
        soften(s, r, a, query, key);
        copy_wait<1>(); /* all but the keys */
        __syncthreads();
        gather<T, wide>(r, s, v);
    }
    write_rows<T, wide>(r, a, query);
}

#define NARROW(name, type, wide)                                                                   \
    KERNEL __launch_bounds__(128) name(const sdw_cuda_attention a)                                 \
    {                                                                                              \
        attend<type, wide>(a);                                                                     \
    }
NARROW(sdw_attention_f16_48, f16, 48)
NARROW(sdw_attention_f16_64, f16, 64)
NARROW(sdw_attention_f16_80, f16, 80)
NARROW(sdw_attention_f16_160, f16, 160)
NARROW(sdw_attention_bf16_48, bf16, 48)
NARROW(sdw_attention_bf16_64, bf16, 64)
NARROW(sdw_attention_bf16_80, bf16, 80)
NARROW(sdw_attention_bf16_160, bf16, 160)

/* ---- heads of up to 512: a block of 8 warps has 32 queries ---- */

#define WIDE_MAX  512
#define WIDE_ROWS 32 /* queries of a block, keys of a tile */

template <typename T> struct wide_shared {
    T q[WIDE_ROWS][WIDE_MAX + 8], kv[WIDE_ROWS][WIDE_MAX + 8], p[WIDE_ROWS][WIDE_ROWS + 8];
    float score[WIDE_ROWS][WIDE_ROWS + 1];
    float top[WIDE_ROWS], sum[WIDE_ROWS], shrink[WIDE_ROWS];
};

/* score [32,32]: a warp makes 16 queries x 8 keys. */
template <typename T>
static __device__ __forceinline__ void wide_score(wide_shared<T> &m, const sdw_cuda_attention &a,
                                                  int first, int key, int padded)
{
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, row = warp % 2 * 16,
        column = warp / 2 * 8;
    float s[4] = {0, 0, 0, 0};
    for (int k = 0; k < padded; k += 32) {
        uint32_t left[4], b[4];
        load_matrices(b, &m.kv[column + lane % 8][k + lane / 8 * 8]);
        load_matrices(left, &m.q[row + lane % 16][k + lane / 16 * 8]);
        multiply(s, left, b[0], b[1], T());
        load_matrices(left, &m.q[row + lane % 16][k + 16 + lane / 16 * 8]);
        multiply(s, left, b[2], b[3], T());
    }
#pragma unroll
    for (int e = 0; e < 4; e++) {
        int i = row + lane / 4 + e / 2 * 8, j = column + lane % 4 * 2 + e % 2;
        m.score[i][j] = seen(a, first + i, key + j) ? s[e] * a.scale_log2 : -INFINITY;
    }
}

/* p [32,32] and what the running sums shrink by: a warp has 4 queries, a lane a key. */
template <typename T> static __device__ __forceinline__ void wide_soften(wide_shared<T> &m)
{
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (int i = warp * 4; i < warp * 4 + 4; i++) {
        float s = m.score[i][lane], before = m.top[i], sum_before = m.sum[i];
        float top = fmaxf(before, warp_max(s)), p = power_of_two(s - top);
        float sum = warp_sum(p);
        narrow(&m.p[i][lane], p);
        if (lane == 0) {
            float shrink = power_of_two(before - top);
            m.top[i] = top;
            m.shrink[i] = shrink;
            m.sum[i] = sum_before * shrink + sum;
        }
    }
}

/* out [32,64] of a warp += p [32,32] v [32, its columns] */
template <typename T>
static __device__ __forceinline__ void wide_gather(float (&out)[2][8][4], wide_shared<T> &m,
                                                   int padded)
{
    int lane = threadIdx.x % WARP, column = threadIdx.x / WARP * 64;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float shrink[2] = {m.shrink[half * 16 + lane / 4], m.shrink[half * 16 + lane / 4 + 8]};
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                out[half][n][e] *= shrink[e / 2];
    }
#pragma unroll
    for (int k = 0; k < WIDE_ROWS; k += 16) {
        uint32_t left[2][4];
        load_matrices(left[0], &m.p[lane % 16][k + lane / 16 * 8]);
        load_matrices(left[1], &m.p[16 + lane % 16][k + lane / 16 * 8]);
#pragma unroll
        for (int n = 0; n < 4; n++) {
            uint32_t b[4];
            if (column + n * 16 >= padded)
                continue; /* the same for the whole warp */
            load_transposed(
                b, &m.kv[k + lane / 8 % 2 * 8 + lane % 8][column + n * 16 + lane / 16 * 8]);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                multiply(out[half][2 * n], left[half], b[0], b[1], T());
                multiply(out[half][2 * n + 1], left[half], b[2], b[3], T());
            }
        }
    }
}

/* Grid: ceil(queries / 32), heads, n; 256 threads; shared: wide_shared<T>. Keys and values share
 * their place. */
template <typename T> static __device__ void attend_wide(const sdw_cuda_attention &a)
{
    wide_shared<T> &m = *(wide_shared<T> *)dynamic_shared();
    const int pitch = WIDE_MAX + 8;
    int lane = threadIdx.x % WARP, column = threadIdx.x / WARP * 64;
    int first = blockIdx.x * WIDE_ROWS, padded = (a.width + 31) / 32 * 32;
    int keys = keys_before(a, first + WIDE_ROWS);
    float out[2][8][4] = {};
    if (threadIdx.x < WIDE_ROWS) {
        m.top[threadIdx.x] = -INFINITY;
        m.sum[threadIdx.x] = 0;
    }
    bring(&m.q[0][0], pitch, a.q, a, a.queries, first, WIDE_ROWS, padded);
    for (int key = 0; key < keys; key += WIDE_ROWS) {
        bring(&m.kv[0][0], pitch, a.k, a, a.keys, key, WIDE_ROWS, padded);
        copy_commit();
        copy_wait<0>();
        __syncthreads();
        wide_score(m, a, first, key, padded);
        __syncthreads(); /* the keys are read, the scores written */
        bring(&m.kv[0][0], pitch, a.v, a, a.keys, key, WIDE_ROWS, padded);
        copy_commit();
        wide_soften(m);
        copy_wait<0>();
        __syncthreads();
        wide_gather(out, m, padded);
        __syncthreads(); /* the values are read */
    }
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int i = half * 16 + lane / 4 + e / 2 * 8, c = column + n * 8 + lane % 4 * 2 + e % 2;
                if (first + i < a.queries && c < a.width)
                    narrow((T *)a.out + token(a, blockIdx.z, a.queries, first + i, blockIdx.y) + c,
                           out[half][n][e] / m.sum[i]);
            }
}

KERNEL __launch_bounds__(256) sdw_attention_f16_512(const sdw_cuda_attention a)
{
    attend_wide<f16>(a);
}

KERNEL __launch_bounds__(256) sdw_attention_bf16_512(const sdw_cuda_attention a)
{
    attend_wide<bf16>(a);
}

/* ---- f32: a warp has one query, a lane a key and then every 32nd column ---- */

#define COLUMNS (WIDE_MAX / WARP) /* that a lane has at most */

/* Grid: ceil(queries / 4), heads, n; 128 threads; shared: 4 * width floats, the queries */
KERNEL __launch_bounds__(128) sdw_attention_f32(const sdw_cuda_attention a)
{
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, query = blockIdx.x * 4 + warp;
    float *q = (float *)dynamic_shared() + warp * a.width;
    if (query >= a.queries)
        return; /* a whole warp; there is no barrier of the block below */
    const float *q_from = (const float *)a.q + token(a, blockIdx.z, a.queries, query, blockIdx.y);
    for (int c = lane; c < a.width; c += WARP)
        q[c] = q_from[c];
    __syncwarp();
    float out[COLUMNS] = {}, top = -INFINITY, sum = 0;
    int keys = keys_before(a, query + 1);
    for (int first = 0; first < keys; first += WARP) {
        float s = -INFINITY;
        if (first + lane < keys) {
            const float *k =
                (const float *)a.k + token(a, blockIdx.z, a.keys, first + lane, blockIdx.y);
            float dot = 0;
            for (int c = 0; c < a.width; c++)
                dot += q[c] * k[c];
            s = dot * a.scale_log2;
        }
        float before = top;
        top = fmaxf(top, warp_max(s));
        float shrink = power_of_two(before - top), p = power_of_two(s - top);
        sum = sum * shrink + warp_sum(p);
#pragma unroll
        for (int i = 0; i < COLUMNS; i++)
            out[i] *= shrink;
        for (int j = 0; j < min(WARP, keys - first); j++) {
            float weight = __shfl_sync(ALL, p, j);
            const float *v =
                (const float *)a.v + token(a, blockIdx.z, a.keys, first + j, blockIdx.y);
#pragma unroll
            for (int i = 0; i < COLUMNS; i++)
                if (lane + i * WARP < a.width)
                    out[i] += weight * v[lane + i * WARP];
        }
    }
    float *to = (float *)a.out + token(a, blockIdx.z, a.queries, query, blockIdx.y);
#pragma unroll
    for (int i = 0; i < COLUMNS; i++)
        if (lane + i * WARP < a.width)
            to[lane + i * WARP] = out[i] / sum;
}
