/* params.c: any bytes as the body of POST /v1/jobs. */
#include "fuzz.h"

#include "pipeline/params.h"

#include <jansson.h>
#include <string.h>

static bool sampler_known(const char *name)
{
    return strcmp(name, "euler") == 0;
}

/* Every fault names a field, says a sentence, and echoes JSON or nothing. */
static void check_faults(const struct sdw_faults *faults)
{
    FUZZ_CHECK(faults->count > 0 && faults->count <= SDW_PARAMS_FAULTS_MAX);
    for (int i = 0; i < faults->count; i++) {
        const struct sdw_fault *fault = &faults->fault[i];
        FUZZ_CHECK(fault->field[0] && fault->constraint[0] && fault->message[0]);
        json_t *value = json_loads(fault->value, JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
        FUZZ_CHECK(value || !fault->value[0]);
        json_decref(value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct sdw_params_defaults defaults = {.steps = 20,
                                                        .width = 512,
                                                        .height = 512,
                                                        .guidance_scale = 7.5,
                                                        .sampler = "euler",
                                                        .multiple = 8,
                                                        .sampler_known = sampler_known};
    static struct sdw_faults faults;
    struct sdw_params params;
    struct sdw_error err = {0};
    if (sdw_params_parse(&params, (const char *)data, size, &defaults, &faults, &err)) {
        FUZZ_CHECK(err.status == SDW_INVALID && err.message[0]);
        check_faults(&faults);
        return 0;
    }
    sdw_params_complete(&params, &defaults);
    FUZZ_CHECK(params.prompt && params.prompt[0] && strlen(params.prompt) <= SDW_PARAMS_TEXT_MAX);
    FUZZ_CHECK(params.steps >= 1 && params.steps <= SDW_PARAMS_STEPS_MAX);
    FUZZ_CHECK(params.width >= SDW_PARAMS_SIDE_MIN && params.width <= SDW_PARAMS_SIDE_MAX);
    FUZZ_CHECK(params.width % 8 == 0 && params.height % 8 == 0);
    FUZZ_CHECK(params.guidance_scale >= 0 && params.guidance_scale <= 30);
    FUZZ_CHECK(strcmp(params.sampler, "euler") == 0);
    sdw_params_free(&params);
    return 0;
}
