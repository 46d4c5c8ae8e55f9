/* Attention of rows that are one new token each of a conversation of its own: rotary, keys and values, softmax.
 *
 * Beside streamed weights every small operation costs several times what it costs in a loop of its own (nothing of it is
 * in cache any more), so all of it is one call. Sums are float32.
 */
#include "dynamic8.h"

typedef struct {
    const void *query, *key, *value; /* (rows, heads, dim) */
    const float *turns;              /* (rows, rotary / 2, 2): cosine and sine of each pair's angle */
    void *const *buffers;            /* of each row (layers, 2, context, heads, dim): keys, values */
    const int64_t *past;             /* of each row: tokens that its buffer holds */
    void *out;                       /* (rows, heads, dim) */
    int64_t layer, rows, heads, dim, rotary, context;
} attention_t;

/* out (dim,) = a head of x, turned */
INLINE void turn(const void *x, int64_t at, const float *turns, int64_t rotary, int64_t dim, int dtype, float *out) {
    for (int64_t i = 0; i < dim; i++) out[i] = get(x, at + i, dtype);
    turn_head(out, 0, turns, rotary, F32);
}

/* A token's heads end on a page more often than not, where the processor's own fetching ahead ends too. */
INLINE void fetch_ahead(const char *heads, int64_t wide, int64_t bytes) {
    enum { TOKENS = 4 };
    for (int64_t i = 0; i < bytes; i += LINE) __builtin_prefetch(heads + TOKENS * wide + i);
}

/* Some heads of one row, all of them at each token: memory is read in its order. room: what `room_for` says */
INLINE void heads_of_row(const attention_t *a, int64_t row, int64_t first, int64_t count, float *room, int dtype) {
    const int64_t dim = a->dim, wide = a->heads * dim, part = count * dim, size = dtype == F32 ? 4 : 2, past = a->past[row];
    const int64_t at = row * wide + first * dim;
    char *keys = (char *)a->buffers[row] + (2 * a->layer * a->context * wide + first * dim) * size;
    char *values = keys + a->context * wide * size;
    const float *turns = a->turns + row * a->rotary, scale = 1.442695041f / sqrtf((float)dim); /* scores to the base 2 */
    float *query = room, *mixed = room + part, *scores = room + 2 * part;
    for (int64_t h = 0; h < count; h++) {
        turn(a->key, at + h * dim, turns, a->rotary, dim, dtype, query);
        for (int64_t i = 0; i < dim; i++) set(keys, past * wide + h * dim + i, dtype, query[i]);
    }
    memcpy(values + past * wide * size, (const char *)a->value + at * size, (size_t)(part * size));
    for (int64_t h = 0; h < count; h++) turn(a->query, at + h * dim, turns, a->rotary, dim, dtype, query + h * dim);
    for (int64_t i = 0; i < part; i++) query[i] *= scale;
    for (int64_t j = 0; j <= past; j++)
        for (int64_t h = 0; h < count; h++) {
            float sum = 0;
            fetch_ahead(keys + (j * wide + h * dim) * size, wide * size, dim * size);
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < dim; i++) sum += query[h * dim + i] * get(keys, j * wide + h * dim + i, dtype);
            scores[h * a->context + j] = sum;
        }
    for (int64_t h = 0; h < count; h++) {
        float *s = scores + h * a->context, most = -INFINITY, total = 0;
        for (int64_t j = 0; j <= past; j++) most = s[j] > most ? s[j] : most;
#pragma omp simd reduction(+ : total)
        for (int64_t j = 0; j <= past; j++) total += s[j] = exp2_of(s[j] - most);
        for (int64_t j = 0; j <= past; j++) s[j] /= total;
    }
    memset(mixed, 0, (size_t)part * sizeof(float));
    for (int64_t j = 0; j <= past; j++)
        for (int64_t h = 0; h < count; h++) {
            const float weight = scores[h * a->context + j];
            fetch_ahead(values + (j * wide + h * dim) * size, wide * size, dim * size);
#pragma omp simd
            for (int64_t i = 0; i < dim; i++) mixed[h * dim + i] += weight * get(values, j * wide + h * dim + i, dtype);
        }
    for (int64_t i = 0; i < part; i++) set(a->out, at + i, dtype, mixed[i]);
}

/* Less is one thread's: waiting for a second one costs more, and on a busy machine a time slice of it. */
enum { PARALLEL_BYTES = 512 * 1024 };

static int64_t room_for(const attention_t *a) { return a->heads * (a->context + 2 * a->dim); }

/* The heads first ... last of all rows' in one line */
#define HEADS(NAME, DTYPE)                                                                                               \
    CLONES static void NAME(const attention_t *a, int64_t first, int64_t last, float *room) {                            \
        for (int64_t at = first, count; at < last; at += count) {                                                        \
            count = min64(last - at, a->heads - at % a->heads);                                                          \
            heads_of_row(a, at / a->heads, at % a->heads, count, room, DTYPE);                                           \
        }                                                                                                                \
    }
HEADS(heads_f32, F32)
HEADS(heads_bf16, BF16)

/* Writes the rows' keys and values into their buffers, and what the rows see of them to out. Returns 0, or 1 when memory
 * ran out. */
int d8_attend(int dtype, const void *query, const void *key, const void *value, const float *turns, void *const *buffers,
              const int64_t *past, void *out, int64_t layer, int64_t rows, int64_t heads, int64_t dim, int64_t rotary,
              int64_t context, int threads) {
    const attention_t a = {query, key, value, turns, buffers, past, out, layer, rows, heads, dim, rotary, context};
    const int64_t each = room_for(&a);
    int64_t bytes = 0;
    for (int64_t i = 0; i < rows; i++) bytes += (past[i] + 1) * heads * dim * (dtype == F32 ? 8 : 4);
    if (bytes < PARALLEL_BYTES) threads = 1;
    float *memory = malloc((size_t)(threads * each) * sizeof(float));
    if (!memory) return 1;
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
    for (int part = 0; part < threads; part++) {
        const int64_t first = rows * heads * part / threads, last = rows * heads * (part + 1) / threads;
        (dtype == F32 ? heads_f32 : heads_bf16)(&a, first, last, memory + part * each);
    }
    free(memory);
    return 0;
}
