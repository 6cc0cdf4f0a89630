// pointwise.metal: the operators that touch each element once: one thread an element of out.

static inline uint element(uint3 group, uint3 position)
{
    return group.x * SDW_METAL_THREADS + position.x;
}

// out = act(in); with no activation it is cast.
kernel void act(device void *out [[buffer(0)]], device const void *in [[buffer(1)]],
                constant sdw_metal_pointwise &p [[buffer(2)]], uint3 group [[threadgroup_position_in_grid]],
                uint3 position [[thread_position_in_threadgroup]])
{
    uint i = element(group, position);
    if (i < p.count)
        store(out, p.out_type, i, activate(load(in, p.in_type, i), p.act));
}

// out [..,c] = in [..,0:c] * gelu(in [..,c:2c])
kernel void geglu(device void *out [[buffer(0)]], device const void *in [[buffer(1)]],
                  constant sdw_metal_pointwise &p [[buffer(2)]], uint3 group [[threadgroup_position_in_grid]],
                  uint3 position [[thread_position_in_threadgroup]])
{
    uint i = element(group, position);
    if (i >= p.count)
        return;
    uint channels = uint(p.channels), row = i / channels;
    ulong at = ulong(row) * channels + i; // row r of in begins at 2rc, and i is rc + channel
    store(out, p.out_type, i, load(in, p.in_type, at) * gelu(load(in, p.in_type, at + channels)));
}

// out = a + b, where b may have one image or one pixel for all
kernel void add(device void *out [[buffer(0)]], device const void *a [[buffer(1)]],
                device const void *b [[buffer(2)]], constant sdw_metal_pointwise &p [[buffer(3)]],
                uint3 group [[threadgroup_position_in_grid]], uint3 position [[thread_position_in_threadgroup]])
{
    uint i = element(group, position);
    if (i >= p.count)
        return;
    uint channels = uint(p.channels), pixels = uint(p.h) * uint(p.w);
    uint row = i / channels, image = row / pixels;
    uint from = (p.repeat_images ? 0 : image * (p.repeat_pixels ? 1 : pixels)) + (p.repeat_pixels ? 0 : row % pixels);
    float other = load(b, p.other_type, ulong(from) * channels + i % channels);
    store(out, p.out_type, i, load(a, p.in_type, i) + other);
}

// out [..,ca+cb] = a [..,ca] beside b [..,cb]
kernel void concat(device void *out [[buffer(0)]], device const void *a [[buffer(1)]],
                   device const void *b [[buffer(2)]], constant sdw_metal_pointwise &p [[buffer(3)]],
                   uint3 group [[threadgroup_position_in_grid]], uint3 position [[thread_position_in_threadgroup]])
{
    uint i = element(group, position);
    if (i >= p.count)
        return;
    uint channels = uint(p.channels), right = uint(p.other_channels), left = channels - right;
    uint row = i / channels, c = i % channels;
    float value = c < left ? load(a, p.in_type, ulong(row) * left + c)
                           : load(b, p.other_type, ulong(row) * right + c - left);
    store(out, p.out_type, i, value);
}

// out [t,c] = table [rows,c] at ids [t]
kernel void embed(device void *out [[buffer(0)]], device const void *table [[buffer(1)]],
                  device const int *ids [[buffer(2)]], constant sdw_metal_pointwise &p [[buffer(3)]],
                  uint3 group [[threadgroup_position_in_grid]], uint3 position [[thread_position_in_threadgroup]])
{
    uint i = element(group, position);
    if (i >= p.count)
        return;
    uint channels = uint(p.channels);
    ulong row = ulong(ids[i / channels]);
    store(out, p.out_type, i, load(table, p.in_type, row * channels + i % channels));
}
