/* store.c: the tables of jobs, and what is written to them when; see store.h.
 *
 * A job is one row; its events, image and saved state are rows of other tables that go when it
 * goes. The complete event is stored without the image, which has its own table as plain bytes and
 * is put in again, in base64, for whoever reads the event: the same text every time. */
#include "job/store.h"

#include "job/database.h"
#include "job/internal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(SDW_JOB_ID_MAX == 41, "sdw_store_page writes ids of that size");

/* clang-format off */
static const char *const versions[] = {
    /* 1 */
    "CREATE TABLE jobs ("
    "  number INTEGER PRIMARY KEY AUTOINCREMENT,"        /* order of arrival */
    "  id TEXT NOT NULL UNIQUE,"
    "  key TEXT UNIQUE,"                                 /* Idempotency-Key */
    "  request TEXT,"                                    /* JSON, all that a run needs; NULL once ended */
    "  shown TEXT NOT NULL,"                             /* JSON for people: images as their digests */
    "  seed INTEGER NOT NULL,"                           /* its 64 bits */
    "  unknown TEXT NOT NULL,"                           /* its keys that were not known, a line each */
    "  state TEXT NOT NULL,"
    "  cancel INTEGER NOT NULL DEFAULT 0,"               /* asked for */
    "  step INTEGER NOT NULL DEFAULT 0,"
    "  total INTEGER NOT NULL,"
    "  created_ms INTEGER NOT NULL,"
    "  started_ms INTEGER NOT NULL DEFAULT 0,"
    "  ended_ms INTEGER NOT NULL DEFAULT 0,"
    "  elapsed_s REAL NOT NULL DEFAULT 0,"
    "  text_s REAL NOT NULL DEFAULT 0,"
    "  unet_s REAL NOT NULL DEFAULT 0,"
    "  vae_s REAL NOT NULL DEFAULT 0,"
    "  png_s REAL NOT NULL DEFAULT 0,"
    "  width INTEGER NOT NULL DEFAULT 0,"
    "  height INTEGER NOT NULL DEFAULT 0,"
    "  error TEXT NOT NULL DEFAULT '',"
    "  bytes INTEGER NOT NULL DEFAULT 0);"               /* once ended: of all that is kept of it */
    "CREATE INDEX unended ON jobs (number) WHERE ended_ms = 0;"
    "CREATE INDEX ended ON jobs (ended_ms) WHERE ended_ms > 0;"
    "CREATE TABLE events ("
    "  job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,"
    "  id INTEGER NOT NULL,"                             /* from 1 */
    "  kind TEXT NOT NULL,"
    "  members TEXT NOT NULL,"
    "  PRIMARY KEY (job, id)) WITHOUT ROWID;"
    "CREATE TABLE images ("
    "  job INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,"
    "  png BLOB NOT NULL);"
    "CREATE TABLE states ("                              /* of interrupted generations */
    "  job INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,"
    "  maker TEXT NOT NULL,"
    "  state BLOB NOT NULL);",
    /* 2: starts since the last step, so that a job that kills its worker does not do so for ever */
    "ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;",
    /* 3: what became of the prompts, JSON */
    "ALTER TABLE jobs ADD COLUMN report TEXT;",
};

enum statement {
    SUBMIT, START, INTERRUPT, CANCEL, EVENT, STEP, SAVE, IMAGE, END, FORGET_STATE,
    BY_ID, BY_KEY, NEXT, REQUEST, EVENTS, PNG, STATE, PAGE, COUNT, TOTALS, OLDEST, DELETE,
    STATEMENT_COUNT
};

#define JOB "SELECT number, id, key, shown, unknown, state, cancel, step, total, created_ms, started_ms, ended_ms, " \
            "elapsed_s, text_s, unet_s, vae_s, png_s, width, height, error, seed, request, attempts, report FROM jobs "

static const char *const sql[STATEMENT_COUNT] = {
    [SUBMIT] = "INSERT INTO jobs (id, key, request, shown, seed, unknown, state, total, created_ms) "
               "VALUES (?,?,?,?,?,?,?,?,?)",
    [START] = "UPDATE jobs SET state = 'running', started_ms = ?2, attempts = attempts + 1 WHERE number = ?1",
    [INTERRUPT] = "UPDATE jobs SET attempts = 0 WHERE number = ?",
    [CANCEL] = "UPDATE jobs SET cancel = 1 WHERE number = ?",
    [EVENT] = "INSERT INTO events (job, id, kind, members) VALUES (?,?,?,?)",
    [STEP] = "UPDATE jobs SET step = ?2, total = ?3, attempts = 0 WHERE number = ?1",
    [SAVE] = "INSERT OR REPLACE INTO states (job, maker, state) VALUES (?,?,?)",
    [IMAGE] = "INSERT INTO images (job, png) VALUES (?,?)",
    [END] = "UPDATE jobs SET state = ?2, step = ?3, total = ?4, ended_ms = ?5, elapsed_s = ?6, text_s = ?7, "
            "unet_s = ?8, vae_s = ?9, png_s = ?10, width = ?11, height = ?12, error = ?13, report = ?15, request = NULL, bytes = length(shown) + ?14 "
            "+ (SELECT sum(length(members)) FROM events WHERE job = ?1) WHERE number = ?1 "
            "RETURNING bytes",
    [FORGET_STATE] = "DELETE FROM states WHERE job = ?",
    [BY_ID] = JOB "WHERE id = ?",
    [BY_KEY] = JOB "WHERE key = ?",
    [NEXT] = JOB "WHERE ended_ms = 0 AND number > ? ORDER BY number LIMIT 1",
    [EVENTS] = "SELECT kind, members FROM events WHERE job = ? ORDER BY id",
    [PNG] = "SELECT png FROM images WHERE job = ?",
    [REQUEST] = "SELECT request FROM jobs WHERE number = ?",
    [STATE] = "SELECT state FROM states WHERE job = ? AND maker = ?",
    [PAGE] = "SELECT id FROM jobs ORDER BY number DESC LIMIT ?2 OFFSET ?1",
    [COUNT] = "SELECT count(*) FROM jobs",
    [TOTALS] = "SELECT count(*), coalesce(sum(bytes), 0) FROM jobs WHERE ended_ms > 0",
    [OLDEST] = "SELECT number, ended_ms, bytes FROM jobs WHERE ended_ms > 0 ORDER BY ended_ms, number LIMIT 1",
    [DELETE] = "DELETE FROM jobs WHERE number = ?",
};
/* clang-format on */

struct sdw_store {
    struct sdw_database database;
};

static const char *const kind_names[] = {
    [SDW_JOB_EVENT_PROGRESS] = "progress",   [SDW_JOB_EVENT_PREVIEW] = "preview",
    [SDW_JOB_EVENT_COMPLETE] = "complete",   [SDW_JOB_EVENT_ERROR] = "error",
    [SDW_JOB_EVENT_CANCELLED] = "cancelled",
};
#define KIND_COUNT (sizeof kind_names / sizeof kind_names[0])

enum sdw_status sdw_store_open(struct sdw_store **out, const char *dir, struct sdw_error *err)
{
    struct sdw_store *store = calloc(1, sizeof *store);
    if (!store)
        return sdw_fail(err, SDW_MEMORY, "no memory for the store of jobs");
    enum sdw_status status =
        sdw_database_open(&store->database, dir, versions, sizeof versions / sizeof versions[0],
                          sql, STATEMENT_COUNT, err);
    if (status)
        free(store);
    else
        *out = store;
    return status;
}

void sdw_store_close(struct sdw_store *store)
{
    if (store)
        sdw_database_close(&store->database);
    free(store);
}

bool sdw_store_lasts(const struct sdw_store *store)
{
    return store->database.dir != NULL;
}

enum sdw_status sdw_store_submit(struct sdw_store *store, struct sdw_job *job,
                                 struct sdw_error *err)
{
    struct sdw_database *database = &store->database;
    struct sdw_text request;
    char unknown[sizeof job->warnings + SDW_PARAMS_UNKNOWN_MAX + 1] = "";
    for (int i = 0; i < job->warning_count; i++)
        strcat(strcat(unknown, job->warnings[i]), "\n");
    sdw_text_init(&request, SDW_STORE_REQUEST_BYTES_MAX);
    enum sdw_status status = sdw_params_write(&request, &job->params, false, err);
    if (!status)
        status = sdw_database_begin(database, true, err);
    if (!status) {
        status = sdw_database_run(database, SUBMIT, err, "ttttlttil", job->id,
                                  job->key[0] ? job->key : NULL, request.data, job->shown,
                                  (int64_t)job->params.seed, unknown,
                                  sdw_job_state_name(job->state), job->total, job->created_ms);
        job->number = sqlite3_last_insert_rowid(database->db);
        status = sdw_database_end(database, status, err);
    }
    sdw_text_free(&request);
    return status;
}

enum sdw_status sdw_store_start(struct sdw_store *store, struct sdw_job *job, struct sdw_error *err)
{
    enum sdw_status status = sdw_database_begin(&store->database, false, err);
    if (status)
        return status;
    status = sdw_database_run(&store->database, START, err, "ll", job->number, job->started_ms);
    return sdw_database_end(&store->database, status, err);
}

enum sdw_status sdw_store_interrupt(struct sdw_store *store, struct sdw_job *job,
                                    struct sdw_error *err)
{
    enum sdw_status status = sdw_database_begin(&store->database, false, err);
    if (status)
        return status;
    status = sdw_database_run(&store->database, INTERRUPT, err, "l", job->number);
    return sdw_database_end(&store->database, status, err);
}

/* Inside a transaction. */
static enum sdw_status write_events(struct sdw_store *store, const struct sdw_job *job,
                                    struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    for (int i = job->event_stored; i < job->event_count && !status; i++) {
        const struct event *event = &job->events[i];
        status = sdw_database_run(&store->database, EVENT, err, "litt", job->number, i + 1,
                                  kind_names[event->kind], event->members ? event->members : "");
    }
    if (!status && !sdw_job_has_ended(job))
        status = sdw_database_run(&store->database, STEP, err, "lii", job->number, job->step,
                                  job->total);
    return status;
}

enum sdw_status sdw_store_events(struct sdw_store *store, struct sdw_job *job,
                                 struct sdw_error *err)
{
    if (job->event_stored == job->event_count)
        return SDW_OK;
    enum sdw_status status = sdw_database_begin(&store->database, false, err);
    if (status)
        return status;
    status = sdw_database_end(&store->database, write_events(store, job, err), err);
    if (!status)
        job->event_stored = job->event_count;
    return status;
}

enum sdw_status sdw_store_save(struct sdw_store *store, const struct sdw_job *job,
                               const char *maker, const void *bytes, size_t length,
                               struct sdw_error *err)
{
    struct sdw_database *database = &store->database;
    enum sdw_status status = sdw_database_begin(database, false, err);
    if (status)
        return status;
    status = sdw_database_run(database, SAVE, err, "ltb", job->number, maker, bytes, length);
    return sdw_database_end(database, status, err);
}

enum sdw_status sdw_store_cancel(struct sdw_store *store, struct sdw_job *job,
                                 struct sdw_error *err)
{
    enum sdw_status status = sdw_database_begin(&store->database, true, err);
    if (status)
        return status;
    status = sdw_database_run(&store->database, CANCEL, err, "l", job->number);
    return sdw_database_end(&store->database, status, err);
}

enum sdw_status sdw_store_end(struct sdw_store *store, struct sdw_job *job, struct sdw_error *err)
{
    struct sdw_database *database = &store->database;
    const struct sdw_result *result = &job->result;
    bool image = job->state == SDW_JOB_COMPLETED;
    enum sdw_status status = sdw_database_begin(database, true, err);
    if (status)
        return status;
    status = write_events(store, job, err);
    if (!status && image)
        status = sdw_database_run(database, IMAGE, err, "lb", job->number, result->png.data,
                                  result->png.length);
    if (!status)
        status = sdw_database_run(database, FORGET_STATE, err, "l", job->number);
    sqlite3_stmt *row = NULL;
    if (!status)
        status =
            sdw_database_ask(database, END, &row, err, "ltiilrrrrriitlt", job->number,
                             sdw_job_state_name(job->state), job->step, job->total, job->ended_ms,
                             job->elapsed_s, result->text_s, result->unet_s, result->vae_s,
                             result->png_s, result->width, result->height, job->error,
                             image ? (int64_t)result->png.length : (int64_t)0, result->report);
    if (row)
        job->bytes = sqlite3_column_int64(row, 0);
    sdw_database_done(row);
    status = sdw_database_end(database, status, err);
    if (!status)
        job->event_stored = job->event_count;
    return status;
}

static void take_text(char *to, size_t room, sqlite3_stmt *row, int column)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    snprintf(to, room, "%s", text ? text : "");
}

static void take_warnings(struct sdw_job *job, const char *lines)
{
    job->warning_count = 0;
    while (lines && *lines && job->warning_count < SDW_PARAMS_UNKNOWN_MAX) {
        size_t length = strcspn(lines, "\n");
        snprintf(job->warnings[job->warning_count++], sizeof job->warnings[0], "%.*s", (int)length,
                 lines);
        lines += length + (lines[length] != 0);
    }
}

/* What a request may name is the model's business, which was asked when the job was taken. */
enum sdw_status sdw_store_parse(struct sdw_params *params, const char *json, size_t length,
                                struct sdw_error *err)
{
    static const struct sdw_params_defaults any = {.multiple = 1};
    struct sdw_faults *faults = malloc(sizeof *faults);
    if (!faults)
        return sdw_fail(err, SDW_MEMORY, "no memory for a stored request");
    enum sdw_status status = sdw_params_parse(params, json, length, &any, faults, err);
    free(faults);
    return status;
}

static enum sdw_job_state state_named(const char *name)
{
    int state = 0;
    while (state < SDW_JOB_STATE_COUNT && strcmp(sdw_job_state_name(state), name) != 0)
        state++;
    return state < SDW_JOB_STATE_COUNT ? (enum sdw_job_state)state : SDW_JOB_FAILED;
}

/* Columns as in JOB. Of an ended job's parameters only the seed is left. A request that this
 * version cannot read leaves its sentence in job->error, so that its job can be failed with it. */
static void fill(struct sdw_job *job, sqlite3_stmt *row)
{
    struct sdw_error err = {0};
    struct sdw_result *result = &job->result;
    char state[16];
    job->number = sqlite3_column_int64(row, 0);
    take_text(job->id, sizeof job->id, row, 1);
    take_text(job->key, sizeof job->key, row, 2);
    take_text(job->error, sizeof job->error, row, 19);
    const char *shown = (const char *)sqlite3_column_text(row, 3);
    job->shown = strdup(shown ? shown : "{}");
    const char *request = (const char *)sqlite3_column_text(row, 21);
    if (request &&
        sdw_store_parse(&job->params, request, (size_t)sqlite3_column_bytes(row, 21), &err))
        snprintf(job->error, sizeof job->error, "the stored request cannot be read: %.400s",
                 err.message);
    take_warnings(job, (const char *)sqlite3_column_text(row, 4));
    take_text(state, sizeof state, row, 5);
    job->state = state_named(state);
    job->cancel_asked = sqlite3_column_int(row, 6);
    job->step = sqlite3_column_int(row, 7);
    job->total = sqlite3_column_int(row, 8);
    job->created_ms = sqlite3_column_int64(row, 9);
    job->started_ms = sqlite3_column_int64(row, 10);
    job->ended_ms = sqlite3_column_int64(row, 11);
    job->elapsed_s = sqlite3_column_double(row, 12);
    result->text_s = sqlite3_column_double(row, 13);
    result->unet_s = sqlite3_column_double(row, 14);
    result->vae_s = sqlite3_column_double(row, 15);
    result->png_s = sqlite3_column_double(row, 16);
    result->width = sqlite3_column_int(row, 17);
    result->height = sqlite3_column_int(row, 18);
    job->attempts = sqlite3_column_int(row, 22);
    const char *report = (const char *)sqlite3_column_text(row, 23);
    result->report = report ? strdup(report) : NULL;
    result->seed = job->params.seed = (uint64_t)sqlite3_column_int64(row, 20);
}

static enum sdw_status take_job(enum sdw_status status, sqlite3_stmt *row, struct sdw_job *job,
                                bool *found)
{
    *found = !status && row;
    if (*found)
        fill(job, row);
    sdw_database_done(row);
    return status;
}

enum sdw_status sdw_store_find(struct sdw_store *store, const char *id, struct sdw_job *job,
                               bool *found, struct sdw_error *err)
{
    sqlite3_stmt *row;
    enum sdw_status status = sdw_database_ask(&store->database, BY_ID, &row, err, "t", id);
    return take_job(status, row, job, found);
}

enum sdw_status sdw_store_find_key(struct sdw_store *store, const char *key, struct sdw_job *job,
                                   bool *found, struct sdw_error *err)
{
    sqlite3_stmt *row;
    enum sdw_status status = sdw_database_ask(&store->database, BY_KEY, &row, err, "t", key);
    return take_job(status, row, job, found);
}

enum sdw_status sdw_store_next(struct sdw_store *store, int64_t after, struct sdw_job *job,
                               bool *found, struct sdw_error *err)
{
    sqlite3_stmt *row;
    enum sdw_status status = sdw_database_ask(&store->database, NEXT, &row, err, "l", after);
    return take_job(status, row, job, found);
}

static enum sdw_job_event_kind kind_named(const char *name)
{
    size_t kind = 0;
    while (kind < KIND_COUNT && strcmp(kind_names[kind], name) != 0)
        kind++;
    return kind < KIND_COUNT ? (enum sdw_job_event_kind)kind : SDW_JOB_EVENT_ERROR;
}

enum sdw_status sdw_store_read_events(struct sdw_store *store, struct sdw_job *job,
                                      struct sdw_error *err)
{
    sqlite3_stmt *row;
    assert(job->event_count == 0);
    enum sdw_status status =
        sdw_database_ask(&store->database, EVENTS, &row, err, "l", job->number);
    while (!status && row) {
        char kind[16];
        take_text(kind, sizeof kind, row, 0);
        const char *members = (const char *)sqlite3_column_text(row, 1);
        if (!sdw_job_add_event(job, kind_named(kind), members,
                               (size_t)sqlite3_column_bytes(row, 1)))
            status = sdw_fail(err, SDW_MEMORY, "no memory for the events of a job");
        else
            status = sdw_database_next(&store->database, &row, err);
    }
    sdw_database_done(row);
    job->event_stored = job->event_count;
    return status;
}

/* The one value of a row; it is an error that there is none when `missing` says so. */
static enum sdw_status take_value(enum sdw_status status, sqlite3_stmt *row, struct sdw_text *value,
                                  const char *missing, struct sdw_error *err)
{
    if (!status && !row && missing)
        status = sdw_fail(err, SDW_NOT_FOUND, "%s", missing);
    if (!status && row)
        status = sdw_text_append(value, sqlite3_column_blob(row, 0),
                                 (size_t)sqlite3_column_bytes(row, 0), err);
    sdw_database_done(row);
    return status;
}

enum sdw_status sdw_store_read_request(struct sdw_store *store, int64_t number,
                                       struct sdw_text *json, struct sdw_error *err)
{
    sqlite3_stmt *row;
    enum sdw_status status = sdw_database_ask(&store->database, REQUEST, &row, err, "l", number);
    return take_value(status, row, json, "the request is not in the database any more", err);
}

enum sdw_status sdw_store_read_image(struct sdw_store *store, int64_t number, struct sdw_text *png,
                                     struct sdw_error *err)
{
    sqlite3_stmt *row;
    enum sdw_status status = sdw_database_ask(&store->database, PNG, &row, err, "l", number);
    return take_value(status, row, png, "the image is not in the database any more", err);
}

enum sdw_status sdw_store_read_state(struct sdw_store *store, int64_t number, const char *maker,
                                     struct sdw_text *state, struct sdw_error *err)
{
    sqlite3_stmt *row;
    enum sdw_status status =
        sdw_database_ask(&store->database, STATE, &row, err, "lt", number, maker);
    return take_value(status, row, state, NULL, err);
}

enum sdw_status sdw_store_page(struct sdw_store *store, char (*ids)[41], int skip, int count,
                               int *listed, int *total, struct sdw_error *err)
{
    sqlite3_stmt *row;
    *listed = *total = 0;
    enum sdw_status status = sdw_database_ask(&store->database, COUNT, &row, err, "");
    if (status)
        return status;
    *total = sqlite3_column_int(row, 0);
    sdw_database_done(row);
    status = sdw_database_ask(&store->database, PAGE, &row, err, "ii", skip, count);
    while (!status && row) {
        take_text(ids[(*listed)++], SDW_JOB_ID_MAX, row, 0);
        status = sdw_database_next(&store->database, &row, err);
    }
    return status;
}

enum sdw_status sdw_store_totals(struct sdw_store *store, struct sdw_store_totals *totals,
                                 struct sdw_error *err)
{
    sqlite3_stmt *row;
    enum sdw_status status = sdw_database_ask(&store->database, TOTALS, &row, err, "");
    if (status)
        return status;
    totals->ended = sqlite3_column_int(row, 0);
    totals->bytes = sqlite3_column_int64(row, 1);
    sdw_database_done(row);
    return SDW_OK;
}

enum sdw_status sdw_store_oldest(struct sdw_store *store, struct sdw_store_oldest *oldest,
                                 bool *found, struct sdw_error *err)
{
    sqlite3_stmt *row;
    enum sdw_status status = sdw_database_ask(&store->database, OLDEST, &row, err, "");
    *found = !status && row;
    if (*found)
        *oldest =
            (struct sdw_store_oldest){sqlite3_column_int64(row, 0), sqlite3_column_int64(row, 1),
                                      sqlite3_column_int64(row, 2)};
    sdw_database_done(row);
    return status;
}

enum sdw_status sdw_store_delete(struct sdw_store *store, int64_t number, struct sdw_error *err)
{
    enum sdw_status status = sdw_database_begin(&store->database, false, err);
    if (status)
        return status;
    status = sdw_database_run(&store->database, DELETE, err, "l", number);
    return sdw_database_end(&store->database, status, err);
}
