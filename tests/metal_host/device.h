/* device.h: device names for test programs: "metal-host" is the metal device over the stand-in of
 * this folder, whatever machine this is; "metal-host-apple6" the same with bf16,
 * "metal-host-apple7" with simdgroup matrices, too. */
#ifndef SDW_TESTS_METAL_HOST_DEVICE_H
#define SDW_TESTS_METAL_HOST_DEVICE_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Once, before threads and before the device is opened. Any other name stays as it is. */
static inline const char *metal_host_device(const char *name)
{
#ifdef METAL_HOST_LIBRARY
    static const char *const families[][2] = {
        {"metal-host", "0"}, {"metal-host-apple6", "1006"}, {"metal-host-apple7", "1007"}};
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(name, families[i][0]) == 0) {
            setenv("SDW_METAL_RUNTIME", METAL_HOST_LIBRARY, 1);
            setenv("SDW_METAL_HOST_FAMILY", families[i][1], 1);
            return "metal";
        }
#endif
    return name;
}

#endif
