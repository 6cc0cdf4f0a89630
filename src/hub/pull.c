/* pull.c: a model from the hub, in the order that keeps half a model from looking whole: listing,
 * blobs, links, and refs/main at the very end. */
#include "hub/download.h"

#include "base/log.h"
#include "hub/cache.h"
#include "hub/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SPARE_BYTES (INT64_C(64) << 20) /* left free on the disk */
/* A folder of the cache, and a commit and a file's name below it. */
#define LONG_PATH_MAX (SDW_MODEL_PATH_MAX + SDW_LISTING_NAME_MAX + 256)

static enum sdw_status make_folder(const char *path, struct sdw_error *err)
{
    char part[LONG_PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(part, 0755); /* what fails here fails below, with its name */
        *slash = '/';
    }
    struct stat info;
    if (mkdir(part, 0755) && (stat(part, &info) || !S_ISDIR(info.st_mode)))
        return sdw_fail_errno(err, "cannot make the folder %s", path);
    return SDW_OK;
}

static enum sdw_status sync_folder(const char *path, struct sdw_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd);
    if (failed)
        sdw_fail_errno(err, "cannot write the folder %s to disk", path);
    if (fd >= 0)
        close(fd);
    return failed ? SDW_IO : SDW_OK;
}

static enum sdw_status read_listing(struct sdw_listing *listing, const struct sdw_hub *hub,
                                    struct sdw_error *err)
{
    char url[SDW_URL_MAX];
    struct sdw_text body;
    sdw_text_init(&body, SDW_LISTING_BYTES_MAX);
    snprintf(url, sizeof url, "%s/api/models/%s/revision/main?blobs=true", hub->endpoint,
             hub->repository);
    enum sdw_status status = sdw_request_text(hub, &body, url, err);
    if (!status)
        status = sdw_listing_parse(listing, body.data ? body.data : "", body.length,
                                   hub->repository, err);
    sdw_text_free(&body);
    return status;
}

static enum sdw_status check_space(const struct sdw_hub *hub, const struct sdw_listing *listing,
                                   const char *blobs, struct sdw_error *err)
{
    int64_t missing = 0;
    for (int i = 0; i < listing->count; i++)
        missing += listing->file[i].size - sdw_transfer_present(&listing->file[i], blobs);
    struct statvfs disk;
    if (missing == 0 || statvfs(blobs, &disk))
        return SDW_OK;
    double free_bytes = (double)disk.f_bavail * (double)disk.f_frsize;
    if ((double)missing + (double)SPARE_BYTES <= free_bytes)
        return SDW_OK;
    return sdw_fail(
        err, SDW_IO,
        "%s needs %.2f GB more on the disk of %s, where %.2f GB are free; make room, or let "
        "HF_HUB_CACHE name a folder on another disk",
        hub->repository, (double)(missing + SPARE_BYTES) / 1e9, blobs, free_bytes / 1e9);
}

/* snapshot/PATH -> ../../blobs/DIGEST, one ".." more for each folder of PATH. */
static enum sdw_status link_file(const char *snapshot, const struct sdw_hub_file *file,
                                 struct sdw_error *err)
{
    char path[LONG_PATH_MAX], target[SDW_LISTING_NAME_MAX * 3 + SDW_DIGEST_HEX_MAX];
    snprintf(path, sizeof path, "%s/%s", snapshot, file->name);
    char *last = strrchr(path, '/');
    *last = 0;
    enum sdw_status status = make_folder(path, err);
    *last = '/';
    if (status)
        return status;
    size_t n = (size_t)snprintf(target, sizeof target, "../../");
    for (const char *c = file->name; *c; c++)
        if (*c == '/')
            n += (size_t)snprintf(target + n, sizeof target - n, "../");
    snprintf(target + n, sizeof target - n, "blobs/%s", file->digest);
    char present[sizeof target] = "";
    if (readlink(path, present, sizeof present - 1) > 0 && strcmp(present, target) == 0)
        return SDW_OK;
    if (unlink(path) && errno != ENOENT)
        return sdw_fail_errno(err, "cannot replace %s", path);
    if (symlink(target, path))
        return sdw_fail_errno(err, "cannot link %s to %s", path, target);
    return SDW_OK;
}

static enum sdw_status write_reference(const char *folder, const char *commit,
                                       struct sdw_error *err)
{
    char refs[LONG_PATH_MAX], part[LONG_PATH_MAX + 16], path[LONG_PATH_MAX + 16];
    snprintf(refs, sizeof refs, "%s/refs", folder);
    snprintf(part, sizeof part, "%s/main.incomplete", refs);
    snprintf(path, sizeof path, "%s/main", refs);
    enum sdw_status status = make_folder(refs, err);
    if (status)
        return status;
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ssize_t length = (ssize_t)strlen(commit);
    int failed =
        fd < 0 || write(fd, commit, (size_t)length) != length || fsync(fd) || rename(part, path);
    if (failed)
        status = sdw_fail_errno(err, "cannot write %s", path);
    if (fd >= 0)
        close(fd);
    return status ? status : sync_folder(refs, err);
}

static enum sdw_status pull(char *path, const struct sdw_hub *hub, struct sdw_listing *listing,
                            struct sdw_error *err)
{
    char folder[SDW_MODEL_PATH_MAX], blobs[SDW_MODEL_PATH_MAX + 8], snapshot[LONG_PATH_MAX];
    sdw_cache_repository(folder, hub->repository);
    if (strlen(folder) + SDW_LISTING_NAME_MAX + 128 > SDW_MODEL_PATH_MAX)
        return sdw_fail(err, SDW_INVALID, "the path of the hub cache is too long: %.200s...",
                        folder);
    snprintf(blobs, sizeof blobs, "%s/blobs", folder);
    enum sdw_status status = read_listing(listing, hub, err);
    if (!status)
        status = make_folder(blobs, err);
    if (!status)
        status = check_space(hub, listing, blobs, err);
    if (!status)
        status = sdw_transfer_all(hub, listing, blobs, err);
    if (!status)
        status = sync_folder(blobs, err);
    snprintf(snapshot, sizeof snapshot, "%s/snapshots/%s", folder, listing->commit);
    for (int i = 0; i < listing->count && !status; i++)
        status = link_file(snapshot, &listing->file[i], err);
    if (!status)
        status = write_reference(folder, listing->commit, err);
    if (!status)
        snprintf(path, SDW_MODEL_PATH_MAX, "%s", snapshot);
    return status;
}

enum sdw_status sdw_hub_pull(char *path, const char *model, const struct sdw_hub_progress *progress,
                             struct sdw_error *err)
{
    const char *repository = sdw_repository_of(model);
    if (!repository)
        return sdw_fail(err, SDW_INVALID,
                        "\"%.200s\" is neither a known name nor a hub repository (owner/name)",
                        model);
    struct sdw_hub hub;
    struct sdw_listing *listing = calloc(1, sizeof *listing);
    enum sdw_status status = sdw_hub_init(&hub, repository, progress, err);
    if (!status && !listing)
        status = sdw_fail(err, SDW_MEMORY, "no memory for the listing of %s", repository);
    if (!status)
        status = pull(path, &hub, listing, err);
    if (!status)
        sdw_log_info("hub: %s is whole: %d files, %.2f GB, in %s", repository, listing->count,
                     (double)listing->bytes / 1e9, path);
    sdw_hub_free(&hub);
    free(listing);
    return status;
}
