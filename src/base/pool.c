/* pool.c: see pool.h. Two implementations of the same three functions. */
#include "base/pool.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef SDW_HAVE_OPENMP
#include <omp.h>
#else
#include <pthread.h>
#include <stdbool.h>
#endif

static int threads_wanted;

static int processors(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
#endif
    return 1;
}

void sdw_pool_settle(char **argv)
{
#if defined(SDW_HAVE_OPENMP) && defined(__linux__)
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT"))
        return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv); /* comes back only where there is no /proc: then it spins */
#else
    (void)argv;
#endif
}

int sdw_pool_threads(void)
{
    if (threads_wanted == 0)
        sdw_pool_threads_set(0);
    return threads_wanted;
}

#ifdef SDW_HAVE_OPENMP

void sdw_pool_threads_set(int threads)
{
    threads_wanted = threads > 0 ? threads : processors();
    if (threads_wanted > SDW_POOL_THREADS_MAX)
        threads_wanted = SDW_POOL_THREADS_MAX;
    omp_set_dynamic(0);
    omp_set_num_threads(threads_wanted);
}

void sdw_pool_run(int64_t tiles, void (*tile)(void *context, int64_t i, int thread), void *context)
{
    int threads = sdw_pool_threads();
    if (tiles < threads)
        threads = tiles > 0 ? (int)tiles : 1;
    if (threads == 1) {
        for (int64_t i = 0; i < tiles; i++)
            tile(context, i, 0);
        return;
    }
    _Atomic int64_t next = 0;
#pragma omp parallel num_threads(threads)
    {
        int thread = omp_get_thread_num();
        for (int64_t i; (i = atomic_fetch_add(&next, 1)) < tiles;)
            tile(context, i, thread);
    }
}

#else

/* A generation counter starts a round; every helper thread answers it once, so that `tile` and
 * `context` of a round are never read after sdw_pool_run has returned. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t start, done;
    int started;  /* helper threads that exist */
    int finished; /* helpers that are through with this round */
    uint64_t round;
    int64_t tiles;
    _Atomic int64_t next;
    void (*tile)(void *context, int64_t i, int thread);
    void *context;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER,
          .start = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

void sdw_pool_threads_set(int threads)
{
    threads_wanted = threads > 0 ? threads : processors();
    if (threads_wanted > SDW_POOL_THREADS_MAX)
        threads_wanted = SDW_POOL_THREADS_MAX;
}

static void work(int thread)
{
    for (int64_t i; (i = atomic_fetch_add(&pool.next, 1)) < pool.tiles;)
        pool.tile(pool.context, i, thread);
}

static void *helper(void *argument)
{
    int thread = (int)(intptr_t)argument;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (pool.round == seen)
            pthread_cond_wait(&pool.start, &pool.lock);
        seen = pool.round;
        pthread_mutex_unlock(&pool.lock);
        if (thread < threads_wanted)
            work(thread);
        pthread_mutex_lock(&pool.lock);
        pool.finished++;
        pthread_cond_signal(&pool.done);
    }
    return NULL;
}

void sdw_pool_run(int64_t tiles, void (*tile)(void *context, int64_t i, int thread), void *context)
{
    int threads = sdw_pool_threads();
    if (threads == 1 || tiles <= 1) {
        for (int64_t i = 0; i < tiles; i++)
            tile(context, i, 0);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    while (pool.started < threads - 1) {
        pthread_t id;
        if (pthread_create(&id, NULL, helper, (void *)(intptr_t)(pool.started + 1)) != 0)
            break; /* fewer threads, same result */
        pthread_detach(id);
        pool.started++;
    }
    pool.tile = tile;
    pool.context = context;
    pool.tiles = tiles;
    atomic_store(&pool.next, 0);
    pool.finished = 0;
    pool.round++;
    pthread_cond_broadcast(&pool.start);
    pthread_mutex_unlock(&pool.lock);
    work(0);
    pthread_mutex_lock(&pool.lock);
    while (pool.finished < pool.started)
        pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

#endif
