/* All blocks of the model for rows that are one new token each of a conversation of its own, in one call.
 *
 * Between two products there is little to do, but beside streamed weights the interpreter's and torch's part of it is
 * out of cache each time: in one call a pass of four layers of 6B takes 0.96 of the time, of the embedded model 0.73.
 */
#include "linear.h"

enum { READS = 4 }; /* query, key, value and the MLP's inner rows come from the same normed rows */

/* What stays of a block from call to call; cpu_blocks.py knows this layout */
typedef struct {
    const void *norm_weight, *norm_bias; /* of x's dtype */
    weight_t read[READS], attend, tell;
} block_t;

static int64_t lines(int64_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

/* x (rows, heads * dim) of dtype F32 or BF16 through `count` blocks, in place; all weights of one block size and code table;
 * rows <= 16 unless d8_takes_many; turns, buffers and past as in d8_attend.
 * Returns 0, or 1 when memory ran out: then x and the new token's place in the buffers are undefined. */
int d8_blocks(int level, int dtype, void *x, const block_t *blocks, int64_t count, float epsilon, const float *turns,
              void *const *buffers, const int64_t *past, int64_t rows, int64_t heads, int64_t dim, int64_t rotary,
              int64_t context, int threads) {
    const weight_t *read = blocks->read, *tell = &blocks->tell;
    const int64_t size = dtype == F32 ? 4 : 2, width = heads * dim, inner = read[READS - 1].N;
    const int64_t wide = lines(rows * width * size), wider = lines(rows * inner * size);
    const int64_t scratch_read = d8_scratch_bytes(level, dtype, read->code, rows, width, read->block_size, threads);
    const int64_t scratch_tell = d8_scratch_bytes(level, dtype, tell->code, rows, inner, tell->block_size, threads);
    const int64_t most = scratch_read > scratch_tell ? scratch_read : scratch_tell;
    char *memory = aligned_alloc(LINE, (size_t)(6 * wide + wider + lines(most)));
    if (!memory) return 1;
    char *normed = memory, *query = memory + wide, *key = memory + 2 * wide, *value = memory + 3 * wide;
    char *mixed = memory + 4 * wide, *told = memory + 5 * wide, *hidden = memory + 6 * wide, *scratch = hidden + wider;
    void *const reads[READS] = {query, key, value, hidden}, *const attended[] = {query}, *const telling[] = {told};
    int failed = 0;
    for (int64_t i = 0; i < count && !failed; i++) {
        const block_t *b = blocks + i;
        d8_norm(dtype, x, b->norm_weight, b->norm_bias, rows, width, epsilon, normed, threads);
        d8_linears(level, normed, dtype, b->read, READS, reads, rows, width, 1, scratch, threads);
        failed = d8_attend(dtype, query, key, value, turns, buffers, past, mixed, i, rows, heads, dim, rotary, context, threads);
        d8_linears(level, mixed, dtype, &b->attend, 1, attended, rows, width, 0, scratch, threads);
        d8_linears(level, hidden, dtype, &b->tell, 1, telling, rows, inner, 0, scratch, threads);
        d8_add(dtype, x, query, told, rows * width, threads);
    }
    free(memory);
    return failed;
}
