/* params_internal.h: what the files of the table share: params.c (the table and the rules),
 * params_read.c (JSON and the command line in), params_write.c (JSON out). */
#ifndef SDW_PIPELINE_PARAMS_INTERNAL_H
#define SDW_PIPELINE_PARAMS_INTERNAL_H

#include "pipeline/params.h"

static inline void *sdw_param_field(struct sdw_params *params, size_t offset)
{
    return (char *)params + offset;
}

/* Notes a fault; `value` is JSON text, left out where it is too long. */
void sdw_params_note(struct sdw_faults *faults, const char *field, const char *constraint,
                     const char *value, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* The first fault as an error, or SDW_OK when there is none. */
enum sdw_status sdw_params_first_fault(const struct sdw_faults *faults, struct sdw_error *err);

#endif
