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

/* The table rounded to bf16, in two planes */
typedef struct {
    plane_t low, high;
} bf16_table_t;

VBMI INLINE bf16_table_t make_bf16_table(const float *code) {
    uint16_t rounded[256];
    for (int i = 0; i < 256; i++) rounded[i] = float_to_bf16(code[i]);
    return (bf16_table_t){make_plane(rounded, 2, 0), make_plane(rounded, 2, 1)};
}

/* 64 codes -> 64 values in order_of_words, 32 to each of a and b */
VBMI INLINE void look_up_bf16(const bf16_table_t *t, const uint8_t *codes, __m512i *a, __m512i *b) {
    const __m512i q = _mm512_loadu_si512(codes);
    const __m512i l = look_up(&t->low, q), h = look_up(&t->high, q);
    *a = _mm512_unpacklo_epi8(l, h);
    *b = _mm512_unpackhi_epi8(l, h);
}
#endif
