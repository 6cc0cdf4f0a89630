/* test_sandbox.c: what a process can no longer do, in a thread that was there before. Each case is
 * a child, because nothing of it can be taken back. */
#include "worker/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#ifdef __linux__
static char root[64], state_dir[80], log_file[96], beside[80], model[80], weights[96];

static int made(const char *folder, const char *name)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int fault = fd < 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return fault;
}

static int opened(const char *path)
{
    int fd = open(path, O_RDONLY);
    int fault = fd < 0 ? errno : 0;
    if (fd >= 0)
        close(fd);
    return fault;
}

static int started(void)
{
    char *const args[] = {(char *)(uintptr_t) "true", NULL};
    execv("/bin/true", args);
    return errno;
}

/* Port 1 of this machine, where nobody listens. */
static int connected(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(1)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int fault = connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? errno : 0;
    close(fd);
    return fault;
}

/* One line for each surprise; the child's exit status is their number. */
static int surprises;

static void expect(const char *what, int fault, int expected)
{
    if (fault == expected)
        return;
    surprises++;
    fprintf(stderr, "%s: %s, expected %s\n", what, fault ? strerror(fault) : "done",
            expected ? strerror(expected) : "done");
}

static void look(bool calls)
{
    expect("a file in the state folder", made(state_dir, "x"), 0);
    expect("the log anew", made(root, "log/worker.log"), 0);
    expect("a file beside", made(beside, "x"), EACCES);
    expect("reading beside", opened(beside), EACCES);
    expect("the model", opened(model), 0);
    expect("a file beside that the model links to", opened(weights), 0);
    expect("a new file in the model", made(model, "x"), EACCES);
    expect("a file of the system", opened("/proc/self/statm"), 0);
    expect("the system's settings", opened("/etc/passwd"), calls ? 0 : EACCES);
    expect("another program", started(), EPERM);
    expect("tracing", ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? errno : 0, EPERM);
    expect("a mount", chroot(root) < 0 ? errno : 0, EPERM);
    bool knows_connections = syscall(444, NULL, 0, 1) >= 4; /* Landlock's version: Linux 6.7 */
    expect("a connection", connected(), calls || !knows_connections ? ECONNREFUSED : EACCES);
}

static atomic_int entered;
static bool calls_wanted;

static void *other_thread(void *context)
{
    (void)context;
    while (!atomic_load(&entered))
        usleep(1000);
    look(calls_wanted);
    return NULL;
}

/* Runs in a child. */
static int enter_and_look(bool calls)
{
    pthread_t thread;
    struct sdw_error err = {0};
    struct sdw_sandbox sandbox = {
        .model = model, .state_dir = state_dir, .log_file = log_file, .calls = calls};
    calls_wanted = calls;
    if (pthread_create(&thread, NULL, other_thread, NULL) != 0)
        return 100;
    if (sdw_sandbox_enter(&sandbox, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 101;
    }
    look(calls);
    atomic_store(&entered, 1);
    pthread_join(thread, NULL);
    return surprises;
}

static int deaf_thread(bool calls)
{
    (void)calls;
    sigset_t all;
    pthread_t thread;
    struct sdw_error err = {0};
    struct sdw_sandbox sandbox = {0};
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    if (pthread_create(&thread, NULL, other_thread, NULL) != 0)
        return 100;
    sigemptyset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    if (sdw_sandbox_enter(&sandbox, &err) != SDW_UNAVAILABLE)
        return 1;
    return strstr(err.message, "a thread does not take its signal") ? 0 : 2;
}

static void in_child(int (*test)(bool calls), bool calls)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(test(calls));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void alone(void **state)
{
    (void)state;
    in_child(enter_and_look, false);
}

static void with_a_queen(void **state)
{
    (void)state;
    in_child(enter_and_look, true);
}

static void a_thread_that_is_deaf(void **state)
{
    (void)state;
    in_child(deaf_thread, false);
}

static int make_folders(void **state)
{
    (void)state;
    char path[96];
    strcpy(root, "/tmp/sandbox-XXXXXX");
    if (!mkdtemp(root))
        return 1;
    snprintf(state_dir, sizeof state_dir, "%s/state", root);
    snprintf(beside, sizeof beside, "%s/beside", root);
    snprintf(path, sizeof path, "%s/log", root);
    snprintf(log_file, sizeof log_file, "%s/worker.log", path);
    snprintf(model, sizeof model, "%s/model", root);
    snprintf(weights, sizeof weights, "%s/weights", beside);
    if (mkdir(state_dir, 0700) || mkdir(beside, 0700) || mkdir(path, 0700) || mkdir(model, 0700) ||
        made(beside, "weights"))
        return 1;
    snprintf(path, sizeof path, "%s/weights", model);
    return symlink(weights, path);
}

static int remove_folders(void **state)
{
    (void)state;
    char path[120];
    static const char *const names[] = {"state/x",        "state",  "log/worker.log", "log",
                                        "beside/weights", "beside", "model/weights",  "model"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", root, names[i]);
        remove(path);
    }
    return rmdir(root);
}
#endif

int main(void)
{
    struct sdw_error err;
    if (sdw_sandbox_check(&err)) {
        printf("skipped: %s\n", err.message);
        return 77;
    }
#ifdef __linux__
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone),
        cmocka_unit_test(with_a_queen),
        cmocka_unit_test(a_thread_that_is_deaf),
    };
    return cmocka_run_group_tests(tests, make_folders, remove_folders);
#endif
}
