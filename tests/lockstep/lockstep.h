/* lockstep.h: a group of GPU threads on one CPU thread, for tests of kernels where no GPU is.
 *
 * Every thread of the group is a fiber with a stack of its own. It runs until it meets a barrier or
 * an exchange between lanes, and the next one runs; a barrier opens when all have arrived. What a
 * GPU leaves undefined ends the program with a sentence: a barrier that some thread never reaches,
 * lanes that meet at different operations. Under ThreadSanitizer every fiber is a thread of its
 * own, ordered by barriers alone, so a missing barrier is reported as the race that it is. */
#ifndef SDW_TESTS_LOCKSTEP_H
#define SDW_TESTS_LOCKSTEP_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LOCKSTEP_THREADS_MAX 1024
#define LOCKSTEP_LANES       32 /* threads of a simdgroup or warp */
#define LOCKSTEP_VALUE_MAX   64 /* bytes that a lane hands to the others */

/* Runs body(context, thread) for thread 0..threads-1. Not to be called from inside a body. */
void lockstep_run(int threads, void (*body)(void *context, int thread), void *context);

/* From inside a body: waits for the whole group. */
void lockstep_barrier(void);

/* From inside a body: waits for the lanes of this thread's simdgroup. */
void lockstep_lanes_barrier(void);

/* From inside a body: waits for the lanes of this thread's simdgroup, each with a value of the same
 * size; returns all of them, LOCKSTEP_VALUE_MAX bytes apart, valid until the exchange after the
 * next. Orders no memory. */
const void *lockstep_exchange(const void *value, size_t bytes);

int lockstep_thread(void);  /* the thread that is running */
int lockstep_threads(void); /* of the group */

#ifdef __cplusplus
}
#endif

#endif
