/* host.c: what the kernels call in place of the GPU's own instructions. */
#include "host.h"

#include "base/half.h"
#include "lockstep/lockstep.h"

void metal_host_barrier(void)
{
    lockstep_barrier();
}

uint16_t metal_host_half(float value)
{
    return sdw_f32_to_f16(value);
}

float metal_host_float(uint16_t half)
{
    return sdw_f16_to_f32(half);
}
