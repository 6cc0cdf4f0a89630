/* stand_in.h: a hub of one made-up repository, tiny/model, on a port of its own, that can be told
 * to misbehave. */
#ifndef SDW_TESTS_STAND_IN_H
#define SDW_TESTS_STAND_IN_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#define STAND_IN_COMMIT    "0123456789abcdef0123456789abcdef01234567"
#define STAND_IN_WEIGHTS   "unet/diffusion_pytorch_model.fp16.safetensors"
#define STAND_IN_BIG_BYTES (3 << 20) /* of STAND_IN_WEIGHTS */

enum fault {
    FAULT_NONE,
    FAULT_CODE,   /* answers `code` */
    FAULT_BREAK,  /* closes the connection after half of what was asked for */
    FAULT_WRONG,  /* one byte is another */
    FAULT_WHOLE,  /* ignores Range */
    FAULT_ENDLESS /* more bytes than promised */
};

struct stand_in {
    struct MHD_Daemon *daemon;
    int port;
    pthread_mutex_t lock; /* of what follows: a broken download leaves requests behind */
    /* What the next `times` requests for paths ending in `where` meet. */
    const char *where;
    enum fault fault;
    int code, retry_after_s;
    atomic_int times;
    const char *listing; /* instead of the true one */
    size_t listing_length;
    /* What was seen. */
    atomic_int requests, ranges, tokens, tokens_elsewhere;
    char unwanted[128]; /* a file that nobody needs and that was asked for */
};

/* Sets HF_ENDPOINT. */
void stand_in_start(struct stand_in *hub);
void stand_in_stop(struct stand_in *hub);

/* The next `times` requests for paths ending in `where` meet a fault; what was asked before is
 * forgotten. Sets HF_ENDPOINT. */
void stand_in_misbehave(struct stand_in *hub, const char *where, enum fault fault, int times,
                        int code, int retry_after_s);

/* Another listing of the repository; NULL for the true one. */
void stand_in_list(struct stand_in *hub, const char *listing, size_t length);

#endif
