/* AMX: tiles of 16 rows of W against tiles of 16 rows of x, bf16 in, float32 out; for any number of rows of x.
 *
 * W is the left operand, so that codes looked up along a row are rows of a tile as they come and only x, which is small,
 * is turned around (and takes the order that the look-up unpacks to). Values are unscaled: a block's sums are scaled when
 * the block ends. Needs K a multiple of 64 and blocks that rows begin and that are at least SMALLEST_BLOCK long.
 */
#include "linear_tiles.h"

#if HAS_TILES
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SMALLEST_BLOCK = 256 };
/* Few rows of x: rows of W and columns decoded at a time, as the first cache takes. Many: beside x, as the second takes;
 * the columns of a pair of x's tiles stay in the first. */
enum { FEW_ROWS = 32, FEW_SPAN = 64, MANY_ROWS = 256, MANY_SPAN = 256 };

/* Whether the processor has tiles of bf16 and the system lets this process use them; asks for them. */
int d8_amx_allowed(void) {
    enum { ARCH_GET_XCOMP_PERM = 0x1022, ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return 0; /* amx-bf16, amx-tile */
    unsigned long allowed = 0;
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA)) return 0;
    return !syscall(SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &allowed) && allowed >> TILE_DATA & 1;
}

int d8_amx_serves(int dtype, const float *code, int64_t K, int64_t block_size) {
    const int64_t block = min64(block_size, K);
    return dtype == BF16 && K % GROUP == 0 && K % block == 0 && block_size % block == 0 && block >= SMALLEST_BLOCK &&
           is_mirrored(code);
}

/* Rows of x that are laid out: whole tiles, and pairs of them where there is more than one. */
int64_t d8_amx_rows_of_x(int64_t M) { return M <= TILE ? TILE : (M + PAIR - 1) / PAIR * PAIR; }

/* Columns that are decoded at a time beside many rows of x; it divides a block and a row. */
static int64_t many_span(int64_t K, int64_t block_size) { return min64(MANY_SPAN, min64(block_size, K)); }

/* Columns k ... k + 64 of 16 rows of x from m on: two tiles, `stride` bytes apart, of (16, 16) pairs of columns, the rows
 * of x along the last axis, zeros for missing ones. */
AMX static void lay_out(const uint16_t *x, int64_t M, int64_t K, int64_t m, int64_t k, char *out, int64_t stride) {
    __m512i half[2][16];
    for (int i = 0; i < 16; i++) {
        const uint16_t *row = x + (m + i) * K + k;
        half[0][i] = m + i < M ? _mm512_loadu_si512(row) : _mm512_setzero_si512();
        half[1][i] = m + i < M ? _mm512_loadu_si512(row + 32) : _mm512_setzero_si512();
    }
    transpose(half[0]);
    transpose(half[1]);
    UNROLL for (int w = 0; w < 32; w++) {
        const int pair = order_of_words(2 * w) / 2; /* pairs of columns stay together */
        _mm512_store_si512(out + w / 16 * stride + w % 16 * 64, half[pair / 16][pair % 16]);
    }
}

/* One tile of rows: (K / 32) tiles. More: (K / span, M / 32, span / 32, 2) tiles, in the order that they are read in. */
AMX void d8_amx_prepare(const void *x, int64_t M, int64_t K, int64_t block_size, void *prepared, int threads) {
    const int64_t rows = d8_amx_rows_of_x(M), pairs = rows / PAIR, span = rows == TILE ? K : many_span(K, block_size);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1 && M * K >= 1 << 18)
    for (int64_t m = 0; m < rows; m += TILE)
        for (int64_t k = 0; k < K; k += GROUP)
            if (rows == TILE) lay_out(x, M, K, m, k, (char *)prepared + k / STEP * TILE_BYTES, TILE_BYTES);
            else
                lay_out(x, M, K, m, k,
                        (char *)prepared + (((k / span * pairs + m / PAIR) * span + k % span) / STEP * 2 + m / TILE % 2) * TILE_BYTES,
                        2 * TILE_BYTES);
}

/* Columns k ... k + span of rows n ... n + rows: (rows / 16, span / 32) tiles; `ahead` are the bytes from a code to one that
 * will be wanted, 0 where somebody else fetches it. */
AMX static void decode(const job_t *j, const bf16_table_t table, int64_t n, int64_t rows, int64_t k, int64_t span,
                       int64_t ahead, char *tiles) {
    for (int64_t r = 0; r < rows; r++) {
        const uint8_t *codes = j->codes + (n + r) * j->K + k;
        char *out = tiles + r / TILE * (span / STEP) * TILE_BYTES + r % TILE * 64;
        for (int64_t i = 0; i < span; i += GROUP, out += 2 * TILE_BYTES) {
            __m512i a, b;
            if (ahead) _mm_prefetch((const char *)codes + i + ahead, _MM_HINT_T1);
            look_up_bf16(&table, codes + i, &a, &b);
            _mm512_store_si512(out, a);
            _mm512_store_si512(out + TILE_BYTES, b);
        }
    }
    MEMORY_BARRIER();
}

/* sums (16 rows of W, 16 of x) += scales of the rows of W x products */
AMX INLINE void add_scaled(float *sums, const float *products, const float *scales) {
    UNROLL for (int i = 0; i < TILE * TILE; i += TILE)
        _mm512_store_ps(sums + i, _mm512_fmadd_ps(_mm512_set1_ps(scales[i / TILE]), _mm512_load_ps(products + i),
                                                  _mm512_load_ps(sums + i)));
}

/* 16 values of the bias from n on; 0 where there are none */
AMX INLINE __m512 bias_from(const job_t *j, int64_t n) {
    if (!j->bias || n >= j->N) return _mm512_setzero_ps();
    const __mmask16 there = (__mmask16)((1u << min64(TILE, j->N - n)) - 1);
    if (j->bias_dtype == F32) return _mm512_maskz_loadu_ps(there, (const float *)j->bias + n);
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, (const uint16_t *)j->bias + n)), 16));
}

/* GELU of 32 values, rounded to bf16 before, as y by itself would be: a prompt takes 502 ms where a
 * pass of its own made it 524 */
AMX INLINE __m512i gelu_of_pair(__m512i y) {
    _Alignas(64) uint16_t values[PAIR];
    _Alignas(64) float floats[PAIR];
    _mm512_store_si512(values, y);
#pragma omp simd
    for (int i = 0; i < PAIR; i++) floats[i] = gelu_of(bf16_to_float(values[i]));
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(floats + TILE), _mm512_load_ps(floats));
}

/* y[m ... m + 16][n ... n + 32] = two tiles of sums (16 rows of W, 16 of x) turned around, + bias, rounded: lines of the
 * cache as a whole, 2-3 % of a product faster than by halves */
AMX static void put_pair(const job_t *j, int64_t m, int64_t n, const float *upper, const float *lower) {
    const int64_t rows = min64(TILE, j->M - m), columns = min64(PAIR, j->N - n);
    const __mmask32 there = (__mmask32)((1ull << columns) - 1);
    const __m512 bias[] = {bias_from(j, n), bias_from(j, n + TILE)};
    __m512i t[2][16];
    UNROLL for (int i = 0; i < 16; i++) {
        t[0][i] = _mm512_load_si512(upper + i * TILE);
        t[1][i] = _mm512_load_si512(lower + i * TILE);
    }
    transpose(t[0]);
    transpose(t[1]);
    for (int64_t i = 0; i < rows; i++) {
        const __m512 left = _mm512_add_ps(_mm512_castsi512_ps(t[0][i]), bias[0]);
        const __m512 right = _mm512_add_ps(_mm512_castsi512_ps(t[1][i]), bias[1]);
        const __m512i y = (__m512i)_mm512_cvtne2ps_pbh(right, left);
        _mm512_mask_storeu_epi16((uint16_t *)j->y + (m + i) * j->N + n, there, j->gelu ? gelu_of_pair(y) : y);
    }
}

/* The products of two tiles of W's rows with one tile of x's, even and odd steps apart so that sums do not wait. */
AMX INLINE void multiply_one(const char *w, const char *x, int64_t span) {
    const char *lower = w + span / STEP * TILE_BYTES;
    for (int64_t i = 0; i < span / STEP * TILE_BYTES; i += 2 * TILE_BYTES) {
        _tile_loadd(6, x + i, 64);
        _tile_loadd(4, w + i, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, lower + i, 64);
        _tile_dpbf16ps(1, 5, 6);
        _tile_loadd(7, x + i + TILE_BYTES, 64);
        _tile_loadd(4, w + i + TILE_BYTES, 64);
        _tile_dpbf16ps(2, 4, 7);
        _tile_loadd(5, lower + i + TILE_BYTES, 64);
        _tile_dpbf16ps(3, 5, 7);
    }
}

/* absmax of the block that column k is in, of each row from n on; 0 for rows that are not there */
static void read_scales(const job_t *j, int64_t n, int64_t rows, int64_t k, float *scales) {
    for (int64_t r = 0; r < rows; r++) scales[r] = n + r < j->N ? j->absmax[((n + r) * j->K + k) / j->block_size] : 0;
}

/* One tile of x's rows: the sums of a block stay in the tile registers while its columns are decoded in parts. */
AMX static void few(const job_t *j, int64_t n, char *tiles) {
    const bf16_table_t table = make_bf16_table(j->code);
    const int64_t block = min64(j->block_size, j->K), rows = min64(FEW_ROWS, j->N - n);
    _Alignas(64) float products[4][TILE * TILE], sums[2][TILE * TILE] = {0}, scales[FEW_ROWS];
    for (int64_t k = 0; k < j->K; k += block) {
        zero_all();
        for (int64_t part = k, span; part < k + block; part += span) {
            span = min64(FEW_SPAN, k + block - part);
            const int64_t next = part + span < j->K ? span : FEW_ROWS * j->K - part;
            decode(j, table, n, rows, part, span, next, tiles);
            multiply_one(tiles, (const char *)j->x + part / STEP * TILE_BYTES, span);
        }
        store_all(products);
        read_scales(j, n, FEW_ROWS, k, scales);
        for (int i = 0; i < 4; i++) add_scaled(sums[i % 2], products[i], scales + i % 2 * TILE);
    }
    put_pair(j, 0, n, sums[0], sums[1]);
}

/* Any number of x's rows: some columns of some rows of W are decoded once and meet all of x. Beside the products the next
 * rows of x are fetched (512 rows: 0.9 of the time), and where they take long, the codes of two parts ahead (0.97; of few
 * rows while decoding, or the products would wait for them). */
AMX static void many(const job_t *j, int64_t n, char *tiles, float *sums) {
    enum { FOUR = 4 * TILE * TILE, LONG = 16 };
    const bf16_table_t table = make_bf16_table(j->code);
    const int64_t span = many_span(j->K, j->block_size), rows = min64(MANY_ROWS, j->N - n);
    const int64_t pairs = d8_amx_rows_of_x(j->M) / PAIR, across = (rows + PAIR - 1) / PAIR, pair_bytes = span * PAIR * 2;
    _Alignas(64) float products[4][TILE * TILE], scales[MANY_ROWS];
    memset(sums, 0, (size_t)(MANY_ROWS / PAIR * pairs * FOUR) * sizeof(float));
    for (int64_t k = 0; k < j->K; k += span) {
        const int64_t ahead = 2 * span + (k + 2 * span < j->K ? 0 : (MANY_ROWS - 1) * j->K); /* two parts */
        const char *codes = (const char *)j->codes + n * j->K + k;
        decode(j, table, n, rows, k, span, pairs < LONG ? ahead : 0, tiles);
        read_scales(j, n, MANY_ROWS, k, scales);
        for (int64_t m = 0; m < pairs; m++) {
            const char *x = (const char *)j->x + (k * pairs + m * span) * PAIR * 2;
            for (int64_t r = 0; r < across; r++) {
                float *to = sums + (m * (MANY_ROWS / PAIR) + r) * FOUR;
                const char *upper = tiles + r * pair_bytes;
                fetch(x + pair_bytes, pair_bytes / TILE_BYTES, TILE_BYTES, TILE_BYTES, r, across);
                if (pairs >= LONG) fetch(codes + ahead, rows, span, j->K, m * across + r, pairs * across);
                zero_all();
                multiply_two(upper, upper + pair_bytes / 2, x, span);
                store_all(products);
                for (int i = 0; i < 4; i++) add_scaled(to + i * TILE * TILE, products[i], scales + r * PAIR + i / 2 * TILE);
            }
        }
    }
    for (int64_t m = 0; m < j->M; m += TILE)
        for (int64_t r = 0; r < rows; r += PAIR) {
            const float *upper = sums + ((m / PAIR * (MANY_ROWS / PAIR) + r / PAIR) * 4 + m / TILE % 2) * TILE * TILE;
            put_pair(j, m, n + r, upper, upper + 2 * TILE * TILE);
        }
}

int64_t d8_amx_step(int64_t M) { return M <= TILE ? FEW_ROWS : MANY_ROWS; }

static int64_t tiles_bytes(int64_t M) { return M <= TILE ? FEW_ROWS * FEW_SPAN * 2 : MANY_ROWS * MANY_SPAN * 2; }

/* What a thread needs: the decoded tiles, and the sums where they do not stay in registers */
int64_t d8_amx_scratch_bytes(int64_t M) {
    return tiles_bytes(M) + (M <= TILE ? 0 : MANY_ROWS * d8_amx_rows_of_x(M) * (int64_t)sizeof(float));
}

AMX void d8_amx_rows(const job_t *j, int64_t first, int64_t last) {
    char *tiles = j->scratch + omp_get_thread_num() * d8_amx_scratch_bytes(j->M);
    configure();
    for (int64_t n = first; n < last; n += d8_amx_step(j->M))
        if (j->M <= TILE) few(j, n, tiles);
        else many(j, n, tiles, (float *)(tiles + tiles_bytes(j->M)));
    _tile_release();
}
#endif
