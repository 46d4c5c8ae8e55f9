/* AVX-512 VBMI + BF16: codes to floats, 64 at a time; bit for bit as storage.c does it. */
#include "linear_planes.h"

#if defined(__x86_64__)

/* On the way to bf16 the processor takes subnormal products for zero; scales so small go the plain way. */
#define SMALLEST_SCALE 1e-30f

/* 64 codes -> 64 values in order, times scale */
VBMI INLINE void look_up_floats(const plane_t *table, const uint8_t *codes, __m512 scale, __m512 *out) {
    const __m512i q = _mm512_loadu_si512(codes);
    const __m512i b0 = look_up(&table[0], q), b1 = look_up(&table[1], q), b2 = look_up(&table[2], q), b3 = look_up(&table[3], q);
    const __m512i l0 = _mm512_unpacklo_epi8(b0, b1), l1 = _mm512_unpackhi_epi8(b0, b1);
    const __m512i h0 = _mm512_unpacklo_epi8(b2, b3), h1 = _mm512_unpackhi_epi8(b2, b3);
    const __m512i w0 = _mm512_unpacklo_epi16(l0, h0), w1 = _mm512_unpackhi_epi16(l0, h0);
    const __m512i w2 = _mm512_unpacklo_epi16(l1, h1), w3 = _mm512_unpackhi_epi16(l1, h1);
    /* the quarters of the four change places, see order_of_floats */
    const __m512i a = _mm512_shuffle_i32x4(w0, w1, 0x44), c = _mm512_shuffle_i32x4(w0, w1, 0xee);
    const __m512i d = _mm512_shuffle_i32x4(w2, w3, 0x44), e = _mm512_shuffle_i32x4(w2, w3, 0xee);
    out[0] = _mm512_mul_ps(scale, _mm512_castsi512_ps(_mm512_shuffle_i32x4(a, d, 0x88)));
    out[1] = _mm512_mul_ps(scale, _mm512_castsi512_ps(_mm512_shuffle_i32x4(a, d, 0xdd)));
    out[2] = _mm512_mul_ps(scale, _mm512_castsi512_ps(_mm512_shuffle_i32x4(c, e, 0x88)));
    out[3] = _mm512_mul_ps(scale, _mm512_castsi512_ps(_mm512_shuffle_i32x4(c, e, 0xdd)));
}

/* Blocks of `size` codes; those that this cannot do, and what is left of a block beyond groups of 64, `rest` does. */
VBMI void d8_vbmi_dequantize(const uint8_t *codes, const float *absmax, const float *code, int64_t blocks, int64_t size,
                             void *out, int dtype, dequantize_t rest) {
    const plane_t table[] = {make_plane(code, 4, 0), make_plane(code, 4, 1), make_plane(code, 4, 2), make_plane(code, 4, 3)};
    const int64_t bytes = dtype == F32 ? 4 : 2;
    for (int64_t b = 0; b < blocks; b++, codes += size, out = (char *)out + size * bytes) {
        const __m512 factor = _mm512_set1_ps(absmax[b]);
        int64_t i = 0;
        for (; absmax[b] > SMALLEST_SCALE && i + GROUP <= size; i += GROUP) {
            __m512 v[4];
            look_up_floats(table, codes + i, factor, v);
            if (dtype == F32)
                for (int part = 0; part < 4; part++) _mm512_storeu_ps((float *)out + i + 16 * part, v[part]);
            else
                for (int half = 0; half < 2; half++)
                    _mm512_storeu_si512((uint16_t *)out + i + 32 * half,
                                        (__m512i)_mm512_cvtne2ps_pbh(v[2 * half + 1], v[2 * half]));
        }
        rest(codes + i, absmax[b], code, size - i, (char *)out + i * bytes, dtype);
    }
}
#endif
