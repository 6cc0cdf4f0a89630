/* command.h: the commands of a worker program. The three mains differ in `backend` alone. */
#ifndef SDW_WORKER_COMMAND_H
#define SDW_WORKER_COMMAND_H

#include "worker/options.h"

/* What main() returns: 0, 1 for the world's errors, 2 for bad usage. backend: "cpu", "cuda" or
 * "metal". */
int sdw_main(int argc, char **argv, const char *backend);

/* The commands; argv[0] is the command's own name. */
int sdw_command_serve(int argc, char **argv, const char *backend);
int sdw_command_generate(int argc, char **argv, const char *backend);
int sdw_command_bench(int argc, char **argv, const char *backend);
int sdw_command_devices(int argc, char **argv, const char *backend);
int sdw_command_pull(int argc, char **argv, const char *backend);
int sdw_command_models(int argc, char **argv, const char *backend);
int sdw_command_rm(int argc, char **argv, const char *backend);

/* Prints "sd-worker-cpu: sentence" to standard error and returns the exit status of the error. */
int sdw_command_fail(const char *backend, const struct sdw_error *err);

/* Answers --help, --version and the like; true when it did, and the command is to return 0. */
bool sdw_command_informed(const struct sdw_options *options, enum sdw_command command,
                          const char *backend);

#endif
