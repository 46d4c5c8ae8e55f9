/* y = x W^T + bias straight from the 8-bit codes: the choice of a level, the chunks, plain C.
 *
 * Up to 16 rows of x, or any number where there are matrix tiles. A weight is read from memory once for all rows; sums are
 * float32. Exact to float32 rounding for float32 x; for bf16 x a level may round the code table to bf16, as a dequantised
 * bf16 weight would be.
 */
#include <stdatomic.h>

#include "linear.h"

enum { CHUNK_BYTES = 256 * 1024, SEGMENT = 1024 };
/* Smaller weights are one thread's: waiting for a second one costs more, and on a busy machine a time slice of it. */
enum { PARALLEL_BYTES = 4 * 1024 * 1024 };
enum { MOST_WEIGHTS = 8, ALIGNMENT = 4096 };
enum { AMX_FROM = 3 }; /* rows of x; fewer are bound by reading the weights without tiles */

/* All rows of all jobs (of one K): a thread that finds no more of one goes on to the next without waiting. */
static void run_rows(rows_t rows, const job_t *jobs, int64_t count, int64_t unit, int threads) {
    const int64_t step = (CHUNK_BYTES / jobs->K + unit) / unit * unit;
    _Atomic int64_t next[MOST_WEIGHTS] = {0};
    int64_t bytes = 0;
    for (int64_t i = 0; i < count; i++) bytes += jobs[i].N * jobs[i].K;
#pragma omp parallel num_threads(threads) if (threads > 1 && bytes >= PARALLEL_BYTES)
    for (int64_t i = 0; i < count; i++) {
        const job_t *job = jobs + i;
        for (int64_t at; (at = step * atomic_fetch_add(next + i, 1)) < job->N;)
            rows(job, at, min64(at + step, job->N));
    }
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

/* Whether d8_linears takes any number of rows of x, and d8_backward works at all: where there are tiles for them. */
int d8_takes_many(int level, int dtype, const float *code, int64_t K, int64_t block_size) {
#if HAS_TILES
    return level == LEVEL_AMX && d8_amx_serves(dtype, code, K, block_size);
#else
    return 0;
#endif
}

#if HAS_TILES
static void linear_by_tiles(job_t *jobs, int64_t count, const void *x, char *scratch, int threads) {
    const int64_t M = jobs->M, K = jobs->K;
    d8_amx_prepare(x, M, K, jobs->block_size, scratch, threads);
    for (int64_t i = 0; i < count; i++) {
        jobs[i].x = scratch;
        jobs[i].scratch = scratch + d8_amx_rows_of_x(M) * K * 2;
    }
    run_rows(d8_amx_rows, jobs, count, d8_amx_step(M), threads);
}

static int by_tiles(int level, int dtype, const float *code, int64_t M, int64_t K, int64_t block_size) {
    return M >= AMX_FROM && d8_takes_many(level, dtype, code, K, block_size);
}
#endif

/* How much memory d8_linears wants beside its arguments */
int64_t d8_scratch_bytes(int level, int dtype, const float *code, int64_t M, int64_t K, int64_t block_size, int threads) {
    int64_t bytes = group_size(M, MAX_ROWS) * ((K + GROUP - 1) / GROUP * GROUP) * (int64_t)sizeof(float);
#if HAS_TILES
    if (by_tiles(level, dtype, code, M, K, block_size)) bytes = d8_amx_rows_of_x(M) * K * 2 + threads * d8_amx_scratch_bytes(M);
#endif
    return bytes + ALIGNMENT;
}

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

/* ys[i] (M, N_i) = x (M, K) W_i^T + bias_i for up to MOST_WEIGHTS weights of one K, block size and code table; M <= 16
 * unless d8_takes_many; dtypes F32 or BF16; scratch: d8_scratch_bytes. gelu: the last y goes through GELU. */
void d8_linears(int level, const void *x, int dtype, const weight_t *weights, int64_t count, void *const *ys, int64_t M,
                int64_t K, int gelu, void *scratch, int threads) {
    decades_t decades;
    job_t jobs[MOST_WEIGHTS];
    for (int64_t i = 0; i < count; i++) {
        const weight_t *w = weights + i;
        jobs[i] = (job_t){w->codes, w->absmax, w->code, w->bias, ys[i], x, M, w->N, K, w->block_size, w->bias_dtype, dtype,
                          gelu && i == count - 1, &decades, NULL};
    }
    float *prepared = (float *)(((uintptr_t)scratch + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
#if HAS_TILES
    if (by_tiles(level, dtype, jobs->code, M, K, jobs->block_size)) {
        linear_by_tiles(jobs, count, x, (char *)prepared, threads);
        return;
    }
#endif
    rows_t rows = portable_rows;
#if defined(__x86_64__)
    rows = choose(level, jobs, &decades, x, prepared);
#endif
    if (rows == portable_rows && dtype == BF16)
        for (int64_t i = 0; i < M * K; i++) prepared[i] = bf16_to_float(((const uint16_t *)x)[i]);
    for (int64_t i = 0; i < count; i++) jobs[i].x = rows != portable_rows || dtype == BF16 ? (const void *)prepared : x;
    run_rows(rows, jobs, count, 4, threads); /* the VBMI level takes four rows together */
    if (gelu) d8_gelu(dtype, ys[count - 1], M * jobs[count - 1].N, threads);
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
