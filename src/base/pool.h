/* pool.h: the threads of the computation.
 *
 * One pool a process, shared by all kernels: with gcc it is OpenMP's team, the same that oneDNN
 * runs on, so that no two sets of threads fight for the cores; else threads of our own. Tiles are
 * handed out from a counter, so that a busy neighbour on one core costs its share and no more. What
 * a tile computes must not depend on the thread that computes it: results are the same bytes for
 * any number of threads. */
#ifndef SDW_BASE_POOL_H
#define SDW_BASE_POOL_H

#include <stdint.h>

#define SDW_POOL_THREADS_MAX 256

/* For the first line of main: gcc's OpenMP spins at its barriers unless its environment says
 * otherwise when the program is loaded, and beside one busy neighbour that makes small models five
 * times slower. Sets OMP_WAIT_POLICY=passive and starts the program again, once; does nothing where
 * the variable is set or OpenMP is not in use. */
void sdw_pool_settle(char **argv);

/* 0 means one thread for each processor that this process may run on. Call before the first
 * sdw_pool_run. */
void sdw_pool_threads_set(int threads);
int sdw_pool_threads(void);

/* Calls tile(context, i, thread) for every i in 0..tiles-1, in any order, on all threads; returns
 * when all are done. 0 <= thread < sdw_pool_threads() names scratch space of the caller's. Not
 * reentrant from inside a tile, and run from one thread at a time. */
void sdw_pool_run(int64_t tiles, void (*tile)(void *context, int64_t i, int thread), void *context);

#endif
