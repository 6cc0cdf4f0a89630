/* request.h: the parameters of a picture from the command line, for generate and bench. */
#ifndef SDW_WORKER_REQUEST_H
#define SDW_WORKER_REQUEST_H

#include "pipeline/params.h"

struct sdw_request {
    struct sdw_params params;
    struct sdw_faults faults;
};

/* An sdw_option_other (options.h) over a struct sdw_request. */
enum sdw_status sdw_request_take(void *request, const char *name, const char *value,
                                 struct sdw_error *err);

/* Their lines of --help. */
void sdw_request_print(void);

#endif
