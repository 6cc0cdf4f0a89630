/* params.c: the table of parameters, and the rules that hold between them. */
#include "pipeline/params_internal.h"

#include "image/mask.h"

#include <jansson.h>
#include <math.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct sdw_params, field)

/* clang-format off */
const struct sdw_param_row sdw_param_rows[] = {
    {"prompt", SDW_PARAM_TEXT, AT(prompt), 0, 1, SDW_PARAMS_TEXT_MAX, true, NULL, .help = "what to draw"},
    {"negative_prompt", SDW_PARAM_TEXT, AT(negative_prompt), 0, 0, SDW_PARAMS_TEXT_MAX, false, "none", .help = "what to stay away from"},
    {"prompt_syntax", SDW_PARAM_TEXT, AT(prompt_syntax), 0, 1, 16, false, "weighted", .help = "weighted reads (word:1.3), ((word)), [word] and BREAK, and goes on after 75 tokens; plain reads the text as it is and cuts it there, as diffusers does", .choices = {"weighted", "plain"}},
    {"steps", SDW_PARAM_INTEGER, AT(steps), 0, 1, SDW_PARAMS_STEPS_MAX, false, "the model's", .help = "denoising steps"},
    {"guidance_scale", SDW_PARAM_REAL, AT(guidance_scale), AT(guidance_given), 0, 30, false, "the model's", .help = "how strongly the prompt pulls; guidance runs when over 1"},
    {"seed", SDW_PARAM_SEED, AT(seed), AT(seed_given), 0, 0x1p64, false, "drawn", .help = "where the noise starts; -1 draws one"},
    {"n", SDW_PARAM_INTEGER, AT(n), 0, 1, SDW_PARAMS_IMAGES_MAX, false, "1", .help = "images of the job, their seeds counted up"},
    {"width", SDW_PARAM_INTEGER, AT(width), 0, SDW_PARAMS_SIDE_MIN, SDW_PARAMS_SIDE_MAX, false, "the model's", .help = "pixels, a multiple of 8"},
    {"height", SDW_PARAM_INTEGER, AT(height), 0, SDW_PARAMS_SIDE_MIN, SDW_PARAMS_SIDE_MAX, false, "the model's", .help = "pixels, a multiple of 8"},
    {"operation", SDW_PARAM_TEXT, AT(operation), 0, 1, 32, false, "what the images say", .help = "what the job does", .choices = {"image_generation", "image_transform", "image_inpaint"}},
    {"init_image", SDW_PARAM_IMAGE, AT(init_image), 0, 1, SDW_PARAMS_IMAGE_BYTES_MAX, false, "none", .help = "the image to start from: PNG, JPEG or WebP in base64, with or without a data: prefix", .aliases = {"input_image", "image"}},
    {"mask_image", SDW_PARAM_IMAGE, AT(mask_image), 0, 1, SDW_PARAMS_IMAGE_BYTES_MAX, false, "none", .help = "what of it to repaint: white is repainted, black is kept", .aliases = {"mask"}},
    {"strength", SDW_PARAM_REAL, AT(strength), AT(strength_given), 0, 1, false, "0.8, inpaint 1", .help = "of image jobs: 0 gives the input back, 1 starts from noise"},
    {"mask_blur", SDW_PARAM_INTEGER, AT(mask_blur), 0, 0, SDW_MASK_BLUR_MAX, false, "0", .help = "softness in pixels of the seam between what is repainted and what is kept"},
    {"paste_back", SDW_PARAM_FLAG, AT(paste_back), AT(paste_back_given), 0, 1, false, "true", .help = "the kept pixels of an inpaint are those of the input, bit for bit"},
    {"inpaint_method", SDW_PARAM_TEXT, AT(inpaint_method), 0, 1, 16, false, "blend", .help = "how a model that is not made for inpainting keeps what is kept; legacy is diffusers' former way, with grey masks", .choices = {"blend", "legacy"}},
    {"clip_skip", SDW_PARAM_INTEGER, AT(clip_skip), 0, 0, 11, false, "0", .help = "layers of the text encoder left out at its end, besides what the model leaves out; web UIs count one more"},
    {"sampler", SDW_PARAM_TEXT, AT(sampler), 0, 1, 64, false, "the model's", .help = "a name of GET /v1/samplers"},
    {"schedule", SDW_PARAM_TEXT, AT(schedule), 0, 1, 32, false, "the model's", .help = "noise levels of the sampler: normal or karras"},
    {"eta", SDW_PARAM_REAL, AT(eta), 0, 0, 1, false, "0", .help = "noise of the sampler ddim: 0 none, 1 as much as ddpm"},
    {"guidance_rescale", SDW_PARAM_REAL, AT(guidance_rescale), 0, 0, 1, false, "0", .help = "pulls the guided prediction back to the contrast of the unguided one"},
    {"rng", SDW_PARAM_TEXT, AT(rng), 0, 1, 16, false, "torch-cpu", .help = "where noise comes from: torch-cpu draws as diffusers on a CPU, philox as web UIs on a GPU", .choices = {"torch-cpu", "philox"}},
    {"preview", SDW_PARAM_FLAG, AT(preview), 0, 0, 1, false, "false", .help = "send previews of the latents besides"},
    {"cancel_on_disconnect", SDW_PARAM_FLAG, AT(cancel_on_disconnect), 0, 0, 1, false, "false", .help = "end the job when its last reader leaves"},
    {"timeout_ms", SDW_PARAM_INTEGER, AT(timeout_ms), 0, 1, SDW_PARAMS_TIMEOUT_MS_MAX, false, "none", .help = "the job fails when it has not ended so long after it was submitted"},
    {"priority", SDW_PARAM_INTEGER, AT(priority), 0, -100, 100, false, "0", .help = "jobs of a higher one run first, those of the same in their order"},
};
/* clang-format on */
const int sdw_param_count = sizeof sdw_param_rows / sizeof sdw_param_rows[0];

void sdw_params_free(struct sdw_params *params)
{
    for (int i = 0; i < sdw_param_count; i++) {
        const struct sdw_param_row *row = &sdw_param_rows[i];
        if (row->kind == SDW_PARAM_TEXT)
            free(*(char **)sdw_param_field(params, row->offset));
        else if (row->kind == SDW_PARAM_IMAGE)
            free(((struct sdw_params_image *)sdw_param_field(params, row->offset))->bytes);
    }
    *params = (struct sdw_params){0};
}

void sdw_params_note(struct sdw_faults *faults, const char *field, const char *constraint,
                     const char *value, const char *format, ...)
{
    if (faults->count == SDW_PARAMS_FAULTS_MAX)
        return;
    struct sdw_fault *fault = &faults->fault[faults->count++];
    va_list args;
    va_start(args, format);
    vsnprintf(fault->message, sizeof fault->message, format, args);
    va_end(args);
    snprintf(fault->field, sizeof fault->field, "%s", field);
    snprintf(fault->constraint, sizeof fault->constraint, "%s", constraint);
    /* Half a JSON text would be no JSON: what does not fit is left out. */
    snprintf(fault->value, sizeof fault->value, "%s",
             strlen(value) < sizeof fault->value ? value : "");
}

enum sdw_status sdw_params_first_fault(const struct sdw_faults *faults, struct sdw_error *err)
{
    if (faults->count == 0)
        return SDW_OK;
    return sdw_fail(err, SDW_INVALID, "%s", faults->fault[0].message);
}

static bool has_fault(const struct sdw_faults *faults, const char *field)
{
    for (int i = 0; i < faults->count; i++)
        if (strcmp(faults->fault[i].field, field) == 0)
            return true;
    return false;
}

static void check_multiple(int value, const char *field, int multiple, struct sdw_faults *faults)
{
    char shown[16], constraint[32];
    if (value % multiple == 0)
        return;
    snprintf(shown, sizeof shown, "%d", value);
    snprintf(constraint, sizeof constraint, "multiple_of(%d)", multiple);
    sdw_params_note(faults, field, constraint, shown, "%s must be a multiple of %d, got %d", field,
                    multiple, value);
}

static void check_name(const char *name, const char *field, bool (*known)(const char *name),
                       struct sdw_faults *faults)
{
    if (!name || !known || known(name))
        return;
    json_t *text = json_string(name);
    char *shown = json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    sdw_params_note(faults, field, "one_of(GET /v1/samplers)", shown ? shown : "",
                    "%s %.60s is unknown; GET /v1/samplers lists them", field, shown ? shown : "");
    free(shown);
    json_decref(text);
}

static void check_length(const char *text, const char *field, int bytes_max,
                         struct sdw_faults *faults)
{
    size_t length = text ? strlen(text) : 0;
    if (bytes_max > 0 && length > (size_t)bytes_max)
        sdw_params_note(faults, field, "max_length", "", "%s must have at most %d bytes, got %zu",
                        field, bytes_max, length);
}

enum sdw_operation sdw_params_operation(const struct sdw_params *params)
{
    return params->mask_image.bytes   ? SDW_INPAINT
           : params->init_image.bytes ? SDW_TRANSFORM
                                      : SDW_GENERATION;
}

int sdw_params_steps(const struct sdw_params *params)
{
    int steps = params->steps;
    if (sdw_params_operation(params) !=
        SDW_GENERATION) /* as in diffusers: the first ones are left out */
        steps = (int)(steps * params->strength);
    return steps * (params->n > 1 ? params->n : 1);
}

/* An operation that is named takes just the images it needs. */
static void check_operation(const struct sdw_params *params, struct sdw_faults *faults)
{
    static const char *const images[] = {"init_image", "mask_image"};
    const struct sdw_params_image *given[] = {&params->init_image, &params->mask_image};
    const char *operation = params->operation ? params->operation : "";
    bool inpaint = strcmp(operation, "image_inpaint") == 0,
         transform = strcmp(operation, "image_transform") == 0;
    for (int i = 0; i < 2; i++) {
        bool needed = inpaint || (transform && i == 0);
        if (needed && !given[i]->bytes && !has_fault(faults, images[i]))
            sdw_params_note(faults, images[i], "required", "", "%s is required for operation %s",
                            images[i], operation);
        else if (*operation && !needed && given[i]->bytes)
            sdw_params_note(faults, images[i], "absent", "", "operation %s takes no %s", operation,
                            images[i]);
    }
    if (!*operation && params->mask_image.bytes && !params->init_image.bytes &&
        !has_fault(faults, "init_image"))
        sdw_params_note(faults, "init_image", "required", "",
                        "init_image is required where there is a mask_image");
}

enum sdw_status sdw_params_check(const struct sdw_params *params,
                                 const struct sdw_params_defaults *defaults,
                                 struct sdw_faults *faults, struct sdw_error *err)
{
    if (!params->prompt && !has_fault(faults, "prompt"))
        sdw_params_note(faults, "prompt", "required", "", "prompt is required");
    check_length(params->prompt, "prompt", defaults->prompt_bytes_max, faults);
    check_length(params->negative_prompt, "negative_prompt", defaults->prompt_bytes_max, faults);
    check_multiple(params->width, "width", defaults->multiple, faults);
    check_multiple(params->height, "height", defaults->multiple, faults);
    check_name(params->sampler, "sampler", defaults->sampler_known, faults);
    check_name(params->schedule, "schedule", defaults->schedule_known, faults);
    check_operation(params, faults);
    return sdw_params_first_fault(faults, err);
}

static int fit(double side, int multiple)
{
    int least = (SDW_PARAMS_SIDE_MIN + multiple - 1) / multiple * multiple;
    int fitted = (int)(side + 1e-6) / multiple * multiple;
    return fitted < least ? least : fitted;
}

/* The size of an image job: that of its input, unless a size was given. */
static void size_by_input(struct sdw_params *params, int multiple)
{
    double width = params->init_image.width, height = params->init_image.height,
           shape = width / height;
    if (params->width)
        width = params->width, height = params->height ? params->height : width / shape;
    else if (params->height)
        height = params->height, width = height * shape;
    double shrink = fmin(1, SDW_PARAMS_SIDE_MAX / fmax(width, height));
    if (!params->width)
        params->width = fit(width * shrink, multiple);
    if (!params->height)
        params->height = fit(height * shrink, multiple);
}

void sdw_params_complete(struct sdw_params *params, const struct sdw_params_defaults *defaults)
{
    if (params->n == 0)
        params->n = 1;
    if (params->steps == 0)
        params->steps = defaults->steps;
    enum sdw_operation operation = sdw_params_operation(params);
    if (operation != SDW_GENERATION)
        size_by_input(params, defaults->multiple);
    if (!params->strength_given)
        params->strength = operation == SDW_TRANSFORM ? 0.8 : 1;
    if (!params->paste_back_given)
        params->paste_back = true;
    if (params->width == 0)
        params->width = defaults->width;
    if (params->height == 0)
        params->height = defaults->height;
    if (!params->guidance_given)
        params->guidance_scale = defaults->guidance_scale;
    if (!params->sampler && defaults->sampler)
        params->sampler = strdup(defaults->sampler);
    if (!params->seed_given) /* 32 bits: any program can read them, and the noise uses no more */
        params->seed = randombytes_random();
    params->guidance_given = params->seed_given = true;
    params->strength_given = params->paste_back_given = operation != SDW_GENERATION;
}

enum sdw_status sdw_params_fit(const struct sdw_params *params,
                               const struct sdw_params_defaults *defaults,
                               struct sdw_faults *faults, struct sdw_error *err)
{
    char shown[16];
    if (!defaults->fits)
        return SDW_OK;
    enum sdw_status status = defaults->fits(defaults->context, params, err);
    if (status != SDW_MEMORY)
        return status;
    snprintf(shown, sizeof shown, "%d", params->width);
    sdw_params_note(faults, "width", "memory", shown, "%s", err->message);
    return sdw_params_first_fault(faults, err);
}
