/* A slower disk: loaded before libc (LD_PRELOAD), it makes every flush take SLOW_FLUSH_US longer. io_uring, which would
 * go around it, is refused: a broker then flushes in threads. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_longer(void) {
    static int us = -1;
    if (us < 0) us = getenv("SLOW_FLUSH_US") ? atoi(getenv("SLOW_FLUSH_US")) : 0;
    usleep((useconds_t)us);
}

#define SLOWED(name)                                              \
    int name(int fd) {                                            \
        static int (*real)(int);                                  \
        if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, #name); \
        int result = real(fd);                                    \
        wait_longer();                                            \
        return result;                                            \
    }

SLOWED(fsync)
SLOWED(fdatasync)
SLOWED(syncfs)

long syscall(long number, ...) {
    static long (*real)(long, ...);
    if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    va_list more;
    va_start(more, number);
    long a[6];
    for (int i = 0; i < 6; i++) a[i] = va_arg(more, long);
    va_end(more);
    if (number == SYS_io_uring_setup) {
        errno = ENOSYS;
        return -1;
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
