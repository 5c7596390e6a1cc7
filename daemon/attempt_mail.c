/* Notifications by mail: the local sendmail command. The mail is a file in memory, which the
 * process reads as its input: nothing is written to a pipe that could be full. No shell is
 * involved, and the address is an argument of its own, after "--". */
#include "attempt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine.h"

/* The text, ready to be read. -1: errno. */
static int file_of(const char *text)
{
    const int fd = memfd_create("lyapd-mail", MFD_CLOEXEC);
    const size_t length = strlen(text);
    if (fd < 0)
        return -1;
    if (write(fd, text, length) == (ssize_t)length && lseek(fd, 0, SEEK_SET) == 0)
        return fd;
    close(fd);
    return -1;
}

/* An errno, or 0. */
static int spawn(const char *program, const char *to, int mail_fd, pid_t *ret_pid)
{
    static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    char *const environment[] = { path, NULL };
    char *const arguments[] = { (char *)(uintptr_t)program, (char *)(uintptr_t) "-oi",
                                (char *)(uintptr_t) "--", (char *)(uintptr_t)to, NULL };
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    int error = posix_spawn_file_actions_init(&actions);
    if (error)
        return error;
    error = posix_spawnattr_init(&attributes);
    if (error) {
        posix_spawn_file_actions_destroy(&actions);
        return error;
    }
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    sigaddset(&defaults, SIGXFSZ);
    /* A group of its own, so that its children end with it. */
    error = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    if (!error)
        error = posix_spawnattr_setsigdefault(&attributes, &defaults);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, mail_fd, STDIN_FILENO);
    if (!error)
        error = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    if (!error)
        error = posix_spawn(ret_pid, program, &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

void lyap_mail_begin(struct lyap_attempt *attempt, const struct lyap_attempt_options *options)
{
    const int mail_fd = file_of(attempt->text);
    if (mail_fd < 0) {
        lyap_attempt_fail(attempt, "the mail cannot be kept in memory: %s", strerror(errno));
        return;
    }
    const int error = spawn(options->sendmail, attempt->receiver.target, mail_fd, &attempt->pid);
    close(mail_fd);
    if (error) {
        attempt->pid = 0;
        lyap_attempt_fail(attempt, "%.200s: %s", options->sendmail, strerror(error));
        return;
    }
    attempt->pid_fd = pidfd_open(attempt->pid, 0); /* -1: its end is seen at the next look */
}

static void forget(struct lyap_attempt *attempt)
{
    if (attempt->pid_fd >= 0)
        close(attempt->pid_fd);
    attempt->pid_fd = -1;
    attempt->pid = 0;
}

void lyap_mail_kill(struct lyap_attempt *attempt)
{
    if (attempt->pid == 0)
        return;
    (void)kill(-attempt->pid, SIGKILL);
    while (waitpid(attempt->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    forget(attempt);
}

void lyap_mail_look(struct lyap_attempt *attempt, int64_t now_ns)
{
    int state = 0;
    const pid_t ended = waitpid(attempt->pid, &state, WNOHANG);
    if (ended == 0 && now_ns < attempt->end_ns)
        return;
    if (ended == 0) {
        lyap_mail_kill(attempt);
        lyap_attempt_fail(attempt, "sendmail did not end in time");
        return;
    }
    forget(attempt);
    if (ended > 0 && WIFEXITED(state) && WEXITSTATUS(state) == 0)
        attempt->is_over = attempt->is_delivered = true;
    else if (ended > 0 && WIFEXITED(state))
        lyap_attempt_fail(attempt, "sendmail ended with %d", WEXITSTATUS(state));
    else if (ended > 0)
        lyap_attempt_fail(attempt, "sendmail was ended by signal %d", WTERMSIG(state));
    else
        lyap_attempt_fail(attempt, "waitpid: %s", strerror(errno));
}
