// Preloaded by test_adversity.py: a wall clock that the test sets, and a disk that turns read-only, for one
// process. The file KEYTRAIL_SHIM holds two int64: seconds to add to the wall clock; 1: writing fails (EROFS)
// below the folder KEYTRAIL_SHIM_FOLDER. Clocks that nobody can set are left alone, as by settimeofday(2).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t* shared;
static const char* folder;

__attribute__((constructor)) static void Begin(void) {
  const char* path = getenv("KEYTRAIL_SHIM");
  folder = getenv("KEYTRAIL_SHIM_FOLDER");
  const int fd = path == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
  if (fd < 0) return;
  void* mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped != MAP_FAILED) shared = mapped;
}

static int64_t Offset(void) { return shared == NULL ? 0 : shared[0]; }

int clock_gettime(clockid_t id, struct timespec* t) {
  const int failed = (int)syscall(SYS_clock_gettime, id, t);
  if (failed == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += Offset();
  return failed;
}
int gettimeofday(struct timeval* t, void* zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  t->tv_sec = now.tv_sec;
  t->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t* t) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (t != NULL) *t = now.tv_sec;
  return now.tv_sec;
}

// Deadlines by the wall clock are later than 2001; those of the other clock count from the start of the host.
static struct timespec True(const struct timespec* until) {
  struct timespec t = *until;
  if (t.tv_sec > 1000000000) t.tv_sec -= Offset();
  return t;
}
int pthread_cond_timedwait(pthread_cond_t* c, pthread_mutex_t* m, const struct timespec* until) {
  static int (*real)(pthread_cond_t*, pthread_mutex_t*, const struct timespec*);
  if (real == NULL) *(void**)&real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  const struct timespec t = True(until);
  return real(c, m, &t);
}

static int ReadOnly(const char* path) {
  return shared != NULL && shared[1] != 0 && folder != NULL && strncmp(path, folder, strlen(folder)) == 0;
}
static int ReadOnlyFd(int fd) {
  if (shared == NULL || shared[1] == 0) return 0;
  char name[64];
  char path[4096];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  const ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, name, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return ReadOnly(path);
}
static int Refuse(void) {
  errno = EROFS;
  return -1;
}
ssize_t write(int fd, const void* p, size_t n) { return ReadOnlyFd(fd) ? Refuse() : syscall(SYS_write, fd, p, n); }
ssize_t pwrite64(int fd, const void* p, size_t n, off64_t at) {
  return ReadOnlyFd(fd) ? Refuse() : syscall(SYS_pwrite64, fd, p, n, at);
}
ssize_t pwrite(int fd, const void* p, size_t n, off_t at) { return pwrite64(fd, p, n, at); }
// What a program asks when it wants to know why writing failed.
int access(const char* path, int mode) {
  if ((mode & W_OK) && ReadOnly(path)) return Refuse();
  return (int)syscall(SYS_faccessat, AT_FDCWD, path, mode);
}
int open64(const char* path, int flags, ...) {
  mode_t mode = 0;
  if (flags & (O_CREAT | O_TMPFILE)) {
    va_list more;
    va_start(more, flags);
    mode = va_arg(more, mode_t);
    va_end(more);
  }
  if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && ReadOnly(path)) return Refuse();
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int open(const char* path, int flags, ...) __attribute__((alias("open64")));
