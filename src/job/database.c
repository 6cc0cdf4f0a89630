/* database.c: see database.h.
 *
 * Write-ahead log: a commit appends to one file, readers of the process never wait, and whatever
 * kills us leaves a file that opens. Exclusive locking: the first statement takes a lock that is
 * kept until the process ends, so a second worker in the same folder is refused by SQLite itself,
 * and there is no shared-memory file beside the log whose pages a full disk could take away. */
#include "job/database.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LOG_BYTES_KEPT (16 << 20) /* of the write-ahead log, once it was copied into the file */

static enum sdw_status fail_read_only(const struct sdw_database *database, struct sdw_error *err,
                                      const char *what)
{
    return sdw_fail(err, SDW_STORAGE,
                    "cannot %s: the state folder %s is read-only: give the worker another one with "
                    "--state-dir, or :memory: to keep jobs in memory only",
                    what, database->dir);
}

/* The sentence for what SQLite has just said. */
static enum sdw_status fail(const struct sdw_database *database, struct sdw_error *err,
                            const char *what)
{
    const char *where = database->dir ? database->dir : "memory";
    int code = sqlite3_extended_errcode(database->db), number = sqlite3_system_errno(database->db);
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return sdw_fail(err, SDW_IO,
                        "the state folder %s is in use by another worker: stop that one, or give "
                        "this one a folder of its own with --state-dir",
                        where);
    case SQLITE_FULL:
        return sdw_fail(err, SDW_STORAGE,
                        "cannot %s: the disk of the state folder %s is full: make room there", what,
                        where);
    case SQLITE_READONLY: return fail_read_only(database, err, what);
    case SQLITE_NOMEM:
        return sdw_fail(err, SDW_MEMORY, "cannot %s: no memory for the database", what);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return sdw_fail(err, SDW_FORMAT,
                        "cannot %s: %s/jobs.db is damaged or no database (%s): move it away", what,
                        where, sqlite3_errmsg(database->db));
    default:
        return sdw_fail(err, SDW_STORAGE, "cannot %s in the state folder %s: %s%s%s", what, where,
                        sqlite3_errmsg(database->db), number ? ": " : "",
                        number ? strerror(number) : "");
    }
}

/* With its parents. Requests are private: nobody else may read them. */
static enum sdw_status make_folder(const char *dir, struct sdw_error *err)
{
    char path[4096];
    if (strlen(dir) >= sizeof path)
        return sdw_fail(err, SDW_USAGE, "the name of the state folder has more than %zu bytes",
                        sizeof path - 1);
    snprintf(path, sizeof path, "%s", dir);
    for (char *at = path + 1;; at++) {
        if (*at && *at != '/')
            continue;
        char cut = *at;
        *at = 0;
        if (mkdir(path, 0700) != 0 && errno != EEXIST && errno != EROFS)
            return sdw_fail_errno(err,
                                  "cannot make the state folder %s (--state-dir names another, or "
                                  ":memory:): %s",
                                  dir, path);
        *at = cut;
        if (!cut)
            return SDW_OK;
    }
}

static enum sdw_status execute(struct sdw_database *database, const char *sql, const char *what,
                               struct sdw_error *err)
{
    return sqlite3_exec(database->db, sql, NULL, NULL, NULL) == SQLITE_OK
               ? SDW_OK
               : fail(database, err, what);
}

static int version_of(struct sdw_database *database)
{
    sqlite3_stmt *row = NULL;
    int version = -1;
    if (sqlite3_prepare_v2(database->db, "PRAGMA user_version", -1, &row, NULL) == SQLITE_OK &&
        sqlite3_step(row) == SQLITE_ROW)
        version = sqlite3_column_int(row, 0);
    sqlite3_finalize(row);
    return version;
}

/* Writes the version even where it stands already: a folder that takes nothing is told at start. */
static enum sdw_status bring_up(struct sdw_database *database, const char *const *versions,
                                int version_count, struct sdw_error *err)
{
    static const char what[] = "open the database of jobs";
    char sql[64];
    enum sdw_status status = sdw_database_begin(database, true, err);
    if (status)
        return status;
    int version = version_of(database);
    if (version < 0)
        status = fail(database, err, what);
    else if (version > version_count)
        status = sdw_fail(err, SDW_FORMAT,
                          "%s/jobs.db was written by a newer version of this program (schema %d, "
                          "this one knows %d): run that one, or use another --state-dir",
                          database->dir, version, version_count);
    for (; !status && version < version_count; version++)
        status = execute(database, versions[version], what, err);
    snprintf(sql, sizeof sql, "PRAGMA user_version = %d", version_count);
    if (!status)
        status = execute(database, sql, what, err);
    return sdw_database_end(database, status, err);
}

static enum sdw_status connect(struct sdw_database *database, struct sdw_error *err)
{
    char path[4096 + 16];
    snprintf(path, sizeof path, "%s/jobs.db", database->dir ? database->dir : "");
    int code = sqlite3_open_v2(database->dir ? path : ":memory:", &database->db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                   SQLITE_OPEN_EXRESCODE,
                               NULL);
    if (!database->db)
        return sdw_fail(err, SDW_MEMORY, "no memory for the database of jobs");
    if (code != SQLITE_OK)
        return fail(database, err, "open the database of jobs");
    if (sqlite3_db_readonly(database->db, "main") == 1) /* SQLite would open it to read only */
        return fail_read_only(database, err, "open the database of jobs");
    char sql[256];
    snprintf(sql, sizeof sql,
             "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; "
             "PRAGMA journal_size_limit = %d; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY",
             LOG_BYTES_KEPT);
    return execute(database, sql, "open the database of jobs", err);
}

enum sdw_status sdw_database_open(struct sdw_database *database, const char *dir,
                                  const char *const *versions, int version_count,
                                  const char *const *sql, int sql_count, struct sdw_error *err)
{
    *database = (struct sdw_database){.sql = sql, .sql_count = sql_count, .synced = true};
    database->prepared = calloc((size_t)sql_count, sizeof *database->prepared);
    if (dir)
        database->dir = strdup(dir);
    enum sdw_status status = database->prepared && (!dir || database->dir)
                                 ? SDW_OK
                                 : sdw_fail(err, SDW_MEMORY, "no memory for the database of jobs");
    if (!status && dir)
        status = make_folder(dir, err);
    if (!status)
        status = connect(database, err);
    if (!status)
        status = bring_up(database, versions, version_count, err);
    if (status)
        sdw_database_close(database);
    return status;
}

void sdw_database_close(struct sdw_database *database)
{
    for (int i = 0; database->prepared && i < database->sql_count; i++)
        sqlite3_finalize(database->prepared[i]);
    sqlite3_close(database->db);
    free(database->prepared);
    free(database->dir);
    *database = (struct sdw_database){0};
}

enum sdw_status sdw_database_begin(struct sdw_database *database, bool synced,
                                   struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    if (synced != database->synced)
        status =
            execute(database, synced ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
                    "write to the database of jobs", err);
    database->synced = synced;
    return status ? status
                  : execute(database, "BEGIN IMMEDIATE", "write to the database of jobs", err);
}

enum sdw_status sdw_database_end(struct sdw_database *database, enum sdw_status status,
                                 struct sdw_error *err)
{
    if (!status)
        status = execute(database, "COMMIT", "write to the database of jobs", err);
    if (status && !sqlite3_get_autocommit(database->db))
        sqlite3_exec(database->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

static void bind_values(sqlite3_stmt *statement, const char *kinds, va_list values)
{
    for (int i = 1; *kinds; kinds++, i++) {
        switch (*kinds) {
        case 'i': sqlite3_bind_int(statement, i, va_arg(values, int)); break;
        case 'l': sqlite3_bind_int64(statement, i, va_arg(values, int64_t)); break;
        case 'r': sqlite3_bind_double(statement, i, va_arg(values, double)); break;
        case 't':
            sqlite3_bind_text(statement, i, va_arg(values, const char *), -1, SQLITE_STATIC);
            break;
        case 'b': {
            const void *bytes = va_arg(values, const void *);
            sqlite3_bind_blob64(statement, i, bytes, va_arg(values, size_t), SQLITE_STATIC);
            break;
        }
        default: assert(!"a kind of value");
        }
    }
}

static enum sdw_status prepare(struct sdw_database *database, int which, sqlite3_stmt **statement,
                               struct sdw_error *err)
{
    sqlite3_stmt **prepared = &database->prepared[which];
    *statement = NULL;
    if (!*prepared && sqlite3_prepare_v3(database->db, database->sql[which], -1,
                                         SQLITE_PREPARE_PERSISTENT, prepared, NULL) != SQLITE_OK)
        return fail(database, err, "use the database of jobs");
    *statement = *prepared;
    return SDW_OK;
}

/* A row, or NULL in *row at the end, when the statement is given back. */
enum sdw_status sdw_database_next(struct sdw_database *database, sqlite3_stmt **row,
                                  struct sdw_error *err)
{
    int code = sqlite3_step(*row);
    if (code == SQLITE_ROW)
        return SDW_OK;
    enum sdw_status status =
        code == SQLITE_DONE ? SDW_OK : fail(database, err, "use the database of jobs");
    sdw_database_done(*row);
    *row = NULL;
    return status;
}

void sdw_database_done(sqlite3_stmt *row)
{
    if (!row)
        return;
    sqlite3_reset(row);
    sqlite3_clear_bindings(row);
}

enum sdw_status sdw_database_ask(struct sdw_database *database, int which, sqlite3_stmt **row,
                                 struct sdw_error *err, const char *kinds, ...)
{
    va_list values;
    enum sdw_status status = prepare(database, which, row, err);
    if (status)
        return status;
    va_start(values, kinds);
    bind_values(*row, kinds, values);
    va_end(values);
    return sdw_database_next(database, row, err);
}

enum sdw_status sdw_database_run(struct sdw_database *database, int which, struct sdw_error *err,
                                 const char *kinds, ...)
{
    va_list values;
    sqlite3_stmt *row;
    enum sdw_status status = prepare(database, which, &row, err);
    if (status)
        return status;
    va_start(values, kinds);
    bind_values(row, kinds, values);
    va_end(values);
    status = sdw_database_next(database, &row, err);
    sdw_database_done(row);
    return status;
}
