/* How convolutions come to cuDNN and what is done when it misbehaves, on its stand-in and the
 * driver's: planned once a shape, compared with our kernel, recorded, dropped. */
#include "backend/registry.h"
#include "base/half.h"
#include "cuda_host/device.h"
#include "tensor/recording.h"
#include "tensor/weight.h"

#include <dirent.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SIDE    5
#define WIDTH   16
#define COUNT   (SIDE * SIDE * WIDTH)
#define WEIGHTS (WIDTH * WIDTH * 9)
#define SCRATCH ((size_t)1 << 20)

/* out = conv(in) + in, in f16 with an f32 stream. */
struct layer {
    struct sdw_device *dev;
    struct sdw_weight *weight;
    struct sdw_tensor in, narrow, out;
    int times; /* that a piece of work runs it */
};

static int count_of(const char *name)
{
    void *library = dlopen(CUDA_HOST_LIBRARY, RTLD_NOW | RTLD_NOLOAD);
    assert_non_null(library);
    const int *count = dlsym(library, name);
    assert_non_null(count);
    dlclose(library);
    return *count;
}

static int plans(void)
{
    return count_of("cuda_host_cudnn_plans");
}

static int runs(void)
{
    return count_of("cuda_host_cudnn_runs");
}

static void begin(struct layer *layer, const char *device)
{
    static float weights[WEIGHTS], values[COUNT];
    struct sdw_device_options options = {.dtype = SDW_F16};
    struct sdw_error err;
    const char *name = cuda_host_device(device, &options);
    for (int i = 0; i < WEIGHTS; i++)
        weights[i] = (float)(i * 37 % 19) / 64 - 0.125f;
    for (int i = 0; i < COUNT; i++)
        values[i] = (float)(i * 31 % 23) / 16 - 0.5f;
    struct sdw_array weight = {
        .data = weights, .dtype = SDW_F32, .rank = 4, .dim = {WIDTH, WIDTH, 3, 3}};
    struct sdw_conv_geometry same = {.stride = 1, .top = 1, .left = 1, .bottom = 1, .right = 1};
    *layer = (struct layer){.times = 1};
    assert_int_equal(sdw_device_open(&layer->dev, name, &options, &err), SDW_OK);
    sdw_scratch_reserve(layer->dev, SCRATCH);
    layer->weight = layer->dev->ops->pack_conv(layer->dev, &weight, NULL, same);
    layer->in = sdw_tensor_new(layer->dev, SDW_F32, 1, SIDE, SIDE, WIDTH);
    layer->narrow = sdw_tensor_new(layer->dev, SDW_F16, 1, SIDE, SIDE, WIDTH);
    layer->out = sdw_tensor_new(layer->dev, SDW_F32, 1, SIDE, SIDE, WIDTH);
    sdw_upload(layer->dev, &layer->in, values);
    sdw_cast(layer->dev, &layer->narrow, &layer->in);
}

static void end(struct layer *layer)
{
    struct sdw_error err;
    assert_int_equal(sdw_sync(layer->dev, &err), SDW_OK);
    layer->dev->ops->weight_free(layer->dev, layer->weight);
    sdw_device_close(layer->dev); /* the stand-ins count what was not given back */
    unsetenv("SDW_CUDA_HOST");
}

static void run_layer(void *context)
{
    struct layer *layer = context;
    for (int i = 0; i < layer->times; i++)
        sdw_conv2d(layer->dev, &layer->out, &layer->narrow, layer->weight, &layer->in);
}

static void result(float *to, struct layer *layer)
{
    memset(to, 0xff, COUNT * sizeof *to);
    sdw_download(layer->dev, to, &layer->out);
}

/* What our own kernel makes of it. */
static void expected(float *to)
{
    struct layer layer;
    begin(&layer, "cuda-host");
    run_layer(&layer);
    result(to, &layer);
    end(&layer);
}

static void assert_near(const float *got, const float *wanted)
{
    for (int i = 0; i < COUNT; i++)
        assert_true(got[i] > wanted[i] - 1e-4f && got[i] < wanted[i] + 1e-4f);
}

/* Two of the stand-in's engines can be made ready with our work space, one of them computes right.
 */
static void test_planned_once(void **state)
{
    struct layer layer;
    float wanted[COUNT], got[COUNT];
    (void)state;
    expected(wanted);
    begin(&layer, "cuda-host-cudnn");
    int plans_before = plans(), first = runs();
    run_layer(&layer);
    assert_int_equal(plans() - plans_before, 3); /* one wants too much work space */
    assert_true(runs() - first > 2);             /* trials */
    int after = runs();
    for (int i = 0; i < 3; i++)
        run_layer(&layer);
    assert_int_equal(runs() - after, 3);
    assert_int_equal(plans() - plans_before, 3);
    assert_string_equal(layer.weight->form, ", cuDNN");
    result(got, &layer);
    assert_near(got, wanted);
    end(&layer);
}

/* No engine, or none that is right: our own kernel, and nobody asks again. */
static void own_kernel(const char *machine)
{
    struct layer layer;
    float wanted[COUNT], got[COUNT];
    expected(wanted);
    setenv("SDW_CUDA_HOST", machine, 1);
    begin(&layer, "cuda-host-cudnn");
    run_layer(&layer);
    int plans_before = plans(), runs_before = runs();
    run_layer(&layer);
    assert_int_equal(plans(), plans_before);
    assert_int_equal(runs(), runs_before);
    assert_string_equal(layer.weight->form, ", own");
    result(got, &layer);
    assert_memory_equal(got, wanted, sizeof got);
    end(&layer);
}

static void test_refused(void **state)
{
    (void)state;
    own_kernel("cudnn-none");
    own_kernel("cudnn-wrong");
    own_kernel("cudnn-fails");
}

/* A plan that was good and fails later is dropped. */
static void test_dropped(void **state)
{
    struct layer layer;
    float wanted[COUNT], got[COUNT];
    (void)state;
    expected(wanted);
    begin(&layer, "cuda-host-cudnn");
    run_layer(&layer);
    setenv("SDW_CUDA_HOST", "cudnn-fails", 1);
    run_layer(&layer);
    result(got, &layer);
    assert_memory_equal(got, wanted, sizeof got);
    unsetenv("SDW_CUDA_HOST");
    int before = runs();
    run_layer(&layer);
    assert_int_equal(runs(), before);
    end(&layer);
}

/* On the tape are the library's calls, and a tape's run needs none of them. */
static void test_recorded(void **state)
{
    struct layer layer;
    struct sdw_recording recording = {0};
    float wanted[COUNT], got[COUNT];
    (void)state;
    expected(wanted);
    begin(&layer, "cuda-host-cudnn");
    layer.times = 2;
    sdw_recording_run(layer.dev, &recording, run_layer, &layer);
    int before = runs(), graphs = count_of("cuda_host_graph_launches");
    for (int i = 0; i < 3; i++)
        sdw_recording_run(layer.dev, &recording, run_layer, &layer);
    assert_int_equal(runs() - before, 2); /* while it was recorded */
    assert_int_equal(count_of("cuda_host_graph_launches") - graphs, 3);
    result(got, &layer);
    assert_near(got, wanted);
    sdw_recording_free(layer.dev, &recording);
    end(&layer);
}

/* A shape that is new while a step is recorded is not planned then, but the next time. */
static void test_new_while_recorded(void **state)
{
    struct layer layer;
    float wanted[COUNT], got[COUNT];
    (void)state;
    expected(wanted);
    begin(&layer, "cuda-host-cudnn");
    int before = plans();
    layer.dev->ops->record_begin(layer.dev);
    run_layer(&layer);
    void *tape = layer.dev->ops->record_end(layer.dev);
    assert_non_null(tape);
    assert_int_equal(plans(), before);
    layer.dev->ops->record_play(layer.dev, tape);
    result(got, &layer);
    assert_memory_equal(got, wanted, sizeof got);
    layer.dev->ops->record_free(layer.dev, tape);
    run_layer(&layer);
    assert_int_equal(plans() - before, 3);
    end(&layer);
}

/* Runs the layer on a device of its own; how many plans were made, and how often one ran. */
static void run_once(float *to, int *made, int *ran)
{
    struct layer layer;
    begin(&layer, "cuda-host-cudnn");
    int plans_before = plans(), runs_before = runs();
    run_layer(&layer);
    *made = plans() - plans_before;
    *ran = runs() - runs_before;
    result(to, &layer);
    end(&layer);
}

/* The next process need not plan; what it cannot use it plans anew. */
static void test_remembered(void **state)
{
    char folder[] = "/tmp/test_cudnn.XXXXXX", plans_folder[64], path[512] = "", other[600];
    float wanted[COUNT], got[COUNT];
    int made, ran;
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(plans_folder, sizeof plans_folder, "%s/a/b", folder);
    setenv("SDW_CUDA_PLANS", plans_folder, 1);
    run_once(wanted, &made, &ran);
    assert_int_equal(made, 3);
    run_once(got, &made, &ran);
    assert_int_equal(made, 0);
    assert_int_equal(ran, 2); /* compared with ours once more, and then used */
    assert_memory_equal(got, wanted, sizeof got);

    DIR *all = opendir(plans_folder);
    int count = 0;
    for (struct dirent *entry; all && (entry = readdir(all));)
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", plans_folder, entry->d_name);
            count++;
        }
    closedir(all);
    assert_int_equal(count, 1);
    assert_int_equal(truncate(path, 400), 0);
    run_once(got, &made, &ran);
    assert_int_equal(made, 3);
    assert_memory_equal(got, wanted, sizeof got);

    unlink(path);
    setenv("SDW_CUDA_HOST", "cudnn-wrong", 1); /* then our kernel is remembered */
    run_once(got, &made, &ran);
    assert_int_equal(made, 3);
    run_once(got, &made, &ran);
    assert_int_equal(made, 0);
    assert_int_equal(ran, 0);
    setenv("SDW_CUDA_PLANS", "", 1);
    unlink(path);
    rmdir(plans_folder);
    snprintf(other, sizeof other, "%s/a", folder);
    rmdir(other);
    assert_int_equal(rmdir(folder), 0);
}

/* An attention of two heads of 8, 6 queries by 5 keys; a causal one is our kernel's. */
static void attend(float *to, const char *device, bool causal, int *runs_of_it)
{
    enum { N = 2, QUERIES = 6, KEYS = 5, C = 16 };
    struct layer layer;
    uint16_t values[N * QUERIES * C], got[N * QUERIES * C];
    begin(&layer, device);
    struct sdw_device *dev = layer.dev;
    struct sdw_attention_geometry heads = {2, 0.4f, causal};
    struct sdw_tensor q = sdw_tensor_new(dev, SDW_F16, N, QUERIES, 1, C);
    struct sdw_tensor k = sdw_tensor_new(dev, SDW_F16, N, KEYS, 1, C);
    struct sdw_tensor v = sdw_tensor_new(dev, SDW_F16, N, KEYS, 1, C);
    struct sdw_tensor out = sdw_tensor_new(dev, SDW_F16, N, QUERIES, 1, C);
    for (int i = 0; i < N * QUERIES * C; i++)
        values[i] = sdw_f32_to_f16((float)(i * 29 % 31) / 16 - 0.9f);
    sdw_upload(dev, &q, values);
    sdw_upload(dev, &k, values);
    sdw_upload(dev, &v, values);
    sdw_attention(dev, &out, &q, &k, &v, heads);
    int before = runs();
    sdw_attention(dev, &out, &q, &k, &v, heads);
    *runs_of_it = runs() - before;
    sdw_download(dev, got, &out);
    for (int i = 0; i < N * QUERIES * C; i++)
        to[i] = sdw_f16_to_f32(got[i]);
    end(&layer);
}

static void test_attention(void **state)
{
    float wanted[192], got[192];
    int of_it;
    (void)state;
    attend(wanted, "cuda-host", false, &of_it);
    assert_int_equal(of_it, 0);
    attend(got, "cuda-host-cudnn", false, &of_it);
    assert_int_equal(of_it, 1);
    for (int i = 0; i < 192; i++)
        assert_true(got[i] > wanted[i] - 2e-3f && got[i] < wanted[i] + 2e-3f);
    attend(got, "cuda-host-cudnn", true, &of_it);
    assert_int_equal(of_it, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planned_once),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_dropped),
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_new_while_recorded),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_remembered),
    };
    return cmocka_run_group_tests_name("cudnn", tests, NULL, NULL);
}
