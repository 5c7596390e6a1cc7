/* A push of finished rows and sketches: checks, and where their bytes go. */
#include "intake_state.h"

#include <inttypes.h>

#include "banned.h"

/* What every partial push carries: moments and sketches of param and grad. */
static enum lyap_status check_required(const struct lyap_intake *intake, struct lyap_error *reterr)
{
    static const enum lyap_reduce first[] = { LYAP_REDUCE_PARAM_COUNT, LYAP_REDUCE_GRAD_COUNT };
    static const enum lyap_sketch_role sketches[] = { LYAP_SKETCH_PARAM, LYAP_SKETCH_GRAD };
    for (unsigned i = 0; i < sizeof first / sizeof *first; i++) {
        for (unsigned m = 0; m < LYAP_MOMENT_ROWS; m++) {
            const enum lyap_reduce row = (enum lyap_reduce)(first[i] + m);
            if (!intake->partial.rows[row])
                return lyap_error_set(reterr, LYAP_E_MISSING_FIELD,
                                      "a partial push needs reduce/%s", lyap_reduce_name(row));
        }
        if (!intake->partial.sketches[sketches[i]])
            return lyap_error_set(reterr, LYAP_E_MISSING_FIELD, "a partial push needs sketch/%s",
                                  lyap_sketch_name(sketches[i]));
    }
    return LYAP_OK;
}

static enum lyap_status place(struct lyap_intake *intake, struct lyap_intake_array *array,
                              struct lyap_error *reterr)
{
    const struct lyap_intake_entry *entry = &array->entry;
    const bool is_row = entry->kind == LYAP_INTAKE_REDUCE;
    const char *folder = is_row ? "reduce" : "sketch";
    const char *name = is_row ? lyap_reduce_name((enum lyap_reduce)entry->what)
                              : lyap_sketch_name((enum lyap_sketch_role)entry->what);
    const uint64_t width = is_row ? lyap_reduce_width((enum lyap_reduce)entry->what) : 1;
    const uint64_t expected = is_row ? width * intake->tensor_count : intake->partial.sketch_size;
    const bool is_again = is_row ? intake->partial.rows[entry->what] != NULL
                                 : intake->partial.sketches[entry->what] != NULL;
    if (is_again)
        return lyap_error_set(reterr, LYAP_E_CONTRADICTION, "%s/%s is given twice", folder, name);
    if (entry->dtype != LYAP_DTYPE_F64)
        return lyap_error_set(reterr, LYAP_E_INVALID, "%s/%s is %s; it must be F64", folder, name,
                              lyap_dtype_name(entry->dtype));
    if (entry->count != expected)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "%s/%s has %" PRIu64 " values; it must have %" PRIu64 " (%s)", folder,
                              name, entry->count, expected,
                              !is_row      ? "the sketch size"
                              : width == 1 ? "one per declared tensor"
                                           : "64 per declared tensor");
    double *target =
        is_row ? lyap_partial_row(&intake->partial, (enum lyap_reduce)entry->what)
               : lyap_partial_sketch(&intake->partial, (enum lyap_sketch_role)entry->what);
    array->store = (unsigned char *)target;
    return target ? LYAP_OK
                  : lyap_error_set(reterr, LYAP_E_NOMEM, "no memory for %s/%s", folder, name);
}

enum lyap_status lyap_intake_plan_partial(struct lyap_intake *intake, struct lyap_error *reterr)
{
    const struct lyap_snapshot *snapshot = intake->config.snapshot;
    for (uint32_t i = 0; i < intake->array_count; i++) {
        const enum lyap_status status = place(intake, &intake->arrays[i], reterr);
        if (status != LYAP_OK)
            return status;
    }
    const enum lyap_status status = check_required(intake, reterr);
    if (status != LYAP_OK)
        return status;
    if (lyap_snapshot_has(snapshot, LYAP_META_DELTA_UNIT))
        intake->partial.delta_unit = snapshot->delta_unit;
    if (lyap_snapshot_has(snapshot, LYAP_META_GRAD_UNIT))
        intake->partial.grad_unit = snapshot->grad_unit;
    intake->partial.is_state_exact = snapshot->is_state_exact;
    return LYAP_OK;
}
