/* AMX: attention of many new tokens of one conversation: rotary, keys and values, softmax.
 *
 * A head's keys and values are laid out as tiles, which stay in the second cache (1,500 tokens in 2 MB) while its queries
 * meet them, 32 at a time.
 * Keys and values are the left operand: scores come with a query in each lane, so that softmax never sums across lanes,
 * and are, pairs of keys side by side, what the values are multiplied with. Sums are float32, weights rounded to bf16.
 */
#include "linear_tiles.h"

#if HAS_TILES

enum { QUERIES = PAIR }; /* at a time */
enum { PARALLEL_VALUES = 64 * 1024 }; /* fewer are one thread's: waiting for a second one costs more */

typedef struct {
    const uint16_t *query, *key, *value; /* (rows, heads, dim) */
    const float *turns;                  /* (rows, rotary / 2, 2): cosine and sine of each pair's angle */
    uint16_t *keys, *values, *out;       /* (past + rows, heads, dim) twice, (rows, heads, dim) */
    int64_t past, rows, heads, dim, rotary;
} prompt_t;

/* A thread's own. S are past + rows, up to whole pairs of tiles. */
typedef struct {
    char *keys;    /* (S / 16, dim / 32) tiles: a token to each row */
    char *values;  /* (dim / 16, S / 32) tiles: a dimension to each row */
    char *query;   /* (dim / 32, 2) tiles: a query to each lane */
    float *scores; /* (2, S, 16): a query to each lane */
    char *weights; /* (S / 32, 2) tiles: pairs of tokens, a query to each lane */
} room_t;

static int64_t whole_pairs(int64_t n) { return (n + PAIR - 1) / PAIR * PAIR; }

static int64_t room_bytes(int64_t past, int64_t rows, int64_t dim) {
    const int64_t seen = whole_pairs(past + rows);
    return (2 * seen * dim + QUERIES * dim + 3 * QUERIES * seen) * 2;
}

static room_t room_in(char *memory, const prompt_t *p) {
    const int64_t seen = whole_pairs(p->past + p->rows), wide = seen * p->dim * 2, query = QUERIES * p->dim * 2;
    char *scores = memory + 2 * wide + query;
    return (room_t){memory, memory + wide, memory + 2 * wide, (float *)scores, scores + 4 * QUERIES * seen};
}

/* From the words of two vectors of 16, one after the other, to pairs of them */
static const uint16_t SIDE_BY_SIDE[] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

/* 32 entries of a head, of which the first `entries` are turned in pairs, rounded */
AMX INLINE __m512i turned(__m512i x, const float *turns, int64_t entries) {
    if (entries <= 0) return x;
    const __mmask32 there = (__mmask32)((1ull << min64(entries, STEP)) - 1);
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i cosines = _mm512_add_epi32(lanes, lanes), sines = _mm512_add_epi32(cosines, _mm512_set1_epi32(1));
    const __m512 a = _mm512_maskz_loadu_ps((__mmask16)there, turns);
    const __m512 b = _mm512_maskz_loadu_ps((__mmask16)(there >> 16), turns + 16);
    const __m512 cosine = _mm512_permutex2var_ps(a, cosines, b), sine = _mm512_permutex2var_ps(a, sines, b);
    const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
    const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32((int)0xffff0000)));
    const __m512 left = _mm512_sub_ps(_mm512_mul_ps(even, cosine), _mm512_mul_ps(odd, sine));
    const __m512 right = _mm512_add_ps(_mm512_mul_ps(odd, cosine), _mm512_mul_ps(even, sine));
    const __m512i apart = (__m512i)_mm512_cvtne2ps_pbh(right, left);
    return _mm512_mask_permutexvar_epi16(x, there, _mm512_loadu_si512(SIDE_BY_SIDE), apart);
}

/* A head's keys as tiles; the new ones turned, and into the conversation's */
AMX static void lay_out_keys(const prompt_t *p, int64_t head, char *tiles) {
    const int64_t count = p->past + p->rows, steps = p->dim / STEP;
    for (int64_t t = 0; t < whole_pairs(count); t++) {
        const int64_t from = ((t - p->past) * p->heads + head) * p->dim;
        uint16_t *kept = p->keys + (t * p->heads + head) * p->dim;
        char *to = tiles + t / TILE * steps * TILE_BYTES + t % TILE * LINE;
        for (int64_t d = 0; d < p->dim; d += STEP) {
            __m512i x = _mm512_setzero_si512();
            if (t < p->past) x = _mm512_loadu_si512(kept + d);
            else if (t < count) {
                x = turned(_mm512_loadu_si512(p->key + from + d), p->turns + (t - p->past) * p->rotary + d, p->rotary - d);
                _mm512_stream_si512((void *)(kept + d), x);
            }
            _mm512_store_si512(to + d / STEP * TILE_BYTES, x);
        }
    }
}

/* A head's values as tiles; the new ones into the conversation's */
AMX static void lay_out_values(const prompt_t *p, int64_t head, char *tiles) {
    const int64_t count = p->past + p->rows, steps = whole_pairs(count) / STEP, lines = p->dim / STEP;
    const __m512i upper_half = _mm512_set1_epi32((int)0xffff0000);
    __m512i rows[STEP][lines];
    for (int64_t t = 0; t < count; t += STEP) {
        for (int64_t i = 0; i < STEP; i++) {
            const int64_t at = t + i, new = at - p->past;
            __m512i *kept = (__m512i *)(p->values + (at * p->heads + head) * p->dim);
            const uint16_t *value = p->value + (new * p->heads + head) * p->dim;
            for (int64_t l = 0; l < lines; l++) {
                if (at >= count) rows[i][l] = _mm512_setzero_si512();
                else if (new < 0) rows[i][l] = _mm512_load_si512(kept + l);
                else _mm512_stream_si512(kept + l, rows[i][l] = _mm512_loadu_si512(value + l * STEP));
            }
        }
        for (int64_t l = 0; l < lines; l++) {
            __m512i even[16], odd[16]; /* dimensions */
            UNROLL for (int i = 0; i < 16; i++) {
                const __m512i first = rows[2 * i][l], second = rows[2 * i + 1][l];
                even[i] = _mm512_mask_blend_epi16(0xaaaaaaaa, first, _mm512_slli_epi32(second, 16));
                odd[i] = _mm512_or_si512(_mm512_srli_epi32(first, 16), _mm512_and_si512(second, upper_half));
            }
            transpose(even);
            transpose(odd);
            UNROLL for (int i = 0; i < 16; i++) {
                char *to = tiles + ((2 * l + i / 8) * steps + t / STEP) * TILE_BYTES + 2 * i % TILE * LINE;
                _mm512_store_si512(to, even[i]);
                _mm512_store_si512(to + LINE, odd[i]);
            }
        }
    }
}

/* The queries from `first` on, turned; missing ones are zero */
AMX static void lay_out_queries(const prompt_t *p, int64_t head, int64_t first, char *tiles) {
    for (int64_t half = 0; half < 2; half++)
        for (int64_t d = 0; d < p->dim; d += STEP) {
            __m512i rows[16];
            for (int i = 0; i < 16; i++) {
                const int64_t at = first + half * TILE + i, from = (at * p->heads + head) * p->dim + d;
                const float *turns = p->turns + at * p->rotary + d;
                rows[i] = at < p->rows ? turned(_mm512_loadu_si512(p->query + from), turns, p->rotary - d)
                                       : _mm512_setzero_si512();
            }
            transpose(rows);
            char *to = tiles + (d / STEP * 2 + half) * TILE_BYTES;
            UNROLL for (int i = 0; i < 16; i++) _mm512_store_si512(to + i * LINE, rows[i]);
        }
    MEMORY_BARRIER();
}

/* scores (S, 16) of `seen` tokens -> weights, 1 for the best; lane i sees the tokens up to place + i. Returns their sums. */
AMX static __m512 softmax(float *scores, int64_t seen, int64_t place, float scale, char *weights) {
    const __m512 nothing = _mm512_set1_ps(-INFINITY);
    for (int64_t t = place + 1; t < seen; t++) {
        const __mmask16 visible = t - place < TILE ? (__mmask16)(0xffff << (t - place)) : 0;
        _mm512_store_ps(scores + t * TILE, _mm512_mask_mov_ps(nothing, visible, _mm512_load_ps(scores + t * TILE)));
    }
    __m512 most[4] = {nothing, nothing, nothing, nothing};
    for (int64_t t = 0; t < seen; t += 4)
        UNROLL for (int i = 0; i < 4; i++) most[i] = _mm512_max_ps(most[i], _mm512_load_ps(scores + (t + i) * TILE));
    _Alignas(64) float best[TILE], sums[TILE] = {0};
    _mm512_store_ps(best, _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3])));
    const __m512i side_by_side = _mm512_loadu_si512(SIDE_BY_SIDE);
    for (int64_t t = 0; t < seen; t += 2) {
        _Alignas(64) float two[2 * TILE];
#pragma omp simd
        for (int i = 0; i < 2 * TILE; i++) two[i] = exp2_of((scores[t * TILE + i] - best[i % TILE]) * scale);
        for (int i = 0; i < TILE; i++) sums[i] += two[i] + two[TILE + i];
        const __m512i rounded = (__m512i)_mm512_cvtne2ps_pbh(_mm512_load_ps(two + TILE), _mm512_load_ps(two));
        char *to = weights + t / STEP * 2 * TILE_BYTES + t % STEP / 2 * LINE;
        _mm512_store_si512(to, _mm512_permutexvar_epi16(side_by_side, rounded));
    }
    MEMORY_BARRIER();
    return _mm512_load_ps(sums);
}

/* out[query][d ... d + 32] = two tiles of sums (16 dimensions, 16 queries) over the queries' totals */
AMX static void put_mixed(const prompt_t *p, int64_t head, int64_t first, int64_t d, const float *upper, const float *lower,
                          __m512 share) {
    __m512i t[2][16];
    UNROLL for (int i = 0; i < 16; i++) {
        t[0][i] = _mm512_castps_si512(_mm512_mul_ps(share, _mm512_load_ps(upper + i * TILE)));
        t[1][i] = _mm512_castps_si512(_mm512_mul_ps(share, _mm512_load_ps(lower + i * TILE)));
    }
    transpose(t[0]);
    transpose(t[1]);
    for (int64_t i = 0; i < min64(TILE, p->rows - first); i++)
        _mm512_storeu_si512(p->out + ((first + i) * p->heads + head) * p->dim + d,
                            (__m512i)_mm512_cvtne2ps_pbh(_mm512_castsi512_ps(t[1][i]), _mm512_castsi512_ps(t[0][i])));
}

/* 32 queries from `first` on */
AMX static void queries(const prompt_t *p, int64_t head, int64_t first, const room_t *room) {
    const int64_t all = whole_pairs(p->past + p->rows), seen = min64(all, whole_pairs(p->past + first + QUERIES));
    const int64_t row = p->dim / STEP * TILE_BYTES, wide = all / STEP * TILE_BYTES;
    _Alignas(64) float products[4][TILE * TILE];
    lay_out_queries(p, head, first, room->query);
    for (int64_t t = 0; t < seen; t += PAIR) {
        const char *upper = room->keys + t / TILE * row;
        float *left = room->scores + t * TILE, *right = left + all * TILE;
        zero_all();
        multiply_two(upper, upper + row, room->query, p->dim);
        _tile_stored(0, left, 64);
        _tile_stored(1, right, 64);
        _tile_stored(2, left + TILE * TILE, 64);
        _tile_stored(3, right + TILE * TILE, 64);
    }
    MEMORY_BARRIER();
    const float scale = 1.442695041f / sqrtf((float)p->dim); /* scores to the base 2 */
    __m512 share[2];
    for (int half = 0; half < 2; half++) {
        const int64_t place = p->past + first + half * TILE;
        char *weights = room->weights + half * TILE_BYTES;
        share[half] = _mm512_div_ps(_mm512_set1_ps(1), softmax(room->scores + half * all * TILE, seen, place, scale, weights));
    }
    for (int64_t d = 0; d < p->dim; d += PAIR) {
        const char *upper = room->values + d / TILE * wide;
        zero_all();
        multiply_two(upper, upper + wide, room->weights, seen);
        store_all(products);
        for (int half = 0; half < 2; half++)
            put_mixed(p, head, first + half * TILE, d, products[half], products[2 + half], share[half]);
    }
}

AMX static void one_head(const prompt_t *p, int64_t head, const room_t *room) {
    configure();
    lay_out_keys(p, head, room->keys);
    lay_out_values(p, head, room->values);
    for (int64_t first = 0; first < p->rows; first += QUERIES) queries(p, head, first, room);
    _tile_release();
    _mm_sfence(); /* what was written past the caches */
}
#endif

/* What d8_attend_prompt wants beside its arguments; 0 where it does not serve. */
int64_t d8_attend_prompt_bytes(int level, int dtype, int64_t past, int64_t rows, int64_t dim, int threads) {
#if HAS_TILES
    if (level == LEVEL_AMX && dtype == BF16 && dim % STEP == 0) return threads * room_bytes(past, rows, dim);
#endif
    return 0;
}

/* Writes the rows' keys and values, both into (context, heads, dim) of which `past` are filled, and what the rows see of
 * them to out; bf16; keys, values and scratch begin on a line of the cache. */
void d8_attend_prompt(const void *query, const void *key, const void *value, const float *turns, void *keys, void *values,
                      int64_t past, void *out, int64_t rows, int64_t heads, int64_t dim, int64_t rotary, void *scratch,
                      int threads) {
#if HAS_TILES
    const prompt_t p = {query, key, value, turns, keys, values, out, past, rows, heads, dim, rotary};
    if ((past + rows) * heads * dim < PARALLEL_VALUES) threads = 1;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) if (threads > 1)
    for (int64_t head = 0; head < heads; head++) {
        const room_t room = room_in((char *)scratch + omp_get_thread_num() * room_bytes(past, rows, dim), &p);
        one_head(&p, head, &room);
    }
#endif
}
