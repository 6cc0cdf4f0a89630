/* lockstep.c: fibers by ucontext, resumed in turn by a scheduler that also opens the barriers. Odd
 * rounds run backwards: a kernel that is right by the order of its threads alone is found out. */
#include "lockstep.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_THREAD__)
#define TSAN
#elif defined(__SANITIZE_ADDRESS__)
#define ASAN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN
#elif __has_feature(address_sanitizer)
#define ASAN
#endif
#endif

/* swapcontext asks the kernel for the signal mask at every switch, which costs more than the
 * switch; _setjmp and _longjmp do not, but sanitizers take a jump to another stack for a mistake.
 */
#if !defined(TSAN) && !defined(ASAN)
#define JUMPS
#include <setjmp.h>
#endif

#ifdef TSAN
#include <sanitizer/tsan_interface.h>
#define UNSEEN __attribute__((no_sanitize("thread")))
#else
#define UNSEEN
#endif

#define STACK_BYTES ((size_t)256 << 10) /* address space; what is not touched costs nothing */

enum state { RUNNING, AT_BARRIER, AT_EXCHANGE, DONE };

struct fiber {
    ucontext_t context;
#ifdef JUMPS
    jmp_buf jump;
    bool entered;
#endif
    bool made;
    enum state state;
    size_t bytes; /* AT_EXCHANGE */
    int turn;     /* exchanges so far: picks the side of the slots */
    int barriers; /* so far: picks the mark */
    void *tsan;
};

static struct {
    struct fiber fiber[LOCKSTEP_THREADS_MAX];
    unsigned char slot[2][LOCKSTEP_THREADS_MAX][LOCKSTEP_VALUE_MAX];
    char *stacks, barrier_marks[2], lanes_marks[LOCKSTEP_THREADS_MAX / LOCKSTEP_LANES][2];
    ucontext_t scheduler;
#ifdef JUMPS
    jmp_buf scheduler_jump;
#endif
    void (*body)(void *context, int thread);
    void *context;
    int threads, current;
    void *tsan;
} group;

static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("lockstep: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

/* What happened before `mark` was left has happened for whoever passes it. */
static void leave_mark(void *mark)
{
#ifdef TSAN
    __tsan_release(mark);
#else
    (void)mark;
#endif
}

static void pass_mark(void *mark)
{
#ifdef TSAN
    __tsan_acquire(mark);
#else
    (void)mark;
#endif
}

UNSEEN static void to_scheduler(void)
{
    struct fiber *me = &group.fiber[group.current];
#ifdef TSAN
    __tsan_switch_to_fiber(group.tsan, 1 /* no order by the switch itself */);
#endif
#ifdef JUMPS
    if (!_setjmp(me->jump))
        _longjmp(group.scheduler_jump, 1);
#else
    swapcontext(&me->context, &group.scheduler);
#endif
}

/* A fiber lives on from group to group: making one costs more than most threads compute. */
UNSEEN static void enter(void)
{
    for (;;) {
        pass_mark(&group.body);
        group.body(group.context, group.current);
        group.fiber[group.current].state = DONE;
        leave_mark(&group.context);
        to_scheduler();
    }
}

/* Two marks in turn: the first thread to go on reaches the next barrier before the last one has
 * left this, and must not seem to be before it. */
UNSEEN void lockstep_barrier(void)
{
    assert(group.body && "inside a body");
    struct fiber *me = &group.fiber[group.current];
    char *mark = &group.barrier_marks[me->barriers++ % 2];
    leave_mark(mark);
    me->state = AT_BARRIER;
    to_scheduler();
    pass_mark(mark);
}

UNSEEN static void copy(unsigned char *to, const unsigned char *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((volatile unsigned char *)to)[i] = from[i]; /* no call that a sanitizer would follow */
}

UNSEEN const void *lockstep_exchange(const void *value, size_t bytes)
{
    int me = group.current, first = me - me % LOCKSTEP_LANES;
    struct fiber *fiber = &group.fiber[me];
    assert(group.body && bytes <= LOCKSTEP_VALUE_MAX);
    int side = fiber->turn++ % 2;
    copy(group.slot[side][me], value, bytes);
    fiber->bytes = bytes;
    fiber->state = AT_EXCHANGE;
    to_scheduler();
    return group.slot[side][first];
}

UNSEEN void lockstep_lanes_barrier(void)
{
    int simdgroup = group.current / LOCKSTEP_LANES;
    char *mark = &group.lanes_marks[simdgroup][group.fiber[group.current].turn % 2];
    leave_mark(mark);
    lockstep_exchange(NULL, 0);
    pass_mark(mark);
}

int lockstep_thread(void)
{
    return group.current;
}

int lockstep_threads(void)
{
    return group.threads;
}

UNSEEN static void resume(int thread)
{
    group.current = thread;
#ifdef TSAN
    __tsan_switch_to_fiber(group.fiber[thread].tsan, 1);
#endif
#ifdef JUMPS
    struct fiber *fiber = &group.fiber[thread];
    if (_setjmp(group.scheduler_jump))
        return;
    if (fiber->entered)
        _longjmp(fiber->jump, 1);
    fiber->entered = true;
#endif
    swapcontext(&group.scheduler, &group.fiber[thread].context);
}

/* Lets the simdgroup that begins at `first` go on when all its lanes have met. */
UNSEEN static bool open_exchange(int first)
{
    int end = first + LOCKSTEP_LANES < group.threads ? first + LOCKSTEP_LANES : group.threads;
    for (int i = first; i < end; i++)
        if (group.fiber[i].state != AT_EXCHANGE)
            return false;
    for (int i = first; i < end; i++) {
        if (group.fiber[i].bytes != group.fiber[first].bytes)
            die("lanes %d and %d exchange %zu and %zu bytes: different operations", first, i,
                group.fiber[first].bytes, group.fiber[i].bytes);
        group.fiber[i].state = RUNNING;
    }
    return true;
}

UNSEEN static int count_state(enum state state)
{
    int count = 0;
    for (int i = 0; i < group.threads; i++)
        count += group.fiber[i].state == state;
    return count;
}

/* After a round: what may go on? False when all are done. */
UNSEEN static bool advance(void)
{
    bool opened = false;
    for (int first = 0; first < group.threads; first += LOCKSTEP_LANES)
        opened |= open_exchange(first);
    if (opened)
        return true;
    int waiting = count_state(AT_BARRIER), done = count_state(DONE);
    if (done == group.threads)
        return false;
    if (waiting != group.threads)
        die("of %d threads %d wait at a barrier, %d at an exchange between lanes, and %d have "
            "ended: they never meet",
            group.threads, waiting, count_state(AT_EXCHANGE), done);
    for (int i = 0; i < group.threads; i++)
        group.fiber[i].state = RUNNING;
    return true;
}

UNSEEN static void prepare(int thread)
{
    struct fiber *fiber = &group.fiber[thread];
    fiber->state = RUNNING;
    fiber->turn = fiber->barriers = 0;
    if (fiber->made)
        return;
    fiber->made = true;
    if (getcontext(&fiber->context))
        die("getcontext failed");
    fiber->context.uc_stack.ss_sp = group.stacks + (size_t)thread * STACK_BYTES;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, enter, 0);
#ifdef TSAN
    fiber->tsan = __tsan_create_fiber(0);
#endif
}

UNSEEN void lockstep_run(int threads, void (*body)(void *context, int thread), void *context)
{
    assert(threads > 0 && threads <= LOCKSTEP_THREADS_MAX && !group.body);
    if (!group.stacks) {
        group.stacks = mmap(NULL, STACK_BYTES * LOCKSTEP_THREADS_MAX, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (group.stacks == MAP_FAILED)
            die("no address space for %d stacks", LOCKSTEP_THREADS_MAX);
    }
    group.body = body;
    group.context = context;
    group.threads = threads;
#ifdef TSAN
    group.tsan = __tsan_get_current_fiber();
#endif
    for (int i = 0; i < threads; i++)
        prepare(i);
    leave_mark(&group.body);
    int round = 0;
    do {
        for (int i = 0; i < threads; i++) {
            int thread = round % 2 ? threads - 1 - i : i;
            if (group.fiber[thread].state == RUNNING)
                resume(thread);
        }
        round++;
    } while (advance());
    pass_mark(&group.context);
    group.body = NULL;
}
