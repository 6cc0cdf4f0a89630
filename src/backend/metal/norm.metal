// norm.metal: group norm and layer norm, fused with what stands beside them. Two passes for mean and variance about
// the mean, as the reference has it: a one-pass variance loses its digits where the mean is large.

// The sum of `value` over the threads of the group, in every thread. room holds SDW_METAL_THREADS floats.
static inline float sum_of_group(float value, threadgroup float *room, uint thread_index)
{
    threadgroup_barrier(mem_flags::mem_threadgroup); // whoever still reads the sum before
    room[thread_index] = value;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint half_way = SDW_METAL_THREADS / 2; half_way > 0; half_way /= 2) {
        if (thread_index < half_way)
            room[thread_index] += room[thread_index + half_way];
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    return room[0];
}

// in + add: what is normalised.
static inline float shifted(device const void *in, device const void *add, constant sdw_metal_norm &p, ulong at,
                            uint image, uint channel)
{
    float value = load(in, p.in_type, at);
    return p.add ? value + load(add, p.add_type, ulong(image) * uint(p.channels) + channel) : value;
}

// group.x: the run of channels, group.y: the image, or the row of a layer norm. Neighbouring threads take neighbouring
// channels of a pixel, and as many pixels at a time as there are threads for.
kernel void norm(device void *out [[buffer(0)]], device const void *in [[buffer(1)]],
                 device const float *weight [[buffer(2)]], device const float *bias [[buffer(3)]],
                 device const void *add [[buffer(4)]], constant sdw_metal_norm &p [[buffer(5)]],
                 threadgroup float *room GROUP_MEMORY, uint3 group [[threadgroup_position_in_grid]],
                 uint3 position [[thread_position_in_threadgroup]])
{
    uint me = position.x, image = group.y, channels = uint(p.channels), pixels = uint(p.pixels);
    uint lanes = min(uint(p.width), uint(SDW_METAL_THREADS)), at_once = SDW_METAL_THREADS / lanes;
    uint begin = group.x * uint(p.width), end = begin + uint(p.width), first = begin + me % lanes;
    uint pixel_0 = me / lanes < at_once ? me / lanes : pixels; // the threads left over have nothing to do
    ulong base = ulong(image) * pixels * channels;
    float count = float(pixels) * float(p.width);

    float sum = 0.0f;
    for (uint pixel = pixel_0; pixel < pixels; pixel += at_once)
        for (uint c = first; c < end; c += lanes)
            sum += shifted(in, add, p, base + ulong(pixel) * channels + c, image, c);
    float mean = sum_of_group(sum, room, me) / count;

    float squares = 0.0f;
    for (uint pixel = pixel_0; pixel < pixels; pixel += at_once)
        for (uint c = first; c < end; c += lanes) {
            float off = shifted(in, add, p, base + ulong(pixel) * channels + c, image, c) - mean;
            squares = fma(off, off, squares);
        }
    float scale = 1.0f / sqrt(sum_of_group(squares, room, me) / count + p.epsilon);

    for (uint pixel = pixel_0; pixel < pixels; pixel += at_once)
        for (uint c = first; c < end; c += lanes) {
            ulong at = base + ulong(pixel) * channels + c;
            float value = (shifted(in, add, p, at, image, c) - mean) * scale * weight[c] + bias[c];
            store(out, p.out_type, at, activate(value, p.act));
        }
}
