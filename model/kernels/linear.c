/* y = x W^T + bias for up to 16 rows of x, straight from the 8-bit codes.
 *
 * A weight is read from memory once for all rows; sums are float32. Exact to float32 rounding for float32 x; for bf16 x
 * the code table is rounded to bf16, as a dequantised bf16 weight would be.
 */
#include <stdatomic.h>

#include "dynamic8.h"

enum { MAX_ROWS = 16, CHUNK_BYTES = 256 * 1024, PREFETCH_BYTES = 4096, SEGMENT = 1024 };

typedef struct {
    const uint8_t *codes;
    const float *absmax, *code;
    const void *bias; /* NULL, or N values of bias_dtype */
    void *y;          /* (M, N) of y_dtype */
    const void *x;    /* prepared by the level: see its prepare function */
    int64_t M, N, K, block_size;
    int bias_dtype, y_dtype;
} job_t;

typedef void (*rows_t)(const job_t *job, int64_t first, int64_t last);

/* y[m][n] = sum + bias[n], rounded to y's dtype */
static inline void put(const job_t *j, int64_t m, int64_t n, float sum) {
    if (j->bias) sum += j->bias_dtype == F32 ? ((const float *)j->bias)[n] : bf16_to_float(((const uint16_t *)j->bias)[n]);
    if (j->y_dtype == F32) ((float *)j->y)[m * j->N + n] = sum;
    else ((uint16_t *)j->y)[m * j->N + n] = float_to_bf16(sum);
}

static void run_rows(rows_t rows, const job_t *job, int threads) {
    const int64_t step = job->K >= CHUNK_BYTES ? 1 : CHUNK_BYTES / job->K;
    const int64_t chunks = (job->N + step - 1) / step;
    if (threads <= 1 || chunks <= 1) {
        rows(job, 0, job->N);
        return;
    }
    _Atomic int64_t next = 0;
#pragma omp parallel num_threads(threads)
    for (int64_t chunk; (chunk = atomic_fetch_add(&next, 1)) < chunks;)
        rows(job, chunk * step, min64((chunk + 1) * step, job->N));
}

/* ---- portable: x is (M, K) float32 ------------------------------------------------------------------------------ */

CLONES static void portable_rows(const job_t *j, int64_t first, int64_t last) {
    const float *x = j->x;
    for (int64_t n = first; n < last; n++) {
        float total[MAX_ROWS] = {0};
        for (int64_t k = 0, end; k < j->K; k = end) {
            const int64_t flat = n * j->K + k, block = flat / j->block_size;
            end = min64(min64(j->K, k + (block + 1) * j->block_size - flat), k + SEGMENT);
            float w[SEGMENT];
            for (int64_t i = k; i < end; i++) w[i - k] = j->code[j->codes[n * j->K + i]];
            for (int64_t m = 0; m < j->M; m++) {
                const float *row = x + m * j->K + k;
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t i = 0; i < end - k; i++) sum += w[i] * row[i];
                total[m] += sum * j->absmax[block];
            }
        }
        for (int64_t m = 0; m < j->M; m++) put(j, m, n, total[m]);
    }
}


/* ---- AVX-512 VBMI + BF16: the table as bytes in registers, looked up by permutes ----------------------------------- */
#ifdef VBMI

typedef struct {
    __m512i low[4], high[4]; /* low and high bytes of 256 bf16 values */
} table_t;

/* Unpacking bytes to words goes by 128-bit lanes; x is stored in this order within each 64 so that both agree. */
static const uint8_t LANE_ORDER[64] = {
    0,  1,  2,  3,  4,  5,  6,  7,  16, 17, 18, 19, 20, 21, 22, 23, 32, 33, 34, 35, 36, 37,
    38, 39, 48, 49, 50, 51, 52, 53, 54, 55, 8,  9,  10, 11, 12, 13, 14, 15, 24, 25, 26, 27,
    28, 29, 30, 31, 40, 41, 42, 43, 44, 45, 46, 47, 56, 57, 58, 59, 60, 61, 62, 63};

VBMI static inline table_t make_table(const uint16_t value[256]) {
    uint8_t low[256], high[256];
    for (int i = 0; i < 256; i++) low[i] = value[i] & 255, high[i] = value[i] >> 8;
    table_t t;
    for (int i = 0; i < 4; i++) {
        t.low[i] = _mm512_loadu_si512(low + 64 * i);
        t.high[i] = _mm512_loadu_si512(high + 64 * i);
    }
    return t;
}

/* 64 codes -> 64 bf16 in two registers, in LANE_ORDER */
VBMI static inline void look_up(const table_t *t, __m512i codes, __m512i *a, __m512i *b) {
    const __mmask64 upper = _mm512_movepi8_mask(codes);
    const __m512i low = _mm512_mask_blend_epi8(upper, _mm512_permutex2var_epi8(t->low[0], codes, t->low[1]),
                                               _mm512_permutex2var_epi8(t->low[2], codes, t->low[3]));
    const __m512i high = _mm512_mask_blend_epi8(upper, _mm512_permutex2var_epi8(t->high[0], codes, t->high[1]),
                                                _mm512_permutex2var_epi8(t->high[2], codes, t->high[3]));
    *a = _mm512_unpacklo_epi8(low, high);
    *b = _mm512_unpackhi_epi8(low, high);
}

/* The nearest bf16 of each code, and the nearest bf16 of what that leaves out */
static void split_code(const float *code, uint16_t rounded[256], uint16_t rest[256]) {
    for (int i = 0; i < 256; i++) {
        rounded[i] = float_to_bf16(code[i]);
        rest[i] = float_to_bf16(code[i] - bf16_to_float(rounded[i]));
    }
}

#define DOT(sum, w, address) sum = _mm512_dpbf16_ps(sum, (__m512bh)(w), (__m512bh)_mm512_loadu_si512(address))
#define UNROLL _Pragma("GCC unroll 16")

/* x (K / 64, M, 64) bf16. GROUPS of 64 codes are in flight at once, each with sums of its own where registers allow. */
#define BF16_ROWS(NAME, M_, GROUPS)                                                                                      \
    VBMI static void NAME(const job_t *j, int64_t first, int64_t last, const uint16_t *x, int64_t m0, int64_t rows) {    \
        uint16_t rounded[256], rest[256];                                                                                \
        split_code(j->code, rounded, rest);                                                                              \
        const table_t t = make_table(rounded);                                                                           \
        for (int64_t n = first; n < last; n++) {                                                                         \
            const uint8_t *codes = j->codes + n * j->K;                                                                  \
            float total[M_] = {0};                                                                                       \
            for (int64_t k = 0, end; k < j->K; k = end) {                                                                \
                const int64_t flat = n * j->K + k, block = flat / j->block_size;                                         \
                end = min64(j->K, k + (block + 1) * j->block_size - flat);                                               \
                __m512 sum[GROUPS][M_];                                                                                  \
                UNROLL for (int g = 0; g < GROUPS; g++) UNROLL for (int m = 0; m < M_; m++) sum[g][m] =                  \
                    _mm512_setzero_ps();                                                                                 \
                for (; k + 64 * GROUPS <= end; k += 64 * GROUPS) {                                                       \
                    UNROLL for (int g = 0; g < GROUPS; g++) {                                                            \
                        __m512i a, b;                                                                                    \
                        _mm_prefetch((const char *)(codes + k + 64 * g + PREFETCH_BYTES), _MM_HINT_T0);                  \
                        look_up(&t, _mm512_loadu_si512(codes + k + 64 * g), &a, &b);                                     \
                        const uint16_t *xk = x + (k + 64 * g) * M_;                                                      \
                        UNROLL for (int m = 0; m < M_; m++) DOT(sum[g][m], a, xk + 64 * m);                              \
                        UNROLL for (int m = 0; m < M_; m++) DOT(sum[g][m], b, xk + 64 * m + 32);                         \
                    }                                                                                                    \
                }                                                                                                        \
                for (; k < end; k += 64) {                                                                               \
                    __m512i a, b;                                                                                        \
                    look_up(&t, _mm512_loadu_si512(codes + k), &a, &b);                                                  \
                    UNROLL for (int m = 0; m < M_; m++) DOT(sum[0][m], a, x + k * M_ + 64 * m);                          \
                    UNROLL for (int m = 0; m < M_; m++) DOT(sum[0][m], b, x + k * M_ + 64 * m + 32);                     \
                }                                                                                                        \
                UNROLL for (int m = 0; m < M_; m++) {                                                                    \
                    __m512 all = sum[0][m];                                                                              \
                    UNROLL for (int g = 1; g < GROUPS; g++) all = _mm512_add_ps(all, sum[g][m]);                         \
                    total[m] += j->absmax[block] * _mm512_reduce_add_ps(all);                                            \
                }                                                                                                        \
            }                                                                                                            \
            for (int64_t m = 0; m < rows; m++) put(j, m0 + m, n, total[m]);                                              \
        }                                                                                                                \
    }
BF16_ROWS(bf16_rows_1, 1, 4)
BF16_ROWS(bf16_rows_2, 2, 4)
BF16_ROWS(bf16_rows_4, 4, 2)
BF16_ROWS(bf16_rows_8, 8, 1)

/* float32 x as two bf16, (K / 64, M, 2, 64): the three largest of the four products carry 16 bits of mantissa each. */
#define F32_ROWS(NAME, M_)                                                                                               \
    VBMI static void NAME(const job_t *j, int64_t first, int64_t last, const uint16_t *x, int64_t m0, int64_t rows) {    \
        uint16_t rounded[256], rest[256];                                                                                \
        split_code(j->code, rounded, rest);                                                                              \
        const table_t t = make_table(rounded), u = make_table(rest);                                                     \
        for (int64_t n = first; n < last; n++) {                                                                         \
            const uint8_t *codes = j->codes + n * j->K;                                                                  \
            float total[M_] = {0};                                                                                       \
            for (int64_t k = 0, end; k < j->K; k = end) {                                                                \
                const int64_t flat = n * j->K + k, block = flat / j->block_size;                                         \
                end = min64(j->K, k + (block + 1) * j->block_size - flat);                                               \
                __m512 sum[M_][2];                                                                                       \
                UNROLL for (int m = 0; m < M_; m++) sum[m][0] = sum[m][1] = _mm512_setzero_ps();                         \
                for (; k < end; k += 64) {                                                                               \
                    __m512i a, b, c, d;                                                                                  \
                    const __m512i q = _mm512_loadu_si512(codes + k);                                                     \
                    _mm_prefetch((const char *)(codes + k + PREFETCH_BYTES), _MM_HINT_T0);                               \
                    look_up(&t, q, &a, &b);                                                                              \
                    look_up(&u, q, &c, &d);                                                                              \
                    const uint16_t *xk = x + 2 * k * M_;                                                                 \
                    UNROLL for (int m = 0; m < M_; m++) {                                                                \
                        DOT(sum[m][0], a, xk + 128 * m);                                                                 \
                        DOT(sum[m][0], b, xk + 128 * m + 32);                                                            \
                        DOT(sum[m][1], a, xk + 128 * m + 64);                                                            \
                        DOT(sum[m][1], b, xk + 128 * m + 96);                                                            \
                        DOT(sum[m][1], c, xk + 128 * m);                                                                 \
                        DOT(sum[m][1], d, xk + 128 * m + 32);                                                            \
                    }                                                                                                    \
                }                                                                                                        \
                UNROLL for (int m = 0; m < M_; m++) total[m] +=                                                          \
                    j->absmax[block] * _mm512_reduce_add_ps(_mm512_add_ps(sum[m][0], sum[m][1]));                        \
            }                                                                                                            \
            for (int64_t m = 0; m < rows; m++) put(j, m0 + m, n, total[m]);                                              \
        }                                                                                                                \
    }
F32_ROWS(f32_rows_1, 1)
F32_ROWS(f32_rows_2, 2)
F32_ROWS(f32_rows_4, 4)

typedef void (*group_t)(const job_t *, int64_t, int64_t, const uint16_t *, int64_t, int64_t);

/* The rows of x in groups of at most `widest`; the codes of a chunk stay in cache from one group to the next. */
static int next_group(int64_t left, int widest) {
    int size = 1;
    while (size < left && size < widest) size *= 2;
    return size;
}

static void vbmi_rows(const job_t *j, int64_t first, int64_t last, int parts) {
    static const group_t by_bf16[] = {bf16_rows_1, bf16_rows_2, bf16_rows_4, bf16_rows_8};
    static const group_t by_f32[] = {f32_rows_1, f32_rows_2, f32_rows_4};
    const uint16_t *x = j->x;
    for (int64_t m0 = 0; m0 < j->M;) {
        const int size = next_group(j->M - m0, parts == 1 ? 8 : 4), which = __builtin_ctz(size);
        (parts == 1 ? by_bf16 : by_f32)[which](j, first, last, x, m0, min64(size, j->M - m0));
        x += parts * j->K * size;
        m0 += size;
    }
}

static void vbmi_rows_bf16(const job_t *j, int64_t first, int64_t last) { vbmi_rows(j, first, last, 1); }
static void vbmi_rows_f32(const job_t *j, int64_t first, int64_t last) { vbmi_rows(j, first, last, 2); }

/* x (M, K) -> groups of (K / 64, size, parts, 64) bf16 in LANE_ORDER, missing rows zero */
static void vbmi_prepare(const void *x, int x_dtype, int64_t M, int64_t K, uint16_t *out) {
    const int parts = x_dtype == F32 ? 2 : 1;
    for (int64_t m0 = 0; m0 < M;) {
        const int size = next_group(M - m0, parts == 1 ? 8 : 4);
        for (int64_t k = 0; k < K; k += 64)
            for (int m = 0; m < size; m++)
                for (int i = 0; i < 64; i++, out++) {
                    const int64_t from = (m0 + m) * K + k + LANE_ORDER[i];
                    if (m0 + m >= M) *out = 0;
                    else if (parts == 1) *out = ((const uint16_t *)x)[from];
                    else {
                        const float value = ((const float *)x)[from];
                        *out = float_to_bf16(value);
                        out[64] = float_to_bf16(value - bf16_to_float(*out));
                    }
                    if (m0 + m >= M && parts == 2) out[64] = 0;
                    if (parts == 2 && i == 63) out += 64;
                }
        m0 += size;
    }
}
#endif

/* ---- the interface ------------------------------------------------------------------------------------------------ */

int d8_best_level(void) {
#ifdef VBMI
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return LEVEL_VBMI;
#endif
    return PORTABLE;
}

/* y (M, N) = x (M, K) W^T + bias, M <= 16; dtypes F32 or BF16. Returns 0, or 1 when memory ran out. */
int d8_linear(int level, const void *x, int x_dtype, const uint8_t *codes, const float *absmax, const float *code,
              int64_t block_size, const void *bias, int bias_dtype, void *y, int64_t M, int64_t N, int64_t K,
              int threads) {
    job_t job = {codes, absmax, code, bias, y, NULL, M, N, K, block_size, bias_dtype, x_dtype};
    void *prepared = NULL;
    rows_t rows = portable_rows;
#ifdef VBMI
    if (level == LEVEL_VBMI && K % 64 == 0) {
        prepared = aligned_alloc(64, (size_t)(2 * MAX_ROWS * K * 2));
        if (!prepared) return 1;
        vbmi_prepare(x, x_dtype, M, K, prepared);
        rows = x_dtype == F32 ? vbmi_rows_f32 : vbmi_rows_bf16;
    }
#endif
    if (!prepared && x_dtype == BF16) {
        float *wide = prepared = malloc((size_t)(M * K) * sizeof(float));
        if (!wide) return 1;
        for (int64_t i = 0; i < M * K; i++) wide[i] = bf16_to_float(((const uint16_t *)x)[i]);
    }
    job.x = prepared ? prepared : x;
    run_rows(rows, &job, threads);
    free(prepared);
    return 0;
}
