/* safetensors.c: any bytes as a file. What the parser accepts, every array of it can be read. */
#include "weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_parse(sdw_safetensors_parse, data, size);
    return 0;
}
