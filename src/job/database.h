/* database.h: one SQLite file of this process alone: opening, versions, statements, transactions,
 * and SQLite's failures as sentences. What the tables mean is store.c's.
 *
 * A database is used by one thread at a time. */
#ifndef SDW_JOB_DATABASE_H
#define SDW_JOB_DATABASE_H

#include "base/status.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

struct sdw_database {
    sqlite3 *db;
    char *dir; /* owned; NULL: in memory */
    bool synced;
    const char *const *sql; /* the caller's statements, prepared when first used */
    int sql_count;
    sqlite3_stmt **prepared;
};

/* `versions[i]` is the SQL that turns a database of version i into one of version i + 1 (from 0, an
 * empty file): it grows at its end and is never changed. */
enum sdw_status sdw_database_open(struct sdw_database *database, const char *dir,
                                  const char *const *versions, int version_count,
                                  const char *const *sql, int sql_count, struct sdw_error *err);
void sdw_database_close(struct sdw_database *database);

/* With `synced`, the commit returns when the disk has it; else when the system has it. */
enum sdw_status sdw_database_begin(struct sdw_database *database, bool synced,
                                   struct sdw_error *err);
/* Commits when `status` is SDW_OK, rolls back when it is not; returns what went wrong first. */
enum sdw_status sdw_database_end(struct sdw_database *database, enum sdw_status status,
                                 struct sdw_error *err);

/* Runs statement `which` with values for its ?s, one a letter of `kinds`: i int, l int64_t,
 * r double, t const char * (NULL: null), b const void * and size_t. */
enum sdw_status sdw_database_run(struct sdw_database *database, int which, struct sdw_error *err,
                                 const char *kinds, ...);

/* The same for a statement that gives rows: the first one. *row is NULL when there is none. What
 * sqlite3_column_* hands out is valid until the next row; sdw_database_done gives the statement
 * back. */
enum sdw_status sdw_database_ask(struct sdw_database *database, int which, sqlite3_stmt **row,
                                 struct sdw_error *err, const char *kinds, ...);
enum sdw_status sdw_database_next(struct sdw_database *database, sqlite3_stmt **row,
                                  struct sdw_error *err);
void sdw_database_done(sqlite3_stmt *row); /* NULL is allowed */

#endif
