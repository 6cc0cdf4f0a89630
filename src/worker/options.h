/* options.h: what a person or a hive sets when the worker starts.
 *
 * One table (options.c) serves the command line, the environment, the configuration file, --help
 * and the man page. Precedence: argument, environment, file, default. Texts point into storage that
 * lives as long as the options. */
#ifndef SDW_WORKER_OPTIONS_H
#define SDW_WORKER_OPTIONS_H

#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>

#define SDW_OPTIONS_BYTES_MAX (1u << 20) /* a configuration file */
#define SDW_OPTION_ROWS_MAX   80

/* The commands of the program; an option names those that take it. */
enum sdw_command {
    SDW_COMMAND_SERVE = 1,
    SDW_COMMAND_GENERATE = 2,
    SDW_COMMAND_BENCH = 4,
    SDW_COMMAND_DEVICES = 8,
    SDW_COMMAND_PULL = 16,
    SDW_COMMAND_MODELS = 32,
    SDW_COMMAND_RM = 64,
};

struct sdw_options {
    char *model, *model_path, *vae, *tokenizer, *prediction_type;
    char *bind_addr, *worker_id, *queen_url, *callback_url, *api_key, *config, *log_file;
    char *api_key_file, *cors_origin, *tls_cert, *tls_key, *log_format, *sandbox;
    char *dtype, *fallback, *isa;
    char *state_dir;
    long body_bytes_max, connections_max, connections_per_address, idle_s, header_s;
    long header_bytes_max, readers_per_job_max, prompt_bytes_max, image_pixels_max;
    long port, device, threads, queue_max, keep_age_s, keep_jobs, keep_bytes, save_every_ms;
    bool flash_attn, verbose, help, version, print_config, man;
    /* generate and bench */
    char *out;
    bool json;
    bool limit, ops;
    /* Where the value of each row came from: "--port", "PORT", "F:3", "default"; "": nowhere. */
    char source[SDW_OPTION_ROWS_MAX][64];
};

enum sdw_option_kind { SDW_OPTION_TEXT, SDW_OPTION_INTEGER, SDW_OPTION_FLAG };

struct sdw_option_row {
    const char *name; /* as on the command line without the dashes, and as a key of the file */
    const char *environment; /* variable, or NULL */
    const char *spelling;    /* for an alias: the name of the row that it sets; else NULL */
    const char
        *implied; /* for a flag that stands for a value of its row ("use-f16": "f16"); else NULL */
    enum sdw_option_kind kind;
    size_t offset;        /* in struct sdw_options */
    long min, max;        /* SDW_OPTION_INTEGER */
    const char *choices;  /* SDW_OPTION_TEXT: words separated by |, or NULL for any */
    const char *fallback; /* default as text, or NULL */
    unsigned commands;    /* of enum sdw_command */
    const char *argument; /* what --help calls the value */
    const char *help;
};

extern const struct sdw_option_row sdw_option_rows[];
extern const int sdw_option_count;

/* For an argument that is no option of the table: "name" and its value; takes it, or says why not.
 */
typedef enum sdw_status sdw_option_other(void *context, const char *name, const char *value,
                                         struct sdw_error *err);

/* Reads arguments 1..argc-1 (the command's name already removed), the environment and the file
 * named by --config. `other` may be NULL. Every fault is SDW_USAGE with a sentence that names the
 * option, and file and line. */
enum sdw_status sdw_options_read(struct sdw_options *options, enum sdw_command command, int argc,
                                 char **argv, sdw_option_other *other, void *context,
                                 struct sdw_error *err);
void sdw_options_free(struct sdw_options *options);

/* For the configuration file reader: sets the option called `name` (underscores count as dashes)
 * from text. */
enum sdw_status sdw_option_set(struct sdw_options *options, const char *name, const char *value,
                               const char *source, struct sdw_error *err);

/* Every option of `command` that has a value, as YAML that --config reads back, with its source;
 * secrets are left out. */
void sdw_options_print_values(const struct sdw_options *options, enum sdw_command command);

/* The options of every command as the sections of a man page (groff_man(7)). */
void sdw_options_print_man(void);

/* The lines of --help for the options of `command`. */
void sdw_options_print(enum sdw_command command);

#endif
