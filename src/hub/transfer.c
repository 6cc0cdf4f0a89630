/* transfer.c: see transfer.h. One thread: libcurl's multi interface moves the bytes, this file
 * decides what becomes of each transfer when it ends. */
#include "hub/transfer.h"

#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_MAX_BYTES (SDW_MODEL_PATH_MAX + SDW_DIGEST_HEX_MAX + 16)
#define POLL_MS        100
#define CHUNK_BYTES    (1 << 20)
#define GAIN_BYTES     (1 << 20) /* a try that brought this much counts as the first again */
#define CHECKSUM_TRIES 2

enum state { WAITING, RUNNING, DONE };

struct transfer {
    const struct sdw_hub_file *file;
    enum state state;
    CURL *request;
    int fd;
    int64_t received;   /* in the file and in the digest */
    int64_t tried_from; /* `received` when this try began */
    struct sdw_digest digest;
    int tries, wrong; /* wrong: times that the bytes were not those promised */
    int write_errno;
    bool answered, overlong;
    double not_before; /* of the monotonic clock */
};

struct transfers {
    const struct sdw_hub *hub;
    const struct sdw_listing *listing;
    const char *blobs;
    CURLM *multi;
    struct transfer *transfer; /* listing->count of them */
    int running, done;
    double started;
    int64_t present; /* bytes that were there at the start */
};

static void blob_path(char *path, const char *blobs, const struct sdw_hub_file *file,
                      const char *ending)
{
    snprintf(path, PATH_MAX_BYTES, "%s/%s%s", blobs, file->digest, ending);
}

static int64_t file_size(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : -1;
}

static bool is_whole(const struct sdw_hub_file *file, const char *blobs)
{
    char path[PATH_MAX_BYTES];
    blob_path(path, blobs, file, "");
    return file_size(path) == file->size;
}

int64_t sdw_transfer_present(const struct sdw_hub_file *file, const char *blobs)
{
    char path[PATH_MAX_BYTES];
    if (is_whole(file, blobs))
        return file->size;
    blob_path(path, blobs, file, ".incomplete");
    int64_t size = file_size(path);
    return size < 0 || size > file->size ? 0 : size;
}

/* Empties the file; the next byte is its first. */
static bool start_over(struct transfer *transfer)
{
    transfer->received = 0;
    sdw_digest_init(&transfer->digest, transfer->file->sha256, transfer->file->size);
    return ftruncate(transfer->fd, 0) == 0 && lseek(transfer->fd, 0, SEEK_SET) == 0;
}

/* Takes what an earlier call left into the digest. */
static enum sdw_status take_partial(struct transfers *all, struct transfer *transfer,
                                    struct sdw_error *err)
{
    const struct sdw_hub_file *file = transfer->file;
    char *chunk = malloc(CHUNK_BYTES);
    if (!chunk)
        return sdw_fail(err, SDW_MEMORY, "no memory to read %s", file->name);
    sdw_digest_init(&transfer->digest, file->sha256, file->size);
    transfer->received = 0;
    ssize_t n;
    while ((n = read(transfer->fd, chunk, CHUNK_BYTES)) > 0 && !sdw_hub_cancelled(all->hub)) {
        sdw_digest_update(&transfer->digest, chunk, (size_t)n);
        transfer->received += n;
    }
    int failed = n < 0 || (transfer->received > file->size && !start_over(transfer));
    free(chunk);
    return failed ? sdw_fail_errno(err, "cannot read the partial %s", file->name) : SDW_OK;
}

static enum sdw_status open_partial(struct transfers *all, struct transfer *transfer,
                                    struct sdw_error *err)
{
    char path[PATH_MAX_BYTES];
    blob_path(path, all->blobs, transfer->file, ".incomplete");
    transfer->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (transfer->fd < 0)
        return sdw_fail_errno(err, "cannot write %s", path);
    if (flock(transfer->fd, LOCK_EX | LOCK_NB))
        return sdw_fail(err, SDW_UNAVAILABLE, "another process is downloading %s of %s; let it end",
                        transfer->file->name, all->hub->repository);
    return take_partial(all, transfer, err);
}

static size_t receive(char *bytes, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    size_t length = size * count;
    long code = 0;
    if (!transfer->answered) {
        transfer->answered = true;
        curl_easy_getinfo(transfer->request, CURLINFO_RESPONSE_CODE, &code);
        /* 200 to a request with Range: the server sends the whole from its start. */
        if (code == 200 && transfer->received > 0 && !start_over(transfer)) {
            transfer->write_errno = errno;
            return 0;
        }
    }
    if ((int64_t)length > transfer->file->size - transfer->received) {
        transfer->overlong = true;
        return 0;
    }
    for (size_t at = 0; at < length;) {
        ssize_t n = write(transfer->fd, bytes + at, length - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            transfer->write_errno = n < 0 ? errno : ENOSPC;
            return 0;
        }
        sdw_digest_update(&transfer->digest, bytes + at, (size_t)n);
        transfer->received += n;
        at += (size_t)n;
    }
    return length;
}

static enum sdw_status keep(struct transfers *all, struct transfer *transfer, struct sdw_error *err)
{
    char from[PATH_MAX_BYTES], to[PATH_MAX_BYTES];
    blob_path(from, all->blobs, transfer->file, ".incomplete");
    blob_path(to, all->blobs, transfer->file, "");
    if (fsync(transfer->fd) || rename(from, to))
        return sdw_fail_errno(err, "cannot keep %s as %s", transfer->file->name, to);
    close(transfer->fd);
    transfer->fd = -1;
    transfer->state = DONE;
    all->done++;
    return SDW_OK;
}

/* All bytes are there, or more than all: keeps them, or throws them away and tries once more. */
static enum sdw_status judge(struct transfers *all, struct transfer *transfer,
                             struct sdw_error *err)
{
    char hex[SDW_DIGEST_HEX_MAX] = "too many bytes";
    if (!transfer->overlong) {
        sdw_digest_final(&transfer->digest, hex);
        if (strcmp(hex, transfer->file->digest) == 0)
            return keep(all, transfer, err);
    }
    transfer->overlong = false;
    transfer->state = WAITING;
    if (!start_over(transfer))
        return sdw_fail_errno(err, "cannot write %s", transfer->file->name);
    if (++transfer->wrong < CHECKSUM_TRIES)
        return SDW_OK;
    char path[PATH_MAX_BYTES];
    blob_path(path, all->blobs, transfer->file, ".incomplete");
    unlink(path);
    return sdw_fail(
        err, SDW_FORMAT,
        "%s of %s came %d times with a wrong checksum (%.16s..., the hub says %.16s...) and "
        "was thrown away; something between here and the hub changes it",
        transfer->file->name, all->hub->repository, transfer->wrong, hex, transfer->file->digest);
}

static enum sdw_status begin(struct transfers *all, struct transfer *transfer,
                             struct sdw_error *err)
{
    char url[SDW_URL_MAX], range[32];
    const struct sdw_hub_file *file = transfer->file;
    enum sdw_status status = transfer->fd < 0 ? open_partial(all, transfer, err) : SDW_OK;
    if (status)
        return status;
    if (is_whole(file, all->blobs)) { /* another process was faster */
        transfer->state = DONE;
        all->done++;
        return SDW_OK;
    }
    if (transfer->received == file->size)
        return judge(all, transfer, err);
    snprintf(url, sizeof url, "%s/%s/resolve/%s/%s", all->hub->endpoint, all->hub->repository,
             all->listing->commit, file->name);
    transfer->request = sdw_request_new(all->hub, url);
    if (!transfer->request || curl_multi_add_handle(all->multi, transfer->request))
        return sdw_fail(err, SDW_MEMORY, "no memory for a request");
    snprintf(range, sizeof range, "%lld-", (long long)transfer->received);
    if (transfer->received > 0)
        curl_easy_setopt(transfer->request, CURLOPT_RANGE, range);
    curl_easy_setopt(transfer->request, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(transfer->request, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(transfer->request, CURLOPT_PRIVATE, (char *)transfer);
    transfer->answered = false;
    transfer->tried_from = transfer->received;
    transfer->tries++;
    transfer->state = RUNNING;
    all->running++;
    return SDW_OK;
}

static enum sdw_status after_failure(struct transfers *all, struct transfer *transfer,
                                     CURLcode result, struct sdw_error *err)
{
    long code = 0;
    curl_easy_getinfo(transfer->request, CURLINFO_RESPONSE_CODE, &code);
    struct sdw_error sentence = {.status = SDW_IO};
    if (transfer->write_errno) {
        errno = transfer->write_errno;
        return sdw_fail_errno(
            err,
            "%s of %s stopped after %lld of %lld bytes; what has arrived is kept, "
            "make room in %s and try again",
            transfer->file->name, all->hub->repository, (long long)transfer->received,
            (long long)transfer->file->size, all->blobs);
    }
    if (transfer->received - transfer->tried_from >= GAIN_BYTES)
        transfer->tries = 1;
    if (code == 416 && !start_over(transfer))
        return sdw_fail_errno(err, "cannot write %s", transfer->file->name);
    double wait_s = code == 416 && transfer->tries < SDW_REQUEST_TRIES_MAX
                        ? 0
                        : sdw_request_again(all->hub, transfer->request, result, transfer->tries,
                                            transfer->file->name, &sentence);
    if (wait_s < 0)
        return sdw_fail(err, sentence.status, "%s", sentence.message);
    transfer->state = WAITING;
    transfer->not_before = sdw_clock_seconds() + wait_s;
    return SDW_OK;
}

static enum sdw_status end(struct transfers *all, struct transfer *transfer, CURLcode result,
                           struct sdw_error *err)
{
    enum sdw_status status;
    all->running--;
    curl_multi_remove_handle(all->multi, transfer->request);
    bool all_bytes = transfer->received == transfer->file->size;
    if (transfer->overlong || (result == CURLE_OK && all_bytes))
        status = judge(all, transfer, err);
    else
        status =
            after_failure(all, transfer, result == CURLE_OK ? CURLE_PARTIAL_FILE : result, err);
    curl_easy_cleanup(transfer->request);
    transfer->request = NULL;
    return status;
}

static void tell(const struct transfers *all)
{
    const struct sdw_hub_progress *progress = all->hub->progress;
    if (!progress || !progress->tell)
        return;
    struct sdw_hub_state state = {.repository = all->hub->repository,
                                  .file = "",
                                  .files_done = all->done,
                                  .files_total = all->listing->count,
                                  .bytes_total = all->listing->bytes,
                                  .left_s = -1};
    for (int i = 0; i < all->listing->count; i++) {
        const struct transfer *transfer = &all->transfer[i];
        bool done = transfer->state == DONE;
        state.bytes_done += done ? transfer->file->size : transfer->received;
        if (transfer->state == RUNNING)
            state.file = transfer->file->name;
    }
    double elapsed_s = sdw_clock_seconds() - all->started;
    int64_t gained = state.bytes_done - all->present;
    if (elapsed_s > 0 && gained > 0) {
        state.bytes_s = (double)gained / elapsed_s;
        state.left_s = (double)(state.bytes_total - state.bytes_done) / state.bytes_s;
    }
    progress->tell(progress->context, &state);
}

static enum sdw_status turn(struct transfers *all, struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    int still, left;
    double now = sdw_clock_seconds();
    for (int i = 0; i < all->listing->count && !status; i++) {
        struct transfer *transfer = &all->transfer[i];
        if (all->running < SDW_TRANSFERS_MAX && transfer->state == WAITING &&
            transfer->not_before <= now)
            status = begin(all, transfer, err);
    }
    if (status)
        return status;
    if (curl_multi_perform(all->multi, &still))
        return sdw_fail(err, SDW_INTERNAL, "libcurl cannot go on with %s", all->hub->repository);
    for (CURLMsg *message; !status && (message = curl_multi_info_read(all->multi, &left));) {
        char *transfer = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode result = message->data.result; /* `message` does not outlive the handle */
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        status = end(all, (struct transfer *)transfer, result, err);
    }
    tell(all);
    if (!status && sdw_hub_cancelled(all->hub))
        return sdw_fail(err, SDW_CANCELLED,
                        "the download of %s was stopped; what has arrived is kept",
                        all->hub->repository);
    if (!status && all->done < all->listing->count)
        curl_multi_poll(all->multi, NULL, 0, POLL_MS, NULL);
    return status;
}

enum sdw_status sdw_transfer_all(const struct sdw_hub *hub, const struct sdw_listing *listing,
                                 const char *blobs, struct sdw_error *err)
{
    assert(listing->count > 0);
    struct transfers all = {.hub = hub, .listing = listing, .blobs = blobs};
    all.multi = curl_multi_init();
    all.transfer = calloc((size_t)listing->count, sizeof *all.transfer);
    enum sdw_status status = SDW_OK;
    if (!all.multi || !all.transfer)
        status = sdw_fail(err, SDW_MEMORY, "no memory for the download of %s", hub->repository);
    for (int i = 0; i < listing->count && !status; i++) {
        struct transfer *transfer = &all.transfer[i];
        int64_t present = sdw_transfer_present(&listing->file[i], blobs);
        *transfer = (struct transfer){.file = &listing->file[i], .fd = -1, .received = present};
        transfer->state = is_whole(transfer->file, blobs) ? DONE : WAITING;
        all.done += transfer->state == DONE;
        all.present += present;
    }
    all.started = sdw_clock_seconds();
    while (!status && all.done < listing->count)
        status = turn(&all, err);
    for (int i = 0; all.transfer && i < listing->count; i++) {
        struct transfer *transfer = &all.transfer[i];
        if (transfer->request) {
            curl_multi_remove_handle(all.multi, transfer->request);
            curl_easy_cleanup(transfer->request);
        }
        if (transfer->fd >= 0)
            close(transfer->fd);
    }
    free(all.transfer);
    curl_multi_cleanup(all.multi);
    return status;
}
