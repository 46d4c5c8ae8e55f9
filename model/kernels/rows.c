/* What a block does to rows of activations between its products: LayerNorm, rotary, GELU, sums. Sums are float32. */
#include "dynamic8.h"

enum { CHUNK_VALUES = 16 * 1024 };
enum { PARALLEL_VALUES = 64 * 1024 }; /* fewer are one thread's: waiting for a second one costs more */

static int enough(int threads, int64_t values) { return values < PARALLEL_VALUES ? 1 : threads; }

/* LayerNorm of one row of x */
INLINE void norm_row(const void *x, int64_t at, const void *weight, const void *bias, int64_t width, float epsilon, void *out,
                     int dtype) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < width; i++) sum += get(x, at + i, dtype);
    const float mean = sum / width;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; i++) {
        const float from_mean = get(x, at + i, dtype) - mean;
        squares += from_mean * from_mean;
    }
    const float scale = 1 / sqrtf(squares / width + epsilon);
#pragma omp simd
    for (int64_t i = 0; i < width; i++)
        set(out, at + i, dtype, (get(x, at + i, dtype) - mean) * scale * get(weight, i, dtype) + get(bias, i, dtype));
}

INLINE void gelu_part(void *x, int64_t first, int64_t last, int dtype) {
#pragma omp simd
    for (int64_t i = first; i < last; i++) set(x, i, dtype, gelu_of(get(x, i, dtype)));
}

/* x += a + b, rounded after each as torch does */
INLINE void add_part(void *x, const void *a, const void *b, int64_t first, int64_t last, int dtype) {
#pragma omp simd
    for (int64_t i = first; i < last; i++) {
        float sum = get(x, i, dtype) + get(a, i, dtype);
        if (dtype == BF16) sum = bf16_to_float(float_to_bf16(sum));
        set(x, i, dtype, sum + get(b, i, dtype));
    }
}

#define FOR_DTYPE(NAME, DTYPE)                                                                                           \
    CLONES static void norm_##NAME(const void *x, int64_t first, int64_t last, const void *weight, const void *bias,     \
                                   int64_t width, float epsilon, void *out) {                                            \
        for (int64_t m = first; m < last; m++) norm_row(x, m * width, weight, bias, width, epsilon, out, DTYPE);         \
    }                                                                                                                    \
    CLONES static void turn_##NAME(void *x, int64_t first, int64_t last, const float *turns, int64_t heads, int64_t dim, \
                                   int64_t rotary) {                                                                     \
        for (int64_t m = first; m < last; m++)                                                                           \
            for (int64_t h = 0; h < heads; h++)                                                                          \
                turn_head(x, (m * heads + h) * dim, turns + m * rotary, rotary, DTYPE);                                  \
    }                                                                                                                    \
    CLONES static void gelu_##NAME(void *x, int64_t first, int64_t last) { gelu_part(x, first, last, DTYPE); }           \
    CLONES static void add_##NAME(void *x, const void *a, const void *b, int64_t first, int64_t last) {                  \
        add_part(x, a, b, first, last, DTYPE);                                                                           \
    }
FOR_DTYPE(f32, F32)
FOR_DTYPE(bf16, BF16)

static int64_t rows_of_chunk(int64_t width) { return width < CHUNK_VALUES ? CHUNK_VALUES / width : 1; }

/* out (rows, width) = LayerNorm of x; weight, bias (width,); all of dtype F32 or BF16 */
void d8_norm(int dtype, const void *x, const void *weight, const void *bias, int64_t rows, int64_t width, float epsilon,
             void *out, int threads) {
    const int64_t step = rows_of_chunk(width);
#pragma omp parallel for num_threads(enough(threads, rows * width)) schedule(dynamic)
    for (int64_t first = 0; first < rows; first += step)
        (dtype == F32 ? norm_f32 : norm_bf16)(x, first, min64(first + step, rows), weight, bias, width, epsilon, out);
}

/* x (rows, heads, dim) in place by turns (rows, rotary / 2, 2): cosine and sine of each pair's angle */
void d8_turn(int dtype, void *x, const float *turns, int64_t rows, int64_t heads, int64_t dim, int64_t rotary, int threads) {
    const int64_t step = rows_of_chunk(heads * dim);
#pragma omp parallel for num_threads(enough(threads, rows * heads * dim)) schedule(dynamic)
    for (int64_t first = 0; first < rows; first += step)
        (dtype == F32 ? turn_f32 : turn_bf16)(x, first, min64(first + step, rows), turns, heads, dim, rotary);
}

/* x (count,) in place: GELU by tanh */
void d8_gelu(int dtype, void *x, int64_t count, int threads) {
#pragma omp parallel for num_threads(enough(threads, count)) schedule(dynamic)
    for (int64_t first = 0; first < count; first += CHUNK_VALUES)
        (dtype == F32 ? gelu_f32 : gelu_bf16)(x, first, min64(first + CHUNK_VALUES, count));
}

/* x, a, b (count,): x += a + b */
void d8_add(int dtype, void *x, const void *a, const void *b, int64_t count, int threads) {
#pragma omp parallel for num_threads(enough(threads, count)) schedule(dynamic)
    for (int64_t first = 0; first < count; first += CHUNK_VALUES)
        (dtype == F32 ? add_f32 : add_bf16)(x, a, b, first, min64(first + CHUNK_VALUES, count));
}
