/* registry.h: the devices that this binary was built for. */
#ifndef SDW_BACKEND_REGISTRY_H
#define SDW_BACKEND_REGISTRY_H

#include "tensor/backend.h"

/* The backend of that name ("cpu", "cuda", "metal", "trace"), or NULL when it was not built in. */
const struct sdw_backend *sdw_backend_find(const char *name);

/* Opens device options->index of that backend; SDW_DEVICE when there is none. */
enum sdw_status sdw_device_open(struct sdw_device **dev, const char *backend,
                                const struct sdw_device_options *options, struct sdw_error *err);

#endif
