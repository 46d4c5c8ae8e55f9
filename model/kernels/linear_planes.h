/* The code table in registers, a byte of each value at a time, looked up by permutes: for the VBMI and AMX levels. */
#include "linear.h"

#if defined(__x86_64__)
#define VBMI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")))

typedef struct {
    __m512i part[4]; /* one byte of each of 256 values */
} plane_t;

/* Unpacking bytes to wider values goes by 128-bit lanes; x is stored in the order, within each 64, that results. */
static inline int order_of_words(int i) { return i % 8 + i / 8 % 4 * 16 + i / 32 * 8; }
static inline int order_of_floats(int i) { return i % 4 + i / 4 % 4 * 16 + i / 16 * 4; }

VBMI INLINE plane_t make_plane(const void *values, int size, int byte) {
    uint8_t bytes[256];
    for (int i = 0; i < 256; i++) bytes[i] = ((const uint8_t *)values)[i * size + byte];
    plane_t t;
    for (int i = 0; i < 4; i++) t.part[i] = _mm512_loadu_si512(bytes + 64 * i);
    return t;
}

/* 64 codes -> one byte of each value */
VBMI INLINE __m512i look_up(const plane_t *t, __m512i codes) {
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes),
                                  _mm512_permutex2var_epi8(t->part[0], codes, t->part[1]),
                                  _mm512_permutex2var_epi8(t->part[2], codes, t->part[3]));
}

/* The table rounded to bf16, as magnitudes in two planes of 128, found at |code - 127|: the dynamic code mirrors itself
 * about code 127, its zero. Code 255 (1.0) has no partner and takes the place of that zero; so does code 0 of tables
 * whose first entry old quantisers overwrote with -1.0. */
typedef struct {
    __m512i low[2], high[2];
    int odd_first;
} bf16_table_t;

/* Whether a bf16_table_t can hold a table. */
static inline int is_mirrored(const float *code) {
    int right = code[127] == 0 && code[255] > 0 && (code[0] == -code[254] || code[0] == -code[255]);
    for (int i = 1; i < 127; i++) right &= code[i] == -code[254 - i] && code[254 - i] > 0;
    return right & (code[254] > 0);
}

VBMI INLINE bf16_table_t make_bf16_table(const float *code) {
    uint8_t low[128], high[128];
    for (int i = 0; i < 128; i++) {
        const uint16_t rounded = float_to_bf16(code[i ? 127 + i : 255]);
        low[i] = (uint8_t)rounded;
        high[i] = (uint8_t)(rounded >> 8);
    }
    return (bf16_table_t){{_mm512_loadu_si512(low), _mm512_loadu_si512(low + 64)},
                          {_mm512_loadu_si512(high), _mm512_loadu_si512(high + 64)},
                          code[0] != -code[254]};
}

/* 64 codes -> 64 values in order_of_words, 32 to each of a and b. The permutes take the lowest 7 bits of a place, and two
 * ports do all the work: 10 operations (18 GB/s a thread in cache; 14 by looking all 256 values up). */
VBMI INLINE void look_up_bf16(const bf16_table_t *t, const uint8_t *codes, __m512i *a, __m512i *b) {
    const __m512i q = _mm512_loadu_si512(codes), zero = _mm512_set1_epi8(ZERO_CODE);
    __m512i at = _mm512_abs_epi8(_mm512_sub_epi8(q, zero));
    if (t->odd_first) at = _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(q, q), at);
    const __mmask64 other = _mm512_cmpneq_epi8_mask(q, zero);
    const __m512i l = _mm512_maskz_permutex2var_epi8(other, t->low[0], at, t->low[1]);
    const __m512i h = _mm512_maskz_permutex2var_epi8(other, t->high[0], at, t->high[1]);
    const __m512i sign = _mm512_set1_epi8((char)0x80), s = _mm512_ternarylogic_epi32(h, q, sign, 0xf2); /* h | (~q & sign) */
    *a = _mm512_unpacklo_epi8(l, s);
    *b = _mm512_unpackhi_epi8(l, s);
}
#endif
