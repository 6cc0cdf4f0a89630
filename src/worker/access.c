/* access.c: see access.h. Keys are read once, at start: a key that is taken back needs a restart.
 */
#include "worker/access.h"

#include "base/log.h"

#include <string.h>
#include <sys/stat.h>

void sdw_access_free(struct sdw_access *access)
{
    if (access->keys.data)
        explicit_bzero(access->keys.data, access->keys.length);
    if (access->key.data)
        explicit_bzero(access->key.data, access->key.length);
    sdw_text_free(&access->keys);
    sdw_text_free(&access->origins);
    sdw_text_free(&access->cert);
    sdw_text_free(&access->key);
}

/* Cuts `text` at `separators` into at most SDW_ACCESS_NAMES_MAX names without blanks around them.
 */
static enum sdw_status cut(const char **list, struct sdw_text *text, const char *separators,
                           const char *what, struct sdw_error *err)
{
    char *rest = NULL;
    int count = 0;
    for (char *name = text->length ? strtok_r(text->data, separators, &rest) : NULL; name;
         name = strtok_r(NULL, separators, &rest)) {
        name += strspn(name, " \t\r");
        size_t length = strlen(name);
        while (length > 0 && strchr(" \t\r", name[length - 1]))
            name[--length] = 0;
        if (length == 0 || *name == '#')
            continue;
        if (count == SDW_ACCESS_NAMES_MAX)
            return sdw_fail(err, SDW_USAGE, "%s: more than %d", what, SDW_ACCESS_NAMES_MAX);
        list[count++] = name;
    }
    return SDW_OK;
}

static enum sdw_status read_file(struct sdw_text *text, const char *path, bool secret,
                                 struct sdw_error *err)
{
    struct stat file;
    enum sdw_status status = sdw_text_read_file(text, path, err);
    if (!status && secret && stat(path, &file) == 0 && (file.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        sdw_log_warn("%s can be read by others on this machine: chmod 600 it", path);
    return status;
}

static enum sdw_status read_keys(struct sdw_access *access, const struct sdw_options *options,
                                 struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    if (options->api_key) /* commas are the separator on the command line, lines in the file */
        status = sdw_text_append(&access->keys, options->api_key, strlen(options->api_key), err);
    for (size_t i = 0; i < access->keys.length; i++)
        if (access->keys.data[i] == ',')
            access->keys.data[i] = '\n';
    if (!status && options->api_key_file)
        status = sdw_text_append(&access->keys, "\n", 1, err);
    if (!status && options->api_key_file)
        status = read_file(&access->keys, options->api_key_file, true, err);
    if (!status)
        status = cut(access->key_list, &access->keys, "\n", "API keys", err);
    if (!status && (options->api_key || options->api_key_file) && !access->key_list[0])
        return sdw_fail(err, SDW_USAGE, "%s holds no key",
                        options->api_key_file ? options->api_key_file : "--api-key");
    return status;
}

enum sdw_status sdw_access_read(struct sdw_access *access, const struct sdw_options *options,
                                struct sdw_error *err)
{
    *access = (struct sdw_access){0};
    struct sdw_text *const texts[] = {&access->keys, &access->origins, &access->cert, &access->key};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        sdw_text_init(texts[i], SDW_ACCESS_FILE_BYTES_MAX);
    if (!options->tls_cert != !options->tls_key)
        return sdw_fail(err, SDW_USAGE, "--tls-cert and --tls-key belong together: %s is missing",
                        options->tls_cert ? "--tls-key" : "--tls-cert");
    enum sdw_status status = read_keys(access, options, err);
    if (!status && options->cors_origin)
        status = sdw_text_append(&access->origins, options->cors_origin,
                                 strlen(options->cors_origin), err);
    if (!status)
        status = cut(access->origin_list, &access->origins, ",", "--cors-origin", err);
    if (!status && options->tls_cert)
        status = read_file(&access->cert, options->tls_cert, false, err);
    if (!status && options->tls_key)
        status = read_file(&access->key, options->tls_key, true, err);
    return status;
}

void sdw_access_fill(struct sdw_server_options *server, const struct sdw_access *access)
{
    server->api_keys = access->key_list[0] ? access->key_list : NULL;
    server->cors_origins = access->origin_list[0] ? access->origin_list : NULL;
    server->tls_cert = access->cert.length ? access->cert.data : NULL;
    server->tls_key = access->key.length ? access->key.data : NULL;
}
