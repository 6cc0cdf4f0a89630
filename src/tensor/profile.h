/* profile.h: where the time of a forward pass goes, by operator and shape.
 *
 * While a device's `profile` is set, every operator is timed to its end (the queue is drained after
 * each call, so the total is a little more than an unprofiled run's) and added to the row with its
 * name and shape. */
#ifndef SDW_TENSOR_PROFILE_H
#define SDW_TENSOR_PROFILE_H

#include <stddef.h>

#define SDW_PROFILE_ROWS_MAX 256
#define SDW_PROFILE_NAME_MAX 80

struct sdw_profile {
    int count;
    struct sdw_profile_row {
        char name[SDW_PROFILE_NAME_MAX]; /* "conv2d 3x3 [2,64,64,320] -> 320" */
        long calls;
        double seconds;
        double operations;       /* floating-point; half a multiply-add each */
    } row[SDW_PROFILE_ROWS_MAX]; /* rows past the last one are summed in it, under the name "other"
                                  */
};

void sdw_profile_add(struct sdw_profile *profile, const char *name, double seconds,
                     double operations);
void sdw_profile_sort(struct sdw_profile *profile); /* slowest first */

#endif
