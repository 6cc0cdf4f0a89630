/* device.h: a device name for test programs: "metal-host" is the metal device over the stand-in of
 * this folder, whatever machine this is. */
#ifndef SDW_TESTS_METAL_HOST_DEVICE_H
#define SDW_TESTS_METAL_HOST_DEVICE_H

#include <stdlib.h>
#include <string.h>

/* Once, before threads and before the device is opened. Any other name stays as it is. */
static inline const char *metal_host_device(const char *name)
{
#ifdef METAL_HOST_LIBRARY
    if (strcmp(name, "metal-host") == 0) {
        setenv("SDW_METAL_RUNTIME", METAL_HOST_LIBRARY, 1);
        return "metal";
    }
#endif
    return name;
}

#endif
