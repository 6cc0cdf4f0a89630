/* launch.c: a launch as nested loops over blocks; within a block the threads run in lockstep.
 * Shared memory is exactly as large as the launch says, and begins as NaNs. */
#include "cuda_host/host.h"

#include "lockstep/lockstep.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define COPIES_MAX 512 /* of a thread, between two waits */

struct {
    unsigned x, y, z;
} host_block, host_block_size;

static void *shared;

/* Copies to shared memory that a thread has started: they happen when it waits for their group. */
static struct copies {
    struct {
        void *to;
        const void *from;
        int bytes_from, group;
    } copy[COPIES_MAX];
    int count, group;
} copies[LOCKSTEP_THREADS_MAX];

void *host_dynamic_shared(void);
void host_copy_start(void *to, const void *from, int bytes_from);
void host_copy_commit(void);
void host_copy_wait(int left);

void *host_dynamic_shared(void)
{
    return shared;
}

void host_copy_start(void *to, const void *from, int bytes_from)
{
    struct copies *mine = &copies[lockstep_thread()];
    assert(mine->count < COPIES_MAX && (size_t)to % 16 == 0 && (size_t)from % 16 == 0);
    mine->copy[mine->count].to = to;
    mine->copy[mine->count].from = from;
    mine->copy[mine->count].bytes_from = bytes_from;
    mine->copy[mine->count++].group = mine->group;
}

void host_copy_commit(void)
{
    copies[lockstep_thread()].group++;
}

void host_copy_wait(int left)
{
    struct copies *mine = &copies[lockstep_thread()];
    int kept = 0;
    for (int i = 0; i < mine->count; i++) {
        if (mine->copy[i].group >= mine->group - left) {
            mine->copy[kept++] = mine->copy[i];
            continue;
        }
        memset(mine->copy[i].to, 0, 16);
        memcpy(mine->copy[i].to, mine->copy[i].from, (size_t)mine->copy[i].bytes_from);
    }
    mine->count = kept;
}

struct run {
    const struct host_kernel *kernel;
    const void *arguments;
};

static void run_thread(void *context, int thread)
{
    const struct run *run = context;
    copies[thread].count = copies[thread].group = 0;
    run->kernel->run(run->arguments);
    assert(copies[thread].count == 0 && "a copy that nobody waited for");
}

void host_launch(const struct host_kernel *kernel, const unsigned (*grid)[3], unsigned threads,
                 size_t shared_bytes, const void *arguments)
{
    struct run run = {kernel, arguments};
    shared = aligned_alloc(16, (shared_bytes + 31) & ~(size_t)15);
    assert(shared);
    host_block_size.x = threads;
    host_block_size.y = host_block_size.z = 1;
    for (unsigned z = 0; z < (*grid)[2]; z++)
        for (unsigned y = 0; y < (*grid)[1]; y++)
            for (unsigned x = 0; x < (*grid)[0]; x++) {
                host_block.x = x;
                host_block.y = y;
                host_block.z = z;
                memset(shared, 0xff, shared_bytes);
                lockstep_run((int)threads, run_thread, &run);
            }
    free(shared);
}
