/* AVX-512 VBMI + BF16: the table as bytes in registers, looked up by permutes. K is a multiple of 64. */
#include "linear_planes.h"

#if defined(__x86_64__)
#define DOT(sum, w, address) sum = _mm512_dpbf16_ps(sum, (__m512bh)(w), (__m512bh)_mm512_loadu_si512(address))
#define MAD(sum, w, address) sum = _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_loadu_ps(address), sum)

/* How far ahead of the codes in use, of the same row or of the next ones in its place */
enum { NEAR = 512, FAR = 1024 };

/* A row of W is a page: R rows at once are R streams that the processor fetches ahead, and share what is read of x. With
 * one row at a time 22 GB/s came in where two threads read 24-27 plainly; four at once reach 27. */
#define FETCH_AHEAD(row, ahead, hint)                                                                                    \
    _mm_prefetch((const char *)(row) + (ahead) + ((ahead) < j->K ? 0 : (together - 1) * j->K), hint)

/* x (K / 64, M, 64) bf16 in order_of_words. R rows of W at once, whose blocks end together; SUMS to each of them. */
#define BF16_ROWS(NAME, M_, R_, SUMS)                                                                                    \
    VBMI static void NAME(const job_t *j, int64_t first, int64_t last, const void *x, int64_t m0, int64_t rows) {        \
        enum { together = R_ };                                                                                          \
        const bf16_table_t table = make_bf16_table(j->code);                                                             \
        for (int64_t n = first; n < last; n += R_) {                                                                     \
            const uint8_t *codes = j->codes + n * j->K;                                                                  \
            float total[R_][M_] = {0};                                                                                   \
            for (int64_t k = 0, end; k < j->K; k = end) {                                                                \
                const int64_t flat = n * j->K + k;                                                                       \
                end = min64(j->K, k + (flat / j->block_size + 1) * j->block_size - flat);                                \
                __m512 sum[R_][M_][SUMS];                                                                                \
                UNROLL for (int r = 0; r < R_; r++) UNROLL for (int m = 0; m < M_; m++) UNROLL                           \
                    for (int s = 0; s < SUMS; s++) sum[r][m][s] = _mm512_setzero_ps();                                   \
                UNROLL_TWICE for (; k < end; k += 64) {                                                                  \
                    const uint16_t *xk = (const uint16_t *)x + k * M_;                                                   \
                    UNROLL for (int r = 0; r < R_; r++) {                                                                \
                        __m512i a, b;                                                                                    \
                        FETCH_AHEAD(codes + r * j->K, k + NEAR, _MM_HINT_T0);                                            \
                        FETCH_AHEAD(codes + r * j->K, k + FAR, _MM_HINT_T1);                                             \
                        look_up_bf16(&table, codes + r * j->K + k, &a, &b);                                              \
                        UNROLL for (int m = 0; m < M_; m++) DOT(sum[r][m][0], a, xk + 64 * m);                           \
                        UNROLL for (int m = 0; m < M_; m++) DOT(sum[r][m][SUMS - 1], b, xk + 64 * m + 32);               \
                    }                                                                                                    \
                }                                                                                                        \
                UNROLL for (int r = 0; r < R_; r++) UNROLL for (int m = 0; m < M_; m++) {                                \
                    const __m512 both = SUMS == 1 ? sum[r][m][0] : _mm512_add_ps(sum[r][m][0], sum[r][m][SUMS - 1]);     \
                    total[r][m] += j->absmax[(flat + r * j->K) / j->block_size] * _mm512_reduce_add_ps(both);            \
                }                                                                                                        \
            }                                                                                                            \
            for (int64_t r = 0; r < R_; r++)                                                                             \
                for (int64_t m = 0; m < rows; m++) put(j, m0 + m, n + r, total[r][m]);                                   \
        }                                                                                                                \
    }
BF16_ROWS(bf16_1, 1, 1, 2)
BF16_ROWS(bf16_1_by_4, 1, 4, 2)
BF16_ROWS(bf16_2, 2, 1, 2)
BF16_ROWS(bf16_2_by_4, 2, 4, 2)
BF16_ROWS(bf16_4, 4, 1, 2)
BF16_ROWS(bf16_4_by_4, 4, 4, 1)
BF16_ROWS(bf16_8, 8, 1, 2)
BF16_ROWS(bf16_8_by_2, 8, 2, 1)

/* x (K / 64, M, 64) float32 in order_of_floats; the table keeps all four bytes of its values. */
#define F32_ROWS(NAME, M_)                                                                                               \
    VBMI static void NAME(const job_t *j, int64_t first, int64_t last, const void *x, int64_t m0, int64_t rows) {        \
        const plane_t p0 = make_plane(j->code, 4, 0), p1 = make_plane(j->code, 4, 1);                                    \
        const plane_t p2 = make_plane(j->code, 4, 2), p3 = make_plane(j->code, 4, 3);                                    \
        for (int64_t n = first; n < last; n++) {                                                                         \
            const uint8_t *codes = j->codes + n * j->K;                                                                  \
            float total[M_] = {0};                                                                                       \
            for (int64_t k = 0, end; k < j->K; k = end) {                                                                \
                const int64_t flat = n * j->K + k, block = flat / j->block_size;                                         \
                end = min64(j->K, k + (block + 1) * j->block_size - flat);                                               \
                __m512 sum[M_][2];                                                                                       \
                UNROLL for (int m = 0; m < M_; m++) sum[m][0] = sum[m][1] = _mm512_setzero_ps();                         \
                for (; k < end; k += 64) {                                                                               \
                    PREFETCH(codes + k, NEAR_BYTES, FAR_BYTES);                                                          \
                    const __m512i q = _mm512_loadu_si512(codes + k);                                                     \
                    const __m512i b0 = look_up(&p0, q), b1 = look_up(&p1, q), b2 = look_up(&p2, q), b3 = look_up(&p3, q); \
                    const __m512i l0 = _mm512_unpacklo_epi8(b0, b1), l1 = _mm512_unpackhi_epi8(b0, b1);                  \
                    const __m512i h0 = _mm512_unpacklo_epi8(b2, b3), h1 = _mm512_unpackhi_epi8(b2, b3);                  \
                    const __m512i w0 = _mm512_unpacklo_epi16(l0, h0), w1 = _mm512_unpackhi_epi16(l0, h0);                \
                    const __m512i w2 = _mm512_unpacklo_epi16(l1, h1), w3 = _mm512_unpackhi_epi16(l1, h1);                \
                    const float *xk = (const float *)x + k * M_;                                                         \
                    UNROLL for (int m = 0; m < M_; m++) {                                                                \
                        MAD(sum[m][0], w0, xk + 64 * m);                                                                 \
                        MAD(sum[m][1], w1, xk + 64 * m + 16);                                                            \
                        MAD(sum[m][0], w2, xk + 64 * m + 32);                                                            \
                        MAD(sum[m][1], w3, xk + 64 * m + 48);                                                            \
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

int d8_vbmi_serves(int dtype, const float *code, int64_t K) {
    return K % GROUP == 0 && (dtype == F32 || is_mirrored(code));
}

typedef void (*group_t)(const job_t *, int64_t, int64_t, const void *, int64_t, int64_t);

/* up to 8 rows of x at once in bf16, 4 in float32 */
static int largest_group(int dtype) { return dtype == F32 ? 4 : 8; }

/* The codes of a chunk stay in cache from one group of rows of x to the next. */
void d8_vbmi_rows(const job_t *j, int64_t first, int64_t last) {
    static const group_t by_f32[] = {f32_rows_1, f32_rows_2, f32_rows_4};
    static const group_t alone[] = {bf16_1, bf16_2, bf16_4, bf16_8};
    static const group_t many[] = {bf16_1_by_4, bf16_2_by_4, bf16_4_by_4, bf16_8_by_2};
    const int end_together = j->K % j->block_size == 0 || j->block_size % j->K == 0; /* the blocks of the rows of W */
    const char *x = j->x;
    for (int64_t m0 = 0; m0 < j->M;) {
        const int size = group_size(j->M - m0, largest_group(j->y_dtype)), kind = __builtin_ctz(size);
        const int64_t rows = min64(size, j->M - m0), middle = end_together ? last - (last - first) % 4 : first;
        if (j->y_dtype == F32) by_f32[kind](j, first, last, x, m0, rows);
        else {
            if (first < middle) many[kind](j, first, middle, x, m0, rows);
            if (middle < last) alone[kind](j, middle, last, x, m0, rows);
        }
        x += j->K * size * (j->y_dtype == F32 ? 4 : 2);
        m0 += size;
    }
}

/* x (M, K) -> groups of (K / 64, size, 64) in the order that the kernels unpack to; missing rows are zero */
void d8_vbmi_prepare(const void *x, int dtype, int64_t M, int64_t K, void *prepared) {
    float *floats = prepared;
    uint16_t *words = prepared;
    for (int64_t m0 = 0; m0 < M;) {
        const int size = group_size(M - m0, largest_group(dtype));
        for (int64_t k = 0; k < K; k += 64)
            for (int64_t m = m0; m < m0 + size; m++)
                for (int i = 0; i < 64; i++)
                    if (dtype == F32) *floats++ = m < M ? ((const float *)x)[m * K + k + order_of_floats(i)] : 0;
                    else *words++ = m < M ? ((const uint16_t *)x)[m * K + k + order_of_words(i)] : 0;
        m0 += size;
    }
}
#endif

