/* Activations and gates of one upload, as they stream: norms, distances, statistics of tokens. */
#include "intake_state.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/text.h"
#include "banned.h"

enum {
    ACT_ROLES = LYAP_ROLE_GATE - LYAP_ROLE_ACT + 1,
    READERS_MAX = 4,        /* layers that read statistics of one activation */
    GRAM_WIDTH_MAX = 256,   /* 512 KiB; of wider tokens the Frobenius norm */
    GRAM_ELEMENTS = 1 << 22 /* of one activation: 128 additions each, half a second */
};

/* A layer whose bound needs the tokens of its input. */
struct reader {
    uint32_t layer; /* + 1 */
    bool is_attention, is_rms, has_gram;
    uint64_t length;          /* elements of a token; of a sample: attention */
    uint64_t at;              /* of the present token or sample */
    double mean, spread;      /* Welford's, so far */
    double least, largest_sq; /* over tokens; over samples */
};

struct act {
    uint32_t entries[ACT_ROLES]; /* index + 1; 0: not in the body */
};

struct lyap_intake_acts {
    struct act *acts; /* owned; 0 is the network's input */
    uint32_t count;
    unsigned char *hold; /* owned; activations whose other half has not come yet */
    struct reader readers[READERS_MAX];
    uint32_t reader_count;
    struct lyap_pairwise sums; /* of the open entry: |x|^2, |x' - x|^2 */
    double gate_max;
    uint64_t gates_left; /* of LYAP_GATE_VALUES_MAX */
    bool is_distance;    /* the open entry is the second half of a pair that is in reach */
    double *token;       /* owned; GRAM_WIDTH_MAX */
    double *gram;        /* owned; the square of it, upper triangle */
};

static const struct lyap_network *network_of(const struct lyap_intake *intake)
{
    return &intake->config.declaration->network;
}

void lyap_acts_free(struct lyap_intake_acts *acts)
{
    if (!acts)
        return;
    lyap_free(acts->acts);
    lyap_free(acts->token);
    lyap_free(acts->gram);
    lyap_free_aligned(acts->hold);
    lyap_free(acts);
}

/* -- plan -- */
static enum lyap_status index_act(struct lyap_intake *intake, uint32_t index,
                                  struct lyap_error *reterr)
{
    const struct lyap_intake_entry *entry = &intake->arrays[index].entry;
    struct lyap_intake_acts *acts = intake->acts;
    const char *role = lyap_role_name((enum lyap_role)entry->what);
    struct lyap_quote quote;
    assert(entry->tensor < acts->count);
    const char *name = entry->tensor == 0
                           ? LYAP_NETWORK_INPUT_NAME
                           : lyap_network_name(network_of(intake), entry->tensor - 1);
    struct act *act = &acts->acts[entry->tensor];
    uint32_t *slot = &act->entries[entry->what - LYAP_ROLE_ACT];
    if (*slot != 0)
        return lyap_error_set(reterr, LYAP_E_CONTRADICTION, "%s/%s is given twice", role,
                              lyap_quote_string(name, &quote));
    *slot = index + 1;
    const uint32_t here = act->entries[0], there = act->entries[1];
    if (here != 0 && there != 0 &&
        intake->arrays[here - 1].entry.count != intake->arrays[there - 1].entry.count)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "act/%s and act_perturbed/%s differ in their number of elements",
                              lyap_quote_string(name, &quote), name);
    return LYAP_OK;
}

static uint32_t first_of_pair(const struct act *act)
{
    const uint32_t a = act->entries[0], b = act->entries[1];
    if (a == 0 || b == 0)
        return 0;
    return a < b ? a : b;
}

static uint32_t second_of_pair(const struct act *act)
{
    return first_of_pair(act) == 0 ? 0 : act->entries[0] + act->entries[1] - first_of_pair(act);
}

/* The first half of each pair is held until the second has come; the buffer starts anew whenever
 * nothing waits. A half that does not fit is not held, and the pair has no distance. */
static enum lyap_status lay_acts(struct lyap_intake *intake)
{
    const uint64_t limit = intake->config.hold_bytes_max;
    for (int pass = 0; pass < 2; pass++) { /* measure, then place */
        uint64_t at = 0, most = 0;
        uint32_t waiting = 0;
        for (uint32_t e = 0; e < intake->array_count; e++) {
            struct lyap_intake_array *array = &intake->arrays[e];
            if (!lyap_intake_is_act(array->entry.what) || array->entry.what == LYAP_ROLE_GATE)
                continue;
            const struct act *act = &intake->acts->acts[array->entry.tensor];
            const uint64_t bytes = (array->bytes + 63) / 64 * 64;
            const bool is_first = first_of_pair(act) == e + 1;
            if (is_first && bytes <= limit && at <= limit - bytes) {
                if (pass == 1)
                    array->store = intake->acts->hold + at;
                at += bytes;
                most = at > most ? at : most;
            } else if (is_first) {
                intake->partial.is_role_order = true;
            }
            waiting += is_first;
            waiting -= second_of_pair(act) == e + 1;
            at = waiting == 0 ? 0 : at;
        }
        if (most == 0)
            return LYAP_OK;
        if (pass == 0 && !(intake->acts->hold = lyap_alloc_aligned((size_t)most, 1)))
            return LYAP_E_NOMEM;
    }
    return LYAP_OK;
}

static bool has_acts(const struct lyap_intake *intake)
{
    for (uint32_t i = 0; i < intake->array_count; i++)
        if (lyap_intake_is_act(intake->arrays[i].entry.what))
            return true;
    return false;
}

static bool allocate(struct lyap_intake *intake)
{
    const uint32_t count = network_of(intake)->count + 1;
    struct lyap_intake_acts *acts = intake->acts = lyap_alloc_array(1, sizeof *acts);
    if (!acts)
        return false;
    acts->count = count;
    acts->gates_left = LYAP_GATE_VALUES_MAX;
    acts->acts = lyap_alloc_array(count, sizeof *acts->acts);
    acts->token = lyap_alloc_array(GRAM_WIDTH_MAX, sizeof *acts->token);
    acts->gram = lyap_alloc_array((size_t)GRAM_WIDTH_MAX * GRAM_WIDTH_MAX, sizeof *acts->gram);
    return acts->acts && acts->token && acts->gram && lyap_partial_acts(&intake->partial, count);
}

/* Widths of tokens, kept where the readers will look: the entry's shape is the caller's. */
static uint64_t tail_of(const struct lyap_intake_entry *entry, uint32_t from)
{
    uint64_t product = 1;
    for (uint32_t i = from; i < entry->rank; i++)
        product *= entry->shape[i]; /* at most the count of the entry */
    return product;
}

/* Has the weight as many rows (batchnorm: channels) as the gates have columns? */
static bool fits_gates(const struct lyap_intake *intake, const struct lyap_layer *layer,
                       const struct lyap_intake_array *array)
{
    const int32_t index = layer->index[LYAP_LAYER_PART_WEIGHT];
    if (layer->is_misfit || index < 0 || array->entry.count == 0)
        return false;
    const struct lyap_tensor *weight = &intake->config.declaration->set.tensors[index];
    const bool is_matrix = layer->kind == LYAP_LAYER_LINEAR && weight->rank == 2;
    const bool is_scale = layer->kind == LYAP_LAYER_BATCHNORM && weight->rank == 1;
    return (is_matrix || is_scale) && weight->shape[0] == array->width;
}

/* The gates one by one, as far as there is room. */
static enum lyap_status plan_gates(struct lyap_intake *intake,
                                   const struct lyap_intake_array *array)
{
    const uint32_t index = array->entry.tensor;
    struct lyap_intake_acts *acts = intake->acts;
    if (index == 0 || !fits_gates(intake, &network_of(intake)->layers[index - 1], array) ||
        array->width > acts->gates_left)
        return LYAP_OK;
    struct lyap_gates *gates =
        lyap_gates_new(array->entry.count / array->width, (uint32_t)array->width, acts->gates_left);
    if (!gates)
        return LYAP_E_NOMEM;
    acts->gates_left -= (uint64_t)gates->groups * gates->units;
    intake->partial.acts[index].gates = gates;
    return LYAP_OK;
}

enum lyap_status lyap_acts_plan(struct lyap_intake *intake, struct lyap_error *reterr)
{
    if (!has_acts(intake))
        return LYAP_OK;
    if (!allocate(intake))
        return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for activations");
    for (uint32_t i = 0; i < intake->array_count; i++) {
        struct lyap_intake_array *array = &intake->arrays[i];
        if (!lyap_intake_is_act(array->entry.what))
            continue;
        const enum lyap_status status = index_act(intake, i, reterr);
        if (status)
            return status;
        array->samples = array->entry.rank > 0 ? array->entry.shape[0] : 0;
        array->width = tail_of(&array->entry, array->entry.rank - 1);
        if (array->entry.what == LYAP_ROLE_GATE && plan_gates(intake, array) != LYAP_OK)
            return lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for gates");
    }
    return lay_acts(intake) == LYAP_OK
               ? LYAP_OK
               : lyap_error_set(reterr, LYAP_E_NOMEM, "no memory to hold activations");
}

/* -- tokens -- */
/* Elements that a normalisation runs over. */
static uint64_t token_length(const struct lyap_intake *intake, const struct lyap_layer *layer,
                             const struct lyap_intake_array *array)
{
    const int32_t gamma = layer->index[LYAP_LAYER_PART_WEIGHT];
    const uint64_t sample = array->samples > 0 ? array->entry.count / array->samples : 0;
    if (layer->kind == LYAP_LAYER_GROUPNORM)
        return sample % layer->groups == 0 ? sample / layer->groups : 0;
    return gamma >= 0 ? intake->config.declaration->set.tensors[gamma].count : array->width;
}

static void add_reader(struct lyap_intake *intake, uint32_t index,
                       const struct lyap_intake_array *array)
{
    struct lyap_intake_acts *acts = intake->acts;
    const struct lyap_layer *layer = &network_of(intake)->layers[index];
    const bool is_attention = layer->kind == LYAP_LAYER_ATTENTION;
    const bool is_norm = layer->kind == LYAP_LAYER_LAYERNORM || layer->kind == LYAP_LAYER_RMSNORM ||
                         layer->kind == LYAP_LAYER_GROUPNORM;
    if ((!is_attention && !is_norm) || acts->reader_count == READERS_MAX || array->samples == 0)
        return;
    struct reader reader = { .layer = index + 1,
                             .is_attention = is_attention,
                             .is_rms = layer->kind == LYAP_LAYER_RMSNORM,
                             .least = INFINITY };
    reader.length =
        is_attention ? array->entry.count / array->samples : token_length(intake, layer, array);
    reader.has_gram =
        is_attention && array->width <= GRAM_WIDTH_MAX && array->entry.count <= GRAM_ELEMENTS;
    if (reader.length == 0 || array->entry.count % reader.length != 0)
        return;
    for (uint32_t i = 0; i < acts->reader_count; i++) /* one Gram matrix */
        reader.has_gram = reader.has_gram && !acts->readers[i].has_gram;
    acts->readers[acts->reader_count++] = reader;
}

static void find_readers(struct lyap_intake *intake, const struct lyap_intake_array *array)
{
    const struct lyap_network *network = network_of(intake);
    intake->acts->reader_count = 0;
    if (array->entry.what != LYAP_ROLE_ACT)
        return;
    for (uint32_t i = 0; i < network->count; i++)
        if (network->layers[i].from == (int32_t)array->entry.tensor - 1)
            add_reader(intake, i, array);
}

/* G += x x' of one token. */
static void gram_add(struct lyap_intake_acts *acts, uint64_t width)
{
    for (size_t i = 0; i < width; i++) {
        const double scale = acts->token[i];
        double *row = acts->gram + i * GRAM_WIDTH_MAX;
        for (size_t j = i; j < width; j++)
            row[j] += scale * acts->token[j];
    }
}

/* |X|_2^2 <= |X'X|_F; starts the next sample. */
static double gram_take(struct lyap_intake_acts *acts, uint64_t width)
{
    double sum = 0;
    for (size_t i = 0; i < width; i++)
        for (size_t j = i; j < width; j++) {
            double *value = &acts->gram[i * GRAM_WIDTH_MAX + j];
            sum += (i == j ? 1 : 2) * *value * *value;
            *value = 0;
        }
    return sqrt(sum);
}

static void attention_add(struct lyap_intake_acts *acts, struct reader *reader, uint64_t width,
                          const double *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (reader->has_gram) {
            acts->token[reader->at % width] = x[i];
            if (reader->at % width == width - 1)
                gram_add(acts, width);
        } else {
            reader->spread += x[i] * x[i];
        }
        if (++reader->at < reader->length)
            continue;
        const double square = reader->has_gram ? gram_take(acts, width) : reader->spread;
        reader->largest_sq =
            square > reader->largest_sq || isnan(square) ? square : reader->largest_sq;
        reader->at = 0;
        reader->spread = 0;
    }
}

/* Welford's recurrence: no difference of large sums. */
static void norm_add(struct reader *reader, const double *x, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const double before = x[i] - reader->mean;
        reader->at++;
        if (!reader->is_rms)
            reader->mean += before / (double)reader->at;
        reader->spread += before * (x[i] - reader->mean);
        if (reader->at < reader->length)
            continue;
        const double spread = reader->spread / (double)reader->length;
        reader->least = spread < reader->least || isnan(spread) ? spread : reader->least;
        reader->at = 0;
        reader->mean = reader->spread = 0;
    }
}

static void close_readers(struct lyap_intake *intake, const struct lyap_intake_array *array)
{
    struct lyap_intake_acts *acts = intake->acts;
    for (uint32_t i = 0; i < acts->reader_count; i++) {
        const struct reader *reader = &acts->readers[i];
        struct lyap_act_sums *sums = &intake->partial.acts[reader->layer];
        if (array->entry.count == 0)
            continue;
        if (reader->is_attention) {
            sums->token_norm = sqrt(reader->largest_sq);
            const uint64_t tokens = reader->length / array->width;
            sums->token_count = (double)tokens;
        } else if (isfinite(reader->least)) {
            sums->token_spread = reader->least;
        }
    }
}

/* -- bytes -- */
void lyap_acts_open(struct lyap_intake *intake, const struct lyap_intake_array *array)
{
    struct lyap_intake_acts *acts = intake->acts;
    const struct act *act = &acts->acts[array->entry.tensor];
    const uint32_t first = first_of_pair(act);
    lyap_pairwise_reset(&acts->sums, 2);
    acts->gate_max = 0;
    acts->is_distance = array->entry.what != LYAP_ROLE_GATE &&
                        second_of_pair(act) == intake->open + 1 &&
                        intake->arrays[first - 1].store != NULL;
    find_readers(intake, array); /* their Gram matrix is zero: each sample leaves it so */
}

/* The same elements of the other half of the pair. */
static void widen_other(const struct lyap_intake *intake, const struct lyap_intake_array *array,
                        uint64_t first, size_t count, double *ret)
{
    const struct act *act = &intake->acts->acts[array->entry.tensor];
    const struct lyap_intake_array *other = &intake->arrays[first_of_pair(act) - 1];
    const enum lyap_dtype dtype = other->entry.dtype;
    lyap_chunk_widen(intake->kernels, dtype, other->store + first * lyap_dtype_bytes(dtype), count,
                     ret);
}

static double square_sum(const double *x, const double *y, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (x[i] - y[i]) * (x[i] - y[i]);
    return sum;
}

static void chunk_add(struct lyap_intake *intake, const struct lyap_intake_array *array,
                      uint64_t first, const double *x, size_t count)
{
    struct lyap_intake_acts *acts = intake->acts;
    struct lyap_gates *gates = intake->partial.acts[array->entry.tensor].gates;
    const bool is_gate = array->entry.what == LYAP_ROLE_GATE;
    for (size_t i = 0; is_gate && i < count; i++)
        acts->gate_max = fabs(x[i]) > acts->gate_max || isnan(x[i]) ? fabs(x[i]) : acts->gate_max;
    if (is_gate && gates)
        lyap_gates_add(gates, first, x, count);
    for (uint32_t i = 0; i < acts->reader_count; i++) {
        if (acts->readers[i].is_attention)
            attention_add(acts, &acts->readers[i], array->width, x, count);
        else
            norm_add(&acts->readers[i], x, count);
    }
}

void lyap_acts_block(struct lyap_intake *intake, const struct lyap_intake_array *array,
                     uint64_t first, uint64_t count, const unsigned char *bytes)
{
    const size_t size = lyap_dtype_bytes(array->entry.dtype);
    double *x = intake->chunks[LYAP_ARRAY_SCRATCH], *y = intake->chunks[LYAP_ARRAY_SCRATCH_2];
    const double *zero = intake->chunks[LYAP_ARRAY_ZERO];
    double sums[2] = { 0, 0 };
    for (uint64_t at = 0; at < count; at += LYAP_CHUNK) {
        const size_t taken = count - at < LYAP_CHUNK ? (size_t)(count - at) : LYAP_CHUNK;
        lyap_chunk_widen(intake->kernels, array->entry.dtype, bytes + at * size, taken, x);
        sums[0] += square_sum(x, zero, taken);
        if (intake->acts->is_distance) {
            widen_other(intake, array, first + at, taken, y);
            sums[1] += square_sum(x, y, taken);
        }
        chunk_add(intake, array, first + at, x, taken);
    }
    lyap_pairwise_push(&intake->acts->sums, sums);
}

void lyap_acts_close(struct lyap_intake *intake, const struct lyap_intake_array *array)
{
    struct lyap_intake_acts *acts = intake->acts;
    struct lyap_act_sums *sums = &intake->partial.acts[array->entry.tensor];
    double totals[2];
    lyap_pairwise_total(&acts->sums, totals);
    if (array->entry.what == LYAP_ROLE_GATE)
        sums->gate_max = acts->gate_max;
    if (array->entry.what == LYAP_ROLE_ACT)
        sums->sq = totals[0];
    if (acts->is_distance)
        sums->diff_sq = totals[1];
    close_readers(intake, array);
}

/* max |gamma_c| gate_c of one batchnorm; gamma as it is kept. */
static void scale_gates(struct lyap_intake *intake, uint32_t tensor, struct lyap_act_sums *sums)
{
    const struct lyap_memory_tensor *kept = &intake->memory->tensors[tensor];
    const struct lyap_memory_slot *slot = &kept->slots[LYAP_PLANE_PARAM];
    const struct lyap_gates *gates = sums->gates;
    if (!slot->is_kept || kept->count != gates->units)
        return;
    const unsigned char *bytes = lyap_memory_slot_bytes(intake->memory, tensor, LYAP_PLANE_PARAM);
    double *gamma = intake->chunks[LYAP_ARRAY_SCRATCH], most = 0;
    for (uint32_t at = 0; at < gates->units; at += LYAP_CHUNK) {
        const uint32_t taken = gates->units - at < LYAP_CHUNK ? gates->units - at : LYAP_CHUNK;
        lyap_chunk_widen(intake->kernels, slot->dtype, bytes + at * lyap_dtype_bytes(slot->dtype),
                         taken, gamma);
        for (uint32_t i = 0; i < taken; i++) {
            const double product = fabs(gamma[i]) * gates->largest[at + i];
            most = product > most || isnan(product) ? product : most;
        }
    }
    sums->scaled_max = most;
}

void lyap_acts_finish(struct lyap_intake *intake)
{
    const struct lyap_network *network = network_of(intake);
    for (uint32_t i = 0; intake->memory && intake->partial.acts && i < network->count; i++) {
        struct lyap_act_sums *sums = &intake->partial.acts[i + 1];
        if (network->layers[i].kind == LYAP_LAYER_BATCHNORM && sums->gates &&
            sums->gates->groups == 1)
            scale_gates(intake, (uint32_t)network->layers[i].index[LYAP_LAYER_PART_WEIGHT], sums);
    }
}
