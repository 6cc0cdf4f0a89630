/* objc.c: see objc.h. dlopen, so that one program runs where Metal is and says so where it is not.
 */
#include "backend/metal/objc.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* CoreGraphics: without it in the process the system names no default device
 * (MTLCreateSystemDefaultDevice, discussion). */
static const char *const frameworks[] = {
    "/usr/lib/libobjc.A.dylib",
    "/System/Library/Frameworks/Foundation.framework/Foundation",
    "/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics",
    "/System/Library/Frameworks/Metal.framework/Metal",
};
#define FRAMEWORKS (sizeof frameworks / sizeof frameworks[0])

static enum sdw_status open_libraries(struct sdw_objc *objc, struct sdw_error *err)
{
    const char *stand_in = getenv("SDW_METAL_RUNTIME");
    for (size_t i = 0; i < FRAMEWORKS; i++) {
        objc->libraries[i] = dlopen(stand_in ? stand_in : frameworks[i], RTLD_NOW | RTLD_LOCAL);
        if (!objc->libraries[i])
            return sdw_fail(err, SDW_DEVICE,
                            "Metal is not available: it needs macOS 11 or later, %s cannot be "
                            "opened; use sd-worker-cpu, or --fallback cpu",
                            stand_in ? stand_in : frameworks[i]);
    }
    return SDW_OK;
}

/* Casting a data pointer to a function pointer is what dlsym is for; memcpy keeps ISO C happy. */
static bool find(void *function, void *library, const char *name, struct sdw_error *err)
{
    void *found = dlsym(library, name);
    memcpy(function, &found, sizeof found);
    if (!found)
        sdw_fail(err, SDW_DEVICE, "Metal is not available: this system has no %s", name);
    return found != NULL;
}

static void register_selectors(struct sdw_objc *objc, void *send,
                               void *(*selector_named)(const char *name))
{
#define SDW_OBJC_FILL(row, text, ...)                                                              \
    objc->row.selector = selector_named(text);                                                     \
    memcpy(&objc->row.send, &send, sizeof send);
    SDW_OBJC_TABLE(SDW_OBJC_FILL, SDW_OBJC_FILL, SDW_OBJC_FILL, SDW_OBJC_FILL, SDW_OBJC_FILL)
#undef SDW_OBJC_FILL
}

enum sdw_status sdw_objc_open(struct sdw_objc *objc, struct sdw_error *err)
{
    *objc = (struct sdw_objc){0};
    enum sdw_status status = open_libraries(objc, err);
    if (status) {
        sdw_objc_close(objc);
        return status;
    }
    void *runtime = objc->libraries[0], *metal = objc->libraries[FRAMEWORKS - 1];
    void *send, *(*selector_named)(const char *name);
    if (!find(&send, runtime, "objc_msgSend", err) ||
        !find(&selector_named, runtime, "sel_registerName", err) ||
        !find(&objc->class_named, runtime, "objc_getClass", err) ||
        !find(&objc->pool_push, runtime, "objc_autoreleasePoolPush", err) ||
        !find(&objc->pool_pop, runtime, "objc_autoreleasePoolPop", err) ||
        !find(&objc->default_device, metal, "MTLCreateSystemDefaultDevice", err)) {
        sdw_objc_close(objc);
        return SDW_DEVICE;
    }
    register_selectors(objc, send, selector_named);
    return SDW_OK;
}

void sdw_objc_close(struct sdw_objc *objc)
{
    for (size_t i = 0; i < FRAMEWORKS; i++)
        if (objc->libraries[i])
            dlclose(objc->libraries[i]);
    *objc = (struct sdw_objc){0};
}

bool sdw_objc_row_at(int index, struct sdw_objc_row *row)
{
#define SDW_OBJC_0(name, text, r)       {text, SDW_OBJC_E_##r "@:"},
#define SDW_OBJC_1(name, text, r, a)    {text, SDW_OBJC_E_##r "@:" SDW_OBJC_E_##a},
#define SDW_OBJC_2(name, text, r, a, b) {text, SDW_OBJC_E_##r "@:" SDW_OBJC_E_##a SDW_OBJC_E_##b},
#define SDW_OBJC_3(name, text, r, a, b, c)                                                         \
    {text, SDW_OBJC_E_##r "@:" SDW_OBJC_E_##a SDW_OBJC_E_##b SDW_OBJC_E_##c},
#define SDW_OBJC_4(name, text, r, a, b, c, d)                                                      \
    {text, SDW_OBJC_E_##r "@:" SDW_OBJC_E_##a SDW_OBJC_E_##b SDW_OBJC_E_##c SDW_OBJC_E_##d},
    static const struct sdw_objc_row rows[] = {
        SDW_OBJC_TABLE(SDW_OBJC_0, SDW_OBJC_1, SDW_OBJC_2, SDW_OBJC_3, SDW_OBJC_4)};
    if (index < 0 || (size_t)index >= sizeof rows / sizeof rows[0])
        return false;
    *row = rows[index];
    return true;
}
