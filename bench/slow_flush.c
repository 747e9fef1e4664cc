/* LD_PRELOAD for bench/slow_storage.py: each fsync and fdatasync takes
 * FLUSH_DELAY_US microseconds longer, as on a disk across a network. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static int
delayed(const char *name, int descriptor)
{
	int (*call)(int) = (int (*)(int)) dlsym(RTLD_NEXT, name);
	const char *text = getenv("FLUSH_DELAY_US");
	long left = text ? atol(text) : 0;
	struct timespec pause = {left / 1000000, left % 1000000 * 1000};
	int result = call(descriptor);
	int saved = errno;

	while (nanosleep(&pause, &pause) == -1 && errno == EINTR)
		;
	errno = saved;
	return result;
}

int
fsync(int descriptor)
{
	return delayed("fsync", descriptor);
}

int
fdatasync(int descriptor)
{
	return delayed("fdatasync", descriptor);
}
