/* memory.c: buffers by address. The GPU is told a buffer and an offset, tensors carry an address:
 * a sorted list leads from one to the other. Ranges in the list are disjoint, though mapped
 * buffers, which Metal wants in whole pages, may share a page: the list has the bytes that were
 * asked for. */
#include "backend/metal/metal.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHARED         0ul /* MTLResourceStorageModeShared, CPU cache mode default, hazards tracked */
#define NO_DEALLOCATOR NULL /* the pages are the mapping's */

/* The first buffer that begins behind `address`. */
static int first_after(const struct sdw_metal *metal, const void *address)
{
    int low = 0, high = metal->buffers;
    while (low < high) {
        int middle = (low + high) / 2;
        if (metal->buffer[middle].contents <= (const char *)address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct sdw_metal_buffer *sdw_metal_buffer_of(const struct sdw_metal *metal,
                                                   const void *address)
{
    int i = first_after(metal, address) - 1;
    if (i < 0 || (const char *)address >= metal->buffer[i].contents + metal->buffer[i].bytes)
        return NULL;
    return &metal->buffer[i];
}

static bool make_room(struct sdw_metal *metal)
{
    if (metal->buffers < metal->buffers_room)
        return true;
    int room = metal->buffers_room ? 2 * metal->buffers_room : 64;
    struct sdw_metal_buffer *larger = realloc(metal->buffer, (size_t)room * sizeof *metal->buffer);
    if (!larger)
        return false;
    metal->buffer = larger;
    metal->buffers_room = room;
    return true;
}

/* There is room. */
static void insert(struct sdw_metal *metal, struct sdw_metal_buffer buffer)
{
    int at = first_after(metal, buffer.contents);
    memmove(&metal->buffer[at + 1], &metal->buffer[at],
            (size_t)(metal->buffers - at) * sizeof *metal->buffer);
    metal->buffer[at] = buffer;
    metal->buffers++;
}

void *sdw_metal_buffer_new(struct sdw_device *dev, size_t bytes)
{
    struct sdw_metal *metal = (struct sdw_metal *)dev;
    void *object = NULL;
    if (bytes <= metal->buffer_bytes_max && make_room(metal))
        object = SDW_SEND(&metal->objc, metal->device, buffer_new, bytes, SHARED);
    char *contents = SDW_TELL(&metal->objc, object, contents);
    if (!contents) {
        sdw_device_fail(
            dev, SDW_MEMORY,
            "%s: no memory for a buffer of %zu bytes; the largest has %lu, %zu are free", dev->id,
            bytes, metal->buffer_bytes_max, sdw_metal_memory_free(dev));
        return NULL;
    }
    insert(metal, (struct sdw_metal_buffer){contents, bytes, object, 0});
    return contents;
}

static bool overlaps(const struct sdw_metal *metal, const char *data, size_t bytes)
{
    int next = first_after(metal, data);
    return sdw_metal_buffer_of(metal, data) ||
           (next < metal->buffers && metal->buffer[next].contents < data + bytes);
}

char *sdw_metal_buffer_map(struct sdw_device *dev, const void *data, size_t bytes)
{
    struct sdw_metal *metal = (struct sdw_metal *)dev;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), lead = (uintptr_t)data & (page - 1);
    size_t length = (lead + bytes + page - 1) & ~(page - 1);
    char *contents = (char *)data, *start = contents - lead; /* the kernels only read it */
    if (!metal->unified || length > metal->buffer_bytes_max || overlaps(metal, data, bytes) ||
        !make_room(metal))
        return NULL;
    void *object =
        SDW_SEND(&metal->objc, metal->device, buffer_map, start, length, SHARED, NO_DEALLOCATOR);
    if (!object)
        return NULL;
    if (SDW_TELL(&metal->objc, object, contents) != start) { /* seen in virtual machines */
        SDW_TELL(&metal->objc, object, release);
        return NULL;
    }
    insert(metal, (struct sdw_metal_buffer){contents, bytes, object, lead});
    return contents;
}

void sdw_metal_buffer_free(struct sdw_device *dev, void *buffer)
{
    struct sdw_metal *metal = (struct sdw_metal *)dev;
    if (!buffer)
        return;
    int at = first_after(metal, buffer) - 1;
    SDW_TELL(&metal->objc, metal->buffer[at].object, release); /* commands in flight keep theirs */
    metal->buffers--;
    memmove(&metal->buffer[at], &metal->buffer[at + 1],
            (size_t)(metal->buffers - at) * sizeof *metal->buffer);
}

size_t sdw_metal_memory_free(struct sdw_device *dev)
{
    struct sdw_metal *metal = (struct sdw_metal *)dev;
    size_t all = SDW_TELL(&metal->objc, metal->device, working_set);
    size_t used = SDW_TELL(&metal->objc, metal->device, allocated);
    return used < all ? all - used : 0;
}
