/* config_file.h: options from a YAML file (JSON is YAML): one flat mapping of option names to
 * values. */
#ifndef SDW_WORKER_CONFIG_FILE_H
#define SDW_WORKER_CONFIG_FILE_H

#include "worker/options.h"

/* Sets every key of the file; an unknown key, a nested value or bad syntax is an error that names
 * file and line. */
enum sdw_status sdw_config_file_read(struct sdw_options *options, const char *path,
                                     struct sdw_error *err);

#endif
