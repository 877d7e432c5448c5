/* Element-wise passes of training and evaluation, one sweep over memory each.

   Plain C without a library: compiled when it is first needed (codelength/native/library.py). Each function repeats a formula
   that the Python modules state, with its derivative; the tests compare the two. Loops run over `BLOCK` neighbouring
   sites, which compilers turn into vector instructions.

   Exponentials and logarithms are polynomials good to about 2 units of round-off of float32; NaN in gives NaN out. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#define BLOCK 64
#define INLINE inline __attribute__((always_inline))

enum { FLOAT32 = 0, BFLOAT16 = 1 };

/* ---- arithmetic ---------------------------------------------------------------------------------------------------- */

static inline float from_bits(int32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline int32_t to_bits(float x) {
    int32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

/* exp(x) = scale * (1 + tail), scale a power of two, |ln(1 + tail)| <= ln(2) / 2. Taylor to the seventh power: 5e-9 off. */
static inline float exp_tail(float x, float *scale) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = rintf(x * 1.44269504f);
    float f = x - n * 0.693359375f; /* ln 2 in two parts: the first has few digits, so that the product is exact */
    f = f + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * f + 1.0f / 720;
    p = p * f + 1.0f / 120;
    p = p * f + 1.0f / 24;
    p = p * f + 1.0f / 6;
    p = p * f + 0.5f;
    *scale = from_bits(((int32_t)n + 127) << 23);
    return f + f * f * p;
}

static inline float exp_(float x) {
    float scale, tail = exp_tail(x, &scale);
    return scale + scale * tail;
}

static inline float expm1_(float x) {
    float scale, tail = exp_tail(x, &scale);
    return scale * tail + (scale - 1.0f);
}

/* log(m 2^e) = e ln 2 + 2 artanh((m - 1) / (m + 1)), m within sqrt(1/2) .. sqrt(2); the series to the ninth power is 4e-9 off. */
static inline float log_(float x) {
    float safe = x < FLT_MIN ? FLT_MIN : x;
    int32_t bits = to_bits(safe), e = (bits - 0x3f3504f3) >> 23;
    float m = from_bits(bits - e * (1 << 23));
    float s = (m - 1.0f) / (m + 1.0f), s2 = s * s, p = 2.0f / 9;
    p = p * s2 + 2.0f / 7;
    p = p * s2 + 2.0f / 5;
    p = p * s2 + 2.0f / 3;
    float n = (float)e;
    return (p * s2 * s + n * -2.12194440e-4f) + 2.0f * s + n * 0.693359375f + (x - x);
}

static inline float tanh_(float x) {
    float t = expm1_(-2.0f * fabsf(x));
    float y = -t / (2.0f + t);
    return x < 0 ? -y : y;
}

static inline float bfloat16_value(uint16_t x) { return from_bits((int32_t)((uint32_t)x << 16)); }

/* Rounds to the nearest, ties to even; a NaN stays one. */
static inline uint16_t bfloat16_of(float x) {
    uint32_t bits = (uint32_t)to_bits(x);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (uint16_t)(x != x ? 0x7fc0 : rounded);
}

/* The same for n numbers in a row. */
static INLINE void bfloat16_row(uint16_t *restrict to, const float *restrict from, int n) {
    int i = 0;
#ifdef __AVX512BF16__ /* one instruction; it takes subnormal numbers for 0 */
    for (; i + 16 <= n; i += 16) {
        __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
        memcpy(to + i, &rounded, sizeof rounded);
    }
#endif
    for (; i < n; i++) to[i] = bfloat16_of(from[i]);
}

/* ---- mixture of discretized logistics: codelength/functional/logistic_mixture.py ---------------------------------------- */

typedef struct {
    const void *outputs; /* (batch, parameters, sites) with strides in numbers */
    int64_t batch_stride, parameter_stride, site_stride;
    const int64_t *value; /* (batch, channels, sites), contiguous */
    float *log_mass;      /* (batch, sites), or NULL */
    const float *grad;    /* of log_mass, (batch, sites), or NULL */
    void *grad_outputs;   /* laid out like outputs, or NULL */
    int64_t sites;
    int32_t dtype, components, channels, coupled, levels;
    float floor, centre, half_width, log_half_width;
} mixture_call;

/* A square of 16 numbers each way, mirrored. */
static INLINE void transpose16(float *restrict to, int64_t to_stride, const float *restrict from, int64_t from_stride) {
#if defined(__GNUC__) && (defined(__clang__) || __GNUC__ >= 12)
    /* Four rounds, each interleaving row j with row j + 8. */
    typedef float lanes __attribute__((vector_size(64)));
    lanes a[16], b[16];
    for (int j = 0; j < 16; j++) memcpy(&a[j], from + j * from_stride, sizeof(lanes));
    for (int round = 0; round < 4; round++) {
        lanes *x = round % 2 ? b : a, *y = round % 2 ? a : b;
        for (int j = 0; j < 8; j++) {
            y[2 * j] = __builtin_shufflevector(x[j], x[j + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            y[2 * j + 1] = __builtin_shufflevector(x[j], x[j + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
    }
    for (int j = 0; j < 16; j++) memcpy(to + j * to_stride, &a[j], sizeof(lanes));
#else
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) to[i * to_stride + j] = from[j * from_stride + i];
#endif
}

/* Numbers of a site side by side (parameter_stride 1): squares of 16 sites by 16 parameters. `rows` holds whole squares. */
static void load_sites(float *rows, const mixture_call *call, int64_t at, int parameters, int n) {
    for (int i0 = 0; i0 < n; i0 += 16)
        for (int p0 = 0; p0 < parameters; p0 += 16) {
            float square[16 * 16] = {0};
            const int width = parameters - p0 < 16 ? parameters - p0 : 16, height = n - i0 < 16 ? n - i0 : 16;
            for (int i = 0; i < height; i++) {
                const int64_t from = at + (i0 + i) * call->site_stride + p0;
                if (call->dtype == BFLOAT16) {
                    const uint16_t *x = (const uint16_t *)call->outputs + from;
                    if (width == 16)
                        for (int p = 0; p < 16; p++) square[16 * i + p] = bfloat16_value(x[p]);
                    else
                        for (int p = 0; p < width; p++) square[16 * i + p] = bfloat16_value(x[p]);
                } else
                    memcpy(square + 16 * i, (const float *)call->outputs + from, width * sizeof(float));
            }
            transpose16(rows + p0 * BLOCK + i0, BLOCK, square, 16);
        }
}

static void store_sites(const float *rows, const mixture_call *call, int64_t at, int parameters, int n) {
    for (int i0 = 0; i0 < n; i0 += 16)
        for (int p0 = 0; p0 < parameters; p0 += 16) {
            float square[16 * 16];
            const int width = parameters - p0 < 16 ? parameters - p0 : 16, height = n - i0 < 16 ? n - i0 : 16;
            transpose16(square, 16, rows + p0 * BLOCK + i0, BLOCK);
            for (int i = 0; i < height; i++) {
                const int64_t to = at + (i0 + i) * call->site_stride + p0;
                if (call->dtype == BFLOAT16)
                    bfloat16_row((uint16_t *)call->grad_outputs + to, square + 16 * i, width);
                else
                    memcpy((float *)call->grad_outputs + to, square + 16 * i, width * sizeof(float));
            }
        }
}

static void load_block(float *to, const mixture_call *call, int64_t at, int parameters, int n) {
    if (n < BLOCK) memset(to, 0, sizeof(float) * BLOCK * parameters); /* the last block of an image may not be full */
    if (call->parameter_stride == 1 && call->site_stride != 1) {
        load_sites(to, call, at, parameters, n);
        return;
    }
    for (int p = 0; p < parameters; p++, to += BLOCK) {
        int64_t from = at + p * call->parameter_stride, step = call->site_stride;
        if (call->dtype == BFLOAT16) {
            const uint16_t *x = (const uint16_t *)call->outputs + from;
            for (int i = 0; i < n; i++) to[i] = bfloat16_value(x[i * step]);
        } else if (step == 1)
            memcpy(to, (const float *)call->outputs + from, n * sizeof(float));
        else {
            const float *x = (const float *)call->outputs + from;
            for (int i = 0; i < n; i++) to[i] = x[i * step];
        }
    }
}

static void store_block(const float *from, const mixture_call *call, int64_t at, int parameters, int n) {
    if (call->parameter_stride == 1 && call->site_stride != 1) {
        store_sites(from, call, at, parameters, n);
        return;
    }
    for (int p = 0; p < parameters; p++, from += BLOCK) {
        int64_t to = at + p * call->parameter_stride, step = call->site_stride;
        if (call->dtype == BFLOAT16) {
            uint16_t *x = (uint16_t *)call->grad_outputs + to;
            for (int i = 0; i < n; i++) x[i * step] = bfloat16_of(from[i]);
        } else if (step == 1)
            memcpy((float *)call->grad_outputs + to, from, n * sizeof(float));
        else {
            float *x = (float *)call->grad_outputs + to;
            for (int i = 0; i < n; i++) x[i * step] = from[i];
        }
    }
}

/* One channel of one component: adds its log mass to `joint`. With `slopes`, `mean` and `log_scale` are overwritten by the
   derivatives of the log mass by themselves. `value` is in levels, `shift` what the channels before add to the mean.

   With e_b = exp(-|b|), e_a = exp(-|a|) and t = 1 - exp(-w) the log mass of an inner bin is
       log(t / ((1 + e_b) (1 + e_a))) + min(b, 0) + min(-a, 0);
   an edge bin lacks the factor of its open side, and t. */
static inline void one_channel(float *restrict mean, float *restrict log_scale, const float *restrict value,
                               const float *restrict shift, float *restrict joint, const mixture_call *call, int slopes) {
    const float half_range = (call->levels - 1) * 0.5f, last = (float)(call->levels - 1);
    const float centre = call->centre, half_width = call->half_width, log_half_width = call->log_half_width;
    const float floor = call->floor, inverse_range = 1.0f / half_range;
    for (int i = 0; i < BLOCK; i++) {
        float raw = log_scale[i] + log_half_width, v = value[i];
        float s = raw < floor ? floor : raw;
        float w = exp_(-s) * inverse_range;
        float middle = (v - (centre + half_width * mean[i] + shift[i] + 1.0f) * half_range) * w;
        float a = middle - 0.5f * w, b = middle + 0.5f * w;
        float ea = exp_(-fabsf(a)), eb = exp_(-fabsf(b)), t = -expm1_(-w);
        float has_lower = v > 0 ? 1.0f : 0.0f, has_upper = v < last ? 1.0f : 0.0f, inner = has_lower * has_upper;
        float t_used = inner * t + (1.0f - inner);
        float ra = 1.0f / (1.0f + ea), rb = 1.0f / (1.0f + eb);
        float ua = has_lower * ra + (1.0f - has_lower), ub = has_upper * rb + (1.0f - has_upper);
        joint[i] += log_(t_used * ua * ub) + has_upper * (b < 0 ? b : 0.0f) - has_lower * (a > 0 ? a : 0.0f);
        if (slopes) {
            float beyond_b = has_upper * (b >= 0 ? eb * rb : rb); /* sigmoid(-b) */
            float beyond_a = has_lower * (a >= 0 ? ra : ea * ra); /* sigmoid(a) */
            float by_scale = a * beyond_a - b * beyond_b - inner * w * (1.0f / t - 1.0f);
            mean[i] = half_range * half_width * w * (beyond_a - beyond_b);
            log_scale[i] = raw >= floor ? by_scale : 0.0f;
        }
    }
}

/* Sites [start, start + n) of one datum. `rows` holds their outputs, (parameters, BLOCK); `work` has room for
   (components + 2 channels + 4) rows. */
static void mixture_block(const mixture_call *call, float *rows, float *work, int64_t datum, int64_t start, int n) {
    const int K = call->components, C = call->channels;
    const int coefficients = call->coupled ? C * (C - 1) / 2 : 0, D = 2 * C + coefficients;
    float *joint = work, *value = joint + (int64_t)K * BLOCK, *before = value + (int64_t)C * BLOCK;
    float *shift = before + (int64_t)C * BLOCK, *total = shift + BLOCK, *top = total + BLOCK, *prior = top + BLOCK;
    const int slopes = call->grad != NULL;
    const float to_range = 2.0f / (call->levels - 1);

    for (int c = 0; c < C; c++)
        for (int i = 0; i < BLOCK; i++) {
            int64_t x = i < n ? call->value[(datum * C + c) * call->sites + start + i] : 0;
            value[c * BLOCK + i] = (float)x;
            before[c * BLOCK + i] = (float)x * to_range - 1.0f - call->centre;
        }
    /* log of the sum of the weights before they are normalized, kept in `prior` */
    for (int i = 0; i < BLOCK; i++) top[i] = rows[i], prior[i] = 0;
    for (int k = 1; k < K; k++)
        for (int i = 0; i < BLOCK; i++) top[i] = rows[k * BLOCK + i] > top[i] ? rows[k * BLOCK + i] : top[i];
    for (int k = 0; k < K; k++)
        for (int i = 0; i < BLOCK; i++) prior[i] += exp_(rows[k * BLOCK + i] - top[i]);
    for (int i = 0; i < BLOCK; i++) prior[i] = log_(prior[i]) + top[i];

    for (int k = 0; k < K; k++) {
        float *own = rows + (int64_t)(K + k * D) * BLOCK, *j = joint + (int64_t)k * BLOCK;
        float *coefficient = own + (int64_t)2 * C * BLOCK;
        for (int i = 0; i < BLOCK; i++) j[i] = rows[k * BLOCK + i] - prior[i];
        for (int p = 0; p < coefficients; p++)
            for (int i = 0; i < BLOCK; i++) coefficient[p * BLOCK + i] = tanh_(coefficient[p * BLOCK + i]);
        for (int c = 0; c < C; c++) {
            for (int i = 0; i < BLOCK; i++) shift[i] = 0;
            if (call->coupled)
                for (int e = 0; e < c; e++)
                    for (int i = 0; i < BLOCK; i++)
                        shift[i] += coefficient[(c * (c - 1) / 2 + e) * BLOCK + i] * before[e * BLOCK + i];
            if (slopes)
                one_channel(own + c * BLOCK, own + (C + c) * BLOCK, value + c * BLOCK, shift, j, call, 1);
            else
                one_channel(own + c * BLOCK, own + (C + c) * BLOCK, value + c * BLOCK, shift, j, call, 0);
        }
    }
    for (int i = 0; i < BLOCK; i++) top[i] = joint[i], total[i] = 0;
    for (int k = 1; k < K; k++)
        for (int i = 0; i < BLOCK; i++) top[i] = joint[k * BLOCK + i] > top[i] ? joint[k * BLOCK + i] : top[i];
    for (int k = 0; k < K; k++)
        for (int i = 0; i < BLOCK; i++) total[i] += exp_(joint[k * BLOCK + i] - top[i]);
    for (int i = 0; i < BLOCK; i++) total[i] = log_(total[i]) + top[i];
    if (call->log_mass) memcpy(call->log_mass + datum * call->sites + start, total, n * sizeof(float));
    if (!slopes) return;

    for (int i = 0; i < BLOCK; i++) top[i] = i < n ? call->grad[datum * call->sites + start + i] : 0;
    for (int k = 0; k < K; k++) {
        float *own = rows + (int64_t)(K + k * D) * BLOCK, *j = joint + (int64_t)k * BLOCK, *logit = rows + k * BLOCK;
        float *coefficient = own + (int64_t)2 * C * BLOCK;
        for (int i = 0; i < BLOCK; i++) {
            float share = exp_(j[i] - total[i]); /* the component's posterior */
            logit[i] = top[i] * (share - exp_(logit[i] - prior[i]));
            j[i] = top[i] * share;
        }
        for (int p = 0; p < 2 * C; p++)
            for (int i = 0; i < BLOCK; i++) own[p * BLOCK + i] *= j[i];
        if (call->coupled)
            for (int c = 1; c < C; c++)
                for (int e = 0; e < c; e++) {
                    float *z = coefficient + (c * (c - 1) / 2 + e) * BLOCK, *by_mean = own + c * BLOCK;
                    float inverse = 1.0f / call->half_width;
                    for (int i = 0; i < BLOCK; i++) z[i] = by_mean[i] * inverse * before[e * BLOCK + i] * (1.0f - z[i] * z[i]);
                }
    }
}

/* Blocks [first, last) of batch * ceil(sites / BLOCK). Returns 0, or 1 where memory is short. */
int codelength_logistic_mixture(const mixture_call *call, int64_t first, int64_t last) {
    const int K = call->components, C = call->channels;
    const int parameters = K * (1 + 2 * C + (call->coupled ? C * (C - 1) / 2 : 0));
    const int whole = (parameters + 15) / 16 * 16; /* squares of 16 */
    float *rows = calloc(BLOCK * ((size_t)whole + K + 2 * C + 4), sizeof(float));
    if (!rows) return 1;
    const int64_t blocks = (call->sites + BLOCK - 1) / BLOCK;
    for (int64_t block = first; block < last; block++) {
        int64_t datum = block / blocks, start = block % blocks * BLOCK;
        int n = call->sites - start < BLOCK ? (int)(call->sites - start) : BLOCK;
        int64_t at = datum * call->batch_stride + start * call->site_stride;
        load_block(rows, call, at, parameters, n);
        mixture_block(call, rows, rows + (int64_t)whole * BLOCK, datum, start, n);
        if (call->grad) store_block(rows, call, at, parameters, n);
    }
    free(rows);
    return 0;
}

/* ---- activations of a gated residual block: codelength/nn/activations.py --------------------------------------------- */

/* A tensor over batch and sites. Number l of place (i, j, k) is data[i s0 + j s1 + k s2 + l]; the places are (batch, row,
   column) with channels innermost, or (batch, channel, row) with columns innermost. `half` leads to the second half of
   the channels. */
typedef struct {
    void *data;
    int64_t s0, s1, s2, half;
} grid;

typedef struct {
    int64_t n0, n1, n2, length; /* places, and numbers at each */
    int32_t dtype, threshold;   /* of dropout: a random byte below it drops */
    float keep;                 /* what is kept is multiplied by it */
    const uint8_t *bytes;       /* random bytes, one for each number of the output in its order, or NULL */
    grid x, y, z, out, value;   /* inputs and outputs; data is NULL where one is missing */
    grid grad_out, grad_value, grad_x, grad_y;
} activation_call;

static INLINE void get(float *restrict to, const grid *g, int64_t at, int n, int dtype) {
    if (dtype == BFLOAT16) {
        const uint16_t *restrict x = (const uint16_t *)g->data + at;
        for (int i = 0; i < n; i++) to[i] = bfloat16_value(x[i]);
    } else
        memcpy(to, (const float *)g->data + at, n * sizeof(float));
}

static INLINE void put(const float *restrict from, const grid *g, int64_t at, int n, int dtype) {
    if (dtype == BFLOAT16)
        bfloat16_row((uint16_t *)g->data + at, from, n);
    else
        memcpy((float *)g->data + at, from, n * sizeof(float));
}

enum { PIECE = 32 };

typedef struct {
    int64_t i, j, k, l;
} position;

static INLINE int64_t place(const grid *g, position p) { return p.i * g->s0 + p.j * g->s1 + p.k * g->s2 + p.l; }

static INLINE void drop(float *restrict x, const activation_call *call, int64_t at, int n) {
    const uint8_t *restrict bytes = call->bytes + at;
    const int32_t threshold = call->threshold;
    const float keep = call->keep;
    for (int i = 0; i < n; i++) x[i] *= (int32_t)bytes[i] >= threshold ? keep : 0.0f;
}

/* Defines an entry point: `piece` for all numbers of rows [first, last) of n0 * n1. Pieces have 32 numbers, the last of a place
   what is left over: with a known length and type the compiler keeps a piece in registers. */
#define ROWS(name, piece)                                                                                                \
    static INLINE void piece##_rows(const activation_call *call, int64_t first, int64_t last, int dtype) {                \
        const int64_t length = call->length;                                                                             \
        for (int64_t row = first; row < last; row++)                                                                     \
            for (int64_t k = 0; k < call->n2; k++) {                                                                     \
                position p = {row / call->n1, row % call->n1, k, 0};                                                     \
                for (; p.l + PIECE <= length; p.l += PIECE) piece(call, p, PIECE, dtype);                                \
                if (p.l < length) piece(call, p, (int)(length - p.l), dtype);                                            \
            }                                                                                                            \
    }                                                                                                                    \
    int name(const activation_call *call, int64_t first, int64_t last) {                                                 \
        if (call->dtype == BFLOAT16)                                                                                     \
            piece##_rows(call, first, last, BFLOAT16);                                                                   \
        else                                                                                                             \
            piece##_rows(call, first, last, FLOAT32);                                                                    \
        return 0;                                                                                                        \
    }

/* elu of x and of -x. */
static INLINE void elu_halves(const float *restrict x, float *restrict positive, float *restrict negative, int n) {
    for (int m = 0; m < n; m++) {
        float tail = expm1_(-fabsf(x[m]));
        positive[m] = x[m] > tail ? x[m] : tail;
        negative[m] = -x[m] > tail ? -x[m] : tail;
    }
}

static INLINE void add(float *restrict x, const grid *g, position p, int n, int dtype) {
    float y[PIECE];
    get(y, g, place(g, p), n, dtype);
    for (int m = 0; m < n; m++) x[m] += y[m];
}

/* value = x + y + z (y and z may be missing; value is written where it has data), out = elu of value and of -value. */
static INLINE void concat_elu(const activation_call *call, position p, int n, int dtype) {
    float x[PIECE], positive[PIECE], negative[PIECE];
    get(x, &call->x, place(&call->x, p), n, dtype);
    if (call->y.data) add(x, &call->y, p, n, dtype);
    if (call->z.data) add(x, &call->z, p, n, dtype);
    if (call->value.data) {
        int64_t at = place(&call->value, p);
        put(x, &call->value, at, n, dtype);
        get(x, &call->value, at, n, dtype); /* as the backward pass will see it */
    }
    elu_halves(x, positive, negative, n);
    int64_t at = place(&call->out, p);
    if (call->bytes) drop(positive, call, at, n), drop(negative, call, at + call->out.half, n);
    put(positive, &call->out, at, n, dtype);
    put(negative, &call->out, at + call->out.half, n, dtype);
}

/* grad += derivative of concat_elu at x times the gradient of both halves. */
static INLINE void add_elu_slopes(float *restrict grad, const float *restrict x, const activation_call *call, int64_t at, int n,
                                  int dtype) {
    float positive[PIECE], negative[PIECE];
    get(positive, &call->grad_out, at, n, dtype);
    get(negative, &call->grad_out, at + call->grad_out.half, n, dtype);
    if (call->bytes) drop(positive, call, at, n), drop(negative, call, at + call->grad_out.half, n);
    for (int m = 0; m < n; m++) {
        float slope = exp_(-fabsf(x[m]));
        grad[m] += x[m] > 0 ? positive[m] - slope * negative[m] : slope * positive[m] - negative[m];
    }
}

/* The gradient of value from its own and that of out, either of which may be missing; `value` is as it was kept. */
static INLINE void value_gradient(float *restrict grad, const activation_call *call, position p, int n, int dtype) {
    float x[PIECE];
    if (call->grad_value.data)
        get(grad, &call->grad_value, place(&call->grad_value, p), n, dtype);
    else
        for (int m = 0; m < n; m++) grad[m] = 0;
    if (call->grad_out.data) {
        get(x, &call->value, place(&call->value, p), n, dtype);
        add_elu_slopes(grad, x, call, place(&call->grad_out, p), n, dtype);
    }
}

/* The gradient of x and of y, which are equal, from those of value and out. */
static INLINE void concat_elu_backward(const activation_call *call, position p, int n, int dtype) {
    float grad[PIECE];
    value_gradient(grad, call, p, n, dtype);
    put(grad, &call->grad_x, place(&call->grad_x, p), n, dtype);
    if (call->grad_y.data) put(grad, &call->grad_y, place(&call->grad_y, p), n, dtype);
}

/* value = x + a sigmoid(b), a and b the halves of y; out = concat_elu of it. */
static INLINE void gated_feature(const activation_call *call, position p, int n, int dtype) {
    float x[PIECE], a[PIECE], b[PIECE], positive[PIECE], negative[PIECE];
    int64_t gate = place(&call->y, p), at = place(&call->value, p);
    get(x, &call->x, place(&call->x, p), n, dtype);
    get(a, &call->y, gate, n, dtype);
    get(b, &call->y, gate + call->y.half, n, dtype);
    for (int m = 0; m < n; m++) x[m] += a[m] / (1.0f + exp_(-b[m]));
    put(x, &call->value, at, n, dtype);
    get(x, &call->value, at, n, dtype);
    elu_halves(x, positive, negative, n);
    at = place(&call->out, p);
    put(positive, &call->out, at, n, dtype);
    put(negative, &call->out, at + call->out.half, n, dtype);
}

/* Gradients of x and of both halves of y from those of value and out, either of which may be missing. */
static INLINE void gated_feature_backward(const activation_call *call, position p, int n, int dtype) {
    float a[PIECE], b[PIECE], grad[PIECE];
    int64_t gate = place(&call->y, p), to = place(&call->grad_y, p);
    value_gradient(grad, call, p, n, dtype);
    get(a, &call->y, gate, n, dtype);
    get(b, &call->y, gate + call->y.half, n, dtype);
    put(grad, &call->grad_x, place(&call->grad_x, p), n, dtype);
    for (int m = 0; m < n; m++) {
        float open = 1.0f / (1.0f + exp_(-b[m]));
        b[m] = grad[m] * a[m] * open * (1.0f - open);
        a[m] = grad[m] * open;
    }
    put(a, &call->grad_y, to, n, dtype);
    put(b, &call->grad_y, to + call->grad_y.half, n, dtype);
}

ROWS(codelength_concat_elu, concat_elu)
ROWS(codelength_concat_elu_backward, concat_elu_backward)
ROWS(codelength_gated_feature, gated_feature)
ROWS(codelength_gated_feature_backward, gated_feature_backward)

/* ---- weight normalization: codelength/nn/weight_norm.py ---------------------------------------------------------------- */

/* Weights of `outputs` rows. The numbers of row o are direction[o output_stride + i input_stride + k], i < inputs, k < run. */
typedef struct {
    const float *direction, *gain;
    float *norm;         /* of each row: written by the forward pass, read by the backward one */
    void *weight;        /* gain direction / norm, laid out like direction */
    const void *grad;    /* of weight, laid out like direction */
    float *grad_direction, *grad_gain;
    int64_t outputs, inputs, run, output_stride, input_stride;
    int32_t dtype; /* of weight and its gradient */
} weight_call;

#define FOR_RUNS(call, o, body)                                                                                          \
    for (int64_t i = 0; i < (call)->inputs; i++) {                                                                       \
        const int64_t at = (o) * (call)->output_stride + i * (call)->input_stride;                                       \
        body                                                                                                             \
    }

static void weight_rows(const weight_call *call, int64_t first, int64_t last) {
    const int64_t run = call->run;
    for (int64_t o = first; o < last; o++) {
        float lanes[16] = {0}, total = 0;
        FOR_RUNS(call, o, {
            const float *v = call->direction + at;
            int64_t k = 0;
            for (; k + 16 <= run; k += 16)
                for (int m = 0; m < 16; m++) lanes[m] += v[k + m] * v[k + m];
            for (; k < run; k++) total += v[k] * v[k];
        })
        for (int m = 0; m < 16; m++) total += lanes[m];
        const float norm = sqrtf(total), scale = call->gain[o] / norm;
        call->norm[o] = norm;
        FOR_RUNS(call, o, {
            const float *v = call->direction + at;
            if (call->dtype == BFLOAT16) {
                uint16_t *w = (uint16_t *)call->weight + at;
                for (int64_t k = 0; k < run; k++) w[k] = bfloat16_of(v[k] * scale);
            } else {
                float *w = (float *)call->weight + at;
                for (int64_t k = 0; k < run; k++) w[k] = v[k] * scale;
            }
        })
    }
}

/* With u = direction / norm and d = grad . u: grad_gain = d, grad_direction = gain / norm (grad - d u). */
static INLINE void weight_rows_backward(const weight_call *call, int64_t first, int64_t last, int dtype) {
    const int64_t run = call->run;
#define GRAD(k) (dtype == BFLOAT16 ? bfloat16_value(((const uint16_t *)call->grad)[at + (k)]) : ((const float *)call->grad)[at + (k)])
    for (int64_t o = first; o < last; o++) {
        float lanes[16] = {0}, total = 0;
        FOR_RUNS(call, o, {
            const float *v = call->direction + at;
            int64_t k = 0;
            for (; k + 16 <= run; k += 16)
                for (int m = 0; m < 16; m++) lanes[m] += v[k + m] * GRAD(k + m);
            for (; k < run; k++) total += v[k] * GRAD(k);
        })
        for (int m = 0; m < 16; m++) total += lanes[m];
        const float inverse = call->norm[o] > 0 ? 1.0f / call->norm[o] : 0.0f; /* the norm's derivative at 0 counts as 0 */
        const float along = total * inverse, scale = call->gain[o] * inverse, back = along * inverse;
        call->grad_gain[o] = along;
        FOR_RUNS(call, o, {
            const float *v = call->direction + at;
            float *to = call->grad_direction + at;
            for (int64_t k = 0; k < run; k++) to[k] = scale * (GRAD(k) - back * v[k]);
        })
    }
#undef GRAD
}

int codelength_weight(const weight_call *call, int64_t first, int64_t last) {
    if (call->grad == NULL)
        weight_rows(call, first, last);
    else if (call->dtype == BFLOAT16)
        weight_rows_backward(call, first, last, BFLOAT16);
    else
        weight_rows_backward(call, first, last, FLOAT32);
    return 0;
}

/* ---- convolutions whose outputs have a scale: codelength/nn/scaled_conv.py ----------------------------------------------- */

typedef struct {
    const float *weight, *bias, *log_scale; /* (outputs, run), (outputs,), (outputs,) */
    void *scaled_weight, *scaled_bias;      /* weight and bias times exp(rate log_scale) */
    const void *grad_weight, *grad_bias;    /* of these two, or NULL */
    float *by_weight, *by_bias, *by_log_scale;
    int64_t outputs, run;
    int32_t dtype; /* of what is scaled and its gradients */
    float rate;
} scale_call;

static INLINE void scale_rows(const scale_call *call, int64_t first, int64_t last, int dtype) {
    const int64_t run = call->run;
#define READ(x, at) (dtype == BFLOAT16 ? bfloat16_value(((const uint16_t *)(x))[at]) : ((const float *)(x))[at])
#define WRITE(x, at, number)                                                                                             \
    do {                                                                                                                 \
        if (dtype == BFLOAT16)                                                                                           \
            ((uint16_t *)(x))[at] = bfloat16_of(number);                                                                 \
        else                                                                                                             \
            ((float *)(x))[at] = (number);                                                                               \
    } while (0)
    for (int64_t o = first; o < last; o++) {
        const float scale = exp_(call->rate * call->log_scale[o]), *w = call->weight + o * run;
        if (call->grad_weight == NULL) {
            for (int64_t k = 0; k < run; k++) WRITE(call->scaled_weight, o * run + k, w[k] * scale);
            WRITE(call->scaled_bias, o, call->bias[o] * scale);
            continue;
        }
        float lanes[16] = {0}, total = READ(call->grad_bias, o) * call->bias[o], *by = call->by_weight + o * run;
        int64_t k = 0;
        for (; k + 16 <= run; k += 16)
            for (int m = 0; m < 16; m++) {
                const float g = READ(call->grad_weight, o * run + k + m);
                lanes[m] += g * w[k + m];
                by[k + m] = g * scale;
            }
        for (; k < run; k++) {
            const float g = READ(call->grad_weight, o * run + k);
            total += g * w[k];
            by[k] = g * scale;
        }
        for (int m = 0; m < 16; m++) total += lanes[m];
        call->by_log_scale[o] = call->rate * scale * total;
        call->by_bias[o] = READ(call->grad_bias, o) * scale;
    }
#undef READ
#undef WRITE
}

/* Layers `first` to `last` of those in the array. */
int codelength_scaled_weights(const scale_call *calls, int64_t first, int64_t last) {
    for (const scale_call *call = calls + first; call < calls + last; call++)
        if (call->dtype == BFLOAT16)
            scale_rows(call, 0, call->outputs, BFLOAT16);
        else
            scale_rows(call, 0, call->outputs, FLOAT32);
    return 0;
}

/* ---- relu, backward: codelength/nn/coupling_network.py --------------------------------------------------------------------- */

typedef struct {
    const void *h; /* (rows, channels): what relu gave */
    void *grad;    /* of the same, overwritten by that of relu's input */
    float *total;  /* (channels,): sum of the latter over rows */
    int64_t rows, channels;
    int32_t dtype;
} relu_call;

/* Blocks of channels `first` to `last`, in all rows. */
static INLINE void relu_blocks(const relu_call *call, int64_t first, int64_t last, int dtype) {
    const int64_t channels = call->channels;
    for (int64_t c0 = first * BLOCK; c0 < last * BLOCK; c0 += BLOCK) {
        const int count = (int)(channels - c0 < BLOCK ? channels - c0 : BLOCK);
        float total[BLOCK] = {0};
        for (int64_t r = 0; r < call->rows; r++) {
            const int64_t at = r * channels + c0;
            if (dtype == BFLOAT16) {
                const int16_t *h = (const int16_t *)call->h + at;
                uint16_t *grad = (uint16_t *)call->grad + at;
                for (int m = 0; m < count; m++) {
                    grad[m] = h[m] > 0 ? grad[m] : 0; /* the bits of a positive number are a positive integer */
                    total[m] += bfloat16_value(grad[m]);
                }
            } else {
                const float *h = (const float *)call->h + at;
                float *grad = (float *)call->grad + at;
                for (int m = 0; m < count; m++) {
                    grad[m] = h[m] > 0 ? grad[m] : 0;
                    total[m] += grad[m];
                }
            }
        }
        memcpy(call->total + c0, total, count * sizeof(float));
    }
}

int codelength_relu_backward(const relu_call *call, int64_t first, int64_t last) {
    if (call->dtype == BFLOAT16)
        relu_blocks(call, first, last, BFLOAT16);
    else
        relu_blocks(call, first, last, FLOAT32);
    return 0;
}

/* ---- ActNorm and 1x1 convolution as one matrix: codelength/transforms/fused_step.py ----------------------------- */

/* W' = P L (U + diag(sign e^s)) diag(e^a) and b' = W' b, with the log-determinant sites (sum a + sum s). All matrices are
   (n, n), row by row; L is unit lower triangular, U upper; P takes row permutation[r] as the r-th. */
typedef struct {
    const float *bias, *log_scale, *lower, *upper, *log_diagonal, *sign;
    const int64_t *permutation;
    float *weight, *shift, *log_det;                     /* given by the forward pass */
    const float *grad_weight, *grad_shift, *grad_log_det; /* of the three, or NULL */
    float *by_bias, *by_log_scale, *by_lower, *by_upper, *by_log_diagonal;
    int64_t n;
    float sites;
} fold_call;

static void fold_forward(const fold_call *call, float *row) {
    const int64_t n = call->n;
    float log_det = 0;
    for (int64_t r = 0; r < n; r++) {
        const int64_t i = call->permutation[r];
        memset(row, 0, n * sizeof(float));
        for (int64_t k = 0; k <= i; k++) { /* row i of L times U with its diagonal */
            const float l = k == i ? 1.0f : call->lower[i * n + k], *u = call->upper + k * n;
            row[k] += l * call->sign[k] * exp_(call->log_diagonal[k]);
            for (int64_t j = k + 1; j < n; j++) row[j] += l * u[j];
        }
        float shift = 0;
        for (int64_t j = 0; j < n; j++) {
            call->weight[r * n + j] = row[j] * exp_(call->log_scale[j]);
            shift += call->weight[r * n + j] * call->bias[j];
        }
        call->shift[r] = shift;
        log_det += call->log_scale[r] + call->log_diagonal[r];
    }
    *call->log_det = call->sites * log_det;
}

/* `product`: gradient of L (U + diag); `turned`: U with its diagonal, transposed. */
static void fold_backward(const fold_call *call, float *product, float *turned) {
    const int64_t n = call->n;
    const float by_log_det = call->sites * *call->grad_log_det;
    memset(call->by_bias, 0, n * sizeof(float));
    memset(call->by_lower, 0, n * n * sizeof(float));
    memset(call->by_upper, 0, n * n * sizeof(float));
    for (int64_t j = 0; j < n; j++) call->by_log_scale[j] = by_log_det;
    for (int64_t r = 0; r < n; r++) {
        const float *weight = call->weight + r * n, *grad = call->grad_weight + r * n, by_shift = call->grad_shift[r];
        float *to = product + call->permutation[r] * n;
        for (int64_t j = 0; j < n; j++) {
            const float g = grad[j] + by_shift * call->bias[j]; /* b' = W' b */
            call->by_bias[j] += by_shift * weight[j];
            call->by_log_scale[j] += g * weight[j];
            to[j] = g * exp_(call->log_scale[j]);
        }
    }
    for (int64_t k = 0; k < n; k++)
        for (int64_t j = 0; j < n; j++)
            turned[j * n + k] = j > k ? call->upper[k * n + j] : j == k ? call->sign[k] * exp_(call->log_diagonal[k]) : 0;
    for (int64_t i = 0; i < n; i++) {
        const float *of = product + i * n;
        for (int64_t k = 0; k <= i; k++) { /* by_upper = L' product, on and above the diagonal */
            const float l = k == i ? 1.0f : call->lower[i * n + k];
            for (int64_t j = k; j < n; j++) call->by_upper[k * n + j] += l * of[j];
        }
        for (int64_t j = 0; j < n; j++) /* by_lower = product U', below the diagonal */
            for (int64_t k = 0; k < i; k++) call->by_lower[i * n + k] += of[j] * turned[j * n + k];
    }
    for (int64_t k = 0; k < n; k++) {
        float *diagonal = call->by_upper + k * n + k;
        call->by_log_diagonal[k] = by_log_det + *diagonal * turned[k * n + k];
        *diagonal = 0;
    }
}

/* One call is one part; 1 for want of memory. */
int codelength_fold(const fold_call *call, int64_t first, int64_t last) {
    float *room = malloc(2 * call->n * call->n * sizeof(float));
    if (room == NULL) return 1;
    for (const fold_call *c = call + first; c < call + last; c++) {
        if (c->grad_weight == NULL)
            fold_forward(c, room);
        else
            fold_backward(c, room, room + c->n * c->n);
    }
    free(room);
    return 0;
}

/* ---- affine coupling: codelength/transforms/fused_step.py ------------------------------------------------------ */

/* Sites lie one after the other with their channels: `kept` that stay, then `changed`. */
typedef struct {
    const float *x;    /* (batch, sites, kept + changed) */
    const void *theta; /* (batch, sites, 2 changed): raw scales, then shifts */
    float *z, *log_det; /* of the forward pass: as x, and (batch,) */
    const float *grad_z, *grad_log_det;
    float *grad_x; /* kept channels get those of grad_z */
    void *grad_theta;
    int64_t sites, kept, changed;
    int32_t dtype; /* of theta */
    float floor;   /* of the scale */
} coupling_call;

enum { COUPLING_PIECE = 512 };

static INLINE void theta_get(float *to, const void *theta, int64_t at, int n, int dtype) {
    if (dtype == BFLOAT16)
        for (int i = 0; i < n; i++) to[i] = bfloat16_value(((const uint16_t *)theta)[at + i]);
    else
        memcpy(to, (const float *)theta + at, n * sizeof(float));
}

static INLINE void theta_put(void *theta, const float *from, int64_t at, int n, int dtype) {
    if (dtype == BFLOAT16)
        for (int i = 0; i < n; i++) ((uint16_t *)theta)[at + i] = bfloat16_of(from[i]);
    else
        memcpy((float *)theta + at, from, n * sizeof(float));
}

/* One datum. Sites are short: several of them make a piece that vector instructions have enough of. z = (x + t) s with
   s = sigmoid(raw + 2) + floor; the log-determinant is the sum of log s. */
static INLINE void couple(const coupling_call *call, int64_t datum, int dtype) {
    const int64_t sites = call->sites, kept = call->kept, h = call->changed, width = kept + h;
    const int together = h < COUPLING_PIECE ? (int)(COUPLING_PIECE / h) : 1, backward = call->grad_z != NULL;
    const float floor = call->floor, grad_log_det = backward ? call->grad_log_det[datum] : 0;
    float x[COUPLING_PIECE], raw[COUPLING_PIECE], shift[COUPLING_PIECE], grad[COUPLING_PIECE];
    double total = 0;
    for (int64_t s0 = 0; s0 < sites; s0 += together)
        for (int64_t c0 = 0; c0 < h; c0 += COUPLING_PIECE) {
            const int part = (int)(h - c0 < COUPLING_PIECE ? h - c0 : COUPLING_PIECE); /* of a site's changed channels */
            const int count = (int)(sites - s0 < together ? sites - s0 : together), n = count * part;
            const int64_t place = datum * sites + s0;
            for (int i = 0; i < count; i++) {
                const int64_t at = (place + i) * width + kept + c0, from = (place + i) * 2 * h + c0;
                memcpy(x + i * part, call->x + at, part * sizeof(float));
                theta_get(raw + i * part, call->theta, from, part, dtype);
                theta_get(shift + i * part, call->theta, from + h, part, dtype);
                if (backward) memcpy(grad + i * part, call->grad_z + at, part * sizeof(float));
            }
            if (backward) {
                for (int m = 0; m < n; m++) {
                    const float open = 1.0f / (1.0f + exp_(-(raw[m] + 2.0f))), scale = open + floor;
                    raw[m] = (grad[m] * (x[m] + shift[m]) + grad_log_det / scale) * open * (1.0f - open);
                    grad[m] *= scale;
                }
                for (int i = 0; i < count; i++) {
                    const int64_t at = (place + i) * width, to = (place + i) * 2 * h + c0;
                    if (c0 == 0) memcpy(call->grad_x + at, call->grad_z + at, kept * sizeof(float));
                    memcpy(call->grad_x + at + kept + c0, grad + i * part, part * sizeof(float));
                    theta_put(call->grad_theta, raw + i * part, to, part, dtype);
                    theta_put(call->grad_theta, grad + i * part, to + h, part, dtype);
                }
            } else {
                float sum = 0;
                for (int m = 0; m < n; m++) {
                    const float scale = 1.0f / (1.0f + exp_(-(raw[m] + 2.0f))) + floor;
                    x[m] = (x[m] + shift[m]) * scale;
                    raw[m] = log_(scale);
                }
                for (int m = 0; m < n; m++) sum += raw[m];
                total += sum;
                for (int i = 0; i < count; i++) {
                    const int64_t at = (place + i) * width;
                    if (c0 == 0) memcpy(call->z + at, call->x + at, kept * sizeof(float));
                    memcpy(call->z + at + kept + c0, x + i * part, part * sizeof(float));
                }
            }
        }
    if (!backward) call->log_det[datum] = (float)total;
}

int codelength_affine_coupling(const coupling_call *call, int64_t first, int64_t last) {
    for (int64_t datum = first; datum < last; datum++)
        if (call->dtype == BFLOAT16)
            couple(call, datum, BFLOAT16);
        else
            couple(call, datum, FLOAT32);
    return 0;
}

/* ---- lists of tensors: codelength/training/tensor_lists.py ---------------------------------------------------------------- */

/* Functions on many tensors at once, as neighbouring pieces: a model has hundreds of small ones. */
typedef struct {
    float *to;
    const float *from;
    float *moment, *square; /* of Adam */
    int64_t n;
} piece;

typedef struct {
    const piece *pieces;
    double *totals; /* of sum_squares, one a piece */
    float share;    /* of lerp */
    float rate, beta1, beta2, epsilon, shrink, correction, root_correction;
} list_call;

int codelength_lerp(const list_call *call, int64_t first, int64_t last) {
    const float share = call->share;
    for (const piece *p = call->pieces + first; p < call->pieces + last; p++)
        for (int64_t i = 0; i < p->n; i++) p->to[i] += share * (p->from[i] - p->to[i]);
    return 0;
}

int codelength_sum_squares(const list_call *call, int64_t first, int64_t last) {
    for (int64_t index = first; index < last; index++) {
        const float *x = call->pieces[index].from;
        const int64_t n = call->pieces[index].n;
        double lanes[16] = {0}, total = 0;
        int64_t i = 0;
        for (; i + 16 <= n; i += 16)
            for (int m = 0; m < 16; m++) lanes[m] += (double)x[i + m] * x[i + m];
        for (; i < n; i++) total += (double)x[i] * x[i];
        for (int m = 0; m < 16; m++) total += lanes[m];
        call->totals[index] = total;
    }
    return 0;
}

/* AdamW: w <- shrink w - rate / correction m / (sqrt(v) / root_correction + epsilon), the gradient in `from`. */
int codelength_adamw(const list_call *call, int64_t first, int64_t last) {
    const float beta1 = call->beta1, beta2 = call->beta2, epsilon = call->epsilon, shrink = call->shrink;
    const float step = call->rate / call->correction, inverse_root = 1.0f / call->root_correction;
    for (const piece *p = call->pieces + first; p < call->pieces + last; p++) {
        float *restrict w = p->to, *restrict moment = p->moment, *restrict square = p->square;
        const float *restrict grad = p->from;
        for (int64_t i = 0; i < p->n; i++) {
            const float g = grad[i], m = moment[i] + (1.0f - beta1) * (g - moment[i]);
            const float v = beta2 * square[i] + (1.0f - beta2) * g * g;
            moment[i] = m;
            square[i] = v;
            w[i] = shrink * w[i] - step * m / (sqrtf(v) * inverse_root + epsilon);
        }
    }
    return 0;
}
