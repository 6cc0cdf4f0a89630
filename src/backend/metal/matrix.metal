// matrix.metal: linear layers and convolutions as one product: out [rows,o] = a [rows,k] . w [o,k]^T. A group computes
// 64 x 64 outputs; both operands pass through threadgroup memory in steps of 16. For a convolution row r of a is an output
// pixel and column k a pixel of the kernel with its channel, read from the picture where it lies: no matrix of patches is
// ever stored. What multiplies a step is one of two: simdgroup matrices, where the host has seen that the GPU has them
// (it then defines SDW_METAL_SIMDGROUPS), or plain arithmetic.

#define STRIDE (SDW_METAL_TILE + 1) // rows of a step in threadgroup memory, padded against bank conflicts

// Where the kernel of an output pixel begins in the picture; n is negative past the last pixel.
struct corner {
    int n, y, x;
};

static inline corner corner_of(constant sdw_metal_matrix &p, int row)
{
    corner at;
    at.n = row < p.rows ? row / (p.oh * p.ow) : -1;
    at.y = row / p.ow % p.oh * p.stride - p.top;
    at.x = row % p.ow * p.stride - p.left;
    return at;
}

// Columns first..first+15 of the group's 64 rows of in, of which a thread fetches one column of four: rows of 16 threads
// read 16 neighbours. What lies outside is zero.
template <typename T>
static inline void fetch_rows(threadgroup float *a, device const T *in, constant sdw_metal_matrix &p, int row_0, int k,
                              uint me)
{
    for (uint i = 0; i < 4; i++) {
        uint r = me / 16 + 16 * i;
        int row = row_0 + int(r);
        bool inside = k < p.in && row < p.rows;
        a[me % 16 * STRIDE + r] = inside ? float(in[ulong(row) * uint(p.in) + uint(k)]) : 0.0f;
    }
}

// The same for a convolution: column k is a pixel of the kernel and a channel.
template <typename T>
static inline void fetch_pixels(threadgroup float *a, device const T *in, constant sdw_metal_matrix &p,
                                thread const corner *corners, int k, uint me)
{
    int tap = k / p.channels, c = k % p.channels, dy = tap / p.taps, dx = tap % p.taps;
    for (uint i = 0; i < 4; i++) {
        corner at = corners[i];
        int y = at.y + dy, x = at.x + dx;
        bool inside = k < p.in && at.n >= 0 && y >= 0 && y < p.h && x >= 0 && x < p.w;
        uint h = uint(p.h + p.doubled) >> p.doubled, w = uint(p.w + p.doubled) >> p.doubled; // as it is stored
        ulong row = ulong(at.n) * h + uint(y >> p.doubled);
        ulong from = (row * w + uint(x >> p.doubled)) * uint(p.channels) + uint(c);
        a[me % 16 * STRIDE + me / 16 + 16 * i] = inside ? float(in[from]) : 0.0f;
    }
}

template <typename T>
static inline void fetch_weights(threadgroup float *b, device const T *weight, constant sdw_metal_matrix &p, int out_0,
                                 int k, uint me)
{
    for (uint i = 0; i < 4; i++) {
        uint r = me / 16 + 16 * i;
        int o = out_0 + int(r);
        bool inside = k < p.in && o < p.out;
        b[me % 16 * STRIDE + r] = inside ? float(weight[ulong(o) * uint(p.in) + uint(k)]) : 0.0f;
    }
}

static inline void finish(device void *out, device const float *bias, device const void *residual,
                          constant sdw_metal_matrix &p, int row, int o, float sum)
{
    if (row >= p.rows || o >= p.out)
        return;
    ulong at = ulong(row) * uint(p.out) + uint(o);
    float value = activate(sum + bias[o], p.act);
    store(out, p.out_type, at, p.residual ? value + load(residual, p.out_type, at) : value);
}

#ifdef SDW_METAL_SIMDGROUPS

// A simdgroup of the eight has 32 x 16 outputs of the tile, 4 x 2 matrices of 8 x 8 that its threads hold in common.
struct tile_sums {
    simdgroup_float8x8 part[4][2];
    uint row, column; // where they begin in the tile

    void clear(place at)
    {
        row = at.simdgroup / 4 * 32;
        column = at.simdgroup % 4 * 16;
        for (uint i = 0; i < 4; i++)
            for (uint j = 0; j < 2; j++)
                part[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }

    // a and b have a step's columns as rows: a is read transposed.
    void add(threadgroup const float *a, threadgroup const float *b)
    {
        for (uint k = 0; k < SDW_METAL_TILE_STEP; k += 8) {
            simdgroup_float8x8 left[4], right[2];
            for (uint i = 0; i < 4; i++)
                simdgroup_load(left[i], a + k * STRIDE + row + 8 * i, STRIDE, ulong2(0, 0), true);
            for (uint j = 0; j < 2; j++)
                simdgroup_load(right[j], b + k * STRIDE + column + 8 * j, STRIDE, ulong2(0, 0), false);
            for (uint i = 0; i < 4; i++)
                for (uint j = 0; j < 2; j++)
                    simdgroup_multiply_accumulate(part[i][j], left[i], right[j], part[i][j]);
        }
    }

    // Matrix by matrix through 64 floats of its own: which thread holds which element is not to be known.
    void write(device void *out, device const float *bias, device const void *residual, constant sdw_metal_matrix &p,
               threadgroup float *room, place at, int row_0, int out_0)
    {
        threadgroup float *mine = room + 64 * at.simdgroup;
        for (uint i = 0; i < 4; i++)
            for (uint j = 0; j < 2; j++) {
                simdgroup_store(part[i][j], mine, 8, ulong2(0, 0), false);
                simdgroup_barrier(mem_flags::mem_threadgroup);
                for (uint e = at.lane; e < 64; e += 32)
                    finish(out, bias, residual, p, row_0 + int(row + 8 * i + e / 8), out_0 + int(column + 8 * j + e % 8),
                           mine[e]);
                simdgroup_barrier(mem_flags::mem_threadgroup);
            }
    }
};

#else

// A thread has 4 x 4 outputs of the tile, 16 apart.
struct tile_sums {
    float part[4][4];
    uint row, column;

    void clear(place at)
    {
        row = at.thread_index / 16;
        column = at.thread_index % 16;
        for (uint i = 0; i < 4; i++)
            for (uint j = 0; j < 4; j++)
                part[i][j] = 0.0f;
    }

    void add(threadgroup const float *a, threadgroup const float *b)
    {
        for (uint k = 0; k < SDW_METAL_TILE_STEP; k++) {
            float left[4], right[4];
            for (uint i = 0; i < 4; i++) {
                left[i] = a[k * STRIDE + row + 16 * i];
                right[i] = b[k * STRIDE + column + 16 * i];
            }
            for (uint i = 0; i < 4; i++)
                for (uint j = 0; j < 4; j++)
                    part[i][j] = fma(left[i], right[j], part[i][j]);
        }
    }

    void write(device void *out, device const float *bias, device const void *residual, constant sdw_metal_matrix &p,
               threadgroup float *, place, int row_0, int out_0)
    {
        for (uint i = 0; i < 4; i++)
            for (uint j = 0; j < 4; j++)
                finish(out, bias, residual, p, row_0 + int(row + 16 * i), out_0 + int(column + 16 * j), part[i][j]);
    }
};

#endif

template <typename T>
static inline void product(device void *out, device const T *in, device const T *weight, device const float *bias,
                           device const void *residual, constant sdw_metal_matrix &p, threadgroup float *room,
                           uint3 group, place at)
{
    threadgroup float *a = room, *b = room + SDW_METAL_TILE_STEP * STRIDE;
    int row_0 = int(group.y) * SDW_METAL_TILE, out_0 = int(group.x) * SDW_METAL_TILE;
    uint me = at.thread_index;
    corner corners[4];
    if (p.taps)
        for (uint i = 0; i < 4; i++)
            corners[i] = corner_of(p, row_0 + int(me / 16 + 16 * i));
    tile_sums sums;
    sums.clear(at);
    for (int first = 0; first < p.in; first += SDW_METAL_TILE_STEP) {
        int k = first + int(me % 16);
        if (p.taps)
            fetch_pixels(a, in, p, corners, k, me);
        else
            fetch_rows(a, in, p, row_0, k, me);
        fetch_weights(b, weight, p, out_0, k, me);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sums.add(a, b);
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    sums.write(out, bias, residual, p, room, at, row_0, out_0);
}

kernel void matrix_f32(device void *out [[buffer(0)]], device const float *in [[buffer(1)]],
                       device const float *weight [[buffer(2)]], device const float *bias [[buffer(3)]],
                       device const void *residual [[buffer(4)]], constant sdw_metal_matrix &p [[buffer(5)]],
                       threadgroup float *room GROUP_MEMORY, uint3 group [[threadgroup_position_in_grid]],
                       uint3 position [[thread_position_in_threadgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]])
{
    place at = {position.x, simdgroup, lane};
    product(out, in, weight, bias, residual, p, room, group, at);
}

kernel void matrix_narrow(device void *out [[buffer(0)]], device const narrow *in [[buffer(1)]],
                       device const narrow *weight [[buffer(2)]], device const float *bias [[buffer(3)]],
                       device const void *residual [[buffer(4)]], constant sdw_metal_matrix &p [[buffer(5)]],
                       threadgroup float *room GROUP_MEMORY, uint3 group [[threadgroup_position_in_grid]],
                       uint3 position [[thread_position_in_threadgroup]],
                       uint simdgroup [[simdgroup_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]])
{
    place at = {position.x, simdgroup, lane};
    product(out, in, weight, bias, residual, p, room, group, at);
}
