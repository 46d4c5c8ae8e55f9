/* What the levels of the linear kernel share: the job, how its rows are walked, the arithmetic decoding of the code.
 *
 * A level is a function over a range of rows of W (rows_t) and a layout of x that it reads in order. Rows of W whose
 * blocks begin anywhere are served by every level: x is laid out in groups of 64 columns, filled up with zeros, and a
 * group that a block or the end of the row cuts is decoded from a copy whose other codes stand for 0.
 */
#include "dynamic8.h"

/* Matrix tiles: the compilers that know them, on the system that lends them to a process on request */
#if defined(__x86_64__) && defined(__linux__) && (__GNUC__ >= 11 || __clang_major__ >= 12)
#define HAS_TILES 1
#else
#define HAS_TILES 0
#endif

#define UNROLL _Pragma("GCC unroll 16")
#define UNROLL_TWICE _Pragma("GCC unroll 2")

enum { MAX_ROWS = 16, GROUP = 64 };
enum { DECADES_LARGEST = 8 }; /* rows of x at once in the levels that decode by arithmetic */
enum { ZERO_CODE = 127, MAGIC = 0x4c000000 }; /* MAGIC + code are the bits of 2^25 + 4 code */
#define MAGIC_ZERO (33554432.0f + 4 * ZERO_CODE)

/* Two distances: the near one to the first cache, the far one to the second. A single one of 4 KB reached 0.70-0.75 of a
 * plain read where these reach 0.86-0.94 (one thread of a Xeon with AMX, M = 1, 268 MB of codes). */
enum { NEAR_BYTES = 1024, FAR_BYTES = 9216 };
#define PREFETCH(address, near, far)                                                                                     \
    do {                                                                                                                 \
        _mm_prefetch((const char *)(address) + (near), _MM_HINT_T0);                                                     \
        _mm_prefetch((const char *)(address) + (far), _MM_HINT_T1);                                                      \
    } while (0)

/* The dynamic code in 8 lines: with f = 4 (index - 127), exact in float32, the value is slope[e] * f + sign(f) offset[e]
 * where e is the low three bits of f's exponent. Each decade of the code is one e; 0 and +-128 share the last, e = 0. */
typedef struct {
    float offset[8], slope[8];
    float first;   /* the value of index 0 */
    int odd_first; /* it is off its line: old quantisers wrote -1.0 there */
} decades_t;

/* What stays of a job from call to call; cpu.py knows this layout */
typedef struct {
    const uint8_t *codes;
    const float *absmax, *code;
    const void *bias;
    int64_t N, block_size, bias_dtype;
} weight_t;

typedef struct {
    const uint8_t *codes;
    const float *absmax, *code;
    const void *bias; /* NULL, or N values of bias_dtype */
    void *y;          /* (M, N) of y_dtype */
    const void *x;    /* as the level wants it */
    int64_t M, N, K, block_size;
    int bias_dtype, y_dtype;
    int gelu;                 /* of y, by tanh: AMX does it as it writes y, d8_linears after the other levels */
    const decades_t *decades; /* of the levels that decode by arithmetic */
    char *scratch;            /* of the AMX level, d8_amx_scratch_bytes for each thread */
} job_t;

typedef void (*rows_t)(const job_t *job, int64_t first, int64_t last);

int64_t d8_scratch_bytes(int level, int dtype, const float *code, int64_t M, int64_t K, int64_t block_size, int threads);
void d8_linears(int level, const void *x, int dtype, const weight_t *weights, int64_t count, void *const *ys, int64_t M,
                int64_t K, int gelu, void *scratch, int threads);
int d8_fit_decades(const float *code, decades_t *d);
void d8_decades_prepare(const void *x, int dtype, int64_t M, int64_t K, int lanes, float *prepared);
int d8_vbmi_serves(int dtype, const float *code, int64_t K);
void d8_vbmi_rows(const job_t *job, int64_t first, int64_t last);
void d8_vbmi_prepare(const void *x, int dtype, int64_t M, int64_t K, void *prepared);
#if HAS_TILES
int d8_amx_allowed(void);
int d8_amx_serves(int dtype, const float *code, int64_t K, int64_t block_size);
int64_t d8_amx_rows_of_x(int64_t M);
int64_t d8_amx_step(int64_t M);
int64_t d8_amx_scratch_bytes(int64_t M);
void d8_amx_prepare(const void *x, int64_t M, int64_t K, int64_t block_size, void *prepared, int threads);
void d8_amx_rows(const job_t *job, int64_t first, int64_t last);
int d8_amx_backward(const void *grad, const uint8_t *codes, const float *absmax, const float *code, int64_t block_size,
                    void *out, int64_t M, int64_t N, int64_t K, int threads);
#endif
void d8_avx512_rows(const job_t *job, int64_t first, int64_t last);
void d8_avx2_rows(const job_t *job, int64_t first, int64_t last);

/* Rows of x go in groups of a power of two, as registers allow. */
static inline int group_size(int64_t left, int largest) {
    int size = 1;
    while (size < left && size < largest) size *= 2;
    return size;
}

/* y[m][n] = sum + bias[n], rounded to y's dtype */
static inline void put(const job_t *j, int64_t m, int64_t n, float sum) {
    if (j->bias && j->bias_dtype == F32) sum += ((const float *)j->bias)[n];
    if (j->bias && j->bias_dtype == BF16) sum += bf16_to_float(((const uint16_t *)j->bias)[n]);
    if (j->y_dtype == F32) ((float *)j->y)[m * j->N + n] = sum;
    else ((uint16_t *)j->y)[m * j->N + n] = float_to_bf16(sum);
}

/* The 64 codes at `group` of a row; only [k, end) count, the others become those of 0. */
static inline const uint8_t *cut(uint8_t *copy, const uint8_t *row, int64_t group, int64_t k, int64_t end) {
    const int64_t from = k > group ? k : group, to = min64(end, group + GROUP);
    memset(copy, ZERO_CODE, GROUP);
    memcpy(copy + from - group, row + from, (size_t)(to - from));
    return copy;
}
