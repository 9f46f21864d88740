/* LD_PRELOAD library that counts the calls that change files below some folders and injects a fault at the n-th.

   fault_arm(paths, n, mode, error, lasting) starts to count at 0. paths: folders, each followed by a newline.
   mode 0: count only. 1: SIGKILL before the call. 2: half of a write, then SIGKILL. 3: the call fails with `error`;
   if `lasting`, all later calls that need space fail too. fault_last(): name and path of the n-th call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char folders[4096];
static long count, at;
static int mode, error_number, lasting, fired;
static char last[4400], kinds[1 << 16];

void fault_arm(const char *paths, long n, int how, int error, int forever) {
    snprintf(folders, sizeof folders, "%s", paths);
    count = 0; at = n; mode = how; error_number = error; lasting = forever; fired = 0; last[0] = 0;
}
void fault_disarm(void) { folders[0] = 0; }
const char *fault_last(void) { return last; }
const char *fault_kinds(void) { return kinds + 1; } /* the first letter of each call counted in mode 0 */

static int below(const char *path) {
    for (const char *p = folders; *p;) {
        const char *end = strchr(p, '\n');
        if (!end) return 0;
        size_t length = end - p;
        if (!strncmp(path, p, length) && (path[length] == '/' || !path[length])) return 1;
        p = end + 1;
    }
    return 0;
}
static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

/* 0: proceed; 1: fail with errno set; 2: write half, then kill */
static int step(const char *name, const char *path, int needs_room, int writes) {
    if (!folders[0] || !below(path)) return 0;
    long mine = __sync_add_and_fetch(&count, 1);
    if (mode == 0 && mine < (long)sizeof kinds) kinds[mine] = name[0];
    int here = mine == at;
    if (here) { fired = 1; snprintf(last, sizeof last, "%s %s", name, path); }
    if (mode == 1 && here) die();
    if (mode == 2 && here) { if (writes) return 2; die(); }
    if (mode == 3 && (here || (fired && lasting && needs_room))) { errno = error_number; return 1; }
    return 0;
}
static const char *name_of(int fd, char *buffer, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, buffer, size - 1);
    buffer[n > 0 ? n : 0] = 0;
    return buffer;
}
static const char *at_path(int fd, const char *path, char *buffer, size_t size) {
    if (path[0] == '/') return path;
    char base[2048];
    if (fd == AT_FDCWD) { if (!getcwd(base, sizeof base)) base[0] = 0; } else name_of(fd, base, sizeof base);
    snprintf(buffer, size, "%s/%s", base, path);
    return buffer;
}
#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)
#define ON_FD(name, room, writes) char b[4200]; int s = folders[0] ? step(name, name_of(fd, b, sizeof b), room, writes) : 0
#define ON_PATH(name, dir, path, room) char b[4200]; int s = folders[0] ? step(name, at_path(dir, path, b, sizeof b), room, 0) : 0

#define OPEN(symbol) int symbol(const char *path, int flags, ...) { \
    mode_t m = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); m = va_arg(a, mode_t); va_end(a); } \
    REAL(int, #symbol, const char *, int, ...); \
    if (flags & (O_CREAT | O_TRUNC)) { ON_PATH("open", AT_FDCWD, path, 1); if (s) return -1; } \
    return real(path, flags, m); }
OPEN(open)
OPEN(open64)
#define OPENAT(symbol) int symbol(int dir, const char *path, int flags, ...) { \
    mode_t m = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); m = va_arg(a, mode_t); va_end(a); } \
    REAL(int, #symbol, int, const char *, int, ...); \
    if (flags & (O_CREAT | O_TRUNC)) { ON_PATH("open", dir, path, 1); if (s) return -1; } \
    return real(dir, path, flags, m); }
OPENAT(openat)
OPENAT(openat64)
ssize_t write(int fd, const void *p, size_t n) {
    REAL(ssize_t, "write", int, const void *, size_t);
    ON_FD("write", 1, 1); if (s == 1) return -1; if (s == 2) { real(fd, p, n / 2); die(); }
    return real(fd, p, n);
}
#define PWRITE(symbol) ssize_t symbol(int fd, const void *p, size_t n, off_t o) { \
    REAL(ssize_t, #symbol, int, const void *, size_t, off_t); \
    ON_FD("pwrite", 1, 1); if (s == 1) return -1; if (s == 2) { real(fd, p, n / 2, o); die(); } \
    return real(fd, p, n, o); }
PWRITE(pwrite)
PWRITE(pwrite64)
ssize_t writev(int fd, const struct iovec *v, int n) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    ON_FD("writev", 1, 1); if (s == 1) return -1; if (s == 2) die();
    return real(fd, v, n);
}
int fsync(int fd) { REAL(int, "fsync", int); ON_FD("fsync", 1, 0); return s ? -1 : real(fd); }
int fdatasync(int fd) { REAL(int, "fdatasync", int); ON_FD("fdatasync", 1, 0); return s ? -1 : real(fd); }
int ftruncate(int fd, off_t n) { REAL(int, "ftruncate", int, off_t); ON_FD("ftruncate", 0, 0); return s ? -1 : real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(int, "ftruncate64", int, off64_t); ON_FD("ftruncate", 0, 0); return s ? -1 : real(fd, n); }
int truncate(const char *p, off_t n) { REAL(int, "truncate", const char *, off_t); ON_PATH("truncate", AT_FDCWD, p, 0); return s ? -1 : real(p, n); }
int truncate64(const char *p, off64_t n) { REAL(int, "truncate64", const char *, off64_t); ON_PATH("truncate", AT_FDCWD, p, 0); return s ? -1 : real(p, n); }
int posix_fallocate(int fd, off_t o, off_t n) { REAL(int, "posix_fallocate", int, off_t, off_t); ON_FD("fallocate", 1, 0); return s ? errno : real(fd, o, n); }
int posix_fallocate64(int fd, off64_t o, off64_t n) { REAL(int, "posix_fallocate64", int, off64_t, off64_t); ON_FD("fallocate", 1, 0); return s ? errno : real(fd, o, n); }
int rename(const char *a, const char *c) { REAL(int, "rename", const char *, const char *); ON_PATH("rename", AT_FDCWD, c, 0); return s ? -1 : real(a, c); }
int renameat(int d, const char *a, int e, const char *c) { REAL(int, "renameat", int, const char *, int, const char *); ON_PATH("rename", e, c, 0); return s ? -1 : real(d, a, e, c); }
/* removing a missing file and creating an existing folder change nothing, so they are not counted */
int unlink(const char *p) { REAL(int, "unlink", const char *); if (faccessat(AT_FDCWD, p, F_OK, AT_SYMLINK_NOFOLLOW)) return real(p); ON_PATH("unlink", AT_FDCWD, p, 0); return s ? -1 : real(p); }
int unlinkat(int d, const char *p, int f) { REAL(int, "unlinkat", int, const char *, int); if (faccessat(d, p, F_OK, AT_SYMLINK_NOFOLLOW)) return real(d, p, f); ON_PATH("unlink", d, p, 0); return s ? -1 : real(d, p, f); }
int rmdir(const char *p) { REAL(int, "rmdir", const char *); ON_PATH("rmdir", AT_FDCWD, p, 0); return s ? -1 : real(p); }
int mkdir(const char *p, mode_t m) { REAL(int, "mkdir", const char *, mode_t); if (!access(p, F_OK)) return real(p, m); ON_PATH("mkdir", AT_FDCWD, p, 1); return s ? -1 : real(p, m); }
int mkdirat(int d, const char *p, mode_t m) { REAL(int, "mkdirat", int, const char *, mode_t); if (!faccessat(d, p, F_OK, 0)) return real(d, p, m); ON_PATH("mkdir", d, p, 1); return s ? -1 : real(d, p, m); }
