/* Files of a database: file system, lock, size. */
#include "place.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lyap/alloc.h"

/* WAL needs memory shared between processes and locks that hold, which these do not promise.
 * Numbers of linux/magic.h and of the modules that lack an entry there. */
static const struct {
    uint64_t magic;
    const char *name;
} networks[] = {
    { 0x6969, "NFS" },          { 0x517B, "SMB" },        { 0xFF534D42, "CIFS" },
    { 0xFE534D42, "SMB2" },     { 0x564C, "NCP" },        { 0x01021997, "9p" },
    { 0x65735546, "FUSE" },     { 0x0BD00BD0, "Lustre" }, { 0x47504653, "GPFS" },
    { 0x00C36400, "Ceph" },     { 0x5346414F, "AFS" },    { 0x6B414653, "AFS" },
    { 0x73757245, "Coda" },     { 0x7461636F, "OCFS2" },  { 0x01161970, "GFS2" },
    { 0x19830326, "BeeGFS" },   { 0xAAD7AAEA, "PanFS" },  { 0x786F4256, "VirtualBox share" },
    { 0x20030528, "OrangeFS" }, { 0x013111A8, "IBRIX" },
};

const char *lyap_place_network_name(uint64_t magic)
{
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++)
        if (networks[i].magic == magic)
            return networks[i].name;
    return NULL;
}

char *lyap_place_name(const char *path, const char *suffix)
{
    const size_t bytes = strlen(path) + strlen(suffix) + 1;
    char *name = lyap_alloc_array(bytes, 1);
    if (name)
        (void)snprintf(name, bytes, "%s%s", path, suffix);
    return name;
}

enum lyap_status lyap_place_check(const char *path, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    struct statfs fs;
    char *copy = lyap_alloc_string(path);
    if (!copy)
        return LYAP_E_NOMEM;
    /* The file if it is there (it may be a link to elsewhere), else its directory. */
    const char *directory = dirname(copy);
    if (statfs(path, &fs) != 0 && statfs(directory, &fs) != 0) {
        status = lyap_error_set(reterr, LYAP_E_IO, "directory %s: %s", directory, strerror(errno));
    } else {
        /* f_type is signed on some machines; magic numbers have 32 bits. */
        const char *network = lyap_place_network_name((uint32_t)fs.f_type);
        if (network)
            status = lyap_error_set(reterr, LYAP_E_CONFLICT,
                                    "%s lies on %s, whose locks SQLite cannot rely on; "
                                    "use a local disk or force it",
                                    path, network);
    }
    lyap_free(copy);
    return status;
}

static enum lyap_status lock_failed(int fd, const char *name, struct lyap_error *reterr)
{
    if (errno != EAGAIN && errno != EACCES)
        return lyap_error_set(reterr, LYAP_E_IO, "lock %s: %s", name, strerror(errno));
    char owner[32] = "";
    const ssize_t length = pread(fd, owner, sizeof owner - 1, 0);
    if (length <= 0)
        (void)snprintf(owner, sizeof owner, "unknown");
    owner[strcspn(owner, "\n")] = '\0';
    return lyap_error_set(reterr, LYAP_E_BUSY, "another lyapd (process %s) holds %s", owner, name);
}

enum lyap_status lyap_place_lock(const char *path, int *ret_fd, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    char *name = lyap_place_name(path, ".lock");
    if (!name)
        return LYAP_E_NOMEM;
    const int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        status = lyap_error_set(reterr, LYAP_E_IO, "lock %s: %s", name, strerror(errno));
        goto out;
    }
    /* A lock of the open file, not of the process: it also keeps out a second store of this
     * process, and closing another descriptor of the file does not drop it. */
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        status = lock_failed(fd, name, reterr);
        close(fd);
        goto out;
    }
    /* For people and for the message of a second lyapd; failing to write it harms nothing. */
    if (ftruncate(fd, 0) == 0)
        (void)!dprintf(fd, "%ld\n", (long)getpid());
    *ret_fd = fd;
out:
    lyap_free(name);
    return status;
}

uint64_t lyap_place_bytes(const char *path, const char *wal_path)
{
    const char *const names[] = { path, wal_path };
    uint64_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        struct stat info;
        if (stat(names[i], &info) == 0)
            bytes += (uint64_t)info.st_size;
    }
    return bytes;
}
