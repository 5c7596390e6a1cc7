/* Whole rows of the weights whose turn it is, as their blocks arrive: Z += W'(W V), magnitudes. */
#include "intake_state.h"

#include <assert.h>
#include <string.h>

#include "lyap/alloc.h"
#include "banned.h"

enum {
    SHORT_ROW = 2048,         /* elements: several whole ones in each block, worked on in place */
    GATHERED_ROWS = 4,        /* of longer ones: so many share a read of the vectors */
    GATHERED_BYTES = 1 << 20, /* while they stay in a cache */
    WIDE_ELEMENTS = 4096      /* widened at once, or a row */
};

/* The rank's part of a tensor is made of whole rows. */
static bool has_whole_rows(const struct lyap_intake *intake, uint32_t index, uint32_t cols)
{
    const struct lyap_intake_tensor *tensor = &intake->tensors[index];
    const struct lyap_tensor *declared = &intake->config.declaration->set.tensors[index];
    const struct lyap_part *part = tensor->part;
    if (!part)
        return true;
    if (!part->is_box)
        return part->offset % cols == 0 && tensor->count % cols == 0;
    for (uint32_t d = 1; d < declared->rank; d++)
        if (part->extent[d] != declared->shape[d])
            return false;
    return true;
}

static uint64_t first_row(const struct lyap_intake *intake, const struct lyap_spectral_item *item)
{
    const struct lyap_part *part = intake->tensors[item->tensor].part;
    if (!part)
        return 0;
    return part->is_box ? part->start[0] : part->offset / item->cols;
}

static size_t row_bytes(const struct lyap_intake *intake, const struct lyap_spectral_item *item)
{
    const uint32_t param = intake->tensors[item->tensor].entries[LYAP_ROLE_PARAM];
    return item->cols * lyap_dtype_bytes(intake->arrays[param - 1].entry.dtype);
}

static size_t gathered_bytes(const struct lyap_intake *intake,
                             const struct lyap_spectral_item *item)
{
    const size_t bytes = row_bytes(intake, item);
    const bool is_long = item->cols > SHORT_ROW && GATHERED_ROWS * bytes <= GATHERED_BYTES;
    return is_long ? GATHERED_ROWS * bytes : bytes;
}

static bool is_measured(const struct lyap_intake *intake, const struct lyap_spectral_sum *sum)
{
    return intake->tensors[sum->item->tensor].entries[LYAP_ROLE_PARAM] != 0 && !sum->is_cut;
}

static bool is_kept_whole(const struct lyap_intake *intake, const struct lyap_spectral_item *item)
{
    return intake->memory && intake->config.snapshot->world <= 1 &&
           !intake->tensors[item->tensor].part;
}

/* Its start vectors are no good yet. */
static bool is_cold(const struct lyap_intake *intake, const struct lyap_spectral_item *item)
{
    return item->is_cold && is_kept_whole(intake, item);
}

enum lyap_status lyap_intake_spectral_layout(struct lyap_intake *intake)
{
    const struct lyap_spectral_plan *plan = intake->config.spectral;
    if (!plan || plan->count == 0 || plan->items[plan->count - 1].tensor >= intake->tensor_count)
        return LYAP_OK;
    const enum lyap_status status = lyap_spectral_sums_new(plan, &intake->partial.spectral);
    if (status != LYAP_OK)
        return status;
    size_t gathered = 1, wide = WIDE_ELEMENTS;
    for (uint32_t i = 0; i < plan->count; i++) {
        struct lyap_spectral_sum *sum = &intake->partial.spectral->sums[i];
        const uint32_t index = sum->item->tensor, cols = sum->item->cols;
        sum->is_cut =
            intake->tensors[index].entry_count > 0 && !has_whole_rows(intake, index, cols);
        if (!is_measured(intake, sum))
            continue;
        const size_t bytes = gathered_bytes(intake, sum->item);
        gathered = bytes > gathered ? bytes : gathered;
        wide = cols > wide ? cols : wide;
    }
    intake->row_hold = lyap_alloc_aligned(gathered, 1);
    intake->row_wide = lyap_alloc_aligned(wide, sizeof *intake->row_wide);
    return intake->row_hold && intake->row_wide ? LYAP_OK : LYAP_E_NOMEM;
}

void lyap_intake_spectral_open(struct lyap_intake *intake, const struct lyap_intake_array *array)
{
    struct lyap_spectral_sums *sums = intake->partial.spectral;
    const struct lyap_spectral_item *item =
        sums && array->entry.what == LYAP_ROLE_PARAM
            ? lyap_spectral_plan_find(sums->plan, array->entry.tensor)
            : NULL;
    intake->row_sum = item ? &sums->sums[item - sums->plan->items] : NULL;
    if (intake->row_sum && !is_measured(intake, intake->row_sum))
        intake->row_sum = NULL;
    intake->row_held = 0;
    intake->row_first = intake->row_sum ? first_row(intake, item) : 0;
}

/* `count` whole rows in one of the kernels' types. */
static void add_rows(struct lyap_intake *intake, const void *rows, size_t count,
                     enum lyap_rows type)
{
    struct lyap_spectral_sum *sum = intake->row_sum;
    const struct lyap_spectral_item *item = sum->item;
    const struct lyap_projection projection = {
        .v = item->v,
        .z = sum->z,
        .cols = item->cols,
        .block = is_cold(intake, item) ? 0 : item->block, /* 0: all at once, when it is there */
        .marks = sum->marks,
        .row = intake->row_first + sum->rows,
    };
    intake->kernels->project[type](rows, count, &projection);
    sum->rows += count;
    if (!sum->columns)
        return;
    struct lyap_magnitude_sums magnitudes = { sum->columns, sum->row_abs, sum->row_sq };
    intake->kernels->magnitudes[type](rows, count, item->cols, &magnitudes);
    sum->row_abs = magnitudes.row_abs;
    sum->row_sq = magnitudes.row_sq;
}

static void take_rows(struct lyap_intake *intake, enum lyap_dtype dtype, const unsigned char *bytes,
                      size_t count)
{
    const size_t cols = intake->row_sum->item->cols, size = lyap_dtype_bytes(dtype);
    if (dtype == LYAP_DTYPE_F32) {
        add_rows(intake, bytes, count, LYAP_ROWS_F32);
        return;
    }
    const size_t most = cols < WIDE_ELEMENTS ? WIDE_ELEMENTS / cols : 1;
    for (size_t at = 0; at < count; at += most) {
        const size_t taken = count - at < most ? count - at : most;
        intake->kernels->widen[dtype](bytes + at * cols * size, taken * cols, intake->row_wide);
        add_rows(intake, intake->row_wide, taken, LYAP_ROWS_F64);
    }
}

void lyap_intake_spectral_block(struct lyap_intake *intake, const struct lyap_intake_array *array,
                                const unsigned char *bytes, uint64_t length)
{
    if (!intake->row_sum)
        return;
    const enum lyap_dtype dtype = array->entry.dtype;
    const struct lyap_spectral_item *item = intake->row_sum->item;
    const size_t row = row_bytes(intake, item), capacity = gathered_bytes(intake, item);
    const bool is_last = array->done == array->bytes;
    while (length > 0) {
        if (intake->row_held == 0 && capacity == row && length >= row) {
            const size_t count = (size_t)(length / row);
            take_rows(intake, dtype, bytes, count);
            bytes += count * row;
            length -= count * row;
            continue;
        }
        const size_t room = capacity - intake->row_held;
        const size_t taken = length < room ? (size_t)length : room;
        memcpy(intake->row_hold + intake->row_held, bytes, taken);
        intake->row_held += taken;
        bytes += taken;
        length -= taken;
        if (intake->row_held == capacity || (is_last && length == 0)) {
            take_rows(intake, dtype, intake->row_hold, intake->row_held / row);
            intake->row_held = 0;
        }
    }
}

static enum lyap_status iterate(struct lyap_spectral_sum *sum, const struct lyap_spectral_matrix *w)
{
    const struct lyap_spectral_item *item = sum->item;
    memcpy(sum->z, item->v, (size_t)item->block * item->cols * sizeof *sum->z);
    const enum lyap_status status =
        lyap_spectral_power(w, item->block, LYAP_SPECTRAL_ITERATIONS_COLD, sum->z, &sum->estimate);
    sum->is_cold = sum->has_next = status == LYAP_OK;
    return status;
}

/* Iterations and Gram bound at once, of a small weight that is kept. */
static enum lyap_status at_once(struct lyap_intake *intake, struct lyap_spectral_sum *sum)
{
    const struct lyap_spectral_item *item = sum->item;
    const struct lyap_memory_slot *slot =
        &intake->memory->tensors[item->tensor].slots[LYAP_PLANE_PARAM];
    const size_t count = (size_t)item->rows * item->cols;
    double *values = lyap_alloc_array(count, sizeof *values);
    if (!values)
        return LYAP_E_NOMEM;
    intake->kernels->widen[slot->dtype](
        lyap_memory_slot_bytes(intake->memory, item->tensor, LYAP_PLANE_PARAM), count, values);
    const struct lyap_spectral_matrix w = { values, item->rows, item->cols };
    enum lyap_status status = item->is_cold ? iterate(sum, &w) : LYAP_OK;
    if (status == LYAP_OK && item->squarings > 0) {
        status = lyap_spectral_gram_upper(&w, item->squarings, NULL, &sum->gram_upper);
        sum->has_gram = status == LYAP_OK;
    }
    lyap_free(values);
    return status == LYAP_E_NUMERIC ? LYAP_OK : status;
}

enum lyap_status lyap_intake_spectral_finish(struct lyap_intake *intake)
{
    struct lyap_spectral_sums *sums = intake->partial.spectral;
    enum lyap_status status = LYAP_OK;
    if (!sums || intake->config.snapshot->world > 1)
        return LYAP_OK; /* finished once all ranks are added */
    for (uint32_t i = 0; i < sums->count && status == LYAP_OK && !intake->has_nonfinite; i++) {
        const struct lyap_spectral_item *item = sums->sums[i].item;
        if ((item->is_cold || item->squarings > 0) && is_measured(intake, &sums->sums[i]) &&
            is_kept_whole(intake, item))
            status = at_once(intake, &sums->sums[i]);
    }
    return status == LYAP_OK ? lyap_spectral_finish(&intake->partial) : status;
}
