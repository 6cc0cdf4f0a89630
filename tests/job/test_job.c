/* test_job.c: the queue, the log of events and their end, without HTTP. */
#include "job/job.h"
#include "painter.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct house {
    struct painter painter;
    struct sdw_jobs *jobs;
};

static struct house *open_house(struct sdw_jobs_options options)
{
    struct house *house = calloc(1, sizeof *house);
    struct sdw_error err;
    assert_int_equal(sdw_jobs_open(&house->jobs, &options, &err), SDW_OK);
    return house;
}

static void start(struct house *house)
{
    struct sdw_runner runner = painter_runner(&house->painter);
    assert_int_equal(sdw_jobs_start(house->jobs, &runner, NULL), SDW_OK);
}

static void close_house(struct house *house)
{
    sdw_jobs_close(house->jobs);
    free(house);
}

static enum sdw_status submit_with(struct house *house, char *id, int steps, int timeout_ms,
                                   int priority, struct sdw_error *err)
{
    struct sdw_params params = {.prompt = strdup("a cat"),
                                .steps = steps,
                                .width = 64,
                                .height = 64,
                                .seed = 7,
                                .timeout_ms = timeout_ms,
                                .priority = priority};
    enum sdw_status status = sdw_jobs_submit(house->jobs, id, &params, NULL, NULL, err);
    assert_true(status ? params.prompt != NULL : params.prompt == NULL);
    sdw_params_free(&params);
    return status;
}

static enum sdw_status submit(struct house *house, char *id, int steps, struct sdw_error *err)
{
    return submit_with(house, id, steps, 0, 0, err);
}

static void status_of(struct house *house, const char *id, struct sdw_job_status *status)
{
    struct sdw_job *job = sdw_jobs_find(house->jobs, id);
    assert_non_null(job);
    sdw_job_status(job, status);
    sdw_job_release(job);
}

static enum sdw_job_state wait_for(struct house *house, const char *id, enum sdw_job_state state)
{
    struct sdw_job_status status;
    double end_s = sdw_clock_seconds() + 10;
    do {
        usleep(500);
        status_of(house, id, &status);
    } while (status.state != state && sdw_clock_seconds() < end_s);
    return status.state;
}

static void runs_in_order(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char id[3][SDW_JOB_ID_MAX];
    struct sdw_job_status status;
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit(house, id[i], 4, NULL), SDW_OK);
    for (int i = 0; i < 3; i++) {
        status_of(house, id[i], &status);
        assert_int_equal(status.state, SDW_JOB_QUEUED); /* nothing runs before the start */
        assert_int_equal(status.position, i + 1);
    }
    start(house);
    assert_int_equal(wait_for(house, id[2], SDW_JOB_COMPLETED), SDW_JOB_COMPLETED);
    int64_t before_ms = 0;
    for (int i = 0; i < 3; i++) {
        status_of(house, id[i], &status);
        assert_int_equal(status.state, SDW_JOB_COMPLETED);
        assert_true(status.started_ms >= before_ms && status.ended_ms >= status.started_ms);
        assert_int_equal(status.step, 4);
        assert_int_equal(status.position, 0);
        before_ms = status.ended_ms;
    }
    close_house(house);
}

/* While an image is encoded the next job runs, and no third one until the device is free again;
 * each ends with its own image. */
static void encodes_beside_the_next(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char id[3][SDW_JOB_ID_MAX];
    struct sdw_job_status status;
    struct sdw_jobs_counts counts;
    atomic_store(&house->painter.encodes, true);
    atomic_store(&house->painter.hold_encode, 1);
    start(house);
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit(house, id[i], 4, NULL), SDW_OK);
    assert_int_equal(wait_for(house, id[1], SDW_JOB_RUNNING), SDW_JOB_RUNNING);
    status_of(house, id[0], &status);
    assert_int_equal(status.state, SDW_JOB_RUNNING);
    assert_int_equal(status.step, 4);
    usleep(20000); /* both of the threads are in an encoding now */
    status_of(house, id[2], &status);
    assert_int_equal(status.state, SDW_JOB_QUEUED);
    sdw_jobs_count(house->jobs, &counts);
    assert_int_equal(counts.running, 2);
    atomic_store(&house->painter.hold_encode, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(wait_for(house, id[i], SDW_JOB_COMPLETED), SDW_JOB_COMPLETED);
    sdw_jobs_count(house->jobs, &counts);
    assert_int_equal(counts.running, 0);
    close_house(house);
}

/* A stop while an image is encoded and the next job runs: both threads go, nobody hangs. */
static void stops_while_encoding(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char id[2][SDW_JOB_ID_MAX];
    atomic_store(&house->painter.encodes, true);
    atomic_store(&house->painter.hold_encode, 1);
    start(house);
    assert_int_equal(submit(house, id[0], 2, NULL), SDW_OK);
    assert_int_equal(submit(house, id[1], 2000, NULL), SDW_OK);
    assert_int_equal(wait_for(house, id[1], SDW_JOB_RUNNING), SDW_JOB_RUNNING);
    assert_false(sdw_jobs_stop(house->jobs, 0.05));
    atomic_store(&house->painter.hold_encode, 0);
    assert_true(sdw_jobs_stop(house->jobs, 5));
    close_house(house);
}

static void ids_are_uuids(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char one[SDW_JOB_ID_MAX], two[SDW_JOB_ID_MAX];
    submit(house, one, 1, NULL);
    submit(house, two, 1, NULL);
    assert_string_not_equal(one, two);
    assert_int_equal(strlen(one), SDW_JOB_ID_MAX - 1);
    assert_memory_equal(one, "job_", 4);
    for (int i = 4; i < SDW_JOB_ID_MAX - 1; i++) {
        bool dash = i == 12 || i == 17 || i == 22 || i == 27;
        assert_true(dash ? one[i] == '-' : strchr("0123456789abcdef", one[i]) != NULL);
    }
    assert_int_equal(one[18], '4');
    assert_non_null(strchr("89ab", one[23]));
    close_house(house);
}

static void history_is_whole(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char id[SDW_JOB_ID_MAX];
    struct sdw_job_event event;
    start(house);
    submit(house, id, 20, NULL);
    assert_int_equal(wait_for(house, id, SDW_JOB_COMPLETED), SDW_JOB_COMPLETED);
    struct sdw_job *job = sdw_jobs_find(house->jobs, id);
    for (int i = 0; i < 20; i++) {
        char expected[80];
        assert_true(sdw_job_event(job, i, &event, NULL));
        assert_int_equal(event.kind, SDW_JOB_EVENT_PROGRESS);
        snprintf(expected, sizeof expected, "\"step\":%d,\"total\":20,\"percent\":%.1f", i + 1,
                 5.0 * (i + 1));
        assert_string_equal(event.members, expected);
        assert_int_equal(event.length, strlen(expected));
    }
    assert_true(sdw_job_event(job, 20, &event, NULL));
    assert_int_equal(event.kind, SDW_JOB_EVENT_COMPLETE);
    assert_non_null(strstr(event.members, "\"image_base64\":\"iVBORw0KGgo"));
    assert_non_null(strstr(event.members, "\"format\":\"png\",\"seed\":7,"));
    assert_false(sdw_job_event(job, 21, &event, NULL));
    bool ended;
    assert_int_equal(sdw_job_event_count(job, &ended), 21);
    assert_true(ended);
    sdw_job_release(job);
    close_house(house);
}

static void queue_is_bounded(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){.queue_max = 2});
    char id[SDW_JOB_ID_MAX];
    struct sdw_error err = {0};
    assert_int_equal(submit(house, id, 1, &err), SDW_OK);
    assert_int_equal(submit(house, id, 1, &err), SDW_OK);
    assert_int_equal(submit(house, id, 1, &err), SDW_BUSY);
    assert_non_null(strstr(err.message, "2 jobs are waiting"));
    struct sdw_jobs_counts counts;
    sdw_jobs_count(house->jobs, &counts);
    assert_int_equal(counts.queued, 2);
    assert_int_equal(counts.refused, 1);
    close_house(house);
}

static void cancel(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char running[SDW_JOB_ID_MAX], queued[SDW_JOB_ID_MAX];
    struct sdw_job_event event;
    atomic_store(&house->painter.hold, 1);
    start(house);
    submit(house, running, 5, NULL);
    submit(house, queued, 5, NULL);
    wait_for(house, running, SDW_JOB_RUNNING);
    assert_int_equal(sdw_jobs_cancel(house->jobs, queued, NULL), SDW_OK);
    struct sdw_job_status status;
    status_of(house, queued, &status);
    assert_int_equal(status.state, SDW_JOB_CANCELLED); /* at once */
    assert_int_equal(sdw_jobs_cancel(house->jobs, queued, NULL), SDW_NOT_FOUND);
    assert_int_equal(sdw_jobs_cancel(house->jobs, running, NULL), SDW_OK);
    assert_int_equal(wait_for(house, running, SDW_JOB_CANCELLED), SDW_JOB_CANCELLED);
    assert_int_equal(sdw_jobs_cancel(house->jobs, "job_of_nobody", NULL), SDW_NOT_FOUND);
    struct sdw_job *job = sdw_jobs_find(house->jobs, queued);
    assert_true(sdw_job_event(job, 0, &event, NULL));
    assert_int_equal(event.kind, SDW_JOB_EVENT_CANCELLED);
    size_t length;
    assert_null(sdw_job_image(job, 0, &length));
    sdw_job_release(job);
    assert_int_equal(atomic_load(&house->painter.runs), 1);
    close_house(house);
}

/* Acknowledged is acknowledged: a job that finishes before it sees the flag is cancelled all the
 * same. */
static void late_cancel_counts(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char id[SDW_JOB_ID_MAX];
    atomic_store(&house->painter.hold, 1);
    atomic_store(&house->painter.deaf, true);
    start(house);
    submit(house, id, 2, NULL);
    wait_for(house, id, SDW_JOB_RUNNING);
    assert_int_equal(sdw_jobs_cancel(house->jobs, id, NULL), SDW_OK);
    atomic_store(&house->painter.hold, 0);
    assert_int_equal(wait_for(house, id, SDW_JOB_CANCELLED), SDW_JOB_CANCELLED);
    close_house(house);
}

static void failure_tells(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char id[SDW_JOB_ID_MAX];
    struct sdw_job_event event;
    struct sdw_job_status status;
    house->painter.fail = "the \"device\" has caught fire";
    start(house);
    submit(house, id, 1, NULL);
    assert_int_equal(wait_for(house, id, SDW_JOB_FAILED), SDW_JOB_FAILED);
    status_of(house, id, &status);
    assert_string_equal(status.error, "the \"device\" has caught fire");
    struct sdw_job *job = sdw_jobs_find(house->jobs, id);
    assert_true(sdw_job_event(job, 1, &event, NULL));
    assert_int_equal(event.kind, SDW_JOB_EVENT_ERROR);
    assert_string_equal(event.members, "\"message\":\"the \\\"device\\\" has caught fire\"");
    sdw_job_release(job);
    close_house(house);
}

static void old_jobs_are_retired(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){.kept_max = 3});
    char id[8][SDW_JOB_ID_MAX];
    start(house);
    submit(house, id[0], 1, NULL);
    wait_for(house, id[0], SDW_JOB_COMPLETED);
    struct sdw_job *held = sdw_jobs_find(house->jobs, id[0]);
    for (int i = 1; i < 8; i++)
        submit(house, id[i], 1, NULL);
    wait_for(house, id[7], SDW_JOB_COMPLETED);
    for (int i = 0; i < 8; i++) {
        struct sdw_job *job = sdw_jobs_find(house->jobs, id[i]);
        assert_int_equal(job != NULL, i >= 5);
        sdw_job_release(job);
    }
    size_t length;
    assert_non_null(sdw_job_image(held, 0, &length)); /* readable while it is held */
    assert_true(length > 0);
    sdw_job_release(held);
    close_house(house);

    house = open_house((struct sdw_jobs_options){.kept_bytes_max = 1});
    start(house);
    for (int i = 0; i < 3; i++)
        submit(house, id[i], 1, NULL);
    assert_int_equal(wait_for(house, id[2], SDW_JOB_COMPLETED), SDW_JOB_COMPLETED);
    assert_null(sdw_jobs_find(house->jobs, id[1]));
    close_house(house);
}

/* Even a generation that never looks at its flag does not keep the readers from their end. */
static void stop_ends_everything(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char id[3][SDW_JOB_ID_MAX];
    atomic_store(&house->painter.hold, 1);
    atomic_store(&house->painter.deaf, true);
    start(house);
    for (int i = 0; i < 3; i++)
        submit(house, id[i], 3, NULL);
    wait_for(house, id[0], SDW_JOB_RUNNING);
    double start_s = sdw_clock_seconds();
    assert_false(sdw_jobs_stop(house->jobs, 0.1));
    double took_s = sdw_clock_seconds() - start_s;
    assert_true(took_s >= 0.09 && took_s < 1);
    struct sdw_job_status status;
    for (int i = 0; i < 3; i++) {
        status_of(house, id[i], &status);
        assert_int_equal(status.state, SDW_JOB_CANCELLED);
    }
    struct sdw_error err;
    assert_int_equal(submit(house, id[0], 1, &err), SDW_UNAVAILABLE);
    atomic_store(&house->painter.hold, 0);
    assert_true(sdw_jobs_stop(house->jobs, 5));
    struct sdw_job *job = sdw_jobs_find(house->jobs, id[1]);
    bool ended;
    assert_int_equal(sdw_job_event_count(job, &ended), 1); /* nothing after the terminal event */
    sdw_job_release(job);
    close_house(house);
}

static void time_left_is_known(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char id[3][SDW_JOB_ID_MAX];
    struct sdw_job_status status;
    atomic_store(&house->painter.step_ms, 10);
    start(house);
    submit(house, id[0], 10, NULL);
    status_of(house, id[0], &status);
    assert_true(status.eta_s < 0); /* nothing was measured yet */
    wait_for(house, id[0], SDW_JOB_COMPLETED);
    atomic_store(&house->painter.hold, 1);
    submit(house, id[1], 10, NULL);
    submit(house, id[2], 20, NULL);
    status_of(house, id[2], &status);
    assert_true(status.eta_s > 0.2 && status.eta_s < 3); /* 30 steps of at least 10 ms */
    atomic_store(&house->painter.hold, 0);
    close_house(house);
}

static void priority_decides(void **state)
{
    (void)state;
    static const int priorities[] = {0, -1, 100, 0, 100}, place[] = {3, 5, 1, 4, 2};
    struct house *house = open_house((struct sdw_jobs_options){0});
    char id[5][SDW_JOB_ID_MAX];
    struct sdw_job_status status;
    int64_t started_ms[6] = {0};
    for (int i = 0; i < 5; i++)
        submit_with(house, id[i], 1, 0, priorities[i], NULL);
    for (int i = 0; i < 5; i++) {
        status_of(house, id[i], &status);
        assert_int_equal(status.position, place[i]);
    }
    atomic_store(&house->painter.step_ms, 3); /* so that no two begin in one millisecond */
    start(house);
    for (int i = 0; i < 5; i++) {
        wait_for(house, id[i], SDW_JOB_COMPLETED);
        status_of(house, id[i], &status);
        started_ms[place[i]] = status.started_ms;
    }
    for (int i = 2; i <= 5; i++)
        assert_true(started_ms[i] > started_ms[i - 1]);
    close_house(house);
}

static void deadlines_hold(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char running[SDW_JOB_ID_MAX], queued[SDW_JOB_ID_MAX], patient[SDW_JOB_ID_MAX];
    struct sdw_job_status status;
    atomic_store(&house->painter.hold, 1);
    submit_with(house, running, 5, 500, 0, NULL);
    start(house);
    wait_for(house, running, SDW_JOB_RUNNING);
    submit_with(house, queued, 5, 30, 0, NULL);
    submit_with(house, patient, 1, 60000, 0, NULL);
    assert_int_equal(wait_for(house, queued, SDW_JOB_FAILED), SDW_JOB_FAILED);
    status_of(house, queued, &status);
    assert_string_equal(status.error, "the job's timeout_ms of 30 was over before its turn came");
    assert_true(status.ended_ms >= status.created_ms + 30);
    assert_int_equal(wait_for(house, running, SDW_JOB_FAILED), SDW_JOB_FAILED);
    status_of(house, running, &status);
    assert_string_equal(status.error,
                        "the job's timeout_ms of 500 was over when it had done 0 of 5 steps");
    atomic_store(&house->painter.hold, 0);
    assert_int_equal(wait_for(house, patient, SDW_JOB_COMPLETED), SDW_JOB_COMPLETED);
    close_house(house);
}

struct sleeper {
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool asleep;
    int slept;
};

static void fall_asleep(void *context)
{
    struct sleeper *sleeper = context;
    pthread_mutex_lock(&sleeper->lock);
    sleeper->asleep = true;
    sleeper->slept++;
    pthread_mutex_unlock(&sleeper->lock);
}

static void wake_up(void *context)
{
    struct sleeper *sleeper = context;
    pthread_mutex_lock(&sleeper->lock);
    sleeper->asleep = false;
    pthread_cond_signal(&sleeper->woken);
    pthread_mutex_unlock(&sleeper->lock);
}

static void watchers_are_woken(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    struct sleeper sleeper = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0};
    struct sdw_job_watcher watcher = {.sleep = fall_asleep, .wake = wake_up, .context = &sleeper};
    struct sdw_job_event event;
    char id[SDW_JOB_ID_MAX];
    atomic_store(&house->painter.step_ms, 2);
    submit(house, id, 10, NULL);
    struct sdw_job *job = sdw_jobs_find(house->jobs, id);
    sdw_job_watch(job, &watcher);
    start(house);
    for (int i = 0; i < 11; i++) {
        while (!sdw_job_event(job, i, &event, &watcher)) {
            pthread_mutex_lock(&sleeper.lock);
            while (sleeper.asleep)
                pthread_cond_wait(&sleeper.woken, &sleeper.lock);
            pthread_mutex_unlock(&sleeper.lock);
        }
        assert_int_equal(event.kind, i < 10 ? SDW_JOB_EVENT_PROGRESS : SDW_JOB_EVENT_COMPLETE);
    }
    assert_true(sleeper.slept > 0);
    sdw_job_unwatch(job, &watcher);
    sdw_job_release(job);
    close_house(house);
}

static void list_is_paged(void **state)
{
    (void)state;
    struct house *house = open_house((struct sdw_jobs_options){0});
    char id[5][SDW_JOB_ID_MAX];
    struct sdw_job *list[5];
    struct sdw_job_status status;
    int total;
    for (int i = 0; i < 5; i++)
        submit(house, id[i], 1, NULL);
    assert_int_equal(sdw_jobs_list(house->jobs, list, 1, 2, &total), 2);
    assert_int_equal(total, 5);
    for (int i = 0; i < 2; i++) {
        sdw_job_status(list[i], &status);
        assert_string_equal(status.id, id[3 - i]);
        sdw_job_release(list[i]);
    }
    assert_int_equal(sdw_jobs_list(house->jobs, list, 5, 2, &total), 0);
    close_house(house);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_in_order),
        cmocka_unit_test(encodes_beside_the_next),
        cmocka_unit_test(stops_while_encoding),
        cmocka_unit_test(ids_are_uuids),
        cmocka_unit_test(history_is_whole),
        cmocka_unit_test(queue_is_bounded),
        cmocka_unit_test(cancel),
        cmocka_unit_test(late_cancel_counts),
        cmocka_unit_test(failure_tells),
        cmocka_unit_test(old_jobs_are_retired),
        cmocka_unit_test(stop_ends_everything),
        cmocka_unit_test(time_left_is_known),
        cmocka_unit_test(priority_decides),
        cmocka_unit_test(deadlines_hold),
        cmocka_unit_test(watchers_are_woken),
        cmocka_unit_test(list_is_paged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
