/* device.h: device names for test programs: "metal-host" is the metal device over the stand-in of
 * this folder, whatever machine this is; "metal-host-apple7" the same with simdgroup matrices. */
#ifndef SDW_TESTS_METAL_HOST_DEVICE_H
#define SDW_TESTS_METAL_HOST_DEVICE_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Once, before threads and before the device is opened. Any other name stays as it is. */
static inline const char *metal_host_device(const char *name)
{
#ifdef METAL_HOST_LIBRARY
    bool plain = strcmp(name, "metal-host") == 0;
    if (plain || strcmp(name, "metal-host-apple7") == 0) {
        setenv("SDW_METAL_RUNTIME", METAL_HOST_LIBRARY, 1);
        setenv("SDW_METAL_HOST_FAMILY", plain ? "0" : "1007", 1);
        return "metal";
    }
#endif
    return name;
}

#endif
