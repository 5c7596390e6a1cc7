/* Raw HTTP for benches. */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { START_SECONDS_MAX = 10, PIECES_A_CALL = 64 };

void bench_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "bench: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    exit(EXIT_FAILURE);
}

double bench_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bench_sort(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
}

double bench_median(double *values, size_t count)
{
    bench_sort(values, count);
    return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

static struct bench_daemon *running; /* stopped also when the bench dies */

static void stop_running(void)
{
    if (running)
        bench_daemon_stop(running);
}

static void show_log(const struct bench_daemon *daemon)
{
    char path[PATH_MAX], line[512];
    snprintf(path, sizeof path, "%s/lyapd.log", daemon->folder);
    FILE *log = fopen(path, "r");
    while (log && fgets(line, sizeof line, log))
        fputs(line, stderr);
    if (log)
        fclose(log);
}

/* Reads the line that says where lyapd listens. */
static void read_port(struct bench_daemon *daemon, FILE *output)
{
    static const char words[] = "listening on http://";
    char line[512];
    while (fgets(line, sizeof line, output)) {
        const char *at = strstr(line, words);
        const char *colon = at ? strchr(at + sizeof words - 1, ':') : NULL;
        if (!colon)
            continue;
        daemon->port = (uint16_t)strtoul(colon + 1, NULL, 10);
        snprintf(daemon->url, sizeof daemon->url, "http://127.0.0.1:%u", (unsigned)daemon->port);
        return;
    }
    show_log(daemon);
    bench_die("lyapd did not start");
}

static void run_daemon(const struct bench_daemon *daemon, const char *binary, int output)
{
    char db[PATH_MAX], log[PATH_MAX];
    snprintf(db, sizeof db, "%s/lyapd.db", daemon->folder);
    snprintf(log, sizeof log, "%s/lyapd.log", daemon->folder);
    const int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    dup2(output, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    execl(binary, binary, "--listen", "127.0.0.1:0", "--db", db, (char *)NULL);
    _exit(127);
}

void bench_daemon_start(struct bench_daemon *daemon, const char *binary, const char *folder)
{
    int ends[2];
    *daemon = (struct bench_daemon){ .pid = -1 };
    snprintf(daemon->folder, sizeof daemon->folder, "%s/lyapd-bench-XXXXXX", folder);
    if (!mkdtemp(daemon->folder) || pipe(ends) != 0)
        bench_die("%s: %s", daemon->folder, strerror(errno));
    daemon->pid = fork();
    if (daemon->pid < 0)
        bench_die("fork: %s", strerror(errno));
    if (daemon->pid == 0)
        run_daemon(daemon, binary, ends[1]);
    close(ends[1]);
    running = daemon;
    atexit(stop_running);
    FILE *output = fdopen(ends[0], "r");
    if (!output)
        bench_die("fdopen: %s", strerror(errno));
    read_port(daemon, output);
}

void bench_daemon_stop(struct bench_daemon *daemon)
{
    static const char *const files[] = { "lyapd.db", "lyapd.db-wal", "lyapd.db-shm",
                                         "lyapd.db.lock", "lyapd.log" };
    char path[PATH_MAX];
    if (daemon->pid <= 0)
        return;
    kill(daemon->pid, SIGTERM);
    waitpid(daemon->pid, NULL, 0);
    daemon->pid = -1;
    running = NULL;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", daemon->folder, files[i]);
        unlink(path);
    }
    rmdir(daemon->folder);
}

double bench_cpu_seconds(pid_t pid)
{
    struct timespec used;
    clockid_t clock;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        bench_die("no processor time of process %ld", (long)pid);
    return (double)used.tv_sec + 1e-9 * (double)used.tv_nsec;
}

uint64_t bench_minor_faults(pid_t pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "r");
    char *name_end = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    char *saved = NULL, *field = name_end ? strtok_r(name_end + 1, " ", &saved) : NULL;
    for (int i = 3; field && i < 10; i++) /* minflt is the tenth, see proc(5) */
        field = strtok_r(NULL, " ", &saved);
    if (file)
        fclose(file);
    if (!field)
        bench_die("no fault count of process %ld", (long)pid);
    return strtoull(field, NULL, 10);
}

uint64_t bench_daemon_rss(const struct bench_daemon *daemon)
{
    char path[64], line[256];
    uint64_t kib = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)daemon->pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kib = strtoull(line + 6, NULL, 10);
    if (file)
        fclose(file);
    return kib * 1024;
}

void bench_connect(struct bench_connection *connection, uint16_t port)
{
    const struct sockaddr_in address = { .sin_family = AF_INET,
                                         .sin_port = htons(port),
                                         .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const int one = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 ||
        connect(connection->fd, (const struct sockaddr *)&address, sizeof address) != 0)
        bench_die("port %u: %s", (unsigned)port, strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

void bench_close(struct bench_connection *connection)
{
    close(connection->fd);
    connection->fd = -1;
}

/* Sends all of the list; `pieces` is used up. */
static void send_all(int fd, struct iovec *pieces, int count)
{
    while (count > 0) {
        struct msghdr message = { .msg_iov = pieces,
                                  .msg_iovlen =
                                      count < PIECES_A_CALL ? (size_t)count : PIECES_A_CALL };
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            bench_die("send: %s", strerror(errno));
        while (count > 0 && (size_t)sent >= pieces->iov_len) {
            sent -= (ssize_t)pieces->iov_len;
            pieces++;
            count--;
        }
        if (count > 0) {
            pieces->iov_base = (char *)pieces->iov_base + sent;
            pieces->iov_len -= (size_t)sent;
        }
    }
}

/* Whether the answer is whole: as long as its Content-Length says, or its last chunk is there. */
static bool is_whole(char *reply, size_t length)
{
    static const char last_chunk[] = "\r\n0\r\n\r\n";
    const size_t last = sizeof last_chunk - 1;
    char *end = strstr(reply, "\r\n\r\n");
    if (!end)
        return false;
    *end = '\0'; /* only the head is searched */
    const char *field = strcasestr(reply, "\r\ncontent-length:");
    *end = '\r';
    if (field)
        return length >= (size_t)(end + 4 - reply) + strtoull(field + 17, NULL, 10);
    return length >= last && memcmp(reply + length - last, last_chunk, last) == 0;
}

static int read_answer(struct bench_connection *connection)
{
    size_t length = 0;
    do {
        const ssize_t got =
            read(connection->fd, connection->reply + length, BENCH_REPLY_BYTES_MAX - 1 - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            bench_die("the connection ended before the answer did, after %zu bytes", length);
        length += (size_t)got;
        connection->reply[length] = '\0';
    } while (!is_whole(connection->reply, length));
    return (int)strtol(connection->reply + sizeof "HTTP/1.1", NULL, 10);
}

size_t bench_header_close(char *header, size_t length)
{
    header[length++] = '}';
    while (length % 8)
        header[length++] = ' ';
    for (int i = 0; i < 8; i++)
        header[i] = (char)(unsigned char)((length - 8) >> (8 * i));
    return length;
}

int bench_exchange(struct bench_connection *connection, const char *method, const char *path,
                   const char *type, const struct iovec *pieces, int piece_count)
{
    char head[1024];
    size_t body = 0;
    struct iovec *all = malloc(((size_t)piece_count + 1) * sizeof *all);
    if (!all)
        bench_die("no memory");
    for (int i = 0; i < piece_count; i++) {
        all[i + 1] = pieces[i];
        body += pieces[i].iov_len;
    }
    const int length = snprintf(head, sizeof head,
                                "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\n"
                                "Prefer: return=minimal\r\nContent-Length: %zu\r\n\r\n",
                                method, path, type, body);
    all[0] = (struct iovec){ .iov_base = head, .iov_len = (size_t)length };
    send_all(connection->fd, all, piece_count + 1);
    free(all);
    return read_answer(connection);
}

void bench_send_text(struct bench_connection *connection, const char *method, const char *path,
                     const char *type, const char *text)
{
    const struct iovec piece = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) };
    const int status = bench_exchange(connection, method, path, type, &piece, 1);
    if (status < 200 || status >= 300)
        bench_die("%s %s: %s", method, path, connection->reply);
}
