/* What the files of the CPU kernels share. W[n][k] = code[codes[n*K + k]] * absmax[(n*K + k) / block_size].
 *
 * Plain C behind ctypes (cpu.py). Every operation exists in portable C, compiled once more for wider registers; the
 * hot ones also by hand in the levels below, chosen at run time. Loops over rows or blocks are claimed in chunks by OpenMP's threads (a
 * static split collapses beside a busy process).
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

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* n codes of one block to floats of dtype */
typedef void (*dequantize_t)(const uint8_t *codes, float scale, const float *code, int64_t n, void *out, int dtype);
void d8_vbmi_dequantize(const uint8_t *codes, const float *absmax, const float *code, int64_t blocks, int64_t size, void *out,
                        int dtype, dequantize_t rest);
