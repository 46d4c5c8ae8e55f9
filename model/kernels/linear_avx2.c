/* AVX2 and FMA: the code by arithmetic (linear.h), 8 values at a time, for x of either dtype.
 *
 * Unpacking with a constant makes floats of the codes within 128-bit lanes.
 */
#include "linear.h"

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2,fma")))
#define LEVEL_ROWS d8_avx2_rows
#define v_zero _mm256_setzero_ps
#define v_load _mm256_loadu_ps
#define v_set1 _mm256_set1_ps
#define v_add _mm256_add_ps
#define v_fma _mm256_fmadd_ps
enum { LANES = 8 };

typedef __m256 vec_t;
typedef struct {
    __m256 offset, slope, first;
} table_t;

TARGET INLINE table_t make_table(const decades_t *d) {
    return (table_t){v_load(d->offset), v_load(d->slope), v_set1(d->first)};
}

TARGET INLINE float v_reduce_add(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

TARGET INLINE int has_zero(const uint8_t *codes) {
    const __m256i a = _mm256_loadu_si256((const __m256i *)codes), b = _mm256_loadu_si256((const __m256i *)codes + 1);
    return _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(a, b), _mm256_setzero_si256())) != 0;
}

/* Part i: the codes at bytes 4 (i % 4) ... + 3 of each 128-bit lane of register i / 4 */
TARGET INLINE __m256 decode(const uint8_t *codes, int i, const table_t *t, const int odd) {
    const __m256i q = _mm256_loadu_si256((const __m256i *)codes + i / 4), none = _mm256_setzero_si256();
    const __m256i words = i % 4 < 2 ? _mm256_unpacklo_epi8(q, none) : _mm256_unpackhi_epi8(q, none);
    const __m256i high = _mm256_set1_epi16(MAGIC >> 16);
    const __m256i bits = i % 2 ? _mm256_unpackhi_epi16(words, high) : _mm256_unpacklo_epi16(words, high);
    const __m256 f = _mm256_sub_ps(_mm256_castsi256_ps(bits), v_set1(MAGIC_ZERO));
    const __m256i e = _mm256_srli_epi32(_mm256_castps_si256(f), 23); /* the permutes read its low three bits */
    const __m256 sign = _mm256_and_ps(f, v_set1(-0.0f));
    const __m256 offset = _mm256_xor_ps(_mm256_permutevar8x32_ps(t->offset, e), sign);
    const __m256 value = v_fma(_mm256_permutevar8x32_ps(t->slope, e), f, offset);
    if (!odd) return value;
    return _mm256_blendv_ps(value, t->first, _mm256_cmp_ps(f, v_set1(-4 * ZERO_CODE), _CMP_EQ_OQ));
}

#include "linear_decades.h"
#endif
