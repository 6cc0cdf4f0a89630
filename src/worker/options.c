/* options.c: the table of options, and the one place that turns text into them, wherever the text
 * came from. */
#include "worker/options.h"

#include "worker/config_file.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define AT(field) offsetof(struct sdw_options, field)
#define SERVE     SDW_COMMAND_SERVE
#define GENERATE  SDW_COMMAND_GENERATE
#define BENCH     SDW_COMMAND_BENCH
#define RUNS      (SERVE | GENERATE | BENCH)
#define ALL       (RUNS | SDW_COMMAND_DEVICES)
#define EVERY     (ALL | SDW_COMMAND_PULL | SDW_COMMAND_MODELS | SDW_COMMAND_RM)

#define TEXT(name, env, field, fallback, commands, argument, help)                                 \
    {                                                                                              \
        name, env, NULL, NULL, SDW_OPTION_TEXT, AT(field), 0, 0, NULL, fallback, commands,         \
            argument, help                                                                         \
    }
#define CHOICE(name, env, field, choices, fallback, commands, help)                                \
    {                                                                                              \
        name, env, NULL, NULL, SDW_OPTION_TEXT, AT(field), 0, 0, choices, fallback, commands,      \
            choices, help                                                                          \
    }
#define INTEGER(name, env, field, min, max, fallback, commands, argument, help)                    \
    {                                                                                              \
        name, env, NULL, NULL, SDW_OPTION_INTEGER, AT(field), min, max, NULL, fallback, commands,  \
            argument, help                                                                         \
    }
#define FLAG(name, env, field, commands, help)                                                     \
    {                                                                                              \
        name, env, NULL, NULL, SDW_OPTION_FLAG, AT(field), 0, 0, NULL, NULL, commands, NULL, help  \
    }
#define SPELLING(name, env, of, kind, implied, commands)                                           \
    {                                                                                              \
        name, env, of, implied, kind, 0, 0, 0, NULL, NULL, commands, NULL, NULL                    \
    }

/* clang-format off */
const struct sdw_option_row sdw_option_rows[] = {
    TEXT("model", "SD_WORKER_MODEL", model, NULL, RUNS, "M",
         "model: a known name (sd-v1-5), owner/name, a folder, or a checkpoint file; default: the demo model"),
    SPELLING("sd-version", "SD_VERSION", "model", SDW_OPTION_TEXT, NULL, RUNS),
    TEXT("model-path", "MODEL_PATH", model_path, NULL, RUNS, "PATH", "where the weights of --model lie on this machine"),
    TEXT("vae", NULL, vae, NULL, RUNS, "PATH", "another VAE than the model's: a file or a folder"),
    TEXT("tokenizer", NULL, tokenizer, NULL, RUNS, "DIR", "folder of vocab.json and merges.txt, for a checkpoint file"),
    CHOICE("prediction-type", NULL, prediction_type, "epsilon|v_prediction|sample", NULL, RUNS,
           "what the model predicts, where it says so wrongly or not at all"),
    INTEGER("port", "PORT", port, 0, 65535, "8600", SERVE, "P", "port to listen on; 0 picks a free one"),
    TEXT("bind-addr", NULL, bind_addr, "0.0.0.0", SERVE, "A", "IPv4 or IPv6 address to listen on"),
    TEXT("queen-url", "QUEEN_URL", queen_url, NULL, SERVE, "U", "heartbeats go to U/v1/worker-heartbeat"),
    TEXT("callback-url", "CALLBACK_URL", callback_url, NULL, SERVE, "U", "posted to once when the worker is ready"),
    TEXT("worker-id", "WORKER_ID", worker_id, NULL, SERVE, "I", "default: worker-<device>-<port>"),
    TEXT("api-key", "SD_WORKER_API_KEY", api_key, NULL, SERVE, "K",
         "bearer token that every route but /health and /ready then needs; several with commas between"),
    TEXT("api-key-file", NULL, api_key_file, NULL, SERVE, "F", "the same, one a line"),
    TEXT("cors-origin", NULL, cors_origin, NULL, SERVE, "O", "pages of O (https://example.org), several with commas between, may use this worker; * is all"),
    TEXT("tls-cert", NULL, tls_cert, NULL, SERVE, "F.pem", "certificate chain: listen on https"),
    TEXT("tls-key", NULL, tls_key, NULL, SERVE, "F.pem", "the key that belongs to it"),
    INTEGER("body-bytes-max", NULL, body_bytes_max, 1024, 64L << 20, "33554432", SERVE, "N", "bytes of a request; more is answered 413"),
    INTEGER("connections-max", NULL, connections_max, 1, 65536, "4096", SERVE, "N", "connections at once"),
    INTEGER("connections-per-address", NULL, connections_per_address, 0, 65536, "0", SERVE, "N", "of one address; 0: no limit of its own"),
    INTEGER("idle-timeout", NULL, idle_s, 1, 86400, "60", SERVE, "S", "seconds after which a connection without a byte is closed"),
    INTEGER("header-timeout", NULL, header_s, 1, 86400, "30", SERVE, "S", "seconds within which a request must be whole; each 256 KiB of a body give it as many again"),
    INTEGER("header-bytes-max", NULL, header_bytes_max, 1024, 1L << 20, "16384", SERVE, "N", "bytes of a request's headers; more are answered 431"),
    INTEGER("readers-per-job-max", NULL, readers_per_job_max, 1, 65536, "4096", SERVE, "N", "that read one job's stream at once; more are answered 429"),
    INTEGER("prompt-bytes-max", NULL, prompt_bytes_max, 1, 8192, "8192", SERVE, "N", "bytes of a prompt; more are answered 400"),
    INTEGER("image-pixels-max", NULL, image_pixels_max, 4096, 32L << 20, "33554432", SERVE, "N", "pixels of an input image; more are answered 400"),
    INTEGER("queue-max", NULL, queue_max, 1, 100000, "100", SERVE, "N", "jobs that may wait; more are answered 429"),
    TEXT("state-dir", "SD_WORKER_STATE_DIR", state_dir, NULL, SERVE, "DIR",
         "where jobs outlive the process; :memory: keeps them in it; default: ~/.local/state/sd-worker/<worker id>"),
    INTEGER("save-every-ms", NULL, save_every_ms, 0, 86400000, "2000", SERVE, "N",
         "a running job is saved no more often than this, to go on from there after a restart"),
    INTEGER("keep-age", NULL, keep_age_s, 0, 3155760000, "604800", SERVE, "S", "seconds that an ended job can be read; 0: no limit"),
    INTEGER("keep-jobs", NULL, keep_jobs, 1, 10000000, "1000", SERVE, "N", "ended jobs that can be read"),
    INTEGER("keep-bytes", NULL, keep_bytes, 1, 1L << 50, "1073741824", SERVE, "N", "bytes of their images and events"),
    CHOICE("sandbox", "SD_WORKER_SANDBOX", sandbox, "on|off|require", "on", SERVE,
           "once the model is loaded, give up files and system calls that are no longer needed, where the kernel can (CPU alone)"),
    TEXT("log-file", NULL, log_file, NULL, SERVE, "F", "log to F instead of standard error; SIGHUP opens it anew"),
    CHOICE("log-format", NULL, log_format, "text|json", "text", SERVE, "lines for people, or one JSON object each"),
    INTEGER("device", NULL, device, 0, 63, "0", RUNS, "N", "index of the accelerator"),
    SPELLING("cuda-device", NULL, "device", SDW_OPTION_INTEGER, NULL, RUNS),
    SPELLING("metal-device", NULL, "device", SDW_OPTION_INTEGER, NULL, RUNS),
    CHOICE("dtype", NULL, dtype, "f32|f16|bf16", NULL, RUNS, "what matrix products compute in; default: the device's best"),
    SPELLING("use-f16", "USE_F16", "dtype", SDW_OPTION_FLAG, "f16", RUNS),
    FLAG("flash-attn", "USE_FLASH_ATTN", flash_attn, RUNS, "attention without a score matrix (always on where it exists)"),
    SPELLING("use-flash-attn", NULL, "flash-attn", SDW_OPTION_FLAG, NULL, RUNS),
    CHOICE("fallback", NULL, fallback, "cpu", NULL, RUNS, "run on the CPU when the device is missing"),
    INTEGER("threads", "SD_WORKER_THREADS", threads, 0, 256, "0", ALL, "N", "CPU threads; 0: one for each processor"),
    CHOICE("isa", NULL, isa, "portable|avx2|avx512|avx512_bf16|amx_bf16|own", NULL, ALL, "highest instruction set to use (for tests)"),
    TEXT("config", NULL, config, NULL, RUNS, "F", "YAML or JSON file with these options as keys"),
    TEXT("out", NULL, out, "out.png", GENERATE, "F.png", "where the image goes"),
    FLAG("json", NULL, json, BENCH, "print one JSON object"),
    FLAG("limit", NULL, limit, BENCH, "measure the device's peak, and every stage of a warm run as a share of it"),
    FLAG("ops", NULL, ops, BENCH, "the same for every operator and shape"),
    FLAG("verbose", NULL, verbose, ALL, "log more"),
    FLAG("print-config", NULL, print_config, SERVE, "print every option with its value and where it comes from, and exit"),
    FLAG("man", NULL, man, SERVE, "print the man page and exit"),
    FLAG("help", NULL, help, EVERY, "print this and exit"),
    FLAG("version", NULL, version, EVERY, "print the version and exit"),
};
/* clang-format on */
const int sdw_option_count = sizeof sdw_option_rows / sizeof sdw_option_rows[0];
_Static_assert(sizeof sdw_option_rows / sizeof sdw_option_rows[0] <= SDW_OPTION_ROWS_MAX,
               "SDW_OPTION_ROWS_MAX is too small");

/* Names compare with underscores as dashes: `bind_addr: ...` reads naturally in a file. */
static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++)
        if ((*a == '_' ? '-' : *a) != (*b == '_' ? '-' : *b))
            return false;
    return *a == *b;
}

static const struct sdw_option_row *find_row(const char *name)
{
    for (int i = 0; i < sdw_option_count; i++)
        if (same_name(sdw_option_rows[i].name, name))
            return &sdw_option_rows[i];
    return NULL;
}

static bool is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);
    for (const char *word = choices; *word; word += strspn(word, "|")) {
        size_t n = strcspn(word, "|");
        if (n == length && memcmp(word, value, n) == 0)
            return true;
        word += n;
    }
    return false;
}

static enum sdw_status set_text(char **field, const struct sdw_option_row *row, const char *value,
                                const char *source, struct sdw_error *err)
{
    if (!*value)
        return sdw_fail(err, SDW_USAGE, "%s: %s is empty", source, row->name);
    if (row->choices && !is_choice(row->choices, value))
        return sdw_fail(err, SDW_USAGE, "%s: %s must be one of %s, got \"%s\"", source, row->name,
                        row->choices, value);
    char *copy = strdup(value);
    if (!copy)
        return sdw_fail(err, SDW_MEMORY, "no memory for the options");
    free(*field);
    *field = copy;
    return SDW_OK;
}

static enum sdw_status set_integer(long *field, const struct sdw_option_row *row, const char *value,
                                   const char *source, struct sdw_error *err)
{
    char *end;
    errno = 0;
    long number = strtol(value, &end, 10);
    if (errno || end == value || *end || number < row->min || number > row->max)
        return sdw_fail(err, SDW_USAGE, "%s: %s must be a whole number from %ld to %ld, got \"%s\"",
                        source, row->name, row->min, row->max, value);
    *field = number;
    return SDW_OK;
}

/* -1 when the word is neither a yes nor a no. */
static int parse_flag(const char *value)
{
    static const char *const yes[] = {"1", "true", "yes", "on"}, *const no[] = {"0", "false", "no",
                                                                                "off", ""};
    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
        if (strcasecmp(value, yes[i]) == 0)
            return 1;
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        if (strcasecmp(value, no[i]) == 0)
            return 0;
    return -1;
}

static enum sdw_status set_row(struct sdw_options *options, const struct sdw_option_row *row,
                               const char *value, const char *source, struct sdw_error *err)
{
    int flag = row->kind == SDW_OPTION_FLAG ? parse_flag(value) : 0;
    if (flag < 0)
        return sdw_fail(err, SDW_USAGE, "%s: %s must be true or false, got \"%s\"", source,
                        row->name, value);
    if (row->implied) {
        if (flag == 0)
            return SDW_OK;
        value = row->implied;
    }
    if (row->spelling)
        row = find_row(row->spelling);
    assert(row && !row->spelling);
    char *from = options->source[row - sdw_option_rows];
    snprintf(from, sizeof options->source[0], "%s", source);
    void *field = (char *)options + row->offset;
    switch (row->kind) {
    case SDW_OPTION_TEXT: return set_text(field, row, value, source, err);
    case SDW_OPTION_INTEGER: return set_integer(field, row, value, source, err);
    case SDW_OPTION_FLAG: *(bool *)field = flag > 0; return SDW_OK;
    }
    return SDW_OK;
}

enum sdw_status sdw_option_set(struct sdw_options *options, const char *name, const char *value,
                               const char *source, struct sdw_error *err)
{
    const struct sdw_option_row *row = find_row(name);
    if (!row)
        return sdw_fail(err, SDW_USAGE,
                        "%s: unknown key \"%s\"; the keys are the options of --help", source, name);
    return set_row(options, row, value, source, err);
}

/* Walks the arguments and calls `take` for every option; `row` is NULL for one that is not in the
 * table. */
static enum sdw_status walk(enum sdw_command command, int argc, char **argv,
                            enum sdw_status (*take)(void *context, const struct sdw_option_row *row,
                                                    const char *name, const char *value,
                                                    struct sdw_error *err),
                            void *context, struct sdw_error *err)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0 || !argv[i][2])
            return sdw_fail(err, SDW_USAGE, "unexpected argument \"%s\"; --help lists the options",
                            argv[i]);
        char name[64];
        const char *word = argv[i] + 2, *equals = strchr(word, '=');
        snprintf(name, sizeof name, "%.*s", equals ? (int)(equals - word) : (int)strlen(word),
                 word);
        const struct sdw_option_row *row = find_row(name);
        if (row && !(row->commands & command))
            row = NULL;
        const char *value = equals ? equals + 1 : NULL;
        if (!value && row && row->kind == SDW_OPTION_FLAG)
            value = "true";
        if (!value && i + 1 < argc)
            value = argv[++i];
        if (!value && !row)
            return sdw_fail(err, SDW_USAGE, "unknown option --%s; --help lists the options", name);
        if (!value)
            return sdw_fail(err, SDW_USAGE, "--%s needs a value; --help lists the options", name);
        enum sdw_status status = take(context, row, name, value, err);
        if (status)
            return status;
    }
    return SDW_OK;
}

struct reading {
    struct sdw_options *options;
    sdw_option_other *other;
    void *context;
};

static enum sdw_status take_argument(void *context, const struct sdw_option_row *row,
                                     const char *name, const char *value, struct sdw_error *err)
{
    struct reading *reading = context;
    char source[80];
    if (row) {
        snprintf(source, sizeof source, "--%s", name);
        return set_row(reading->options, row, value, source, err);
    }
    if (reading->other)
        return reading->other(reading->context, name, value, err);
    return sdw_fail(err, SDW_USAGE, "unknown option --%s; --help lists the options", name);
}

/* Only --config, which must be known before everything it is overruled by. */
static enum sdw_status take_config(void *context, const struct sdw_option_row *row,
                                   const char *name, const char *value, struct sdw_error *err)
{
    if (row && strcmp(row->name, "config") == 0)
        return take_argument(context, row, name, value, err);
    return SDW_OK;
}

static enum sdw_status read_environment(struct sdw_options *options, enum sdw_command command,
                                        struct sdw_error *err)
{
    for (int i = 0; i < sdw_option_count; i++) {
        const struct sdw_option_row *row = &sdw_option_rows[i];
        const char *value = row->environment ? getenv(row->environment) : NULL;
        if (!value || !*value || !(row->commands & command))
            continue;
        enum sdw_status status = set_row(options, row, value, row->environment, err);
        if (status)
            return status;
    }
    return SDW_OK;
}

enum sdw_status sdw_options_read(struct sdw_options *options, enum sdw_command command, int argc,
                                 char **argv, sdw_option_other *other, void *context,
                                 struct sdw_error *err)
{
    struct reading reading = {options, other, context};
    *options = (struct sdw_options){0};
    for (int i = 0; i < sdw_option_count; i++) {
        enum sdw_status status = SDW_OK;
        if (sdw_option_rows[i].fallback)
            status =
                set_row(options, &sdw_option_rows[i], sdw_option_rows[i].fallback, "default", err);
        if (status)
            return status;
    }
    enum sdw_status status = walk(command, argc, argv, take_config, &reading, err);
    if (!status && options->config)
        status = sdw_config_file_read(options, options->config, err);
    if (!status)
        status = read_environment(options, command, err);
    if (!status)
        status = walk(command, argc, argv, take_argument, &reading, err);
    return status;
}

void sdw_options_free(struct sdw_options *options)
{
    for (int i = 0; i < sdw_option_count; i++) {
        const struct sdw_option_row *row = &sdw_option_rows[i];
        if (row->kind == SDW_OPTION_TEXT && !row->spelling)
            free(*(char **)((char *)options + row->offset));
    }
    *options = (struct sdw_options){0};
}

/* Quoted as JSON, which is YAML. */
static void print_text(const char *text)
{
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            printf("\\u%04x", *text);
        else
            putchar(*text);
    putchar('"');
}

void sdw_options_print_values(const struct sdw_options *options, enum sdw_command command)
{
    for (int i = 0; i < sdw_option_count; i++) {
        const struct sdw_option_row *row = &sdw_option_rows[i];
        const void *field = (const char *)options + row->offset;
        if (!(row->commands & command) || row->spelling || !options->source[i][0] ||
            strcmp(row->name, "print-config") == 0)
            continue;
        if (strcmp(row->name, "api-key") == 0) {
            printf("# api-key is set by %s\n", options->source[i]);
            continue;
        }
        printf("%s: ", row->name);
        switch (row->kind) {
        case SDW_OPTION_TEXT: print_text(*(char *const *)field); break;
        case SDW_OPTION_INTEGER: printf("%ld", *(const long *)field); break;
        case SDW_OPTION_FLAG: printf("%s", *(const bool *)field ? "true" : "false"); break;
        }
        printf(" # %s\n", options->source[i]);
    }
}

void sdw_options_print(enum sdw_command command)
{
    for (int i = 0; i < sdw_option_count; i++) {
        const struct sdw_option_row *row = &sdw_option_rows[i];
        if (!(row->commands & command) || row->spelling)
            continue;
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", row->name, row->argument ? " " : "",
                 row->argument ? row->argument : "");
        printf("  %-28s %s", left, row->help);
        if (row->fallback)
            printf(" [%s]", row->fallback);
        if (row->environment)
            printf(" ($%s)", row->environment);
        putchar('\n');
    }
}

/* A dash that is no hyphen, and a dot or quote that is no request. */
static void print_roff(const char *text)
{
    if (*text == '.' || *text == '\'')
        printf("\\&");
    for (; *text; text++)
        if (*text == '-')
            printf("\\-");
        else if (*text == '\\')
            printf("\\e");
        else
            putchar(*text);
}

void sdw_options_print_man(void)
{
    for (int i = 0; i < sdw_option_count; i++) {
        const struct sdw_option_row *row = &sdw_option_rows[i];
        if (row->spelling)
            continue;
        printf(".TP\n.BI ");
        printf("\\-\\-");
        print_roff(row->name);
        if (row->argument) {
            printf(" \" \" ");
            print_roff(row->argument);
        }
        printf("\n");
        print_roff(row->help);
        if (row->fallback)
            printf(" [%s]", row->fallback);
        if (row->environment)
            printf(" ($%s)", row->environment);
        printf("\n");
    }
}
