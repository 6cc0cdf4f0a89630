// attention_simdgroups.metal: what attention.metal computes, by simdgroup matrices: scores q k^T and outputs p v are
// products of 8 x 8 matrices that a simdgroup holds in common. Which lane holds which element is not to be known, so an
// output that must shrink with the running maximum is multiplied by a diagonal matrix. Heads that are too wide for the
// group's memory in this form are attention.metal's.

#ifdef SDW_METAL_SIMDGROUPS

#define SIMDGROUPS (SDW_METAL_THREADS / 32)
#define OUTPUTS    (SDW_METAL_ATTENTION_MATRICES / SIMDGROUPS) // matrices of outputs that a simdgroup may have

struct matrix_tiles {
    threadgroup float *q, *kv, *scores, *shrink, *top, *sum, *room;
    uint stride; // of a row of q and kv: whole matrices, and 4 more against bank conflicts
    uint parts;  // matrices across a head
};

// As attention.c counts the floats.
static inline matrix_tiles matrix_tiles_of(constant sdw_metal_attention &p, threadgroup float *memory)
{
    uint queries = uint(p.query_tile), keys = uint(p.key_tile);
    matrix_tiles t;
    t.parts = (uint(p.width) + 7) / 8;
    t.stride = 8 * t.parts + 4;
    t.q = memory;
    t.kv = t.q + queries * t.stride;
    t.scores = t.kv + keys * t.stride;
    t.shrink = t.scores + queries * keys; // a diagonal matrix for each 8 queries
    t.top = t.shrink + 8 * queries;
    t.sum = t.top + queries;
    t.room = t.sum + queries; // 64 floats a simdgroup
    return t;
}

static inline void score_matrices(matrix_tiles t, constant sdw_metal_attention &p, place at)
{
    uint keys = uint(p.key_tile), across = keys / 8, count = uint(p.query_tile) / 8 * across;
    for (uint m = at.simdgroup; m < count; m += SIMDGROUPS) {
        threadgroup const float *q = t.q + m / across * 8 * t.stride, *k = t.kv + m % across * 8 * t.stride;
        simdgroup_float8x8 sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f), left, right;
        for (uint part = 0; part < t.parts; part++) {
            simdgroup_load(left, q + 8 * part, t.stride, ulong2(0, 0), false);
            simdgroup_load(right, k + 8 * part, t.stride, ulong2(0, 0), true);
            simdgroup_multiply_accumulate(sum, left, right, sum);
        }
        simdgroup_store(sum, t.scores + m / across * 8 * keys + m % across * 8, keys, ulong2(0, 0), false);
    }
}

// A simdgroup a query, a lane a key, of which a tile has 32 at most: scores become weights, as in weigh().
static inline void weigh_rows(matrix_tiles t, constant sdw_metal_attention &p, int query_0, int key_0, place at)
{
    uint keys = uint(p.key_tile);
    int key = key_0 + int(at.lane);
    for (uint i = at.simdgroup; i < uint(p.query_tile); i += SIMDGROUPS) {
        threadgroup float *row = t.scores + i * keys;
        bool seen = at.lane < keys && key < p.keys && (!p.causal || key <= query_0 + int(i));
        float value = seen ? row[at.lane] * p.scale : NOTHING, before = t.top[i];
        float top = max(before, simd_max(value));
        float weight = seen ? exp(value - top) : 0.0f, sum = simd_sum(weight);
        if (at.lane < keys)
            row[at.lane] = weight;
        simdgroup_barrier(mem_flags::mem_threadgroup); // every lane has read the maximum before
        if (at.lane == 0) {
            float shrink = exp(before - top);
            t.shrink[i / 8 * 64 + i % 8 * 9] = shrink;
            t.sum[i] = t.sum[i] * shrink + sum;
            t.top[i] = top;
        }
    }
}

// The outputs of a simdgroup: every eighth of the group's matrices.
struct outputs {
    simdgroup_float8x8 part[OUTPUTS];

    void clear()
    {
        for (uint s = 0; s < OUTPUTS; s++)
            part[s] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    }

    void add(matrix_tiles t, constant sdw_metal_attention &p, place at)
    {
        uint keys = uint(p.key_tile), count = uint(p.query_tile) / 8 * t.parts;
        for (uint s = 0; s < OUTPUTS; s++) {
            uint m = at.simdgroup + SIMDGROUPS * s, row = m / t.parts, column = m % t.parts * 8;
            if (m >= count)
                break;
            simdgroup_float8x8 sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f), left, right;
            simdgroup_load(left, t.shrink + 64 * row, 8, ulong2(0, 0), false);
            simdgroup_multiply_accumulate(sum, left, part[s], sum);
            for (uint k = 0; k < keys; k += 8) {
                simdgroup_load(left, t.scores + 8 * row * keys + k, keys, ulong2(0, 0), false);
                simdgroup_load(right, t.kv + k * t.stride + column, t.stride, ulong2(0, 0), false);
                simdgroup_multiply_accumulate(sum, left, right, sum);
            }
            part[s] = sum;
        }
    }

    // As tile_sums::write: through 64 floats of the simdgroup's own.
    template <typename T>
    void write(device T *out, matrix_tiles t, constant sdw_metal_attention &p, int query_0, ulong base, place at)
    {
        threadgroup float *mine = t.room + 64 * at.simdgroup;
        uint count = uint(p.query_tile) / 8 * t.parts;
        for (uint s = 0; s < OUTPUTS; s++) {
            uint m = at.simdgroup + SIMDGROUPS * s;
            if (m >= count)
                break;
            simdgroup_store(part[s], mine, 8, ulong2(0, 0), false);
            simdgroup_barrier(mem_flags::mem_threadgroup);
            for (uint e = at.lane; e < 64; e += 32) {
                uint i = m / t.parts * 8 + e / 8, c = m % t.parts * 8 + e % 8;
                int query = query_0 + int(i);
                if (query < p.queries && c < uint(p.width))
                    out[base + ulong(query) * uint(p.channels) + c] = T(mine[e] / t.sum[i]);
            }
            simdgroup_barrier(mem_flags::mem_threadgroup);
        }
    }
};

template <typename T>
static inline void attend_by_matrices(device T *out, device const T *q, device const T *k, device const T *v,
                                      constant sdw_metal_attention &p, threadgroup float *memory, uint3 group, place at)
{
    matrix_tiles t = matrix_tiles_of(p, memory);
    uint me = at.thread_index, columns = 8 * t.parts;
    int query_0 = int(group.x) * p.query_tile;
    ulong head = ulong(group.y) * uint(p.width);
    ulong base_q = ulong(group.z) * uint(p.queries) * uint(p.channels) + head;
    ulong base_k = ulong(group.z) * uint(p.keys) * uint(p.channels) + head;
    fetch_tile(t.q, q, p, t.stride, columns, query_0, p.query_tile, p.queries, base_q, me);
    for (uint e = me; e < 8 * uint(p.query_tile); e += SDW_METAL_THREADS)
        t.shrink[e] = 0.0f;
    if (me < uint(p.query_tile)) {
        t.top[me] = NOTHING;
        t.sum[me] = 0.0f;
    }
    outputs sums;
    sums.clear();
    int end = p.causal ? min(p.keys, query_0 + p.query_tile) : p.keys;
    for (int key_0 = 0; key_0 < end; key_0 += p.key_tile) {
        fetch_tile(t.kv, k, p, t.stride, columns, key_0, p.key_tile, p.keys, base_k, me);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        score_matrices(t, p, at);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        weigh_rows(t, p, query_0, key_0, at);
        fetch_tile(t.kv, v, p, t.stride, columns, key_0, p.key_tile, p.keys, base_k, me);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        sums.add(t, p, at);
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    sums.write(out, t, p, query_0, base_q, at);
}

kernel void attention_simdgroups_f32(device float *out [[buffer(0)]], device const float *q [[buffer(1)]],
                                     device const float *k [[buffer(2)]], device const float *v [[buffer(3)]],
                                     constant sdw_metal_attention &p [[buffer(4)]], threadgroup float *room GROUP_MEMORY,
                                     uint3 group [[threadgroup_position_in_grid]],
                                     uint3 position [[thread_position_in_threadgroup]],
                                     uint simdgroup [[simdgroup_index_in_threadgroup]],
                                     uint lane [[thread_index_in_simdgroup]])
{
    place at = {position.x, simdgroup, lane};
    attend_by_matrices(out, q, k, v, p, room, group, at);
}

kernel void attention_simdgroups_narrow(device narrow *out [[buffer(0)]], device const narrow *q [[buffer(1)]],
                                        device const narrow *k [[buffer(2)]], device const narrow *v [[buffer(3)]],
                                        constant sdw_metal_attention &p [[buffer(4)]],
                                        threadgroup float *room GROUP_MEMORY,
                                        uint3 group [[threadgroup_position_in_grid]],
                                        uint3 position [[thread_position_in_threadgroup]],
                                        uint simdgroup [[simdgroup_index_in_threadgroup]],
                                        uint lane [[thread_index_in_simdgroup]])
{
    place at = {position.x, simdgroup, lane};
    attend_by_matrices(out, q, k, v, p, room, group, at);
}

#endif
