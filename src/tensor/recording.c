/* recording.c: a tape is good as long as scratch memory looks as it did when the tape was made:
 * then every tensor of the work gets the address that is on the tape. */
#include "tensor/recording.h"

#include "tensor/backend.h"

#include <string.h>

static bool same(const struct sdw_scratch *a, const struct sdw_scratch *b)
{
    return a->base == b->base && a->capacity == b->capacity && a->count == b->count &&
           memcmp(a->block, b->block, (size_t)a->count * sizeof a->block[0]) == 0;
}

/* False: the device could not. A failure that recording itself caused is forgotten; what is wrong
 * with the device shows again when the work is run. */
static bool record(struct sdw_device *dev, struct sdw_recording *recording,
                   void (*work)(void *context), void *context)
{
    recording->before = dev->scratch;
    dev->ops->record_begin(dev);
    work(context);
    recording->tape = dev->ops->record_end(dev);
    recording->after = dev->scratch;
    if (dev->failure.status == SDW_DEVICE)
        dev->failure = (struct sdw_error){0};
    if (recording->tape)
        return true;
    dev->scratch = recording->before;
    recording->refused = true;
    return false;
}

void sdw_recording_run(struct sdw_device *dev, struct sdw_recording *recording,
                       void (*work)(void *context), void *context)
{
    if (recording->tape && !same(&recording->before, &dev->scratch))
        sdw_recording_free(dev, recording);
    bool records =
        dev->ops->record_begin && !dev->profile && !recording->refused && !sdw_device_stopped(dev);
    if (records && recording->run_before &&
        (recording->tape || record(dev, recording, work, context))) {
        dev->ops->record_play(dev, recording->tape);
        dev->scratch = recording->after;
        return;
    }
    recording->run_before = true;
    work(context); /* on a device that has failed: what it frees, it frees */
}

void sdw_recording_free(struct sdw_device *dev, struct sdw_recording *recording)
{
    if (recording->tape)
        dev->ops->record_free(dev, recording->tape);
    *recording = (struct sdw_recording){0};
}
