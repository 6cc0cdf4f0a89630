/* listing.c: see listing.h. The names that a model may have are two tables; choosing is looking
 * them up. */
#include "hub/listing.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    bool required;
} plain_files[] = {
    {"model_index.json", true},
    {"scheduler/scheduler_config.json", true},
    {"tokenizer/vocab.json", true},
    {"tokenizer/merges.txt", true},
    {"tokenizer/tokenizer_config.json", false},
    {"tokenizer/special_tokens_map.json", false},
    {"tokenizer_2/vocab.json", false},
    {"tokenizer_2/merges.txt", false},
    {"tokenizer_2/tokenizer_config.json", false},
    {"tokenizer_2/special_tokens_map.json", false},
};

static const struct {
    const char *folder, *stem;
    bool required;
} components[] = {
    {"unet", "diffusion_pytorch_model", true},
    {"vae", "diffusion_pytorch_model", true},
    {"text_encoder", "model", true},
    {"text_encoder_2", "model", false},
};

#define COUNT(table) (sizeof table / sizeof table[0])

struct reader {
    struct sdw_listing *listing;
    const json_t *siblings;
    const char *repository;
};

static bool is_hex(const char *text, size_t digits)
{
    return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

/* A path that stays inside the folder it is put into. */
static bool is_inside(const char *name)
{
    if (!*name)
        return false;
    for (const char *part = name;; part++) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && memcmp(part, "..", 2) == 0))
            return false;
        for (size_t i = 0; i < n; i++)
            if ((unsigned char)part[i] < ' ' || part[i] == 127 || part[i] == '\\')
                return false;
        part += n;
        if (!*part)
            return true;
    }
}

static const char *member(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static const json_t *find(const struct reader *reader, const char *name)
{
    size_t i;
    json_t *entry;
    json_array_foreach(reader->siblings, i, entry)
    {
        if (strcmp(member(entry, "rfilename"), name) == 0)
            return entry;
    }
    return NULL;
}

static enum sdw_status take(struct reader *reader, const json_t *entry, struct sdw_error *err)
{
    struct sdw_listing *listing = reader->listing;
    const char *name = member(entry, "rfilename");
    const json_t *lfs = json_object_get(entry, "lfs");
    bool sha256 = json_is_object(lfs);
    const char *digest = sha256 ? member(lfs, "sha256") : member(entry, "blobId");
    const json_t *size = json_object_get(sha256 ? lfs : entry, "size");
    json_int_t bytes = json_integer_value(size);
    if (listing->count == SDW_LISTING_FILES_MAX)
        return sdw_fail(err, SDW_TOO_LARGE, "%s needs more than %d files, the limit",
                        reader->repository, SDW_LISTING_FILES_MAX);
    if (strlen(name) >= SDW_LISTING_NAME_MAX || !is_hex(digest, sha256 ? 64 : 40) ||
        !json_is_integer(size) || bytes < 0 || bytes > SDW_LISTING_SIZE_MAX)
        return sdw_fail(err, SDW_FORMAT,
                        "the hub's listing of %s gives %.100s no sound size and checksum",
                        reader->repository, name);
    struct sdw_hub_file *file = &listing->file[listing->count++];
    snprintf(file->name, sizeof file->name, "%s", name);
    snprintf(file->digest, sizeof file->digest, "%s", digest);
    file->sha256 = sha256;
    file->size = bytes;
    listing->bytes += bytes;
    return SDW_OK;
}

/* STEM-00001-of-00002.safetensors */
static bool is_shard(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(name, prefix, n) != 0)
        return false;
    const char *rest = name + n, *digits = "0123456789";
    return strlen(rest) == strlen("-00001-of-00002.safetensors") && rest[0] == '-' &&
           strspn(rest + 1, digits) == 5 && memcmp(rest + 6, "-of-", 4) == 0 &&
           strspn(rest + 10, digits) == 5 && strcmp(rest + 15, ".safetensors") == 0;
}

static enum sdw_status take_shards(struct reader *reader, const char *prefix, struct sdw_error *err)
{
    size_t i;
    json_t *entry;
    enum sdw_status status = SDW_OK;
    json_array_foreach(reader->siblings, i, entry)
    {
        if (!status && is_shard(member(entry, "rfilename"), prefix))
            status = take(reader, entry, err);
    }
    return status;
}

/* The weights of a component: half the bytes when the repository has them, else what it has. */
static enum sdw_status take_component(struct reader *reader, size_t row, struct sdw_error *err)
{
    static const char *const endings[] = {".fp16.safetensors", ".safetensors",
                                          ".safetensors.index.json"};
    char prefix[SDW_LISTING_NAME_MAX], name[SDW_LISTING_NAME_MAX];
    const char *folder = components[row].folder;
    snprintf(name, sizeof name, "%s/config.json", folder);
    const json_t *entry = find(reader, name);
    if (!entry && !components[row].required)
        return SDW_OK;
    if (!entry)
        return sdw_fail(err, SDW_MODEL, "%s is no diffusers model: it has no %s",
                        reader->repository, name);
    enum sdw_status status = take(reader, entry, err);
    if (status)
        return status;
    snprintf(prefix, sizeof prefix, "%s/%s", folder, components[row].stem);
    for (size_t i = 0; i < COUNT(endings); i++) {
        snprintf(name, sizeof name, "%s%s", prefix, endings[i]);
        entry = find(reader, name);
        if (!entry)
            continue;
        status = take(reader, entry, err);
        bool index = i == COUNT(endings) - 1;
        return status || !index ? status : take_shards(reader, prefix, err);
    }
    return sdw_fail(err, SDW_MODEL, "%s has no safetensors for its %s (%s.safetensors)",
                    reader->repository, folder, prefix);
}

/* CLIP's own repository, of which only the vocabulary is of use: no model, but the two files. */
static const char *const vocabulary_files[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                               "special_tokens_map.json"};

static bool is_vocabulary(const struct reader *reader)
{
    return !find(reader, "model_index.json") && find(reader, vocabulary_files[0]) &&
           find(reader, vocabulary_files[1]);
}

static enum sdw_status take_vocabulary(struct reader *reader, struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    for (size_t i = 0; i < COUNT(vocabulary_files) && !status; i++) {
        const json_t *entry = find(reader, vocabulary_files[i]);
        if (entry)
            status = take(reader, entry, err);
    }
    return status;
}

static enum sdw_status choose(struct reader *reader, struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    if (is_vocabulary(reader))
        return take_vocabulary(reader, err);
    for (size_t i = 0; i < COUNT(plain_files) && !status; i++) {
        const json_t *entry = find(reader, plain_files[i].name);
        if (entry)
            status = take(reader, entry, err);
        else if (plain_files[i].required)
            status = sdw_fail(err, SDW_MODEL, "%s is no diffusers model: it has no %s",
                              reader->repository, plain_files[i].name);
    }
    for (size_t i = 0; i < COUNT(components) && !status; i++)
        status = take_component(reader, i, err);
    return status;
}

static enum sdw_status check_names(const struct reader *reader, struct sdw_error *err)
{
    size_t i;
    json_t *entry;
    json_array_foreach(reader->siblings, i, entry)
    {
        if (!is_inside(member(entry, "rfilename")))
            return sdw_fail(
                err, SDW_FORMAT,
                "the hub's listing of %s names a file \"%.100s\" that is not inside of it; "
                "nothing was downloaded",
                reader->repository, member(entry, "rfilename"));
    }
    return SDW_OK;
}

enum sdw_status sdw_listing_parse(struct sdw_listing *listing, const char *json, size_t length,
                                  const char *repository, struct sdw_error *err)
{
    json_error_t where;
    *listing = (struct sdw_listing){.count = 0};
    json_t *root = json_loadb(json, length, 0, &where);
    struct reader reader = {listing, json_object_get(root, "siblings"), repository};
    const char *commit = member(root, "sha");
    enum sdw_status status;
    if (!json_is_array(reader.siblings) || !is_hex(commit, 40)) {
        status = sdw_fail(err, SDW_FORMAT, "the hub's answer about %s is no listing: %s",
                          repository, root ? "\"sha\" or \"siblings\" is missing" : where.text);
    } else {
        snprintf(listing->commit, sizeof listing->commit, "%s", commit);
        status = check_names(&reader, err);
        if (!status)
            status = choose(&reader, err);
    }
    json_decref(root);
    return status;
}
