/* AVX-512 without VBMI: the code by arithmetic (linear.h), 16 values at a time, for x of either dtype.
 *
 * A masked byte shuffle puts the codes of one part where the constant makes floats of them; two ports do all the work,
 * with 8 operations for 16 values.
 */
#include "linear.h"

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define LEVEL_ROWS d8_avx512_rows
#define v_zero _mm512_setzero_ps
#define v_load _mm512_loadu_ps
#define v_set1 _mm512_set1_ps
#define v_add _mm512_add_ps
#define v_fma _mm512_fmadd_ps
#define v_reduce_add _mm512_reduce_add_ps
enum { LANES = 16 };

typedef __m512 vec_t;
typedef struct {
    __m512 offset, slope, first;
} table_t;

TARGET INLINE table_t make_table(const decades_t *d) {
    return (table_t){_mm512_broadcast_f32x8(_mm256_loadu_ps(d->offset)),
                     _mm512_broadcast_f32x8(_mm256_loadu_ps(d->slope)), _mm512_set1_ps(d->first)};
}

TARGET INLINE int has_zero(const uint8_t *codes) {
    const __m512i q = _mm512_loadu_si512(codes);
    return _mm512_testn_epi8_mask(q, q) != 0;
}

/* Part i: the codes at bytes 4i ... 4i + 3 of each 128-bit lane */
TARGET INLINE __m512 decode(const uint8_t *codes, int i, const table_t *t, const int odd) {
    const __m512i spread = _mm512_set4_epi32(4 * i + 3, 4 * i + 2, 4 * i + 1, 4 * i);
    const __m512i bits = _mm512_mask_shuffle_epi8(_mm512_set1_epi32(MAGIC), 0x1111111111111111,
                                                  _mm512_loadu_si512(codes), spread);
    const __m512 f = _mm512_sub_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(MAGIC_ZERO));
    const __m512i e = _mm512_srli_epi32(_mm512_castps_si512(f), 23); /* the permutes read its low four bits */
    const __m512i offset = _mm512_castps_si512(_mm512_permutexvar_ps(e, t->offset));
    const __m512i sign = _mm512_set1_epi32((int)0x80000000);
    const __m512i signed_offset = _mm512_ternarylogic_epi32(offset, _mm512_castps_si512(f), sign, 0x78); /* a ^ (b & c) */
    const __m512 value = v_fma(_mm512_permutexvar_ps(e, t->slope), f, _mm512_castsi512_ps(signed_offset));
    if (!odd) return value;
    return _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask(f, v_set1(-4 * ZERO_CODE), _CMP_EQ_OQ), t->first);
}

#include "linear_decades.h"
#endif
