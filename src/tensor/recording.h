/* recording.h: operators that are queued in one call from the third time on.
 *
 * A step runs the operators of the step before, on the same memory. Where launching them one by one
 * costs the host more time than the device takes (a GPU with a queue), the device writes them down
 * once and repeats what it wrote; devices that cannot, and those that are being profiled, run them
 * as ever. */
#ifndef SDW_TENSOR_RECORDING_H
#define SDW_TENSOR_RECORDING_H

#include "tensor/scratch.h"

#include <stdbool.h>

/* Zeroed at first, one for a piece of work; sdw_recording_free before the device closes. */
struct sdw_recording {
    void *tape;                       /* of the device; NULL: there is none */
    bool run_before, refused;         /* refused: the device tried, and could not */
    struct sdw_scratch before, after; /* what was live at begin and end of what is on the tape */
};

/* Runs work(context), which queues operators and allocates and frees tensors, nothing else: no
 * copies between host and device, no memory of the host. What it reads and writes must lie where
 * it lay the last time; tensors that it leaves live are where they were. The first run is never
 * recorded: devices choose their kernels in it. */
void sdw_recording_run(struct sdw_device *dev, struct sdw_recording *recording,
                       void (*work)(void *context), void *context);
void sdw_recording_free(struct sdw_device *dev, struct sdw_recording *recording);

#endif
