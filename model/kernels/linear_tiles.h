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

/* 16 x 16 words, rows to columns */
AMX INLINE void transpose(__m512i *r) {
    __m512i t[16];
    UNROLL for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4) {
        UNROLL for (int h = 0; h < 2; h++) {
            r[i + 2 * h] = _mm512_unpacklo_epi64(t[i + h], t[i + 2 + h]);
            r[i + 2 * h + 1] = _mm512_unpackhi_epi64(t[i + h], t[i + 2 + h]);
        }
    }
    UNROLL for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

/* The products of two rows of tiles, `upper` and `lower`, with pairs of tiles of x, `span` columns */
AMX INLINE void multiply_two(const char *upper, const char *lower, const char *x, int64_t span) {
    for (int64_t i = 0; i < span / STEP * TILE_BYTES; i += TILE_BYTES) {
        _tile_loadd(4, upper + i, 64);
        _tile_loadd(6, x + 2 * i, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, x + 2 * i + TILE_BYTES, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, lower + i, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

AMX INLINE void zero_all(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

AMX INLINE void store_all(float (*products)[TILE * TILE]) {
    _tile_stored(0, products[0], 64);
    _tile_stored(1, products[1], 64);
    _tile_stored(2, products[2], 64);
    _tile_stored(3, products[3], 64);
    MEMORY_BARRIER();
}

/* To the second cache: of `count` rows of `bytes`, `stride` apart, the share `part` of `parts` */
AMX INLINE void fetch(const char *rows, int64_t count, int64_t bytes, int64_t stride, int64_t part, int64_t parts) {
    for (int64_t i = count * part / parts; i < count * (part + 1) / parts; i++)
        for (int64_t line = 0; line < bytes; line += LINE) _mm_prefetch(rows + i * stride + line, _MM_HINT_T1);
}
#endif
