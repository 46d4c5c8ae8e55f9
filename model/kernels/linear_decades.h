/* Rows of W against up to 16 rows of x, the code by arithmetic: what AVX-512 and AVX2 share, included by each.
 *
 * The includer defines TARGET, LEVEL_ROWS (the name), LANES, vec_t, v_zero, v_load, v_set1, v_add, v_fma, v_reduce_add,
 * has_zero (whether one of 64 codes is 0), table_t, make_table and decode: the values of one of the GROUP / LANES parts
 * of 64 codes. x is (K / LANES, M, LANES) float32 for each group of M rows, in the order of the parts.
 */
#define SPLIT (M == 1 ? 4 : M == 2 ? 2 : 1) /* sums of one row of x, so that enough of them are in flight */

/* Some rows of W at a time go over as much of x as stays in the first cache. */
enum { ROWS_AT_ONCE = 32, X_FLOATS = 4096 };

TARGET INLINE void multiply(vec_t *sum, const uint8_t *codes, const float *x, const table_t *t, const int M,
                            const int odd) {
    UNROLL for (int part = 0; part < GROUP / LANES; part++) {
        const vec_t w = decode(codes, part, t, odd);
        UNROLL for (int m = 0; m < M; m++) {
            const int s = m * SPLIT + part % SPLIT;
            sum[s] = v_fma(w, v_load(x + LANES * (part * M + m)), sum[s]);
        }
    }
}

/* out[m] += the product of W[n][k ... stop) with the rows of x */
TARGET INLINE void part_of_row(const job_t *j, const table_t *t, int64_t n, int64_t k, int64_t stop, int64_t near,
                               int64_t far, const float *x, float *out, const int M) {
    const uint8_t *codes = j->codes + n * j->K;
    const int odd = j->decades->odd_first;
    vec_t total[DECADES_LARGEST];
    UNROLL for (int m = 0; m < M; m++) total[m] = v_zero();
    for (int64_t end; k < stop; k = end) {
        const int64_t flat = n * j->K + k, block = flat / j->block_size;
        end = min64(stop, k + (block + 1) * j->block_size - flat);
        vec_t sum[DECADES_LARGEST < 4 ? 4 : DECADES_LARGEST];
        for (int s = 0; s < M * SPLIT; s++) sum[s] = v_zero();
        for (int64_t group = k / GROUP * GROUP; group < end; group += GROUP) {
            uint8_t copy[GROUP];
            const uint8_t *q = codes + group;
            PREFETCH(q, near, far);
            if (group < k || group + GROUP > end) q = cut(copy, codes, group, k, end);
            if (odd && has_zero(q)) multiply(sum, q, x + group * M, t, M, 1);
            else multiply(sum, q, x + group * M, t, M, 0);
        }
        const vec_t scale = v_set1(j->absmax[block]);
        UNROLL for (int m = 0; m < M; m++) {
            vec_t all = sum[m * SPLIT];
            for (int s = 1; s < SPLIT; s++) all = v_add(all, sum[m * SPLIT + s]);
            total[m] = v_fma(scale, all, total[m]);
        }
    }
    UNROLL for (int m = 0; m < M; m++) out[m] += v_reduce_add(total[m]);
}

TARGET INLINE void rows_of(const job_t *j, int64_t first, int64_t last, const float *x, int64_t m0, int64_t count,
                           const int M) {
    const table_t t = make_table(j->decades);
    const int64_t span = M == 1 ? j->K : X_FLOATS / M,
                  near = span < j->K ? j->K : NEAR_BYTES, far = span < j->K ? 2 * j->K : FAR_BYTES;
    for (int64_t n0 = first; n0 < last; n0 += ROWS_AT_ONCE) {
        const int64_t n1 = min64(last, n0 + ROWS_AT_ONCE);
        float sums[ROWS_AT_ONCE][DECADES_LARGEST];
        memset(sums, 0, sizeof sums);
        for (int64_t k = 0; k < j->K; k += span)
            for (int64_t n = n0; n < n1; n++)
                part_of_row(j, &t, n, k, min64(j->K, k + span), near, far, x, sums[n - n0], M);
        for (int64_t n = n0; n < n1; n++)
            for (int64_t m = 0; m < count; m++) put(j, m0 + m, n, sums[n - n0][m]);
    }
}

#define ROWS(M)                                                                                                          \
    TARGET static void rows_##M(const job_t *j, int64_t first, int64_t last, const float *x, int64_t m0, int64_t count) { \
        rows_of(j, first, last, x, m0, count, M);                                                                        \
    }
ROWS(1)
ROWS(2)
ROWS(4)
ROWS(8)

void LEVEL_ROWS(const job_t *j, int64_t first, int64_t last) {
    typedef void (*group_t)(const job_t *, int64_t, int64_t, const float *, int64_t, int64_t);
    static const group_t by_size[] = {rows_1, rows_2, rows_4, rows_8};
    const float *x = j->x;
    for (int64_t m0 = 0; m0 < j->M;) {
        const int size = group_size(j->M - m0, DECADES_LARGEST);
        by_size[__builtin_ctz((unsigned)size)](j, first, last, x, m0, min64(size, j->M - m0));
        x += (j->K + GROUP - 1) / GROUP * GROUP * size;
        m0 += size;
    }
}
