/* test_metal_host: the backend's table of messages has the types that Apple's headers give them,
 * and the stand-in refuses what Metal would refuse: a check that cannot fail would be none. */
#include "backend/metal/metal.h"
#include "metal_host/device.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void test_encodings(void **state)
{
    (void)state;
    void *library = dlopen(METAL_HOST_LIBRARY, RTLD_NOW);
    assert_non_null(library);
    const char *(*encoding)(const char *selector);
    void *found = dlsym(library, "metal_host_encoding");
    assert_non_null(found);
    memcpy(&encoding, &found, sizeof found);
    struct sdw_objc_row row;
    int rows = 0;
    for (; sdw_objc_row_at(rows, &row); rows++) {
        const char *wanted = encoding(row.selector);
        if (!wanted)
            fail_msg("the stand-in has no %s", row.selector);
        assert_string_equal(row.encoding, wanted);
    }
    assert_true(rows > 30);
    assert_null(encoding("setCompletelyUnknown:"));
    dlclose(library);
}

/* A device as the backend opens it, and an encoder with everything bound that `act` wants. */
struct bench {
    struct sdw_objc objc;
    void *device, *queue, *library, *pipeline, *buffer, *commands, *encoder, *pool;
    struct sdw_metal_pointwise params;
};

static void set_up(struct bench *b)
{
    struct sdw_error err;
    assert_int_equal(sdw_objc_open(&b->objc, &err), SDW_OK);
    const struct sdw_objc *objc = &b->objc;
    b->pool = objc->pool_push();
    b->device = objc->default_device();
    b->queue = SDW_TELL(objc, b->device, queue_new);
    void *options = SDW_TELL(objc, objc->class_named("MTLCompileOptions"), alloc);
    options = SDW_TELL(objc, options, init);
    SDW_SEND(objc, options, set_fast_math, false);
    void *string = objc->class_named("NSString"), *error = NULL;
    void *source = SDW_SEND(objc, string, string, (const char *)sdw_metal_source);
    b->library = SDW_SEND(objc, b->device, library_new, source, options, &error);
    void *name = SDW_SEND(objc, string, string, "act");
    void *function = SDW_SEND(objc, b->library, function_new, name);
    b->pipeline = SDW_SEND(objc, b->device, pipeline_new, function, &error);
    b->buffer = SDW_SEND(objc, b->device, buffer_new, 4096ul, 0ul);
    b->commands = SDW_TELL(objc, b->queue, command_buffer);
    b->encoder = SDW_TELL(objc, b->commands, encoder);
    b->params = (struct sdw_metal_pointwise){.count = 1024};
    SDW_SEND(objc, b->encoder, set_pipeline, b->pipeline);
    SDW_SEND(objc, b->encoder, set_buffer, b->buffer, 0ul, 0ul);
    SDW_SEND(objc, b->encoder, set_buffer, b->buffer, 0ul, 1ul);
    SDW_SEND(objc, b->encoder, set_bytes, &b->params, sizeof b->params, 2ul);
}

static void dispatch(struct bench *b, unsigned long groups, unsigned long threads)
{
    SDW_SEND(&b->objc, b->encoder, dispatch, ((struct sdw_mtl_size){groups, 1, 1}),
             ((struct sdw_mtl_size){threads, 1, 1}));
}

static void sound(struct bench *b)
{
    float *contents = SDW_TELL(&b->objc, b->buffer, contents);
    contents[1023] = -2;
    b->params.act = SDW_METAL_SILU;
    SDW_SEND(&b->objc, b->encoder, set_bytes, &b->params, sizeof b->params, 2ul);
    dispatch(b, 4, 256);
    SDW_TELL(&b->objc, b->encoder, end);
    SDW_TELL(&b->objc, b->commands, commit);
    if (contents[1023] != -2)
        _exit(3); /* nothing runs before somebody waits */
    SDW_TELL(&b->objc, b->commands, wait);
    _exit(contents[1023] > -0.239f && contents[1023] < -0.238f ? 0 : 4);
}

static void commit_while_encoding(struct bench *b)
{
    SDW_TELL(&b->objc, b->commands, commit);
}

static void encode_after_end(struct bench *b)
{
    SDW_TELL(&b->objc, b->encoder, end);
    dispatch(b, 4, 256);
}

static void two_encoders(struct bench *b)
{
    SDW_TELL(&b->objc, b->commands, encoder);
}

static void wait_without_commit(struct bench *b)
{
    SDW_TELL(&b->objc, b->encoder, end);
    SDW_TELL(&b->objc, b->commands, wait);
}

static void release_twice(struct bench *b)
{
    SDW_TELL(&b->objc, b->library, release);
    SDW_TELL(&b->objc, b->library, release);
}

static void wrong_receiver(struct bench *b)
{
    SDW_TELL(&b->objc, b->queue, contents);
}

static void wrong_class(struct bench *b)
{
    SDW_SEND(&b->objc, b->encoder, set_pipeline, b->buffer);
}

static void offset_behind_the_end(struct bench *b)
{
    SDW_SEND(&b->objc, b->encoder, set_buffer, b->buffer, 4096ul, 0ul);
}

static void too_few_parameters(struct bench *b)
{
    SDW_SEND(&b->objc, b->encoder, set_bytes, &b->params, 8ul, 2ul);
    dispatch(b, 4, 256);
}

static void too_many_threads(struct bench *b)
{
    dispatch(b, 1, 1025);
}

static void no_groups(struct bench *b)
{
    dispatch(b, 0, 256);
}

static void too_much_group_memory(struct bench *b)
{
    SDW_SEND(&b->objc, b->encoder, set_group_bytes, 32784ul, 0ul);
}

static void map_half_a_page(struct bench *b)
{
    static _Alignas(65536) char pages[65536]; /* no page is larger */
    SDW_SEND(&b->objc, b->device, buffer_map, pages, 65536 / 2 + 100, 0ul, NULL);
}

static void map_within_a_page(struct bench *b)
{
    static _Alignas(65536) char pages[2 * 65536];
    SDW_SEND(&b->objc, b->device, buffer_map, pages + 256, 65536ul, 0ul, NULL);
}

static void read_behind_a_buffer(struct bench *b)
{
    b->params.count = 4096;
    SDW_SEND(&b->objc, b->encoder, set_bytes, &b->params, sizeof b->params, 2ul);
    dispatch(b, 16, 256);
    SDW_TELL(&b->objc, b->encoder, end);
    SDW_TELL(&b->objc, b->commands, commit);
    SDW_TELL(&b->objc, b->commands, wait);
}

static const struct {
    void (*misuse)(struct bench *b);
    const char *says;
} cases[] = {
    {commit_while_encoding, "commit before endEncoding"},
    {encode_after_end, "after endEncoding"},
    {two_encoders, "another encoder is open"},
    {wait_without_commit, "not committed"},
    {release_twice, "freed MTLLibrary"},
    {wrong_receiver, "MTLCommandQueue does not answer to contents"},
    {wrong_class, "a MTLBuffer where a MTLComputePipelineState is wanted"},
    {offset_behind_the_end, "offset 4096 of a buffer of 4096"},
    {too_few_parameters, "8 bytes of parameters"},
    {too_many_threads, "1025 threads"},
    {no_groups, "an empty grid"},
    {too_much_group_memory, "32784 bytes"},
    {map_half_a_page, "not whole pages"},
    {map_within_a_page, "not whole pages"},
    {read_behind_a_buffer, NULL}, /* the page behind it */
};

/* Runs in a child: what it says on standard error, and its status. */
static int run(void (*body)(struct bench *b), char *says, size_t size)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        struct bench bench = {0};
        set_up(&bench);
        body(&bench);
        _exit(0);
    }
    close(ends[1]);
    FILE *from = fdopen(ends[0], "r");
    says[fread(says, 1, size - 1, from)] = '\0';
    fclose(from);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void test_runs_what_is_sound(void **state)
{
    (void)state;
    char says[512];
    int status = run(sound, says, sizeof says);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char says[512];
        int status = run(cases[i].misuse, says, sizeof says);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            fail_msg("case %zu was not refused", i);
        if (cases[i].says && !strstr(says, cases[i].says))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, says, cases[i].says);
    }
}

int main(void)
{
    metal_host_device("metal-host");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encodings),
        cmocka_unit_test(test_runs_what_is_sound),
        cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
