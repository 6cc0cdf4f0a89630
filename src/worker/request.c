/* request.c: see request.h. The rows are those of pipeline/params.c. */
#include "worker/request.h"

#include <stdio.h>

enum sdw_status sdw_request_take(void *request, const char *name, const char *value,
                                 struct sdw_error *err)
{
    struct sdw_request *r = request;
    if (!sdw_params_set(&r->params, name, value, &r->faults))
        return sdw_fail(err, SDW_USAGE, "unknown option --%s; --help lists the options", name);
    if (r->faults.count)
        return sdw_fail(err, SDW_USAGE, "--%s: %s", name, r->faults.fault[0].message);
    return SDW_OK;
}

void sdw_request_print(void)
{
    printf("\nThe picture:\n");
    for (int i = 0; i < sdw_param_count; i++) {
        const struct sdw_param_row *row = &sdw_param_rows[i];
        char name[40];
        snprintf(name, sizeof name, "--%s", row->name);
        for (char *c = name; *c; c++)
            *c = *c == '_' ? '-' : *c;
        printf("  %-28s %s", name, row->help);
        if (row->fallback)
            printf(" [%s]", row->fallback);
        putchar('\n');
    }
}
