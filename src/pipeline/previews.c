/* previews.c: see previews.h. */
#include "pipeline/previews.h"

#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct sdw_previews {
    const struct sdw_preview *preview;
    const struct sdw_progress *progress;
    int channels, h, w;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool waiting, closing; /* this and the next are under the lock; latents: while waiting is set
                              they are the thread's */
    int step, steps;
    float latents[];
};

/* A preview that fails is no reason to end. */
static void draw(const struct sdw_previews *p)
{
    struct sdw_error err;
    struct sdw_text png;
    sdw_text_init(&png, SDW_PREVIEW_BYTES_MAX);
    if (sdw_preview_draw(&png, p->preview, p->latents, p->channels, p->h, p->w, &err) == SDW_OK)
        p->progress->preview(p->progress->context, p->step, p->steps, &png);
    else
        sdw_log_warn("no preview: %s", err.message);
    sdw_text_free(&png);
}

static void *draw_all(void *context)
{
    struct sdw_previews *p = context;
    pthread_mutex_lock(&p->lock);
    while (p->waiting || !p->closing) {
        if (!p->waiting) {
            pthread_cond_wait(&p->changed, &p->lock);
            continue;
        }
        pthread_mutex_unlock(&p->lock);
        draw(p);
        pthread_mutex_lock(&p->lock);
        p->waiting = false;
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

enum sdw_status sdw_previews_open(struct sdw_previews **out, const struct sdw_preview *preview,
                                  const struct sdw_progress *progress, int channels, int h, int w,
                                  struct sdw_error *err)
{
    size_t count = (size_t)channels * (size_t)h * (size_t)w;
    struct sdw_previews *p = calloc(1, sizeof *p + count * sizeof p->latents[0]);
    *out = NULL;
    if (!p)
        return sdw_fail(err, SDW_MEMORY, "no memory for previews");
    p->preview = preview;
    p->progress = progress;
    p->channels = channels;
    p->h = h;
    p->w = w;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    if (pthread_create(&p->thread, NULL, draw_all, p) != 0) {
        pthread_cond_destroy(&p->changed);
        pthread_mutex_destroy(&p->lock);
        free(p);
        return sdw_fail(err, SDW_MEMORY, "the system gives no thread for previews");
    }
    *out = p;
    return SDW_OK;
}

void sdw_previews_wait(struct sdw_previews *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    while (p->waiting)
        pthread_cond_wait(&p->changed, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

void sdw_previews_draw(struct sdw_previews *p, const float *latents, int step, int steps)
{
    size_t count = (size_t)p->channels * (size_t)p->h * (size_t)p->w;
    sdw_previews_wait(p);
    pthread_mutex_lock(&p->lock);
    memcpy(p->latents, latents, count * sizeof latents[0]);
    p->step = step;
    p->steps = steps;
    p->waiting = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

void sdw_previews_close(struct sdw_previews *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
