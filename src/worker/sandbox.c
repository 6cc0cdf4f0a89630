/* sandbox.c: see sandbox.h. By system calls alone: no library is needed, and the numbers of
 * Landlock are those of its documentation (docs.kernel.org/userspace-api/landlock.html), because
 * the headers of a build machine are often older than the kernel of the one that it runs on.
 *
 * A thread can restrict only itself, and some of ours belong to libraries. So each gets a signal
 * whose handler does it, as the C library itself does for setuid(2). The threads of a sanitizer
 * take no signals, and its leak check traces us: there is no sandbox in such a build. */
#include "worker/sandbox.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif

#if !defined(__linux__) || !(defined(__x86_64__) || defined(__aarch64__)) || defined(SANITIZED)

enum sdw_status sdw_sandbox_check(struct sdw_error *err)
{
    return sdw_fail(err, SDW_UNAVAILABLE, "no sandbox: this program was built without");
}

enum sdw_status sdw_sandbox_enter(const struct sdw_sandbox *sandbox, struct sdw_error *err)
{
    (void)sandbox;
    return sdw_sandbox_check(err);
}

#else

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS_MAX 1024
#define PATIENCE_MS 2000 /* for a thread to take its signal */

/* ---- Landlock ---- */

enum {
    EXECUTE = 1 << 0,
    WRITE_FILE = 1 << 1,
    READ_FILE = 1 << 2,
    READ_DIR = 1 << 3,
    REMOVE_DIR = 1 << 4,
    REMOVE_FILE = 1 << 5,
    MAKE_DIR = 1 << 7,
    MAKE_REG = 1 << 8,
    ALL_1 = (1 << 13) - 1, /* of version 1 */
    REFER = 1 << 13,       /* version 2 */
    TRUNCATE = 1 << 14,    /* version 3 */
    IOCTL_DEV = 1 << 15,   /* version 5 */
    OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV,

    READ = READ_FILE | READ_DIR,
    WRITE = READ | WRITE_FILE | TRUNCATE | MAKE_REG | MAKE_DIR | REMOVE_FILE | REMOVE_DIR,
    APPEND = WRITE_FILE | MAKE_REG,

    BIND_TCP = 1 << 0, /* version 4 */
    CONNECT_TCP = 1 << 1,
};

struct ruleset {
    uint64_t files, net;
};

struct path_rule {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

#define CREATE_RULESET 444 /* on every architecture */
#define ADD_RULE       445
#define RESTRICT_SELF  446
#define VERSION        1 /* flag: asks for the version */
#define PATH_BENEATH   1

static long landlock_version(void)
{
    return syscall(CREATE_RULESET, NULL, 0, VERSION);
}

/* Of the one sandbox that a process has. */
static int ruleset = -1;
static uint64_t known_rights;

/* What is not there needs no rule. */
static bool allow(const char *path, uint64_t rights)
{
    struct stat info;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == EACCES;
    if (fstat(fd, &info) == 0 && !S_ISDIR(info.st_mode))
        rights &= OF_FILES;
    struct path_rule rule = {.allowed = rights & known_rights, .parent = fd};
    bool added = syscall(ADD_RULE, ruleset, PATH_BENEATH, &rule, 0) == 0;
    close(fd);
    return added;
}

/* What the C library, and libcurl in the heartbeat, may come back to. Libraries that look up names
 * are loaded when the first name is; resolv.conf is replaced when the network changes, so its
 * folder is named. */
static bool allow_system(bool calls)
{
    static const char *const always[] = {"/usr",  "/lib", "/lib64",    "/nix/store",
                                         "/proc", "/sys", "/dev/null", "/dev/urandom"};
    static const char *const calling[] = {"/etc", "/run/systemd/resolve", "/run/resolvconf",
                                          "/run/NetworkManager"};
    static const char *const variables[] = {"SSL_CERT_FILE", "SSL_CERT_DIR"};
    bool added = true;
    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++)
        added &= allow(always[i], READ);
    for (size_t i = 0; calls && i < sizeof calling / sizeof calling[0]; i++)
        added &= allow(calling[i], READ);
    for (size_t i = 0; calls && i < sizeof variables / sizeof variables[0]; i++)
        if (getenv(variables[i]))
            added &= allow(getenv(variables[i]), READ);
    return added;
}

static int allow_link(const char *path, const struct stat *info, int kind, struct FTW *level)
{
    (void)info, (void)level;
    return kind == FTW_SL && !allow(path, READ);
}

/* A model's parts are read when the first job needs them. Its files may be links to elsewhere, as
 * in the hub's cache. */
static bool allow_model(const char *path)
{
    char inside[4096 + 2];
    if (!path)
        return true;
    snprintf(inside, sizeof inside, "%s/", path);
    return allow(path, READ) && nftw(inside, allow_link, 16, FTW_PHYS) <= 0;
}

static bool allow_log(const char *file)
{
    const char *slash = file ? strrchr(file, '/') : NULL;
    if (!slash)
        return !file || allow(".", APPEND);
    char *folder = strndup(file, slash == file ? 1 : (size_t)(slash - file));
    bool added = folder && allow(folder, APPEND);
    free(folder);
    return added;
}

/* The rules; false with errno. */
static bool make_ruleset(const struct sdw_sandbox *sandbox)
{
    long version = landlock_version();
    known_rights = ALL_1 | (version >= 2 ? REFER : 0) | (version >= 3 ? TRUNCATE : 0) |
                   (version >= 5 ? IOCTL_DEV : 0);
    struct ruleset handled = {.files = known_rights,
                              .net = sandbox->calls ? BIND_TCP : BIND_TCP | CONNECT_TCP};
    if (version < 1)
        return false;
    ruleset = (int)syscall(CREATE_RULESET, &handled,
                           version >= 4 ? sizeof handled : sizeof handled.files, 0);
    return ruleset >= 0 && allow_system(sandbox->calls) && allow_model(sandbox->model) &&
           allow_model(sandbox->vae) && allow_log(sandbox->log_file) &&
           (!sandbox->state_dir || allow(sandbox->state_dir, WRITE | REFER));
}

/* ---- every thread ---- */

static atomic_int taken, fault; /* signals that were taken; the first errno of any */

static void restrict_thread(void)
{
    int none = 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(RESTRICT_SELF, ruleset, 0) < 0)
        atomic_compare_exchange_strong(&fault, &none, errno);
}

static void on_signal(int number)
{
    (void)number;
    int saved = errno;
    restrict_thread();
    atomic_fetch_add(&taken, 1);
    errno = saved;
}

/* False when it does not answer. One that has ended meanwhile is fine. */
static bool restrict_other(pid_t thread)
{
    int before = atomic_load(&taken);
    if (syscall(SYS_tgkill, getpid(), thread, SIGRTMIN) != 0)
        return errno == ESRCH;
    for (int i = 0; i < PATIENCE_MS * 10 && atomic_load(&taken) == before; i++) {
        usleep(100);
        if (syscall(SYS_tgkill, getpid(), thread, 0) != 0)
            return errno == ESRCH;
    }
    return atomic_load(&taken) != before;
}

static bool among(const pid_t *threads, int count, pid_t thread)
{
    for (int i = 0; i < count; i++)
        if (threads[i] == thread)
            return true;
    return false;
}

/* One look at the list of threads; those that were not in `done` yet are restricted and added.
 * Returns how many, or -1. */
static int restrict_new(pid_t *done, int *count)
{
    int added = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; tasks && added >= 0 && (entry = readdir(tasks));) {
        pid_t thread = (pid_t)atoi(entry->d_name);
        if (thread <= 0 || among(done, *count, thread))
            continue;
        if (*count == THREADS_MAX || !restrict_other(thread)) {
            added = -1;
        } else {
            done[(*count)++] = thread;
            added++;
        }
    }
    if (!tasks)
        return -1;
    closedir(tasks);
    return added;
}

/* A thread that is made while this goes on inherits what its maker had: so until no new one is
 * seen. NULL, or what went wrong. */
static const char *restrict_all(void)
{
    struct sigaction before, during = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    pid_t *done = malloc(THREADS_MAX * sizeof *done);
    if (!done)
        return strerror(ENOMEM);
    int count = 0, added = 1;
    restrict_thread();
    done[count++] = (pid_t)syscall(SYS_gettid);
    sigaction(SIGRTMIN, &during, &before);
    while (added > 0)
        added = restrict_new(done, &count);
    sigaction(SIGRTMIN, &before, NULL);
    free(done);
    return atomic_load(&fault) ? strerror(atomic_load(&fault))
           : added < 0         ? "a thread does not take its signal"
                               : NULL;
}

/* ---- seccomp ---- */

/* Refused with EPERM, so that a library that tries goes on without. */
static const int refused[] = {
    SYS_execve,
    SYS_execveat, /* other programs */
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    SYS_kcmp,
    SYS_perf_event_open, /* into other processes */
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_swapon,
    SYS_swapoff,
    SYS_quotactl,
    SYS_acct,
    SYS_open_by_handle_at, /* file systems */
    SYS_unshare,
    SYS_setns, /* name spaces: new doors into the kernel */
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_syslog,
    SYS_bpf,
    SYS_io_uring_setup,
    SYS_userfaultfd,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_personality,
    SYS_vhangup,
#ifdef __x86_64__
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
#endif
};
#define REFUSED ((int)(sizeof refused / sizeof refused[0]))
_Static_assert(sizeof refused / sizeof refused[0] < 250, "a jump over them has eight bits");

#ifdef __x86_64__
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define FOREIGN      0x40000000 /* x32: other numbers for the same calls */
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define FOREIGN      UINT32_MAX
#endif

/* docs.kernel.org/userspace-api/seccomp_filter.html */
static bool filter_calls(void)
{
    enum { HEAD = 4 };
    struct sock_filter code[HEAD + REFUSED + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 0, REFUSED + 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FOREIGN, REFUSED + 1, 0),
    };
    for (int i = 0; i < REFUSED; i++)
        code[HEAD + i] = (struct sock_filter)BPF_JUMP(
            BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)refused[i], (uint8_t)(REFUSED - i), 0);
    code[HEAD + REFUSED] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[HEAD + REFUSED + 1] =
        (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

/* ---- both ---- */

enum sdw_status sdw_sandbox_check(struct sdw_error *err)
{
    uint32_t action = SECCOMP_RET_ERRNO;
    const char *missing = landlock_version() < 1 ? "Landlock"
                          : syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) != 0
                              ? "seccomp"
                              : NULL;
    if (missing)
        return sdw_fail_errno(err, "no sandbox: %s is missing in this kernel, or its container",
                              missing);
    return SDW_OK;
}

enum sdw_status sdw_sandbox_enter(const struct sdw_sandbox *sandbox, struct sdw_error *err)
{
    enum sdw_status status = SDW_OK;
    if (!filter_calls())
        status = sdw_fail_errno(err, "the sandbox lets all system calls through (seccomp)");
    const char *fault_of_files = make_ruleset(sandbox) ? restrict_all() : strerror(errno);
    if (ruleset >= 0)
        close(ruleset);
    ruleset = -1;
    if (fault_of_files)
        status =
            sdw_fail(err, SDW_UNAVAILABLE, "the sandbox leaves all files open%s (Landlock): %s",
                     status ? " and lets all system calls through" : "", fault_of_files);
    return status;
}
#endif
