/* backend.c: the life of a device and its first failure. */
#include "tensor/backend.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

void sdw_device_init(struct sdw_device *dev, const struct sdw_ops *ops)
{
    assert(ops->buffer_new && ops->buffer_free && ops->upload && ops->download);
    assert(ops->memory_free && ops->pack_linear && ops->pack_conv && ops->weight_free &&
           ops->sync && ops->close);
#define SDW_OPS_PRESENT(row, arguments) assert(ops->row && "an operator is missing: " #row);
    SDW_OPS_TABLE(SDW_OPS_PRESENT)
#undef SDW_OPS_PRESENT
    dev->ops = ops;
}

void sdw_device_fail(struct sdw_device *dev, enum sdw_status status, const char *format, ...)
{
    if (dev->failure.status)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(dev->failure.message, sizeof dev->failure.message, format, args);
    va_end(args);
    dev->failure.status = status;
}

bool sdw_device_stopped(struct sdw_device *dev)
{
    if (!dev->failure.status && dev->cancel && atomic_load(dev->cancel))
        sdw_device_fail(dev, SDW_CANCELLED, "cancelled");
    return dev->failure.status != SDW_OK;
}

enum sdw_status sdw_sync(struct sdw_device *dev, struct sdw_error *err)
{
    dev->ops->sync(dev);
    struct sdw_error failure = dev->failure;
    dev->failure = (struct sdw_error){0};
    if (failure.status)
        return sdw_fail(err, failure.status, "%s", failure.message);
    return SDW_OK;
}

void sdw_device_close(struct sdw_device *dev)
{
    if (!dev)
        return;
    sdw_scratch_reset(dev);
    sdw_scratch_release(dev);
    dev->ops->close(dev);
}

void sdw_upload(struct sdw_device *dev, const struct sdw_tensor *to, const void *from_host)
{
    if (!dev->failure.status)
        dev->ops->upload(dev, to->data, from_host, sdw_tensor_bytes(to));
}

void sdw_download(struct sdw_device *dev, void *to_host, const struct sdw_tensor *from)
{
    if (!dev->failure.status)
        dev->ops->download(dev, to_host, from->data, sdw_tensor_bytes(from));
}
