/* y = x W^T + bias straight from the 8-bit codes: the choice of a level, the chunks, plain C.
 *
 * Up to 16 rows of x, or any number where there are matrix tiles. A weight is read from memory once for all rows; sums are float32. Exact to float32 rounding for float32 x; for bf16 x
 * a level may round the code table to bf16, as a dequantised bf16 weight would be.
 */
#include <stdatomic.h>

#include "linear.h"

enum { CHUNK_BYTES = 256 * 1024, SEGMENT = 1024 };
/* Smaller weights are one thread's: waiting for a second one costs more, and on a busy machine a time slice of it. */
enum { PARALLEL_BYTES = 4 * 1024 * 1024 };
enum { AMX_FROM = 3 }; /* rows of x; fewer are bound by reading the weights without tiles */

static void run_rows(rows_t rows, const job_t *job, int64_t unit, int threads) {
    const int64_t step = (CHUNK_BYTES / job->K + unit) / unit * unit;
    const int64_t chunks = (job->N + step - 1) / step;
    _Atomic int64_t next = 0;
#pragma omp parallel num_threads(threads) if (threads > 1 && job->N * job->K >= PARALLEL_BYTES)
    for (int64_t chunk; (chunk = atomic_fetch_add(&next, 1)) < chunks;)
        rows(job, chunk * step, min64((chunk + 1) * step, job->N));
}

/* ---- portable: x is (M, K) float32 ------------------------------------------------------------------------------ */

CLONES static void portable_rows(const job_t *j, int64_t first, int64_t last) {
    const float *x = j->x;
    for (int64_t n = first; n < last; n++) {
        float total[MAX_ROWS] = {0};
        for (int64_t k = 0, end; k < j->K; k = end) {
            const int64_t flat = n * j->K + k, block = flat / j->block_size;
            end = min64(min64(j->K, k + (block + 1) * j->block_size - flat), k + SEGMENT);
            float w[SEGMENT];
            for (int64_t i = k; i < end; i++) w[i - k] = j->code[j->codes[n * j->K + i]];
            for (int64_t m = 0; m < j->M; m++) {
                const float *row = x + m * j->K + k;
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t i = 0; i < end - k; i++) sum += w[i] * row[i];
                total[m] += sum * j->absmax[block];
            }
        }
        for (int64_t m = 0; m < j->M; m++) put(j, m, n, total[m]);
    }
}

/* The best level that this processor has; it has every lower one too. */
int d8_best_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return PORTABLE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return LEVEL_AVX2;
    if (!__builtin_cpu_supports("avx512vbmi") || !__builtin_cpu_supports("avx512bf16")) return LEVEL_AVX512;
#if HAS_TILES
    if (d8_amx_allowed()) return LEVEL_AMX;
#endif
    return LEVEL_VBMI;
#else
    return PORTABLE;
#endif
}

/* Whether d8_linear takes any number of rows of x, and d8_backward works at all: where there are tiles for them. */
int d8_takes_many(int level, int dtype, const float *code, int64_t K, int64_t block_size) {
#if HAS_TILES
    return level == LEVEL_AMX && d8_amx_serves(dtype, code, K, block_size);
#else
    return 0;
#endif
}

#if HAS_TILES
static int linear_by_tiles(job_t *j, const void *x, int threads) {
    const int64_t x_bytes = d8_amx_rows_of_x(j->M) * j->K * 2;
    char *memory = aligned_alloc(4096, (size_t)((x_bytes + threads * d8_amx_scratch_bytes(j->M) + 4095) / 4096 * 4096));
    if (!memory) return 1;
    d8_amx_prepare(x, j->M, j->K, j->block_size, memory, threads);
    j->x = memory;
    j->scratch = memory + x_bytes;
    run_rows(d8_amx_rows, j, d8_amx_step(j->M), threads);
    free(memory);
    return 0;
}
#endif

#if defined(__x86_64__)
/* The rows of the best level up to `level` that can serve the job, x laid out for it; portable_rows where none can. */
static rows_t choose(int level, const job_t *j, decades_t *d, const void *x, void *prepared) {
    if (level >= LEVEL_VBMI && d8_vbmi_serves(j->y_dtype, j->code, j->K)) {
        d8_vbmi_prepare(x, j->y_dtype, j->M, j->K, prepared);
        return d8_vbmi_rows;
    }
    if (level == PORTABLE || !d8_fit_decades(j->code, d)) return portable_rows;
    d8_decades_prepare(x, j->y_dtype, j->M, j->K, level == LEVEL_AVX2 ? 8 : 16, prepared);
    return level == LEVEL_AVX2 ? d8_avx2_rows : d8_avx512_rows;
}
#endif

/* y (M, N) = x (M, K) W^T + bias; M <= 16 unless d8_takes_many; dtypes F32 or BF16. Returns 0, or 1 when memory ran out. */
int d8_linear(int level, const void *x, int x_dtype, const uint8_t *codes, const float *absmax, const float *code,
              int64_t block_size, const void *bias, int bias_dtype, void *y, int64_t M, int64_t N, int64_t K,
              int threads) {
    decades_t decades;
    job_t job = {codes, absmax, code, bias, y, x, M, N, K, block_size, bias_dtype, x_dtype, &decades, NULL};
#if HAS_TILES
    if (M >= AMX_FROM && d8_takes_many(level, x_dtype, code, K, block_size)) return linear_by_tiles(&job, x, threads);
#endif
    const int64_t width = (K + GROUP - 1) / GROUP * GROUP;
    float *prepared = aligned_alloc(64, (size_t)(MAX_ROWS * width) * sizeof(float));
    if (!prepared) return 1;
    rows_t rows = portable_rows;
#if defined(__x86_64__)
    rows = choose(level, &job, &decades, x, prepared);
#endif
    if (rows != portable_rows || x_dtype == BF16) job.x = prepared;
    if (rows == portable_rows && x_dtype == BF16)
        for (int64_t i = 0; i < M * K; i++) prepared[i] = bf16_to_float(((const uint16_t *)x)[i]);
    run_rows(rows, &job, 1, threads);
    free(prepared);
    return 0;
}

/* out (M, K) = grad (M, N) W, bf16, where d8_takes_many. Returns 0, or 1 when memory ran out. */
int d8_backward(const void *grad, const uint8_t *codes, const float *absmax, const float *code, int64_t block_size, void *out,
                int64_t M, int64_t N, int64_t K, int threads) {
#if HAS_TILES
    return d8_amx_backward(grad, codes, absmax, code, block_size, out, M, N, K, threads);
#else
    return 1;
#endif
}
