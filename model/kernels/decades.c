/* The fit of decades_t (linear.h) to a code table, and x in the order of the levels that use it. */
#include "linear.h"

/* How far a decoded value may be from the table's, as a part of it: the rounding of slope, offset and the table itself */
static const double TOLERANCE = 6e-7;

/* What the levels compute: one rounding of an exact product and sum */
static float decoded(const decades_t *d, int index) {
    const float f = (float)(4 * (index - ZERO_CODE));
    uint32_t bits;
    memcpy(&bits, &f, 4);
    const int e = bits >> 23 & 7;
    return (float)((double)d->slope[e] * f + (f < 0 ? -(double)d->offset[e] : (double)d->offset[e]));
}

/* Whether d was made to reproduce all 256 values of the table: 0 and the last exactly, the others to float32 rounding. */
int d8_fit_decades(const float *code, decades_t *d) {
    d->offset[0] = 0;
    d->slope[0] = code[255] / 512;
    for (int e = 1; e < 8; e++) { /* f is 4 * 2^(e - 1) ... 4 * (2^e - 1) */
        const int low = 1 << (e - 1), high = 2 * low - 1;
        const double bottom = code[ZERO_CODE + low], top = code[ZERO_CODE + high];
        d->slope[e] = high > low ? (float)((top - bottom) / (4 * (high - low))) : 0;
        d->offset[e] = (float)((bottom + top - (double)d->slope[e] * (4 * (low + high))) / 2);
    }
    d->first = code[0];
    if (code[ZERO_CODE] != 0 || decoded(d, 255) != code[255]) return 0;
    for (int i = 0; i < 256; i++) {
        const int off = !(fabs((double)decoded(d, i) - code[i]) <= TOLERANCE * fabs((double)code[i]));
        if (i == 0) d->odd_first = off;
        else if (off) return 0;
    }
    return 1;
}

/* x (M, K) -> float32 groups of (K / lanes, size, lanes), filled up with zeros to 64 columns and `size` rows. Codes are
 * spread within 128-bit lanes: vector v of 4 * lanes columns takes 4 columns from 4v, 4v + 16, 4v + 32 ... */
void d8_decades_prepare(const void *x, int dtype, int64_t M, int64_t K, int lanes, float *prepared) {
    for (int64_t m0 = 0; m0 < M;) {
        const int size = group_size(M - m0, DECADES_LARGEST);
        for (int64_t k = 0; k < K; k += GROUP)
            for (int v = 0; v < GROUP / lanes; v++)
                for (int64_t m = m0; m < m0 + size; m++)
                    for (int quad = 0; quad < lanes; quad += 4, prepared += 4) {
                        const int64_t from = k + v / 4 * 4 * lanes + v % 4 * 4 + 4 * quad;
                        for (int i = 0; i < 4; i++) {
                            if (m >= M || from + i >= K) prepared[i] = 0;
                            else if (dtype == F32) prepared[i] = ((const float *)x)[m * K + from + i];
                            else prepared[i] = bf16_to_float(((const uint16_t *)x)[m * K + from + i]);
                        }
                    }
        m0 += size;
    }
}
