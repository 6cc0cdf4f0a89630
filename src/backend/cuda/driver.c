/* driver.c: what can be wrong before the first kernel runs, a sentence each. */
#include "backend/cuda/driver.h"

#include "backend/cuda/library.h"

#include <stdio.h>
#include <stdlib.h>

#define OLDEST_MAJOR 8 /* compute capability 8.0: the oldest that our kernels are compiled for */
#define ADVICE       "; --fallback cpu runs without it"

#define TEXT_OF(name) #name
#define TEXT(name)    TEXT_OF(name)

enum sdw_status sdw_cuda_driver_open(struct sdw_cuda_driver *driver, struct sdw_error *err)
{
    static const char variable[] = "SDW_CUDA_DRIVER";
    const char *named = getenv(variable), *path = named ? named : "libcuda.so.1";
    *driver = (struct sdw_cuda_driver){.library = sdw_cuda_library_open(path, variable)};
    if (!driver->library)
        return sdw_fail(err, SDW_DEVICE,
                        "there is no NVIDIA driver on this machine (%s cannot be opened): install "
                        "one that knows CUDA %d.%d" ADVICE,
                        path, CUDA_VERSION / 1000, CUDA_VERSION % 1000 / 10);
    const char *missing = NULL;
#define FIND(name)                                                                                 \
    SDW_CUDA_LIBRARY_TAKE(driver->name, driver->library, TEXT(name));                              \
    missing = driver->name ? missing : TEXT(name);
    SDW_CUDA_DRIVER_TABLE(FIND)
#undef FIND
    if (!missing)
        return SDW_OK;
    sdw_cuda_driver_close(driver);
    return sdw_fail(err, SDW_DEVICE,
                    "the NVIDIA driver is too old: it has no %s; install one that knows CUDA "
                    "%d.%d" ADVICE,
                    missing, CUDA_VERSION / 1000, CUDA_VERSION % 1000 / 10);
}

void sdw_cuda_driver_close(struct sdw_cuda_driver *driver)
{
    sdw_cuda_library_close(driver->library);
    driver->library = NULL;
}

const char *sdw_cuda_words(const struct sdw_cuda_driver *driver, CUresult result)
{
    const char *words = NULL;
    return driver->cuGetErrorString(result, &words) == CUDA_SUCCESS && words ? words
                                                                             : "unknown error";
}

/* The driver is new enough, starts, and sees *count GPUs. */
static enum sdw_status start(const struct sdw_cuda_driver *driver, int *count,
                             struct sdw_error *err)
{
    int version = 0;
    driver->cuDriverGetVersion(&version);
    /* Within a major version every driver runs every toolkit's code. */
    if (version < CUDA_VERSION / 1000 * 1000)
        return sdw_fail(err, SDW_DEVICE,
                        "the NVIDIA driver is too old: it knows CUDA %d.%d, this program needs "
                        "%d.0: install a newer one" ADVICE,
                        version / 1000, version % 1000 / 10, CUDA_VERSION / 1000);
    CUresult result = driver->cuInit(0);
    if (result == CUDA_SUCCESS)
        result = driver->cuDeviceGetCount(count);
    if (result == CUDA_ERROR_NO_DEVICE || (result == CUDA_SUCCESS && *count == 0))
        return sdw_fail(err, SDW_DEVICE,
                        "the NVIDIA driver sees no GPU: look whether one is built in and whether "
                        "CUDA_VISIBLE_DEVICES hides it" ADVICE);
    if (result != CUDA_SUCCESS)
        return sdw_fail(err, SDW_DEVICE, "the NVIDIA driver does not start: %s" ADVICE,
                        sdw_cuda_words(driver, result));
    return SDW_OK;
}

enum sdw_status sdw_cuda_card_find(struct sdw_cuda_card *card, const struct sdw_cuda_driver *driver,
                                   int index, struct sdw_error *err)
{
    int count = 0;
    enum sdw_status status = start(driver, &count, err);
    if (status)
        return status;
    if (index < 0 || index >= count)
        return sdw_fail(err, SDW_DEVICE, "there is no cuda:%d: this machine has %d GPU%s, cuda:0%s",
                        index, count, count == 1 ? "" : "s", count == 1 ? "" : " and on");
    *card = (struct sdw_cuda_card){0};
    const struct {
        int *to;
        CUdevice_attribute attribute;
    } rows[] = {
        {&card->major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR},
        {&card->minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR},
        {&card->processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
        {&card->shared_max, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN},
    };
    CUresult result = driver->cuDeviceGet(&card->device, index);
    if (result == CUDA_SUCCESS)
        result = driver->cuDeviceGetName(card->name, sizeof card->name, card->device);
    if (result == CUDA_SUCCESS)
        result = driver->cuDeviceTotalMem(&card->bytes, card->device);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && result == CUDA_SUCCESS; i++)
        result = driver->cuDeviceGetAttribute(rows[i].to, rows[i].attribute, card->device);
    if (result != CUDA_SUCCESS)
        return sdw_fail(err, SDW_DEVICE, "cuda:%d does not answer: %s", index,
                        sdw_cuda_words(driver, result));
    if (card->major < OLDEST_MAJOR)
        return sdw_fail(err, SDW_DEVICE,
                        "cuda:%d (%s, compute capability %d.%d) is too old: %d.0 (Ampere) is the "
                        "oldest that this program knows" ADVICE,
                        index, card->name, card->major, card->minor, OLDEST_MAJOR);
    return SDW_OK;
}
