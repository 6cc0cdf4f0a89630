/* command.c: picks the command; `serve` is the one that needs no name. */
#include "worker/command.h"

#include "base/pool.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    enum sdw_command command;
    int (*run)(int argc, char **argv, const char *backend);
    const char *help;
} commands[] = {
    {"serve", SDW_COMMAND_SERVE, sdw_command_serve,
     "take jobs over HTTP (what runs when no command is named)"},
    {"generate", SDW_COMMAND_GENERATE, sdw_command_generate,
     "one image from the command line, without a server"},
    {"bench", SDW_COMMAND_BENCH, sdw_command_bench, "time each stage of an image"},
    {"devices", SDW_COMMAND_DEVICES, sdw_command_devices,
     "list the devices that this program can use"},
    {"pull", SDW_COMMAND_PULL, sdw_command_pull, "download a model from the hub: pull M"},
    {"models", SDW_COMMAND_MODELS, sdw_command_models, "list the models in the hub's cache"},
    {"rm", SDW_COMMAND_RM, sdw_command_rm, "remove a model from the hub's cache: rm M"},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

int sdw_command_fail(const char *backend, const struct sdw_error *err)
{
    fprintf(stderr, "sd-worker-%s: %s\n", backend, err->message);
    return sdw_status_exit(err->status);
}

/* One page for the three programs, which differ in the device only. */
static void print_man(void)
{
    printf(
        ".\\\" Made by sd-worker-cpu --man from its tables; see scripts/docs.\n"
        ".TH SD-WORKER 1 \"\" \"sd-worker %s\" \"User Commands\"\n"
        ".SH NAME\nsd\\-worker\\-cpu, sd\\-worker\\-cuda, sd\\-worker\\-metal \\- Stable Diffusion over HTTP\n"
        ".SH SYNOPSIS\n.B sd\\-worker\\-cpu\n[\\fICOMMAND\\fR] [\\fIOPTIONS\\fR]\n"
        ".SH DESCRIPTION\n"
        "Loads a Stable Diffusion model and takes jobs over HTTP: a prompt goes in, an event for\n"
        "every step and a PNG come out. A browser at http://localhost:8600/ gets a page that does it.\n"
        ".SH COMMANDS\n",
        SDW_VERSION);
    for (size_t i = 0; i < COMMANDS; i++)
        printf(".TP\n.B %s\n%s\n", commands[i].name, commands[i].help);
    printf(".SH OPTIONS\nNot every command takes every option; COMMAND \\-\\-help lists its own.\n"
           "An argument counts more than an environment variable, that more than the file of\n"
           ".BR \\-\\-config ,\nand that more than the default.\n");
    sdw_options_print_man();
    printf(
        ".SH SIGNALS\n"
        "SIGTERM and SIGINT stop within two seconds, and jobs are kept; a second one quits at once.\n"
        "SIGHUP opens the log file anew.\n"
        ".SH EXIT STATUS\n0 after a stop, 1 when something was missing or failed, 2 for wrong usage.\n"
        ".SH SEE ALSO\ndocs/http\\-api.md, docs/models.md and /openapi.json of a running worker.\n");
}

bool sdw_command_informed(const struct sdw_options *options, enum sdw_command command,
                          const char *backend)
{
    if (options->version) {
        printf("sd-worker-%s %s\n", backend, SDW_VERSION);
        return true;
    }
    if (options->print_config) {
        sdw_options_print_values(options, command);
        return true;
    }
    if (options->man) {
        print_man();
        return true;
    }
    if (!options->help)
        return false;
    const char *name = "";
    for (size_t i = 0; i < COMMANDS; i++)
        if (commands[i].command == command)
            name = commands[i].name;
    printf("Usage: sd-worker-%s %s [options]\n\n", backend, name);
    if (command == SDW_COMMAND_SERVE) {
        printf("Commands:\n");
        for (size_t i = 0; i < COMMANDS; i++)
            printf("  %-10s %s\n", commands[i].name, commands[i].help);
        printf("\n");
    }
    printf("Options [default] ($environment variable):\n");
    sdw_options_print(command);
    return true;
}

int sdw_main(int argc, char **argv, const char *backend)
{
    sdw_pool_settle(argv);
    if (argc < 2 || argv[1][0] == '-')
        return sdw_command_serve(argc, argv, backend);
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1, backend);
    fprintf(stderr, "sd-worker-%s: unknown command \"%s\"; the commands are", backend, argv[1]);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(stderr, "%s %s", i ? "," : "", commands[i].name);
    fprintf(stderr, "\n");
    return 2;
}
