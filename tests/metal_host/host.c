/* host.c: what the kernels call in place of the GPU's own instructions. */
#include "host.h"

#include "base/half.h"
#include "lockstep/lockstep.h"

#include <string.h>

void metal_host_barrier(void)
{
    lockstep_barrier();
}

void metal_host_lanes_barrier(void)
{
    lockstep_lanes_barrier();
}

uint32_t metal_host_lane(void)
{
    return (uint32_t)(lockstep_thread() % LOCKSTEP_LANES);
}

void metal_host_exchange(void *all, const void *mine, size_t bytes)
{
    const char *values = lockstep_exchange(mine, bytes);
    for (size_t lane = 0; lane < LOCKSTEP_LANES; lane++)
        memcpy((char *)all + lane * bytes, values + lane * LOCKSTEP_VALUE_MAX, bytes);
}

uint16_t metal_host_half(float value)
{
    return sdw_f32_to_f16(value);
}

float metal_host_half_float(uint16_t half)
{
    return sdw_f16_to_f32(half);
}

uint16_t metal_host_bfloat(float value)
{
    return sdw_f32_to_bf16(value);
}

float metal_host_bfloat_float(uint16_t bfloat)
{
    return sdw_bf16_to_f32(bfloat);
}
