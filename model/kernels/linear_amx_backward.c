/* AMX: gradients (M, N) times W, for any M. Tiles of 16 rows of gradients against tiles of W made of pairs of its rows.
 *
 * A scale of W belongs to one of its rows within a block of columns: it is multiplied into the gradients, once a block of
 * columns. Needs what d8_amx_serves says.
 */
#include <stdatomic.h>

#include "linear_tiles.h"

#if HAS_TILES

enum { COLUMNS = 256, ROWS = 256 }; /* of W at a time: their tiles stay in the second cache, those of x in the first */
enum { SUMS = 4 * TILE * TILE };    /* of a pair of tiles of gradients with a pair of W's */

typedef struct {
    const uint16_t *grad; /* (M, N) */
    const uint8_t *codes;
    const float *absmax, *code;
    uint16_t *out; /* (M, K) */
    char *scaled;  /* (N / ROWS, M / 32, ROWS / 32, 2) tiles */
    int64_t M, N, K, block_size;
} backward_t;

static int64_t pairs_of(int64_t n) { return (n + PAIR - 1) / PAIR; }

/* The tile of gradients m ..., n ..., each column times the absmax of W's row there in the block of column k */
AMX static void scale_tile(const backward_t *b, int64_t m, int64_t n, int64_t k, char *tile) {
    _Alignas(64) float scales[STEP];
    for (int64_t i = 0; i < STEP; i++) scales[i] = n + i < b->N ? b->absmax[((n + i) * b->K + k) / b->block_size] : 0;
    const __mmask32 there = b->N - n >= STEP ? ~0u : n < b->N ? (1u << (b->N - n)) - 1 : 0;
    for (int64_t i = 0; i < TILE; i++, tile += 64) {
        __m512i row = _mm512_setzero_si512();
        if (m + i < b->M) row = _mm512_maskz_loadu_epi16(there, b->grad + (m + i) * b->N + n);
        const __m512i low = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(row)), 16);
        const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(row, 1)), 16);
        _mm512_store_si512(tile, (__m512i)_mm512_cvtne2ps_pbh(
                                     _mm512_mul_ps(_mm512_castsi512_ps(high), _mm512_load_ps(scales + 16)),
                                     _mm512_mul_ps(_mm512_castsi512_ps(low), _mm512_load_ps(scales))));
    }
}

/* Rows n ... n + rows and columns k ... k + columns of W: for each 64 columns four tiles of 16, each of pairs of rows:
 * (columns / 16, ROWS / 32) tiles. Missing rows are zero. As unpacking leaves them, quarter q of tile t holds columns
 * 16 q + 8 (t / 2) + 4 (t % 2) and three more, see put_columns. */
AMX static void decode(const backward_t *b, const bf16_table_t table, int64_t n, int64_t rows, int64_t k, int64_t columns,
                       char *tiles) {
    if (rows < ROWS) memset(tiles, 0, (size_t)(columns / TILE * (ROWS / STEP) * TILE_BYTES));
    for (int64_t r = 0; r < rows; r += 2) {
        const uint8_t *even = b->codes + (n + r) * b->K + k;
        const uint8_t *odd = r + 1 < rows ? even + b->K : NULL;
        char *out = tiles + r / STEP * TILE_BYTES + r % STEP / 2 * 64;
        for (int64_t i = 0; i < columns; i += GROUP) {
            __m512i a, c, d = _mm512_setzero_si512(), e = d;
            _mm_prefetch((const char *)even + i + 8 * b->K, _MM_HINT_T1);
            _mm_prefetch((const char *)even + i + 9 * b->K, _MM_HINT_T1);
            look_up_bf16(&table, even + i, &a, &c);
            if (odd) look_up_bf16(&table, odd + i, &d, &e);
            const __m512i four[] = {_mm512_unpacklo_epi16(a, d), _mm512_unpackhi_epi16(a, d), _mm512_unpacklo_epi16(c, e),
                                    _mm512_unpackhi_epi16(c, e)};
            UNROLL for (int t = 0; t < 4; t++) _mm512_store_si512(out + t * (ROWS / STEP) * TILE_BYTES, four[t]);
            out += 4 * (ROWS / STEP) * TILE_BYTES;
        }
    }
    MEMORY_BARRIER();
}

/* sums (2, 2 tiles) += two tiles of gradients times two of W, over the rows of W that are decoded */
AMX INLINE void multiply(float *sums, const char *grads, const char *w) {
    const char *right = w + ROWS / STEP * TILE_BYTES;
    _tile_loadd(0, sums, 64);
    _tile_loadd(1, sums + TILE * TILE, 64);
    _tile_loadd(2, sums + 2 * TILE * TILE, 64);
    _tile_loadd(3, sums + 3 * TILE * TILE, 64);
    for (int64_t i = 0; i < ROWS / STEP * TILE_BYTES; i += TILE_BYTES) {
        _tile_loadd(4, grads + 2 * i, 64);
        _tile_loadd(6, w + i, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, right + i, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, grads + 2 * i + TILE_BYTES, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + TILE * TILE, 64);
    _tile_stored(2, sums + 2 * TILE * TILE, 64);
    _tile_stored(3, sums + 3 * TILE * TILE, 64);
}

/* 64 columns of up to 16 rows of the result, from the four tiles' rows: the quarters of the tiles change places */
AMX static void put_columns(const float *left, const float *right, int64_t rows, uint16_t *out, int64_t stride) {
    for (int64_t i = 0; i < rows; i++, out += stride) {
        const __m512 t0 = _mm512_load_ps(left + i * TILE), t1 = _mm512_load_ps(left + (TILE + i) * TILE);
        const __m512 t2 = _mm512_load_ps(right + i * TILE), t3 = _mm512_load_ps(right + (TILE + i) * TILE);
        const __m512 a = _mm512_shuffle_f32x4(t0, t1, 0x44), c = _mm512_shuffle_f32x4(t0, t1, 0xee);
        const __m512 d = _mm512_shuffle_f32x4(t2, t3, 0x44), e = _mm512_shuffle_f32x4(t2, t3, 0xee);
        const __m512 q0 = _mm512_shuffle_f32x4(a, d, 0x88), q1 = _mm512_shuffle_f32x4(a, d, 0xdd);
        const __m512 q2 = _mm512_shuffle_f32x4(c, e, 0x88), q3 = _mm512_shuffle_f32x4(c, e, 0xdd);
        _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(q1, q0));
        _mm512_storeu_si512(out + 32, (__m512i)_mm512_cvtne2ps_pbh(q3, q2));
    }
}

/* Columns k ... k + columns of the result */
AMX static void columns_of(const backward_t *b, int64_t k, int64_t columns, char *tiles, float *sums) {
    const bf16_table_t table = make_bf16_table(b->code);
    const int64_t pairs = pairs_of(b->M), across = columns / PAIR;
    memset(sums, 0, (size_t)(pairs * across * SUMS) * sizeof(float));
    configure();
    for (int64_t n = 0; n < b->N; n += ROWS) {
        decode(b, table, n, min64(ROWS, b->N - n), k, columns, tiles);
        for (int64_t m = 0; m < pairs; m++) {
            const char *grads = b->scaled + (n * pairs + m * ROWS) * PAIR * 2, *next = grads + ROWS * PAIR * 2;
            for (int64_t c = 0; c < across; c++) {
                fetch(next, ROWS * PAIR * 2 / TILE_BYTES, TILE_BYTES, TILE_BYTES, c, across); /* 0.9 of the time */
                multiply(sums + (m * across + c) * SUMS, grads, tiles + c * 2 * (ROWS / STEP) * TILE_BYTES);
            }
        }
    }
    _tile_release();
    MEMORY_BARRIER();
    for (int64_t m = 0; m < b->M; m += TILE)
        for (int64_t c = 0; c < across; c += 2) {
            const float *left = sums + (m / PAIR * across + c) * SUMS + m / TILE % 2 * 2 * TILE * TILE;
            put_columns(left, left + SUMS, min64(TILE, b->M - m), b->out + m * b->K + k + c * PAIR, b->K);
        }
}

/* out (M, K) = grad (M, N) W, both bf16. Returns 0, or 1 when memory ran out. */
int d8_amx_backward(const void *grad, const uint8_t *codes, const float *absmax, const float *code, int64_t block_size,
                    void *out, int64_t M, int64_t N, int64_t K, int threads) {
    const int64_t block = min64(block_size, K), tall = (N + ROWS - 1) / ROWS * ROWS, pairs = pairs_of(M);
    const int64_t scaled_bytes = pairs * PAIR * tall * 2, tiles_bytes = COLUMNS * ROWS * 2;
    const int64_t each = tiles_bytes + pairs * (COLUMNS / PAIR) * SUMS * (int64_t)sizeof(float);
    char *memory = aligned_alloc(4096, (size_t)((scaled_bytes + threads * each + 4095) / 4096 * 4096));
    if (!memory) return 1;
    const backward_t b = {grad, codes, absmax, code, out, memory, M, N, K, block_size};
    for (int64_t first = 0; first < K; first += block) {
        _Atomic int64_t next = first;
#pragma omp parallel num_threads(threads) if (threads > 1 && N * K >= 1 << 20)
        {
#pragma omp for schedule(dynamic, 8)
            for (int64_t n = 0; n < tall; n += STEP)
                for (int64_t m = 0; m < pairs * PAIR; m += TILE)
                    scale_tile(&b, m, n, first,
                               memory + (((n / ROWS * pairs + m / PAIR) * ROWS + n % ROWS) / STEP * 2 + m / TILE % 2) * TILE_BYTES);
            char *tiles = memory + scaled_bytes + omp_get_thread_num() * each;
            for (int64_t k; (k = atomic_fetch_add(&next, COLUMNS)) < first + block;)
                columns_of(&b, k, min64(COLUMNS, first + block - k), tiles, (float *)(tiles + tiles_bytes));
        }
    }
    free(memory);
    return 0;
}
#endif
