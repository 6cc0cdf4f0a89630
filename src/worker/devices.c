/* devices.c: the `devices` command: what this program could run on, a line each. */
#include "backend/registry.h"
#include "base/pool.h"
#include "worker/command.h"

#include <stdio.h>

int sdw_command_devices(int argc, char **argv, const char *backend)
{
    struct sdw_options options;
    struct sdw_error err;
    if (sdw_options_read(&options, SDW_COMMAND_DEVICES, argc, argv, NULL, NULL, &err))
        return sdw_command_fail(backend, &err);
    if (sdw_command_informed(&options, SDW_COMMAND_DEVICES, backend)) {
        sdw_options_free(&options);
        return 0;
    }
    sdw_pool_threads_set((int)options.threads);
    int found = 0;
    for (int index = 0;; index++) {
        struct sdw_device *dev;
        struct sdw_device_options wanted = {
            .index = index, .dtype = SDW_DTYPE_COUNT, .isa = options.isa};
        if (sdw_device_open(&dev, backend, &wanted, &err))
            break;
        printf("%s  %s, %s\n", dev->id, dev->description, sdw_dtype_name(dev->compute));
        sdw_device_close(dev);
        found++;
    }
    sdw_options_free(&options);
    return found ? 0 : sdw_command_fail(backend, &err);
}
