/* kill_and_restart WORKER ROUNDS [SEED]: the worker is killed ROUNDS times at random moments of
 * start, submit, run, cancel and finish, and started again in the same state folder. In the end no
 * job that was accepted is lost or doubled, none was run to its end twice, every cancellation that
 * was answered holds, readers who came again with Last-Event-ID have every event once, and every
 * image has the bytes of a run that nothing interrupted. Some of the kills are SIGTERM.
 *
 * A round is one start, some threads that submit, read and cancel, and the kill under their hands.
 * What was answered is written down at once: an answer is a promise. A job in whose same step the
 * worker dies five times fails, so in each third round the kill waits for a step. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX     4096
#define EVENTS_MAX   64
#define SUBMITS      2 /* new jobs a round, */
#define OPEN_MAX     8 /* but no more than these that have not ended */
#define MOVES_EACH   3 /* rounds: in one of so many a step is done before the kill */
#define SEEDS        2
#define PATIENCE_S   60
#define REQUEST_MAX  512
#define PATH_MAX_LEN 200

static const int steps_of[] = {4, 14}; /* of short and long jobs */

struct job {
    char key[24], id[64];       /* id: "" until the POST was answered */
    int seed, kind;             /* kind: of steps_of */
    bool asked, cancelled;      /* a DELETE was sent; it was answered */
    _Atomic bool over;          /* a reader has its end */
    int seen;                   /* the last event that a reader has */
    uint64_t event[EVENTS_MAX]; /* what they said, hashed; event 1 is the first */
};

static struct job jobs[JOBS_MAX];
static int job_count, failures, kills, port;
static const char *program;
static char dir[PATH_MAX_LEN], state_dir[PATH_MAX_LEN + 8], log_file[PATH_MAX_LEN + 8];
static pid_t server;
static long log_start;                                   /* of this round's lines in the log */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of jobs and failures */

static void bad(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void bad(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&lock);
    failures++;
    printf("FAIL  ");
    vprintf(format, args);
    printf("\n");
    pthread_mutex_unlock(&lock);
    va_end(args);
}

static uint32_t dice; /* main's thread alone */

static int below(int limit)
{
    dice ^= dice << 13, dice ^= dice >> 17, dice ^= dice << 5;
    return (int)(dice % (uint32_t)limit);
}

static void nap_ms(double ms)
{
    struct timespec time = {.tv_sec = (time_t)(ms / 1e3)};
    time.tv_nsec = (long)((ms - (double)time.tv_sec * 1e3) * 1e6);
    nanosleep(&time, NULL);
}

static double now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ---- bytes ---- */

struct bytes {
    char *data; /* NUL after the last */
    size_t length, room;
};

static void add_bytes(struct bytes *bytes, const char *data, size_t length)
{
    if (bytes->length + length + 1 > bytes->room) {
        bytes->room = 2 * (bytes->length + length + 1);
        bytes->data = realloc(bytes->data, bytes->room);
        if (!bytes->data)
            abort();
    }
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
    bytes->data[bytes->length] = 0;
}

static void read_file(struct bytes *bytes, const char *path, long from)
{
    char block[65536];
    size_t length;
    FILE *file = fopen(path, "rb");
    *bytes = (struct bytes){0};
    add_bytes(bytes, "", 0);
    if (!file)
        return;
    fseek(file, from, SEEK_SET);
    while ((length = fread(block, 1, sizeof block, file)) > 0)
        add_bytes(bytes, block, length);
    fclose(file);
}

static uint64_t hash(const char *data, size_t length)
{
    uint64_t sum = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        sum = (sum ^ (unsigned char)data[i]) * 1099511628211u;
    return sum;
}

/* The text between `before` and the next quote, or ""; valid until the bytes are freed. */
static char *quoted(char *text, const char *before)
{
    static char none[1];
    char *at = strstr(text, before);
    if (!at)
        return none;
    at += strlen(before);
    char *end = strchr(at, '"');
    if (end)
        *end = 0;
    return at;
}

/* ---- HTTP/1.0: an answer ends with its connection ---- */

/* The connection, or -1. */
static int ask(const char *method, const char *path, const char *headers, const char *body)
{
    char text[REQUEST_MAX];
    struct timeval patience = {.tv_sec = PATIENCE_S};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int length = snprintf(text, sizeof text, "%s %s HTTP/1.0\r\n%sContent-Length: %zu\r\n\r\n%s",
                          method, path, headers, strlen(body), body);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
        send(fd, text, (size_t)length, MSG_NOSIGNAL) == length)
        return fd;
    close(fd);
    return -1;
}

/* The status, or 0 when the answer is not whole: the worker was killed meanwhile. */
static int answer(struct bytes *body, const char *method, const char *path, const char *headers,
                  const char *sent)
{
    char block[65536];
    ssize_t length;
    struct bytes all = {0};
    int status = 0, fd = ask(method, path, headers, sent);
    *body = (struct bytes){0};
    add_bytes(body, "", 0);
    if (fd < 0)
        return 0;
    add_bytes(&all, "", 0);
    while ((length = recv(fd, block, sizeof block, 0)) > 0)
        add_bytes(&all, block, (size_t)length);
    close(fd);
    const char *end = strstr(all.data, "\r\n\r\n"), *size = strcasestr(all.data, "content-length:");
    if (end && size && size < end) {
        size_t head = (size_t)(end - all.data) + 4;
        if (all.length - head == strtoul(size + 15, NULL, 10) &&
            sscanf(all.data, "HTTP/%*s %d", &status) == 1)
            add_bytes(body, all.data + head, all.length - head);
    }
    free(all.data);
    return status;
}

/* ---- what clients do ---- */

static void submit(struct job *job)
{
    char headers[64], body[160];
    struct bytes text;
    snprintf(headers, sizeof headers, "Idempotency-Key: %s\r\n", job->key);
    snprintf(body, sizeof body,
             "{\"prompt\":\"cat\",\"steps\":%d,\"width\":64,\"height\":64,\"seed\":%d}",
             steps_of[job->kind], job->seed);
    if (answer(&text, "POST", "/v1/jobs", headers, body) == 200) {
        const char *id = quoted(text.data, "\"job_id\":\"");
        pthread_mutex_lock(&lock);
        snprintf(job->id, sizeof job->id, "%s", id);
        pthread_mutex_unlock(&lock);
    }
    free(text.data);
}

/* One event of the stream, "id: 7\ndata: {...}". Those without an id are none of the job's. */
static void take_event(struct job *job, const char *text, size_t length, bool late)
{
    int id;
    if (sscanf(text, "id: %d", &id) != 1)
        return;
    if (id < 1 || id >= EVENTS_MAX) {
        bad("job %s: event %d", job->id, id);
        return;
    }
    bool progress = memmem(text, length, "\"event\":\"progress\"", 18) != NULL;
    uint64_t sum = hash(text, length);
    if (late) { /* the same history for a reader who comes late */
        if (job->event[id] != sum)
            bad("job %s: event %d is another now", job->id, id);
        job->seen++;
        return;
    }
    if (id != job->seen + 1)
        bad("job %s: event %d after %d", job->id, id, job->seen);
    if (progress != (id <= steps_of[job->kind]) && !memmem(text, length, "[CANCELLED]", 11))
        bad("job %s: event %d is %.*s", job->id, id, (int)length, text);
    job->event[id] = sum;
    job->seen = id;
    job->over = !progress;
}

/* Takes the events of `all` that are whole, from *at on. */
static void take_events(struct job *job, const struct bytes *all, size_t *at, bool late)
{
    if (*at == 0) {
        const char *head = strstr(all->data, "\r\n\r\n");
        if (!head)
            return;
        if (strncmp(all->data + 9, "200", 3) != 0)
            bad("job %s: its stream is answered %.12s", job->id, all->data);
        *at = (size_t)(head - all->data) + 4;
    }
    for (const char *end; (end = strstr(all->data + *at, "\n\n"));) {
        take_event(job, all->data + *at, (size_t)(end - all->data) - *at, late);
        *at = (size_t)(end - all->data) + 2;
    }
}

/* Reads from where the last reader was to the end, or until the worker is killed. One reader a job
 * at a time; the late one, in the end, counts from the first. */
static void follow(struct job *job, bool late)
{
    char path[128], headers[64], block[65536];
    ssize_t length;
    struct bytes all = {0};
    size_t at = 0;
    snprintf(path, sizeof path, "/v1/jobs/%s/stream", job->id);
    snprintf(headers, sizeof headers, "Last-Event-ID: %d\r\n", job->seen);
    int fd = ask("GET", path, headers, "");
    if (fd < 0)
        return;
    add_bytes(&all, "", 0);
    while ((length = recv(fd, block, sizeof block, 0)) > 0) {
        add_bytes(&all, block, (size_t)length);
        take_events(job, &all, &at, late);
    }
    close(fd);
    free(all.data);
}

static void cancel(struct job *job)
{
    char path[128];
    struct bytes text;
    snprintf(path, sizeof path, "/v1/jobs/%s", job->id);
    if (answer(&text, "DELETE", path, "", "") == 200)
        job->cancelled = true;
    free(text.data);
}

static void *submit_and_follow(void *context)
{
    struct job *job = context;
    submit(job);
    if (job->id[0])
        follow(job, false);
    return NULL;
}

static void *follow_on(void *context)
{
    follow(context, false);
    return NULL;
}

static void *cancel_it(void *context)
{
    cancel(context);
    return NULL;
}

/* ---- the worker ---- */

static bool start(void)
{
    extern char **environ;
    struct stat info;
    /* clang-format off */
    const char *const args[] = {program, "--model", "models/demo", "--worker-id", "killed",
                                "--port", "0", "--bind-addr", "127.0.0.1", "--threads", "1",
                                "--state-dir", state_dir, "--log-file", log_file,
                                "--save-every-ms", "0", "--keep-jobs", "10000", NULL};
    /* clang-format on */
    log_start = stat(log_file, &info) == 0 ? (long)info.st_size : 0;
    return posix_spawn(&server, program, NULL, NULL, (char **)(uintptr_t)args, environ) == 0;
}

/* Waits until the worker is ready and sets the port. */
static bool ready(void)
{
    struct bytes lines;
    for (double end_s = now_s() + PATIENCE_S; now_s() < end_s; nap_ms(3)) {
        read_file(&lines, log_file, log_start);
        const char *listens = strstr(lines.data, "listening on http://127.0.0.1:");
        bool done = listens && strstr(lines.data, " ready: ");
        if (done)
            port = atoi(listens + 30);
        if (!done && waitpid(server, NULL, WNOHANG) == server) {
            bad("the worker does not start: %s", lines.data);
            free(lines.data);
            return false;
        }
        free(lines.data);
        if (done)
            return true;
    }
    bad("the worker is not ready after %d s", PATIENCE_S);
    return false;
}

static void finish(int number)
{
    int status = 0;
    kill(server, number);
    waitpid(server, &status, 0);
    if (number == SIGTERM && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
        bad("SIGTERM: status %d", status);
}

static struct job *new_job(int round, int n)
{
    struct job *job = &jobs[job_count++];
    snprintf(job->key, sizeof job->key, "key-%d-%d", round, n);
    job->seed = below(SEEDS) + 1;
    job->kind = below(2);
    return job;
}

static void submit_again(void)
{
    for (int i = 0; i < job_count; i++)
        if (!jobs[i].id[0])
            submit(&jobs[i]);
}

static void begin(pthread_t *threads, int *count, void *(*what)(void *), struct job *job)
{
    if (pthread_create(&threads[*count], NULL, what, job) == 0)
        ++*count;
}

/* Follows the jobs that have not ended, as far as anybody was told; returns how many. */
static int begin_readers(pthread_t *threads, struct job **open)
{
    int count = 0;
    for (int i = 0; i < job_count; i++)
        if (jobs[i].id[0] && !jobs[i].over) {
            open[count] = &jobs[i];
            begin(threads, &count, follow_on, &jobs[i]);
        }
    return count;
}

/* Steps that these jobs have done; an end counts more than any. */
static int steps_done(struct job **open, int count)
{
    char path[128];
    int sum = 0;
    struct bytes text;
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "/v1/jobs/%s", open[i]->id);
        if (answer(&text, "GET", path, "", "") == 200) {
            sum += strstr(text.data, "\"ended_at\":null") ? 0 : EVENTS_MAX;
            sum += atoi(strstr(text.data, "\"step\":") + 7);
        }
        free(text.data);
    }
    return sum;
}

static void wait_for_a_step(struct job **open, int count)
{
    int before = steps_done(open, count);
    double end_s = now_s() + PATIENCE_S;
    while (count > 0 && steps_done(open, count) == before && now_s() < end_s)
        nap_ms(2);
}

static int open_jobs(void)
{
    int count = 0;
    for (int i = 0; i < job_count; i++)
        count += !jobs[i].over;
    return count;
}

/* False when the worker does not start any more. */
static bool play(int round)
{
    pthread_t threads[OPEN_MAX + 1];
    struct job *open[OPEN_MAX];
    bool moves = round % MOVES_EACH == 0;
    if (!start())
        return false;
    kills++;
    if (!moves && below(4) == 0) { /* before it is ready */
        nap_ms(below(120));
        finish(SIGKILL);
        return true;
    }
    if (!ready())
        return false;
    submit_again();
    int known = begin_readers(threads, open), count = known;
    for (int n = 0; n < SUBMITS && open_jobs() < OPEN_MAX; n++)
        begin(threads, &count, submit_and_follow, new_job(round, n));
    nap_ms(below(40));
    if (known > 0 && below(3) == 0) {
        struct job *job = open[below(known)];
        job->asked = true;
        begin(threads, &count, cancel_it, job);
    }
    if (moves)
        wait_for_a_step(open, known);
    nap_ms(below(90));
    finish(below(8) == 0 ? SIGTERM : SIGKILL);
    while (count > 0)
        pthread_join(threads[--count], NULL);
    return true;
}

/* ---- in the end ---- */

static struct bytes drawn[2][SEEDS]; /* by a run that nothing interrupted */

static void draw_alone(void)
{
    char command[4 * PATH_MAX_LEN], path[PATH_MAX_LEN + 16];
    snprintf(path, sizeof path, "%s/alone.png", dir);
    for (int kind = 0; kind < 2; kind++)
        for (int seed = 1; seed <= SEEDS; seed++) {
            snprintf(command, sizeof command,
                     "'%s' generate --model models/demo --threads 1 --prompt cat --width 64 "
                     "--height 64 --seed %d --steps %d --out '%s' >'%s/out' 2>&1",
                     program, seed, steps_of[kind], path, dir);
            if (system(command) != 0)
                bad("generate: seed %d, %d steps", seed, steps_of[kind]);
            read_file(&drawn[kind][seed - 1], path, 0);
        }
}

static bool all_ended(void)
{
    struct bytes text;
    for (double end_s = now_s() + 2 * PATIENCE_S; now_s() < end_s; nap_ms(50)) {
        answer(&text, "GET", "/metrics", "", "");
        bool ended = strstr(text.data, "sdw_jobs{state=\"queued\"} 0\n") &&
                     strstr(text.data, "sdw_jobs{state=\"running\"} 0\n");
        free(text.data);
        if (ended)
            return true;
    }
    return false;
}

static int lines_with(const char *text, const char *id, const char *what)
{
    char line[128];
    int count = 0;
    snprintf(line, sizeof line, "job %s: %s", id, what);
    for (const char *at = text; (at = strstr(at, line)); at++)
        count++;
    return count;
}

static void check_completed(const struct job *job)
{
    char path[128];
    struct bytes image;
    const struct bytes *alone = &drawn[job->kind][job->seed - 1];
    if (job->seen != steps_of[job->kind] + 1)
        bad("job %s: %d events of %d steps", job->id, job->seen, steps_of[job->kind]);
    snprintf(path, sizeof path, "/v1/jobs/%s/image", job->id);
    if (answer(&image, "GET", path, "", "") != 200 || image.length != alone->length ||
        memcmp(image.data, alone->data, image.length) != 0)
        bad("job %s: another image than without interruption", job->id);
    free(image.data);
}

/* Returns whether it was cancelled. */
static bool check(struct job *job, const char *log)
{
    char path[128];
    struct bytes text;
    follow(job, false);
    int seen = job->seen;
    job->seen = 0;
    follow(job, true);
    if (job->seen != seen)
        bad("job %s: %d events, %d for who comes late", job->id, seen, job->seen);
    snprintf(path, sizeof path, "/v1/jobs/%s", job->id);
    if (answer(&text, "GET", path, "", "") != 200)
        bad("job %s is lost", job->id);
    char state[32];
    snprintf(state, sizeof state, "%s", quoted(text.data, "\"state\":\""));
    free(text.data);
    bool cancelled = strcmp(state, "cancelled") == 0;
    if (strcmp(state, "completed") == 0)
        check_completed(job);
    else if (!cancelled || !job->asked)
        bad("job %s: %s", job->id, state);
    if (job->cancelled && !cancelled)
        bad("job %s: cancelled, but it is %s", job->id, state);
    if (lines_with(log, job->id, "completed") > 1)
        bad("job %s: run to its end twice", job->id);
    return cancelled;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *level)
{
    (void)info, (void)kind, (void)level;
    return remove(path);
}

/* Runs what is left to its end and looks at every promise. */
static void conclude(int *cancelled, int *resumed)
{
    char total[32];
    struct bytes text;
    if (!start() || !ready())
        return;
    submit_again();
    draw_alone();
    if (!all_ended())
        bad("some jobs do not end");
    answer(&text, "GET", "/v1/jobs?limit=1", "", "");
    snprintf(total, sizeof total, "\"total\":%d,", job_count);
    if (!strstr(text.data, total))
        bad("%d jobs were accepted, and the worker has another number", job_count);
    free(text.data);
    read_file(&text, log_file, 0);
    for (int i = 0; i < job_count; i++) {
        for (int k = 0; k < i; k++)
            if (strcmp(jobs[i].id, jobs[k].id) == 0)
                bad("%s and %s have one job", jobs[i].key, jobs[k].key);
        *cancelled += check(&jobs[i], text.data);
        *resumed += lines_with(text.data, jobs[i].id, "goes on from its saved state") > 0;
    }
    free(text.data);
    finish(SIGTERM);
}

int main(int argc, char **argv)
{
    int rounds = argc > 2 ? atoi(argv[2]) : 0, cancelled = 0, resumed = 0;
    uint32_t seed = argc > 3 ? (uint32_t)atoi(argv[3]) : (uint32_t)getpid();
    if (rounds < 1 || rounds * SUBMITS > JOBS_MAX) {
        fprintf(stderr, "kill_and_restart WORKER ROUNDS [SEED]\n");
        return 2;
    }
    program = argv[1];
    dice = seed * 2654435761u | 1;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    snprintf(dir, sizeof dir, "%s/kill-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir))
        return 2;
    snprintf(state_dir, sizeof state_dir, "%s/state", dir);
    snprintf(log_file, sizeof log_file, "%s/log", dir);
    double start_s = now_s();
    bool going = true;
    for (int round = 0; going && round < rounds; round++)
        going = play(round);
    if (going)
        conclude(&cancelled, &resumed);
    for (int kind = 0; kind < 2; kind++)
        for (int i = 0; i < SEEDS; i++)
            free(drawn[kind][i].data);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    printf("%d kills (seed %u): %d jobs, %d cancelled, %d resumed, %d failures; %.1f s\n", kills,
           seed, job_count, cancelled, resumed, failures, now_s() - start_s);
    return failures > 0;
}
