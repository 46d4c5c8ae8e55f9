/* Between floats and 8-bit blocks; equal to the pure-torch reference bit for bit. */
#include "dynamic8.h"

CLONES static void dequantize_block(const uint8_t *codes, float scale, const float *code, int64_t n, float *out) {
    for (int64_t i = 0; i < n; i++) out[i] = code[codes[i]] * scale;
}

CLONES static void round_bf16(const float *in, int64_t n, uint16_t *out) {
    for (int64_t i = 0; i < n; i++) out[i] = float_to_bf16(in[i]);
}

static void dequantize_plainly(const uint8_t *codes, float scale, const float *code, int64_t n, void *out, int dtype) {
    float values[4096];
    float *target = dtype == F32 ? out : values;
    dequantize_block(codes, scale, code, n, target);
    if (dtype == BF16) round_bf16(values, n, out);
}

/* out (n) F32 or BF16 = code[codes] * absmax, rounded once */
void d8_dequantize(int level, const uint8_t *codes, const float *absmax, const float *code, int64_t n, int64_t block_size,
                   void *out, int dtype, int threads) {
    enum { AT_ONCE = 64 };
    const int64_t blocks = (n + block_size - 1) / block_size, chunks = (blocks + AT_ONCE - 1) / AT_ONCE;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (chunks > 1)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        int64_t block = chunk * AT_ONCE;
        const int64_t last = min64(blocks, block + AT_ONCE), whole = min64(last, n / block_size);
#if defined(__x86_64__)
        if (level >= LEVEL_VBMI && whole > block) {
            const int64_t start = block * block_size;
            d8_vbmi_dequantize(codes + start, absmax + block, code, whole - block, block_size,
                               (char *)out + start * (dtype == F32 ? 4 : 2), dtype, dequantize_plainly);
            block = whole;
        }
#endif
        for (; block < last; block++) {
            const int64_t start = block * block_size;
            dequantize_plainly(codes + start, absmax[block], code, min64(block_size, n - start),
                               (char *)out + start * (dtype == F32 ? 4 : 2), dtype);
        }
    }
}

/* How many bounds lie below the value: the index of the nearest code, the lower one in a tie */
static int search(const float *bounds, float value) {
    int code = 0;
    for (int step = 128; step; step >>= 1) code += bounds[code + step - 1] < value ? step : 0;
    return code;
}

/* hint[p]: the code of the smallest float whose upper half is p. From there the right code is a step or two up. */
static void make_hints(const float *bounds, uint8_t hint[65536]) {
    for (uint32_t p = 0; p < 65536; p++) {
        const uint32_t bits = p >> 15 ? p << 16 | 0xffff : p << 16;
        float smallest;
        memcpy(&smallest, &bits, 4);
        hint[p] = isnan(smallest) ? 0 : (uint8_t)search(bounds, smallest);
    }
}

static void quantize_block(const float *in, float scale, const float *bounds, const uint8_t *hint, int64_t n,
                           uint8_t *out) {
    for (int64_t i = 0; i < n; i++) {
        const float value = in[i] * scale;
        uint32_t bits;
        memcpy(&bits, &value, 4);
        int code = hint[bits >> 16];
        while (bounds[code] < value) code++;
        out[i] = (uint8_t)code;
    }
}

/* codes (n), absmax (blocks) of weight (n) float32. Returns 0, or 1 when memory ran out. */
int d8_quantize(const float *weight, const float *code, int64_t n, int64_t block_size, uint8_t *codes, float *absmax,
                int threads) {
    const int64_t blocks = (n + block_size - 1) / block_size;
    uint8_t *hint = malloc(65536);
    float bounds[256];
    if (!hint) return 1;
    for (int i = 0; i < 255; i++) bounds[i] = (code[i] + code[i + 1]) / 2;
    bounds[255] = INFINITY;
    make_hints(bounds, hint);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16) if (blocks > 16)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t start = block * block_size, size = min64(block_size, n - start);
        float largest = 0;
        for (int64_t i = start; i < start + size; i++) largest = fabsf(weight[i]) > largest ? fabsf(weight[i]) : largest;
        absmax[block] = largest;
        quantize_block(weight + start, largest > 0 ? 1 / largest : 0, bounds, hint, size, codes + start);
    }
    free(hint);
    return 0;
}

/* out (count, D) float32 = the rows of W (V, D) that ids name */
void d8_embedding(const int64_t *ids, const uint8_t *codes, const float *absmax, const float *code, int64_t count,
                  int64_t D, int64_t block_size, float *out) {
    for (int64_t i = 0; i < count; i++)
        for (int64_t d = 0, end; d < D; d = end) {
            const int64_t flat = ids[i] * D + d, block = flat / block_size;
            end = min64(D, d + (block + 1) * block_size - flat);
            dequantize_block(codes + flat, absmax[block], code, end - d, out + i * D + d);
        }
}
