/* A recorded step gives what a step that is run gives, whatever happened in between. On the
 * stand-in of the driver, whose captures refuse what the real driver refuses. */
#include "backend/registry.h"
#include "cuda_host/device.h"
#include "nn/layers.h"
#include "tensor/recording.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define ROWS    5
#define WIDTH   8
#define COUNT   (ROWS * WIDTH)
#define SCRATCH ((size_t)1 << 20)

/* out = in * W^T + in, in scratch memory like a UNet's step. */
struct step {
    struct sdw_device *dev;
    struct sdw_weight *weight;
    struct sdw_tensor in, out;
    bool uploads; /* which a recording must not */
};

static void run_step(void *context)
{
    struct step *step = context;
    struct sdw_tensor x = sdw_linear_new(step->dev, step->weight, &step->in, SDW_ACT_SILU, SDW_F32);
    if (step->uploads) {
        static const float zeros[COUNT];
        sdw_upload(step->dev, &x, zeros);
    }
    step->out = sdw_tensor_new(step->dev, SDW_F32, 1, ROWS, 1, WIDTH);
    sdw_add(step->dev, &step->out, &x, &step->in);
    sdw_tensor_free(step->dev, &x);
}

static struct sdw_device *open_device(void)
{
    struct sdw_device_options options = {.dtype = SDW_F32};
    struct sdw_device *dev;
    struct sdw_error err;
    const char *name = cuda_host_device("cuda-host", &options);
    assert_int_equal(sdw_device_open(&dev, name, &options, &err), SDW_OK);
    sdw_scratch_reserve(dev, SCRATCH);
    return dev;
}

static void begin(struct step *step, struct sdw_device *dev)
{
    static float values[WIDTH * WIDTH];
    for (int i = 0; i < WIDTH * WIDTH; i++)
        values[i] = (float)(i * 37 % 19) / 19 - 0.5f;
    struct sdw_array weight = {.data = values, .dtype = SDW_F32, .rank = 2, .dim = {WIDTH, WIDTH}};
    *step = (struct step){.dev = dev, .weight = dev->ops->pack_linear(dev, &weight, NULL)};
    assert_non_null(step->weight);
}

/* One step on numbers of this seed; recording NULL: without one. */
static void take(float *to, struct step *step, struct sdw_recording *recording, int seed)
{
    float in[COUNT];
    struct sdw_error err;
    for (int i = 0; i < COUNT; i++)
        in[i] = (float)((i + seed) * 31 % 23) / 23 - 0.5f;
    step->in = sdw_upload_new(step->dev, in, 1, ROWS, 1, WIDTH);
    if (recording)
        sdw_recording_run(step->dev, recording, run_step, step);
    else
        run_step(step);
    sdw_download(step->dev, to, &step->out);
    struct sdw_tensor out = step->out;
    sdw_tensor_free(step->dev, &out);
    sdw_tensor_free(step->dev, &step->in);
    assert_int_equal(sdw_sync(step->dev, &err), SDW_OK);
    assert_int_equal(step->dev->scratch.count, 0);
}

/* Steps with and without a recording give the same bytes. */
static void compare(struct step *step, struct sdw_recording *recording, int steps)
{
    float plain[COUNT], got[COUNT];
    for (int seed = 0; seed < steps; seed++) {
        take(plain, step, NULL, seed);
        take(got, step, recording, seed);
        assert_memory_equal(got, plain, sizeof got);
    }
}

/* Graphs that the stand-in has launched so far. */
static int launches(void)
{
    void *library = dlopen(CUDA_HOST_LIBRARY, RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(library);
    const int *count = dlsym(library, "cuda_host_graph_launches");
    assert_non_null(count);
    dlclose(library);
    return *count;
}

static void finish(struct step *step, struct sdw_recording *recording)
{
    sdw_recording_free(step->dev, recording);
    step->dev->ops->weight_free(step->dev, step->weight);
    sdw_device_close(step->dev); /* the stand-in counts what was not given back */
}

static void test_same(void **state)
{
    (void)state;
    struct step step;
    struct sdw_recording recording = {0};
    begin(&step, open_device());
    int before = launches();
    compare(&step, &recording, 6);
    assert_int_equal(launches() - before, 5); /* all but the first */
    finish(&step, &recording);
}

/* With another tensor alive, the addresses on the tape are not those of this step. */
static void test_moved(void **state)
{
    (void)state;
    struct step step;
    struct sdw_recording recording = {0};
    float plain[COUNT], got[COUNT];
    begin(&step, open_device());
    for (int seed = 0; seed < 3; seed++)
        take(got, &step, &recording, seed);
    void *tape = recording.tape;
    assert_non_null(tape);
    take(plain, &step, NULL, 3);
    recording.before.block[0].bytes++; /* as if the first tensor had been larger */
    take(got, &step, &recording, 3);
    assert_memory_equal(got, plain, sizeof got);
    assert_null(recording.tape);
    finish(&step, &recording);
}

static void refused(const char *machine, bool uploads)
{
    struct step step;
    struct sdw_recording recording = {0};
    setenv("SDW_CUDA_HOST", machine, 1);
    begin(&step, open_device());
    step.uploads = uploads;
    int before = launches();
    compare(&step, &recording, 4);
    assert_true(recording.refused);
    assert_int_equal(launches(), before);
    finish(&step, &recording);
    unsetenv("SDW_CUDA_HOST");
}

static void test_refused(void **state)
{
    (void)state;
    refused("no-graphs", false);
    refused("any", true);
}

static void test_cancelled(void **state)
{
    (void)state;
    struct step step;
    struct sdw_recording recording = {0};
    struct sdw_error err;
    float got[COUNT];
    atomic_bool cancel = true;
    begin(&step, open_device());
    for (int seed = 0; seed < 3; seed++)
        take(got, &step, &recording, seed);
    step.dev->cancel = &cancel;
    sdw_recording_run(step.dev, &recording, run_step, &step);
    step.dev->cancel = NULL;
    assert_int_equal(sdw_sync(step.dev, &err), SDW_CANCELLED);
    finish(&step, &recording);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_moved),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cancelled),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
