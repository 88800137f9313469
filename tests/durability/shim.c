/* Stands between a process and libc (LD_PRELOAD) and makes the calls that change files fail.
 *
 * Calls on files below one folder are counted. At the n-th the process is killed before it or in
 * the middle of it, or the call fails with an errno, once or from then on. Every call that was done
 * can be recorded, so that a disk that lost what was never synced can be made from the record. And
 * the wall clock can be set off. Everything is quiet until `shim_arm` is called.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { NOTHING, KILL, TEAR, FAIL_ONCE, FAIL_ON };

static char folder[PATH_MAX];
static int armed, action, error, record = -1;
static long at, calls;
static time_t skew;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static ssize_t raw_write(int fd, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    return real(fd, data, size);
}

void shim_arm(const char *below, int what, long number, int code, int record_fd) {
    strncpy(folder, below, sizeof folder - 1);
    action = what, at = number, error = code, record = record_fd;
    calls = 0;
    armed = 1;
}
void shim_disarm(void) { armed = 0; }
long shim_calls(void) { return calls; }
void shim_skew(long seconds) { skew = seconds; }

/* kind (x: the call failed), length of path, offset, length of data; then path and data. */
static void note(char kind, const char *path, uint64_t offset, const void *data, uint64_t size) {
    if (!armed || record < 0) return;
    uint64_t head[4] = {(uint64_t)kind, strlen(path), offset, size};
    raw_write(record, head, sizeof head);
    raw_write(record, path, head[1]);
    for (uint64_t done = 0; done < size;)
        done += raw_write(record, (const char *)data + done, size - done);
}
void shim_note(const char *text) { note('n', "", 0, text, strlen(text)); }

static int ours(const char *path) {
    return armed && path && !strncmp(path, folder, strlen(folder));
}
static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    path[size < 0 ? 0 : size] = 0;
    return size > 0;
}

/* Count a call. 0: do it. 1: do half of it, then call `torn`. -1: fail, errno is set. */
static int fate(void) {
    long number = __sync_add_and_fetch(&calls, 1);
    if (number == at && action == KILL) raise(SIGKILL);
    if (number == at && action == TEAR) return 1;
    if ((number == at && action == FAIL_ONCE) || (number > at && action == FAIL_ON)) {
        errno = error;
        return -1;
    }
    return number == at && action == FAIL_ON ? 1 : 0;
}
static void torn(void) {
    if (action == TEAR) raise(SIGKILL);
}

#define WRITE(name, type, offset_args, place, do_call) \
    ssize_t name(int fd, const void *data, size_t size offset_args) { \
        REAL(name); \
        char path[PATH_MAX]; \
        if (!armed || fd == record || !path_of(fd, path) || !ours(path)) return do_call(size); \
        uint64_t where = place; \
        int half = fate(); \
        if (half < 0) return -1; \
        ssize_t done = do_call(half && size > 1 ? size / 2 : size); \
        note(done > 0 ? 'w' : 'x', path, where, data, done > 0 ? done : 0); \
        if (half) torn(); \
        return done; \
    }
#define COMMA_OFF , off_t offset
#define COMMA_OFF64 , off64_t offset
#define PLAIN(n) real(fd, data, n)
#define PLACED(n) real(fd, data, n, offset)
WRITE(write, , , (uint64_t)lseek(fd, 0, SEEK_CUR), PLAIN)
WRITE(pwrite, , COMMA_OFF, (uint64_t)offset, PLACED)
WRITE(pwrite64, , COMMA_OFF64, (uint64_t)offset, PLACED)

#define ON_FD(name, params, do_call, kind, where) \
    int name params { \
        REAL(name); \
        char path[PATH_MAX]; \
        if (!armed || !path_of(fd, path) || !ours(path)) return do_call; \
        int half = fate(); \
        if (half < 0) return -1; \
        int result = do_call; \
        note(result == 0 ? kind : 'x', path, where, "", 0); \
        if (half) torn(); \
        return result; \
    }
ON_FD(fsync, (int fd), real(fd), 's', 0)
ON_FD(fdatasync, (int fd), real(fd), 's', 0)
ON_FD(ftruncate, (int fd, off_t size), real(fd, size), 't', (uint64_t)size)
ON_FD(ftruncate64, (int fd, off64_t size), real(fd, size), 't', (uint64_t)size)

#define ON_PATH(name, params, path, do_call, kind, data) \
    int name params { \
        REAL(name); \
        if (!ours(path)) return do_call; \
        int half = fate(); \
        if (half < 0) return -1; \
        int result = do_call; \
        note(result == 0 ? kind : 'x', path, 0, data, strlen(data)); \
        if (half) torn(); \
        return result; \
    }
ON_PATH(unlink, (const char *path), path, real(path), 'u', "")
ON_PATH(rename, (const char *path, const char *to), path, real(path, to), 'r', to)
ON_PATH(mkdir, (const char *path, mode_t mode), path, real(path, mode), 'm', "")

/* Only making a file changes anything; opening one that is there is not counted. */
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        struct stat info; \
        if (!ours(path) || !(flags & O_CREAT) || !stat(path, &info)) return real(path, flags, mode); \
        int half = fate(); \
        if (half < 0) return -1; \
        int fd = real(path, flags, mode); \
        note(fd >= 0 ? 'c' : 'x', path, 0, "", 0); \
        if (half) torn(); \
        return fd; \
    }
OPEN(open)
OPEN(open64)

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime);
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += skew;
    return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    now->tv_sec += skew;
    return result;
}
time_t time(time_t *now) {
    static time_t (*real)(time_t *);
    if (!real) real = dlsym(RTLD_NEXT, "time");
    time_t result = real(NULL) + skew;
    if (now) *now = result;
    return result;
}
