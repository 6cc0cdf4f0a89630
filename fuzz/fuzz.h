/* fuzz.h: what libFuzzer calls, declared once for -Wmissing-prototypes. */
#ifndef SDW_FUZZ_FUZZ_H
#define SDW_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Unlike assert it needs no <assert.h> build type: a broken promise is a finding. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            __builtin_trap();                                                                      \
    } while (0)

#endif
