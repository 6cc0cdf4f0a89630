/* test_store.c: jobs that outlive their process. A crash is a copy of the database's files, taken
 * while they are in use: that is what SIGKILL leaves. A full disk is SQLite's own file layer with
 * writes that fail. */
#include "job/job.h"
#include "painter.h"

#include "base/clock.h"
#include "base/text.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* --- a disk that can be full --- */

static atomic_bool disk_full;
/* Databases and their logs have different methods: a copy of each, with another way to write. */
static struct {
    const sqlite3_io_methods *real;
    sqlite3_io_methods patched;
} methods[4];
static int (*real_open)(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                        int *given);

static int write_file(sqlite3_file *file, const void *bytes, int length, sqlite3_int64 at)
{
    int i = 0;
    while (file->pMethods != &methods[i].patched)
        i++;
    return atomic_load(&disk_full) ? SQLITE_FULL : methods[i].real->xWrite(file, bytes, length, at);
}

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *given)
{
    int code = real_open(vfs, name, file, flags, given), i = 0;
    if (code != SQLITE_OK || !file->pMethods)
        return code;
    while (methods[i].real && methods[i].real != file->pMethods)
        assert_true(++i < 4);
    methods[i].real = file->pMethods;
    methods[i].patched = *file->pMethods;
    methods[i].patched.xWrite = write_file;
    file->pMethods = &methods[i].patched;
    return code;
}

static void patch_disk(void)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    real_open = vfs->xOpen;
    vfs->xOpen = open_file;
}

/* --- a house: jobs in a folder of their own --- */

struct house {
    struct painter painter;
    struct sdw_jobs *jobs;
    char dir[64];
};

static void remove_dir(const char *dir)
{
    static const char *const names[] = {"jobs.db", "jobs.db-wal", "jobs.db-journal", "jobs.db-shm"};
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

static enum sdw_status try_open(struct house *house, struct sdw_jobs_options options,
                                struct sdw_error *err)
{
    options.state_dir = house->dir;
    house->jobs = NULL;
    return sdw_jobs_open(&house->jobs, &options, err);
}

static struct house *new_house(struct sdw_jobs_options options)
{
    struct house *house = calloc(1, sizeof *house);
    struct sdw_error err = {0};
    strcpy(house->dir, "/tmp/sdw-store-XXXXXX");
    assert_non_null(mkdtemp(house->dir));
    if (try_open(house, options, &err))
        fail_msg("%s", err.message);
    return house;
}

/* What a new process finds after this one was killed. */
static struct house *crashed_copy(const struct house *house, struct sdw_jobs_options options)
{
    struct house *copy = calloc(1, sizeof *copy);
    struct sdw_error err = {0};
    char command[256];
    strcpy(copy->dir, "/tmp/sdw-store-XXXXXX");
    assert_non_null(mkdtemp(copy->dir));
    snprintf(command, sizeof command, "cp %s/jobs.db* %s/", house->dir, copy->dir);
    assert_int_equal(system(command), 0);
    if (try_open(copy, options, &err))
        fail_msg("%s", err.message);
    return copy;
}

static void close_house(struct house *house)
{
    atomic_store(&house->painter.hold, 0);
    sdw_jobs_close(house->jobs);
    remove_dir(house->dir);
    free(house);
}

static void start(struct house *house)
{
    struct sdw_runner runner = painter_runner(&house->painter);
    assert_int_equal(sdw_jobs_start(house->jobs, &runner, NULL), SDW_OK);
}

static enum sdw_status submit_key(struct house *house, char *id, int steps, const char *key,
                                  struct sdw_error *err)
{
    struct sdw_params params = {.prompt = strdup("a \"cat\" \xc3\xa9"),
                                .steps = steps,
                                .width = 64,
                                .height = 64,
                                .guidance_scale = 0.1 + 0.2,
                                .guidance_given = true,
                                .seed = UINT64_MAX - 1,
                                .seed_given = true};
    struct sdw_faults unknown = {.unknown = 1, .unknown_key = {"flavour"}};
    enum sdw_status status = sdw_jobs_submit(house->jobs, id, &params, &unknown, key, err);
    sdw_params_free(&params);
    return status;
}

static void submit(struct house *house, char *id, int steps)
{
    struct sdw_error err = {0};
    if (submit_key(house, id, steps, NULL, &err))
        fail_msg("%s", err.message);
}

static void status_of(struct house *house, const char *id, struct sdw_job_status *status)
{
    struct sdw_job *job = sdw_jobs_find(house->jobs, id);
    assert_non_null(job);
    sdw_job_status(job, status);
    sdw_job_release(job);
}

static void wait_for(struct house *house, const char *id, enum sdw_job_state state, int step)
{
    struct sdw_job_status status;
    double end_s = sdw_clock_seconds() + 10;
    do {
        usleep(500);
        status_of(house, id, &status);
    } while ((status.state != state || status.step < step) && sdw_clock_seconds() < end_s);
    assert_int_equal(status.state, state);
    assert_true(status.step >= step);
}

/* Everything a reader can learn of a job, as one text. */
static char *all_of(struct house *house, const char *id)
{
    struct sdw_text text;
    struct sdw_job_event event;
    struct sdw_job_status s;
    struct sdw_job *job = sdw_jobs_find(house->jobs, id);
    assert_non_null(job);
    bool ended;
    size_t length;
    sdw_job_status(job, &s);
    sdw_text_init(&text, 1 << 20);
    sdw_text_printf(&text, NULL,
                    "%s %d %d/%d %lld %lld %lld %a %a %a %a %dx%d [%s] %s %llu %d %s\n", s.id,
                    s.state, s.step, s.total, (long long)s.created_ms, (long long)s.started_ms,
                    (long long)s.ended_ms, s.text_s, s.unet_s, s.vae_s, s.png_s, s.width, s.height,
                    s.error, sdw_job_request(job), (unsigned long long)sdw_job_params(job)->seed,
                    sdw_job_warnings(job), sdw_job_warning(job, 0));
    int count = sdw_job_event_count(job, &ended);
    for (int i = 0; i < count; i++) {
        assert_true(sdw_job_event(job, i, &event, NULL));
        assert_int_equal(event.length, strlen(event.members));
        sdw_text_printf(&text, NULL, "%d %d %s\n", i + 1, event.kind, event.members);
    }
    const void *image = sdw_job_image(job, 0, &length);
    sdw_text_append(&text, image, length, NULL);
    sdw_text_printf(&text, NULL, "%zu", length);
    sdw_job_release(job);
    return text.data;
}

static void assert_same(struct house *one, struct house *two, const char *id)
{
    char *first = all_of(one, id), *second = all_of(two, id);
    assert_string_equal(first, second);
    free(first);
    free(second);
}

/* One progress a step under the step's own id, then the end. */
static void assert_whole(struct house *house, const char *id, int steps)
{
    struct sdw_job *job = sdw_jobs_find(house->jobs, id);
    struct sdw_job_event event;
    bool ended;
    char expected[40];
    assert_int_equal(sdw_job_event_count(job, &ended), steps + 1);
    assert_true(ended);
    for (int i = 0; i < steps; i++) {
        assert_true(sdw_job_event(job, i, &event, NULL));
        assert_int_equal(event.kind, SDW_JOB_EVENT_PROGRESS);
        snprintf(expected, sizeof expected, "\"step\":%d,", i + 1);
        assert_non_null(strstr(event.members, expected));
    }
    assert_true(sdw_job_event(job, steps, &event, NULL));
    assert_int_equal(event.kind, SDW_JOB_EVENT_COMPLETE);
    sdw_job_release(job);
}

/* --- the tests --- */

static void ended_jobs_are_the_same(void **state)
{
    (void)state;
    char done[SDW_JOB_ID_MAX], failed[SDW_JOB_ID_MAX], cancelled[SDW_JOB_ID_MAX];
    struct house *house = new_house((struct sdw_jobs_options){0});
    submit(house, cancelled, 3);
    assert_int_equal(sdw_jobs_cancel(house->jobs, cancelled, NULL), SDW_OK);
    start(house);
    submit(house, done, 5);
    wait_for(house, done, SDW_JOB_COMPLETED, 5);
    house->painter.fail = "the \"device\" has caught fire";
    submit(house, failed, 2);
    wait_for(house, failed, SDW_JOB_FAILED, 2);
    struct house *copy = crashed_copy(house, (struct sdw_jobs_options){0});
    assert_same(house, copy, done);
    assert_same(house, copy, failed);
    assert_same(house, copy, cancelled);
    struct sdw_jobs_counts counts;
    sdw_jobs_count(copy->jobs, &counts);
    assert_int_equal(counts.queued, 0);
    start(copy);
    assert_int_equal(atomic_load(&copy->painter.runs), 0); /* ended is ended */
    close_house(copy);
    close_house(house);
}

static void queue_is_there_again(void **state)
{
    (void)state;
    char id[4][SDW_JOB_ID_MAX];
    struct sdw_job_status status;
    struct house *house = new_house((struct sdw_jobs_options){0});
    atomic_store(&house->painter.hold, 1);
    for (int i = 0; i < 4; i++)
        submit(house, id[i], 3 + i);
    start(house);
    wait_for(house, id[0], SDW_JOB_RUNNING, 0);
    struct house *copy = crashed_copy(house, (struct sdw_jobs_options){0});
    for (int i = 0; i < 4; i++) {
        status_of(copy, id[i], &status);
        assert_int_equal(status.state, SDW_JOB_QUEUED);
        assert_int_equal(status.position, i + 1);
    }
    struct sdw_job *job = sdw_jobs_find(copy->jobs, id[3]);
    const struct sdw_params *params = sdw_job_params(job);
    assert_string_equal(params->prompt, "a \"cat\" \xc3\xa9");
    assert_true(params->guidance_scale == 0.1 + 0.2 && params->seed == UINT64_MAX - 1);
    assert_string_equal(sdw_job_warning(job, 0), "flavour");
    sdw_job_release(job);
    start(copy);
    wait_for(copy, id[3], SDW_JOB_COMPLETED, 6);
    int64_t before_ms = 0;
    for (int i = 0; i < 4; i++) {
        status_of(copy, id[i], &status);
        assert_true(status.started_ms >= before_ms);
        before_ms = status.started_ms;
        assert_whole(copy, id[i], 3 + i);
    }
    close_house(copy);
    close_house(house);
}

static void interrupted_goes_on(void **state)
{
    (void)state;
    char first[SDW_JOB_ID_MAX], second[SDW_JOB_ID_MAX];
    struct sdw_job_status status;
    struct house *house = new_house((struct sdw_jobs_options){0});
    atomic_store(&house->painter.step_ms, 5);
    submit(house, first, 20);
    start(house);
    wait_for(house, first, SDW_JOB_RUNNING, 7);
    atomic_store(&house->painter.hold, 1);
    usleep(20000); /* for a step that had begun */
    submit(house, second, 2);
    struct house *copy = crashed_copy(house, (struct sdw_jobs_options){0}),
                 *other = crashed_copy(house, (struct sdw_jobs_options){.maker = "another model"});
    status_of(copy, first, &status);
    assert_int_equal(status.state, SDW_JOB_QUEUED);
    assert_true(status.step >= 7 && status.step < 20);
    struct sdw_job *job = sdw_jobs_find(copy->jobs, first);
    bool ended;
    assert_int_equal(sdw_job_event_count(job, &ended), status.step);
    sdw_job_release(job);
    start(copy);
    wait_for(copy, second, SDW_JOB_COMPLETED, 2);
    assert_int_equal(atomic_load(&copy->painter.skipped), status.step); /* from what was saved */
    assert_whole(copy, first, 20);
    start(other);
    wait_for(other, first, SDW_JOB_COMPLETED, 20);
    assert_int_equal(atomic_load(&other->painter.skipped), 0); /* it cannot go on from there */
    assert_whole(other, first, 20);
    close_house(copy);
    close_house(other);
    close_house(house);
}

/* Previews are events like others: each once, whatever happens between. */
static void previews_are_kept(void **state)
{
    (void)state;
    enum { STEPS = 12 };
    char id[SDW_JOB_ID_MAX];
    struct house *house = new_house((struct sdw_jobs_options){0});
    struct sdw_params params = {
        .prompt = strdup("a cat"), .steps = STEPS, .width = 64, .height = 64, .preview = true};
    atomic_store(&house->painter.step_ms, 5);
    assert_int_equal(sdw_jobs_submit(house->jobs, id, &params, NULL, NULL, NULL), SDW_OK);
    start(house);
    wait_for(house, id, SDW_JOB_RUNNING, 5);
    struct house *copy = crashed_copy(house, (struct sdw_jobs_options){.maker = "begins anew"});
    start(copy);
    wait_for(house, id, SDW_JOB_COMPLETED, STEPS);
    wait_for(copy, id, SDW_JOB_COMPLETED, STEPS);
    struct sdw_job *one = sdw_jobs_find(house->jobs, id), *two = sdw_jobs_find(copy->jobs, id);
    bool ended;
    assert_int_equal(sdw_job_event_count(one, &ended), 2 * STEPS + 1);
    assert_int_equal(sdw_job_event_count(two, &ended), 2 * STEPS + 1);
    for (int i = 0; i < 2 * STEPS; i++) {
        struct sdw_job_event first, second;
        assert_true(sdw_job_event(one, i, &first, NULL) && sdw_job_event(two, i, &second, NULL));
        assert_int_equal(first.kind, i % 2 ? SDW_JOB_EVENT_PREVIEW : SDW_JOB_EVENT_PROGRESS);
        assert_int_equal(first.kind, second.kind);
        assert_string_equal(first.members, second.members);
    }
    sdw_job_release(one);
    sdw_job_release(two);
    close_house(copy);
    close_house(house);
}

/* What DELETE has answered holds, even when the process dies before the next step. */
static void cancel_is_remembered(void **state)
{
    (void)state;
    char id[SDW_JOB_ID_MAX];
    struct sdw_job_status status;
    struct house *house = new_house((struct sdw_jobs_options){0});
    atomic_store(&house->painter.hold, 1);
    atomic_store(&house->painter.deaf, true);
    submit(house, id, 3);
    start(house);
    wait_for(house, id, SDW_JOB_RUNNING, 0);
    assert_int_equal(sdw_jobs_cancel(house->jobs, id, NULL), SDW_OK);
    struct house *copy = crashed_copy(house, (struct sdw_jobs_options){0});
    status_of(copy, id, &status);
    assert_int_equal(status.state, SDW_JOB_CANCELLED);
    close_house(copy);
    close_house(house);
}

/* A job that takes its worker down with it does so a few times only; a stop is no such thing. */
static void deadly_jobs_fail(void **state)
{
    (void)state;
    char id[SDW_JOB_ID_MAX];
    struct sdw_job_status status;
    struct house *house = new_house((struct sdw_jobs_options){0});
    submit(house, id, 3);
    for (int i = 0; i < SDW_JOB_ATTEMPTS_MAX + 2; i++) {
        atomic_store(&house->painter.hold, 1);
        start(house);
        wait_for(house, id, SDW_JOB_RUNNING, 0);
        sdw_jobs_close(house->jobs);
        assert_int_equal(try_open(house, (struct sdw_jobs_options){0}, NULL), SDW_OK);
    }
    for (int i = 0; i < SDW_JOB_ATTEMPTS_MAX; i++) {
        status_of(house, id, &status);
        assert_int_equal(status.state, SDW_JOB_QUEUED);
        atomic_store(&house->painter.hold, 1);
        start(house);
        wait_for(house, id, SDW_JOB_RUNNING, 0);
        struct house *copy = crashed_copy(house, (struct sdw_jobs_options){0});
        close_house(house);
        house = copy;
    }
    status_of(house, id, &status);
    assert_int_equal(status.state, SDW_JOB_FAILED);
    assert_string_equal(status.error, "the worker ended 5 times while it ran step 1 of this job");
    close_house(house);
}

/* A deadline is counted from the submit, in whatever process. */
static void deadlines_go_on(void **state)
{
    (void)state;
    char id[SDW_JOB_ID_MAX];
    struct sdw_job_status status;
    struct house *house = new_house((struct sdw_jobs_options){0});
    struct sdw_params params = {
        .prompt = strdup("a cat"), .steps = 2, .width = 64, .height = 64, .timeout_ms = 100};
    assert_int_equal(sdw_jobs_submit(house->jobs, id, &params, NULL, NULL, NULL), SDW_OK);
    struct house *copy = crashed_copy(house, (struct sdw_jobs_options){0});
    wait_for(copy, id, SDW_JOB_FAILED, 0);
    status_of(copy, id, &status);
    assert_true(status.ended_ms >= status.created_ms + 100);
    close_house(copy);
    close_house(house);
}

/* A stop is no end of a job: readers are told, and the next start goes on. */
static void stop_keeps_the_queue(void **state)
{
    (void)state;
    char id[2][SDW_JOB_ID_MAX];
    struct sdw_job_event event;
    struct sdw_job_status status;
    struct house *house = new_house((struct sdw_jobs_options){0});
    atomic_store(&house->painter.hold, 1);
    submit(house, id[0], 3);
    submit(house, id[1], 3);
    start(house);
    wait_for(house, id[0], SDW_JOB_RUNNING, 0);
    assert_true(sdw_jobs_stop(house->jobs, 5));
    for (int i = 0; i < 2; i++) {
        struct sdw_job *job = sdw_jobs_find(house->jobs, id[i]);
        assert_true(sdw_job_event(job, 0, &event, NULL));
        assert_int_equal(event.kind, SDW_JOB_EVENT_STOPPED);
        sdw_job_release(job);
    }
    sdw_jobs_close(house->jobs);
    atomic_store(&house->painter.hold, 0);
    assert_int_equal(try_open(house, (struct sdw_jobs_options){0}, NULL), SDW_OK);
    status_of(house, id[0], &status);
    assert_int_equal(status.position, 1);
    start(house);
    wait_for(house, id[1], SDW_JOB_COMPLETED, 3);
    assert_whole(house, id[0], 3);
    assert_whole(house, id[1], 3);
    close_house(house);
}

/* A generation that does not hear the stop runs to its end, and that counts. */
static void an_end_after_the_stop(void **state)
{
    (void)state;
    char id[SDW_JOB_ID_MAX];
    struct house *house = new_house((struct sdw_jobs_options){0});
    atomic_store(&house->painter.hold, 1);
    atomic_store(&house->painter.deaf, true);
    submit(house, id, 3);
    start(house);
    wait_for(house, id, SDW_JOB_RUNNING, 0);
    assert_false(sdw_jobs_stop(house->jobs, 0.02));
    atomic_store(&house->painter.hold, 0);
    sdw_jobs_close(house->jobs);
    assert_int_equal(try_open(house, (struct sdw_jobs_options){0}, NULL), SDW_OK);
    assert_whole(house, id, 3);
    close_house(house);
}

/* Inputs wait on the disk, and are there when the job begins, in this process or the next. */
static void inputs_are_kept(void **state)
{
    (void)state;
    char id[SDW_JOB_ID_MAX];
    struct sdw_text png;
    struct house *house = new_house((struct sdw_jobs_options){0});
    sdw_text_init(&png, SDW_PNG_BYTES_MAX);
    painter_png(&png, 64, 64, 1);
    int length = (int)png.length;
    struct sdw_params params = {
        .prompt = strdup("a cat"),
        .steps = 2,
        .width = 64,
        .height = 64,
        .strength = 1,
        .strength_given = true,
        .init_image = {(uint8_t *)png.data, png.length, 64, 64}}; /* taken over */
    assert_int_equal(sdw_jobs_submit(house->jobs, id, &params, NULL, NULL, NULL), SDW_OK);
    struct house *copy = crashed_copy(house, (struct sdw_jobs_options){0});
    struct house *both[] = {house, copy};
    for (int i = 0; i < 2; i++) {
        struct sdw_job *job = sdw_jobs_find(both[i]->jobs, id);
        assert_null(sdw_job_params(job)->init_image.bytes);
        assert_non_null(strstr(sdw_job_request(job), "\"init_image_sha256\":\""));
        sdw_job_release(job);
        start(both[i]);
        wait_for(both[i], id, SDW_JOB_COMPLETED, 2);
        assert_int_equal(atomic_load(&both[i]->painter.input_bytes), length);
    }
    assert_whole(copy, id, 2);
    close_house(copy);
    close_house(house);
}

static void keys_are_remembered(void **state)
{
    (void)state;
    char id[SDW_JOB_ID_MAX];
    struct sdw_job_status status;
    struct house *house = new_house((struct sdw_jobs_options){0});
    assert_int_equal(submit_key(house, id, 1, "once", NULL), SDW_OK);
    struct house *copy = crashed_copy(house, (struct sdw_jobs_options){0});
    assert_null(sdw_jobs_find_key(copy->jobs, "twice"));
    start(copy);
    wait_for(copy, id, SDW_JOB_COMPLETED, 1);
    struct sdw_job *job = sdw_jobs_find_key(copy->jobs, "once");
    assert_non_null(job);
    sdw_job_status(job, &status);
    assert_string_equal(status.id, id);
    sdw_job_release(job);
    close_house(copy);
    close_house(house);
}

static void old_jobs_are_retired(void **state)
{
    (void)state;
    char id[6][SDW_JOB_ID_MAX];
    struct house *house = new_house((struct sdw_jobs_options){0});
    struct sdw_job *list[10];
    int total;
    start(house);
    for (int i = 0; i < 6; i++)
        submit(house, id[i], 1);
    wait_for(house, id[5], SDW_JOB_COMPLETED, 1);
    struct sdw_jobs_counts counts;
    sdw_jobs_count(house->jobs, &counts);
    assert_true(counts.kept_bytes > 6 * 100);

    struct house *copy = crashed_copy(house, (struct sdw_jobs_options){.kept_max = 2});
    assert_null(sdw_jobs_find(copy->jobs, id[3]));
    assert_int_equal(sdw_jobs_list(copy->jobs, list, 0, 10, &total), 2);
    assert_int_equal(total, 2);
    sdw_job_release(list[0]);
    sdw_job_release(list[1]);
    close_house(copy);

    copy = crashed_copy(house, (struct sdw_jobs_options){.kept_bytes_max = counts.kept_bytes - 1});
    assert_int_equal(sdw_jobs_list(copy->jobs, list, 0, 10, &total), 5);
    for (int i = 0; i < 5; i++)
        sdw_job_release(list[i]);
    close_house(copy);

    usleep(1100000);
    copy = crashed_copy(house, (struct sdw_jobs_options){.kept_s = 1});
    assert_null(sdw_jobs_find(copy->jobs, id[4])); /* the newest is kept whatever its age */
    close_house(copy);
    close_house(house);
}

static void full_disk(void **state)
{
    (void)state;
    char id[3][SDW_JOB_ID_MAX], refused[SDW_JOB_ID_MAX];
    struct sdw_error err;
    struct sdw_job_status status;
    struct house *house = new_house((struct sdw_jobs_options){0});
    atomic_store(&house->painter.hold, 1);
    start(house);
    for (int i = 0; i < 3; i++)
        submit(house, id[i], 3);
    wait_for(house, id[0], SDW_JOB_RUNNING, 0);
    atomic_store(&disk_full, true);
    assert_int_equal(submit_key(house, refused, 1, NULL, &err), SDW_STORAGE);
    assert_non_null(strstr(err.message, "is full"));
    assert_int_equal(sdw_jobs_cancel(house->jobs, id[2], NULL), SDW_OK);
    atomic_store(&house->painter.hold, 0);
    wait_for(house, id[0], SDW_JOB_COMPLETED, 3);
    assert_whole(house, id[0], 3); /* its readers get all of it */
    usleep(20000);
    status_of(house, id[1], &status);
    assert_int_equal(status.state,
                     SDW_JOB_QUEUED); /* one image waits in memory, not a queue of them */
    atomic_store(&disk_full, false);
    wait_for(house, id[1], SDW_JOB_COMPLETED, 3);
    sdw_jobs_close(house->jobs);
    assert_int_equal(try_open(house, (struct sdw_jobs_options){0}, &err), SDW_OK);
    assert_whole(house, id[0], 3);
    assert_whole(house, id[1], 3);
    status_of(house, id[2], &status);
    assert_int_equal(status.state, SDW_JOB_CANCELLED);
    close_house(house);
}

static void refuses(struct house *house, const char *sentence)
{
    struct sdw_error err = {0};
    assert_int_not_equal(try_open(house, (struct sdw_jobs_options){0}, &err), SDW_OK);
    if (!strstr(err.message, sentence))
        fail_msg("\"%s\" does not say \"%s\"", err.message, sentence);
}

static void folders_that_cannot_be_used(void **state)
{
    (void)state;
    struct house *house = new_house((struct sdw_jobs_options){0}), second = {0};
    char path[128];
    sqlite3 *db;
    strcpy(second.dir, house->dir);
    refuses(&second, "is in use by another worker");
    sdw_jobs_close(house->jobs);

    snprintf(path, sizeof path, "%s/jobs.db", house->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    refuses(&second, "written by a newer version of this program (schema 99");

    FILE *file = fopen(path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("this is no database\n", file);
    fclose(file);
    refuses(&second, "is damaged or no database");

    unlink(path);
    atomic_store(&disk_full, true);
    refuses(&second, "is full");
    atomic_store(&disk_full, false);

    snprintf(second.dir, sizeof second.dir, "%s/jobs.db/deeper", house->dir);
    assert_int_equal(try_open(house, (struct sdw_jobs_options){0}, NULL), SDW_OK);
    refuses(&second, "cannot make the state folder");
    close_house(house);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ended_jobs_are_the_same),
        cmocka_unit_test(queue_is_there_again),
        cmocka_unit_test(interrupted_goes_on),
        cmocka_unit_test(cancel_is_remembered),
        cmocka_unit_test(deadlines_go_on),
        cmocka_unit_test(deadly_jobs_fail),
        cmocka_unit_test(inputs_are_kept),
        cmocka_unit_test(an_end_after_the_stop),
        cmocka_unit_test(previews_are_kept),
        cmocka_unit_test(stop_keeps_the_queue),
        cmocka_unit_test(keys_are_remembered),
        cmocka_unit_test(old_jobs_are_retired),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(folders_that_cannot_be_used),
    };
    patch_disk();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
