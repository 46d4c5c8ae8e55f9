/* All blocks of the model for rows that are one new token each of a conversation of its own, in one call.
 *
 * Between two products there is little to do, but beside streamed weights the interpreter's and torch's part of it is
 * out of cache each time: in one call a pass of four layers of 6B takes 0.96 of the time, of the embedded model 0.73.
 */
#include "linear.h"

enum { READS = 4 }; /* query, key, value and the MLP's inner rows come from the same normed rows */

/* What stays of a block from call to call; cpu_passes.py knows this layout */
typedef struct {
    const void *norm_weight, *norm_bias; /* of x's dtype */
    weight_t read[READS], attend, tell;
} block_t;

/* LayerNorm of one row of x, sums in float32 */
INLINE void norm_row(const void *x, const void *weight, const void *bias, int64_t width, float epsilon, void *out, int dtype) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += get(x, i, dtype);
    const float mean = sum / width;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; i++) {
        const float from_mean = get(x, i, dtype) - mean;
        squares += from_mean * from_mean;
    }
    const float scale = 1 / sqrtf(squares / width + epsilon);
#pragma omp simd
    for (int64_t i = 0; i < width; i++)
        set(out, i, dtype, (get(x, i, dtype) - mean) * scale * get(weight, i, dtype) + get(bias, i, dtype));
}

/* GELU by tanh, in place: 0.5 x (1 + tanh u) = x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
INLINE void gelu_part(void *x, int64_t first, int64_t last, int dtype) {
#pragma omp simd
    for (int64_t i = first; i < last; i++) {
        const float v = get(x, i, dtype), two_u = 2.302208198f * (v + 0.044715f * v * v * v); /* to the base 2 */
        const float e = exp2_of(-fabsf(two_u));
        set(x, i, dtype, v * (two_u < 0 ? e : 1) / (1 + e));
    }
}

/* x += a + b, rounded after each as torch does */
INLINE void add_both(void *x, const void *a, const void *b, int64_t count, int dtype) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        float sum = get(x, i, dtype) + get(a, i, dtype);
        if (dtype == BF16) sum = bf16_to_float(float_to_bf16(sum));
        set(x, i, dtype, sum + get(b, i, dtype));
    }
}

#define FOR_DTYPE(NAME, DTYPE)                                                                                           \
    CLONES static void norm_##NAME(const void *x, const block_t *b, int64_t width, float epsilon, void *out) {           \
        norm_row(x, b->norm_weight, b->norm_bias, width, epsilon, out, DTYPE);                                           \
    }                                                                                                                    \
    CLONES static void gelu_##NAME(void *x, int64_t first, int64_t last) { gelu_part(x, first, last, DTYPE); }           \
    CLONES static void add_##NAME(void *x, const void *a, const void *b, int64_t count) { add_both(x, a, b, count, DTYPE); }
FOR_DTYPE(f32, F32)
FOR_DTYPE(bf16, BF16)

enum { PARALLEL_VALUES = 64 * 1024 }; /* fewer activations are one thread's */

static void gelu(void *x, int64_t count, int dtype, int threads) {
    if (count < PARALLEL_VALUES) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int part = 0; part < threads; part++)
        (dtype == F32 ? gelu_f32 : gelu_bf16)(x, count * part / threads, count * (part + 1) / threads);
}

/* x (rows, heads * dim) of dtype F32 or BF16 through `count` blocks, in place; turns, buffers and past as in d8_attend.
 * Returns 0, or 1 when memory ran out: then x and the new token's place in the buffers are undefined. */
int d8_blocks(int level, int dtype, void *x, const block_t *blocks, int64_t count, float epsilon, const float *turns,
              void *const *buffers, const int64_t *past, int64_t rows, int64_t heads, int64_t dim, int64_t rotary,
              int64_t context, int threads) {
    const int64_t size = dtype == F32 ? 4 : 2, width = heads * dim, inner = blocks->read[READS - 1].N;
    const int64_t wide = (rows * width * size + 63) / 64 * 64, whole = 6 * wide + (rows * inner * size + 63) / 64 * 64;
    char *memory = aligned_alloc(64, (size_t)whole);
    if (!memory) return 1;
    char *normed = memory, *query = memory + wide, *key = memory + 2 * wide, *value = memory + 3 * wide;
    char *mixed = memory + 4 * wide, *told = memory + 5 * wide, *hidden = memory + 6 * wide;
    void *const reads[READS] = {query, key, value, hidden}, *const attended[] = {query}, *const telling[] = {told};
    int failed = 0;
    for (int64_t i = 0; i < count && !failed; i++) {
        const block_t *b = blocks + i;
        for (int64_t m = 0; m < rows; m++)
            (dtype == F32 ? norm_f32 : norm_bf16)((char *)x + m * width * size, b, width, epsilon, normed + m * width * size);
        failed = d8_linears(level, normed, dtype, b->read, READS, reads, rows, width, threads) ||
                 d8_attend(dtype, query, key, value, turns, buffers, past, mixed, i, rows, heads, dim, rotary, context,
                           threads) ||
                 d8_linears(level, mixed, dtype, &b->attend, 1, attended, rows, width, threads);
        if (failed) break;
        gelu(hidden, rows * inner, dtype, threads);
        failed = d8_linears(level, hidden, dtype, &b->tell, 1, telling, rows, inner, threads);
        (dtype == F32 ? add_f32 : add_bf16)(x, query, told, rows * width);
    }
    free(memory);
    return failed;
}
