/* test_lockstep: barriers order the threads of a group, exchanges the lanes of a simdgroup, and
 * what never meets ends the program. */
#include "lockstep.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS 100 /* not a multiple of the lanes */

/* Every thread hands its value to its neighbour, thrice. */
static void rotate(void *context, int thread)
{
    int *values = context, mine = thread;
    for (int step = 0; step < 3; step++) {
        values[thread] = mine;
        lockstep_barrier();
        mine = values[(thread + 1) % THREADS];
        lockstep_barrier();
    }
    values[thread] = mine;
}

static void test_barrier(void **state)
{
    (void)state;
    int values[THREADS];
    for (int group = 0; group < 2; group++) {
        lockstep_run(THREADS, rotate, values);
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(values[i], (i + 3) % THREADS);
    }
}

static void sum_lanes(void *context, int thread)
{
    int *sums = context, first = thread - thread % LOCKSTEP_LANES;
    for (int step = 1; step <= 3; step++) {
        int value = thread * step, sum = 0;
        const unsigned char *all = lockstep_exchange(&value, sizeof value);
        for (int i = 0; i < LOCKSTEP_LANES && first + i < THREADS; i++) {
            int lane;
            memcpy(&lane, all + i * LOCKSTEP_VALUE_MAX, sizeof lane);
            sum += lane;
        }
        sums[thread] += sum;
    }
}

static void test_exchange(void **state)
{
    (void)state;
    int sums[THREADS] = {0};
    lockstep_run(THREADS, sum_lanes, sums);
    for (int i = 0; i < THREADS; i++) {
        int expected = 0, first = i - i % LOCKSTEP_LANES;
        for (int lane = first; lane < first + LOCKSTEP_LANES && lane < THREADS; lane++)
            expected += 6 * lane;
        assert_int_equal(sums[i], expected);
    }
}

static void leave_early(void *context, int thread)
{
    (void)context;
    if (thread != 7)
        lockstep_barrier();
}

static void disagree(void *context, int thread)
{
    (void)context;
    lockstep_exchange("12345678", thread == 3 ? 4 : 8);
}

static void mix(void *context, int thread)
{
    (void)context;
    if (thread < 5)
        lockstep_exchange("1234", 4);
    else
        lockstep_barrier();
}

/* The group is not one that a GPU would finish: the program says so and aborts. */
static void refuses(void (*body)(void *context, int thread))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        lockstep_run(64, body, NULL);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_what_never_meets(void **state)
{
    (void)state;
    refuses(leave_early);
    refuses(disagree);
    refuses(mix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_barrier),
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_what_never_meets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
