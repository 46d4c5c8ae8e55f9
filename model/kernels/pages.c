/* Memory that is about to be written: its pages asked for together. A fault for each costs twice as much, and a long
 * prompt's keys and values are fresh memory. */
#define _GNU_SOURCE
#include "dynamic8.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#if !defined(MADV_POPULATE_WRITE)
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; older kernels refuse it, and pages come when they are touched */
#endif

enum { PARALLEL_BYTES = 1 << 20 };

/* The whole pages within [start + i stride, start + i stride + bytes) for each i < count */
void d8_take_pages(char *start, int64_t count, int64_t stride, int64_t bytes, int threads) {
#if defined(__linux__)
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1 && count * bytes >= PARALLEL_BYTES)
    for (int64_t i = 0; i < count; i++) {
        const uintptr_t from = ((uintptr_t)start + i * stride + page - 1) / page * page;
        const uintptr_t to = ((uintptr_t)start + i * stride + bytes) / page * page;
        if (to > from) madvise((void *)from, to - from, MADV_POPULATE_WRITE);
    }
#endif
}
