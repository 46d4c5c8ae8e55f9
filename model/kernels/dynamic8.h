/* What the files of the CPU kernels share. W[n][k] = code[codes[n*K + k]] * absmax[(n*K + k) / block_size].
 *
 * Plain C behind ctypes (cpu.py). Every operation exists in portable C, compiled once more for wider registers; the
 * hot ones also by hand in the levels below, chosen at run time. Loops over rows or blocks are claimed in chunks by
 * OpenMP's threads (a static split collapses beside a busy process).
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

enum level { PORTABLE, LEVEL_AVX2, LEVEL_AVX512, LEVEL_VBMI, LEVEL_AMX };
enum dtype { F32, BF16 };
enum { LINE = 64 }; /* of a cache, bytes */

static inline float bf16_to_float(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline uint16_t float_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

#define INLINE static inline __attribute__((always_inline))

INLINE float get(const void *x, int64_t i, int dtype) {
    return dtype == F32 ? ((const float *)x)[i] : bf16_to_float(((const uint16_t *)x)[i]);
}

INLINE void set(void *x, int64_t i, int dtype, float value) {
    if (dtype == F32) ((float *)x)[i] = value;
    else ((uint16_t *)x)[i] = float_to_bf16(value);
}

/* 2^x for x <= 0, to 2e-7 of itself; 0 below 2^-126 (Taylor of 2^f, |f| <= 1/2) */
INLINE float exp2_of(float x) {
    const float least = x < -127 ? -127 : x, whole = floorf(least + 0.5f), f = (least - whole) * 0.693147181f;
    const float p = 1 + f * (1 + f * (0.5f + f * (1.f / 6 + f * (1.f / 24 + f * (1.f / 120 + f * (1.f / 720))))));
    const uint32_t bits = (uint32_t)((int32_t)whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return p * scale;
}

/* 0.5 x (1 + tanh u) = x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
INLINE float gelu_of(float x) {
    const float two_u = 2.302208198f * (x + 0.044715f * x * x * x); /* to the base 2 */
    const float e = exp2_of(-fabsf(two_u));
    return x * (two_u < 0 ? e : 1) / (1 + e);
}

/* Of one head the first `rotary` entries, in pairs, each turned by its angle */
INLINE void turn_head(void *x, int64_t at, const float *turns, int64_t rotary, int dtype) {
#pragma omp simd
    for (int64_t i = 0; i < rotary / 2; i++) {
        const float even = get(x, at + 2 * i, dtype), odd = get(x, at + 2 * i + 1, dtype);
        set(x, at + 2 * i, dtype, even * turns[2 * i] - odd * turns[2 * i + 1]);
        set(x, at + 2 * i + 1, dtype, odd * turns[2 * i] + even * turns[2 * i + 1]);
    }
}

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* n codes of one block to floats of dtype */
typedef void (*dequantize_t)(const uint8_t *codes, float scale, const float *code, int64_t n, void *out, int dtype);
void d8_vbmi_dequantize(const uint8_t *codes, const float *absmax, const float *code, int64_t blocks, int64_t size, void *out,
                        int dtype, dequantize_t rest);
int d8_attend(int dtype, const void *query, const void *key, const void *value, const float *turns, void *const *buffers,
              const int64_t *past, void *out, int64_t layer, int64_t rows, int64_t heads, int64_t dim, int64_t rotary,
              int64_t context, int threads);
int64_t d8_attend_prompt_bytes(int level, int dtype, int64_t past, int64_t rows, int64_t dim, int threads);
void d8_attend_prompt(const void *query, const void *key, const void *value, const float *turns, void *keys, void *values,
                      int64_t past, void *out, int64_t rows, int64_t heads, int64_t dim, int64_t rotary, void *scratch,
                      int threads);
void d8_norm(int dtype, const void *x, const void *weight, const void *bias, int64_t rows, int64_t width, float epsilon,
             void *out, int threads);
void d8_turn(int dtype, void *x, const float *turns, int64_t rows, int64_t heads, int64_t dim, int64_t rotary, int threads);
void d8_gelu(int dtype, void *x, int64_t count, int threads);
void d8_add(int dtype, void *x, const void *a, const void *b, int64_t count, int threads);
void d8_take_pages(char *start, int64_t count, int64_t stride, int64_t bytes, int threads);
