/* What the AMX kernels share: 8 tile registers of 16 rows of 64 bytes, four of them sums. */
#include "linear_planes.h"

#if HAS_TILES
#include <omp.h>

#define AMX                                                                                                              \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,amx-tile,amx-bf16,amx-int8")))
/* GCC 12 does not know that its tile loads and stores touch memory. */
#define MEMORY_BARRIER() __asm__ volatile("" ::: "memory")

enum { TILE = 16, TILE_BYTES = 1024, STEP = 32 }; /* rows, bytes and bf16 columns of a tile */
enum { PAIR = 2 * TILE };

AMX INLINE void configure(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.row_bytes[i] = 64, config.rows[i] = TILE;
    _tile_loadconfig(&config);
}

#endif
