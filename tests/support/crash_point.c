/* Preloaded by tests/faults/test_crash_points.py: counts the calls that change files under a
 * directory named checkpoints, and fails or kills the process at one of them.
 *
 * crash_at(n, error): the n-th call from now, counted from 1, is not made. With error 0 the process
 * is killed; otherwise that call and all after it fail with the error. crash_count(): calls since.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int count, at, error;

void crash_at(int n, int number) { atomic_store(&count, 0), atomic_store(&error, number), atomic_store(&at, n); }
int crash_count(void) { return atomic_load(&count); }

static int under(const char *path) { return path && strstr(path, "/checkpoints"); }

static int under_fd(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size <= 0) return 0;
  path[size] = 0;
  return under(path);
}

/* Whether this call is to fail; errno is set. */
static int crashes(int ours) {
  if (!ours || !atomic_load(&at) || atomic_fetch_add(&count, 1) + 1 < atomic_load(&at)) return 0;
  if (!atomic_load(&error)) raise(SIGKILL);
  errno = atomic_load(&error);
  return 1;
}

#define NEXT(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

#define PATH1(name) \
  int name(const char *p) { return crashes(under(p)) ? -1 : NEXT(int, #name, const char *)(p); }
#define FD1(name) \
  int name(int fd) { return crashes(under_fd(fd)) ? -1 : NEXT(int, #name, int)(fd); }
#define OPEN(name)                                                                  \
  int name(const char *p, int flags, ...) {                                         \
    va_list words;                                                                  \
    va_start(words, flags);                                                         \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(words, mode_t) : 0;        \
    va_end(words);                                                                  \
    if (crashes((flags & (O_CREAT | O_WRONLY | O_RDWR)) && under(p))) return -1;    \
    return NEXT(int, #name, const char *, int, mode_t)(p, flags, mode);             \
  }
#define OPENAT(name)                                                                \
  int name(int d, const char *p, int flags, ...) {                                  \
    va_list words;                                                                  \
    va_start(words, flags);                                                         \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(words, mode_t) : 0;        \
    va_end(words);                                                                  \
    int ours = under(p) || (p[0] != '/' && under_fd(d));                            \
    if (crashes((flags & (O_CREAT | O_WRONLY | O_RDWR)) && ours)) return -1;        \
    return NEXT(int, #name, int, const char *, int, mode_t)(d, p, flags, mode);     \
  }

PATH1(unlink) PATH1(rmdir) PATH1(remove) FD1(fsync) FD1(fdatasync)
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

int rename(const char *a, const char *b) {
  return crashes(under(b)) ? -1 : NEXT(int, "rename", const char *, const char *)(a, b);
}
int mkdir(const char *p, mode_t mode) {
  return crashes(under(p)) ? -1 : NEXT(int, "mkdir", const char *, mode_t)(p, mode);
}
int unlinkat(int d, const char *p, int flags) {
  int ours = under(p) || (p[0] != '/' && under_fd(d));
  return crashes(ours) ? -1 : NEXT(int, "unlinkat", int, const char *, int)(d, p, flags);
}
ssize_t write(int fd, const void *bytes, size_t size) {
  if (crashes(under_fd(fd))) return -1;
  return NEXT(ssize_t, "write", int, const void *, size_t)(fd, bytes, size);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t place) {
  if (crashes(under_fd(fd))) return -1;
  return NEXT(ssize_t, "pwrite64", int, const void *, size_t, off_t)(fd, bytes, size, place);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
  if (crashes(under_fd(fd))) return -1;
  return NEXT(ssize_t, "writev", int, const struct iovec *, int)(fd, parts, n);
}
