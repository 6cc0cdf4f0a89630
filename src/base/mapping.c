/* mapping.c: see mapping.h. Shared, not private, so that no copy is kept ready for writes that
 * never come; Metal is known to take such pages (docs/metal.md). */
#include "base/mapping.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static enum sdw_status map(struct sdw_mapping *mapping, const char *path, size_t bytes_min,
                           struct sdw_error *err)
{
    struct stat info;
    if (fstat(mapping->fd, &info) < 0)
        return sdw_fail_errno(err, "cannot read %s", path);
    if (!S_ISREG(info.st_mode) || info.st_size < (off_t)bytes_min)
        return sdw_fail(err, SDW_FORMAT, "%s has %lld bytes: too short for a file of weights", path,
                        (long long)info.st_size);
    mapping->bytes = (size_t)info.st_size;
    mapping->start = mmap(NULL, mapping->bytes, PROT_READ, MAP_SHARED, mapping->fd, 0);
    if (mapping->start == MAP_FAILED)
        return sdw_fail_errno(err, "cannot map %s", path);
    mapping->holders = 1;
    return SDW_OK;
}

enum sdw_status sdw_mapping_open(struct sdw_mapping **mapping, const char *path, size_t bytes_min,
                                 struct sdw_error *err)
{
    *mapping = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sdw_fail_errno(err, "cannot open %s", path);
    struct sdw_mapping *made = calloc(1, sizeof *made);
    if (!made) {
        close(fd);
        return sdw_fail(err, SDW_MEMORY, "no memory to open %s", path);
    }
    made->fd = fd;
    enum sdw_status status = map(made, path, bytes_min, err);
    if (status) {
        close(fd);
        free(made);
        return status;
    }
    *mapping = made;
    return SDW_OK;
}

struct sdw_mapping *sdw_mapping_hold(struct sdw_mapping *mapping)
{
    mapping->holders++;
    return mapping;
}

void sdw_mapping_drop(struct sdw_mapping *mapping)
{
    if (!mapping || --mapping->holders > 0)
        return;
    munmap((void *)mapping->start, mapping->bytes);
    close(mapping->fd);
    free(mapping);
}

bool sdw_mapping_has(const struct sdw_mapping *mapping, const void *address)
{
    const char *start = mapping->start, *at = address;
    return at >= start && at < start + mapping->bytes;
}
