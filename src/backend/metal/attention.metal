// attention.metal: softmax(scale q k^T) v with a running maximum and sum (Milakov and Gimelshein 2018; Dao et al.
// 2022): the scores of a tile of queries against a tile of keys live in threadgroup memory, no larger matrix exists.
// Keys and values take turns in one tile. A group computes query_tile queries of one head; a thread keeps its outputs
// in registers.

#define NOTHING (-1e30f) // below every score; not infinity, so that differences stay numbers

struct tiles {
    threadgroup float *q, *kv, *scores, *top, *sum, *shrink;
    uint stride; // of a row of q and kv: the head's width and one, against bank conflicts
};

// Rows first..first+count-1 of a head, past `limit` zeros, in `columns` columns, past the head's width zeros.
template <typename T>
static inline void fetch_tile(threadgroup float *to, device const T *from, constant sdw_metal_attention &p, uint stride,
                              uint columns, int first, int count, int limit, ulong base, uint me)
{
    for (uint e = me; e < uint(count) * columns; e += SDW_METAL_THREADS) {
        uint row = e / columns, c = e % columns;
        bool inside = first + int(row) < limit && c < uint(p.width);
        to[row * stride + c] = inside ? float(from[base + ulong(first + int(row)) * uint(p.channels) + c]) : 0.0f;
    }
}

// scores[i][j] of the tile; what a query does not see is NOTHING.
static inline void score(tiles t, constant sdw_metal_attention &p, int query_0, int key_0, uint me)
{
    uint keys = uint(p.key_tile);
    for (uint e = me; e < uint(p.query_tile) * keys; e += SDW_METAL_THREADS) {
        uint i = e / keys, j = e % keys;
        int key = key_0 + int(j);
        float dots[4] = {0.0f}; // four shorter sums are quicker and round less than one long one
        uint c = 0;
        for (; c + 4 <= uint(p.width); c += 4)
            for (uint l = 0; l < 4; l++)
                dots[l] = fma(t.q[i * t.stride + c + l], t.kv[j * t.stride + c + l], dots[l]);
        for (; c < uint(p.width); c++)
            dots[0] = fma(t.q[i * t.stride + c], t.kv[j * t.stride + c], dots[0]);
        bool seen = key < p.keys && (!p.causal || key <= query_0 + int(i));
        t.scores[e] = seen ? ((dots[0] + dots[1]) + (dots[2] + dots[3])) * p.scale : NOTHING;
    }
}

// One thread a query: new maximum, the scores become weights, and shrink is what the sums so far are worth.
static inline void weigh(tiles t, constant sdw_metal_attention &p, uint me)
{
    if (me >= uint(p.query_tile))
        return;
    threadgroup float *row = t.scores + me * uint(p.key_tile);
    float top = t.top[me], sum = 0.0f;
    for (int j = 0; j < p.key_tile; j++)
        top = max(top, row[j]);
    for (int j = 0; j < p.key_tile; j++) {
        row[j] = row[j] > NOTHING ? exp(row[j] - top) : 0.0f;
        sum += row[j];
    }
    t.shrink[me] = exp(t.top[me] - top);
    t.sum[me] = t.sum[me] * t.shrink[me] + sum;
    t.top[me] = top;
}

template <typename T>
static inline void attend(device T *out, device const T *q, device const T *k, device const T *v,
                          constant sdw_metal_attention &p, threadgroup float *room, uint3 group, uint me)
{
    uint width = uint(p.width), queries = uint(p.query_tile), keys = uint(p.key_tile);
    tiles t;
    t.stride = width + 1;
    t.q = room;
    t.kv = t.q + queries * t.stride;
    t.scores = t.kv + keys * t.stride;
    t.top = t.scores + queries * keys;
    t.sum = t.top + queries;
    t.shrink = t.sum + queries;

    int query_0 = int(group.x) * p.query_tile;
    ulong head = ulong(group.y) * width;
    ulong base_q = ulong(group.z) * uint(p.queries) * uint(p.channels) + head;
    ulong base_k = ulong(group.z) * uint(p.keys) * uint(p.channels) + head;
    float sums[SDW_METAL_ATTENTION_SUMS] = {0.0f};
    fetch_tile(t.q, q, p, t.stride, width, query_0, p.query_tile, p.queries, base_q, me);
    if (me < queries) {
        t.top[me] = NOTHING;
        t.sum[me] = 0.0f;
    }
    int end = p.causal ? min(p.keys, query_0 + p.query_tile) : p.keys;
    for (int key_0 = 0; key_0 < end; key_0 += p.key_tile) {
        fetch_tile(t.kv, k, p, t.stride, width, key_0, p.key_tile, p.keys, base_k, me);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        score(t, p, query_0, key_0, me);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        weigh(t, p, me);
        fetch_tile(t.kv, v, p, t.stride, width, key_0, p.key_tile, p.keys, base_k, me);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint s = 0; s < SDW_METAL_ATTENTION_SUMS; s++) {
            uint e = me + s * SDW_METAL_THREADS, i = e / width, c = e % width;
            if (i >= queries)
                break;
            float sum = sums[s] * t.shrink[i];
            for (uint j = 0; j < keys; j++)
                sum = fma(t.scores[i * keys + j], t.kv[j * t.stride + c], sum);
            sums[s] = sum;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    for (uint s = 0; s < SDW_METAL_ATTENTION_SUMS; s++) {
        uint e = me + s * SDW_METAL_THREADS, i = e / width, c = e % width;
        if (i < queries && query_0 + int(i) < p.queries)
            out[base_q + ulong(query_0 + int(i)) * uint(p.channels) + c] = T(sums[s] / t.sum[i]);
    }
}

kernel void attention_f32(device float *out [[buffer(0)]], device const float *q [[buffer(1)]],
                          device const float *k [[buffer(2)]], device const float *v [[buffer(3)]],
                          constant sdw_metal_attention &p [[buffer(4)]], threadgroup float *room GROUP_MEMORY,
                          uint3 group [[threadgroup_position_in_grid]],
                          uint3 position [[thread_position_in_threadgroup]])
{
    attend(out, q, k, v, p, room, group, position.x);
}

kernel void attention_narrow(device narrow *out [[buffer(0)]], device const narrow *q [[buffer(1)]],
                          device const narrow *k [[buffer(2)]], device const narrow *v [[buffer(3)]],
                          constant sdw_metal_attention &p [[buffer(4)]], threadgroup float *room GROUP_MEMORY,
                          uint3 group [[threadgroup_position_in_grid]],
                          uint3 position [[thread_position_in_threadgroup]])
{
    attend(out, q, k, v, p, room, group, position.x);
}
