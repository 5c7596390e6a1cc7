/* What the keys of a snapshot must say together, and the names of its twins. */
#include <assert.h>
#include <string.h>

#include "lyap/snapshot.h"
#include "lyap/text.h"
#include "banned.h"

bool lyap_snapshot_twin_name(const struct lyap_snapshot *snapshot, uint32_t i,
                             char ret_name[LYAP_TWIN_NAME_BYTES_MAX + 1])
{
    const bool is_named = lyap_snapshot_has(snapshot, LYAP_META_TWIN_NAME);
    const char *at = is_named ? snapshot->twin_name : LYAP_TWIN_DEFAULT;
    for (; i > 0 && *at; i--) {
        at += strcspn(at, ",");
        if (*at)
            at++;
        else
            return false;
    }
    at += strspn(at, " ");
    size_t length = strcspn(at, ",");
    while (length > 0 && at[length - 1] == ' ')
        length--;
    if (i > 0 || length == 0 || length > LYAP_TWIN_NAME_BYTES_MAX)
        return false;
    memcpy(ret_name, at, length);
    ret_name[length] = '\0';
    return true;
}

/* As many names as logs, no two alike. */
static enum lyap_status twins_check(const struct lyap_snapshot *snapshot, struct lyap_error *reterr)
{
    char names[LYAP_TWIN_COUNT_MAX][LYAP_TWIN_NAME_BYTES_MAX + 1];
    struct lyap_quote quote;
    uint32_t commas = 0;
    if (!lyap_snapshot_has(snapshot, LYAP_META_TWIN_NAME) && snapshot->twin_count <= 1)
        return LYAP_OK;
    for (const char *at = snapshot->twin_name; *at; at++)
        commas += *at == ',';
    if (!lyap_snapshot_has(snapshot, LYAP_META_TWIN_NAME) || commas + 1 != snapshot->twin_count)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "twin_name has %u names, but must have one for each of the %u values "
                              "of twin_log",
                              snapshot->twin_name[0] ? commas + 1 : 0, snapshot->twin_count);
    for (uint32_t i = 0; i < snapshot->twin_count; i++) {
        if (!lyap_snapshot_twin_name(snapshot, i, names[i]))
            return lyap_error_set(
                reterr, LYAP_E_INVALID, "twin_name is %s, but must be names of 1 to %d bytes",
                lyap_quote_string(snapshot->twin_name, &quote), LYAP_TWIN_NAME_BYTES_MAX);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(names[i], names[k]) == 0)
                return lyap_error_set(reterr, LYAP_E_INVALID, "twin_name names %s twice",
                                      lyap_quote_string(names[i], &quote));
    }
    return LYAP_OK;
}

enum lyap_status lyap_snapshot_check(const struct lyap_snapshot *snapshot,
                                     struct lyap_error *reterr)
{
    if (!lyap_snapshot_has(snapshot, LYAP_META_STEP))
        return lyap_error_set(reterr, LYAP_E_MISSING_FIELD, "step is required");
    if (snapshot->rank >= snapshot->world)
        return lyap_error_set(
            reterr, LYAP_E_INVALID, "rank is %u, but must be below world, %u%s", snapshot->rank,
            snapshot->world, lyap_snapshot_has(snapshot, LYAP_META_WORLD) ? "" : " when not given");
    assert(snapshot->lr_count == 0 || snapshot->lr);
    return twins_check(snapshot, reterr);
}
