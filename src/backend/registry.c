/* registry.c: the only file that knows which backends were built in. */
#include "backend/registry.h"

#include "backend/cpu/cpu.h"
#include "backend/metal/metal.h"
#include "backend/trace/trace.h"

#include <string.h>

#ifdef SDW_HAVE_CUDA
extern const struct sdw_backend sdw_backend_cuda; /* its header needs NVIDIA's */
#endif

static const struct sdw_backend *const backends[] = {
    &sdw_backend_cpu,
    &sdw_backend_metal,
    &sdw_backend_trace,
#ifdef SDW_HAVE_CUDA
    &sdw_backend_cuda,
#endif
};

const struct sdw_backend *sdw_backend_find(const char *name)
{
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    return NULL;
}

enum sdw_status sdw_device_open(struct sdw_device **dev, const char *backend,
                                const struct sdw_device_options *options, struct sdw_error *err)
{
    const struct sdw_backend *found = sdw_backend_find(backend);
    if (!found)
        return sdw_fail(err, SDW_DEVICE, "this program was built without the %s device", backend);
    return found->open(dev, options, err);
}
