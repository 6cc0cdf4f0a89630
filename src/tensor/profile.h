/* profile.h: where the time of a run goes, by stage, operator and shape.
 *
 * While a device's `profile` is set, every operator is timed to its end (the queue is drained after
 * each call, so the total is a little more than an unprofiled run's) and added to the row with its
 * stage, name and shape. */
#ifndef SDW_TENSOR_PROFILE_H
#define SDW_TENSOR_PROFILE_H

#include <stddef.h>

#define SDW_PROFILE_ROWS_MAX 256
#define SDW_PROFILE_NAME_MAX 80

enum sdw_profile_stage { SDW_STAGE_TEXT, SDW_STAGE_UNET, SDW_STAGE_VAE, SDW_STAGE_COUNT };
extern const char *const sdw_profile_stages[SDW_STAGE_COUNT]; /* "text", "unet", "vae" */

struct sdw_profile {
    enum sdw_profile_stage stage; /* of what is added next */
    int count;
    struct sdw_profile_row {
        enum sdw_profile_stage stage;
        char name[SDW_PROFILE_NAME_MAX]; /* "conv2d 3x3/1 [2,64,64,320] -> 320, oneDNN" */
        long calls;
        double seconds;
        double operations;       /* of matrix products and convolutions in their direct form; half a
                                    multiply-add each */
        double bytes;            /* of what every other operator reads and writes */
    } row[SDW_PROFILE_ROWS_MAX]; /* rows past the last one are summed in it, under the name "other"
                                  */
};

/* Adds to the row of that name in the profile's stage, whatever stage `more` is of. */
void sdw_profile_add(struct sdw_profile *profile, const struct sdw_profile_row *more);
void sdw_profile_enter(struct sdw_profile *profile, enum sdw_profile_stage stage); /* or NULL */
void sdw_profile_sort(struct sdw_profile *profile); /* slowest first */

#endif
