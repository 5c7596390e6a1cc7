/* Silences in force. */
#include "silences.h"

#include <string.h>

#include "lyap/alloc.h"
#include "lyap/glob.h"

enum lyap_status lyap_silence_check(const struct lyap_silence *silence, struct lyap_error *reterr)
{
    const int64_t longest_ns = (int64_t)LYAP_RULE_SECONDS_MAX * 1000000000;
    const bool has_labels = silence->labels_json && strcmp(silence->labels_json, "{}") != 0;
    if (!silence->run[0] && !silence->rule[0] && silence->severity < 0 && !has_labels)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "a silence needs run, rule, severity or labels; \"run\":\"*\" "
                              "silences everything");
    if (silence->until_ns <= silence->created_ns ||
        silence->until_ns - silence->created_ns > longest_ns)
        return lyap_error_set(reterr, LYAP_E_INVALID, "a silence lasts 1 to %d seconds",
                              LYAP_RULE_SECONDS_MAX);
    return LYAP_OK;
}

static enum lyap_status grow(struct lyap_silences *silences, struct lyap_error *reterr)
{
    if (silences->count == LYAP_SILENCE_COUNT_MAX)
        return lyap_error_set(reterr, LYAP_E_LIMIT, "%d silences are in force, the maximum",
                              LYAP_SILENCE_COUNT_MAX);
    if (silences->count < silences->capacity)
        return LYAP_OK;
    const uint32_t capacity = silences->capacity ? silences->capacity * 2 : 8;
    struct lyap_silence_entry *entries = lyap_alloc_array(capacity, sizeof *entries);
    if (!entries)
        return LYAP_E_NOMEM;
    if (silences->count)
        memcpy(entries, silences->entries, silences->count * sizeof *entries);
    lyap_free(silences->entries);
    silences->entries = entries;
    silences->capacity = capacity;
    return LYAP_OK;
}

enum lyap_status lyap_silences_add(struct lyap_silences *silences,
                                   const struct lyap_silence *silence, struct lyap_error *reterr)
{
    struct lyap_silence_entry entry = { .silence = *silence };
    entry.silence.labels_json = NULL;
    entry.silence.comment = "";
    enum lyap_status status = grow(silences, reterr);
    if (status == LYAP_OK)
        status = lyap_labels_parse(silence->labels_json, &entry.selector);
    if (status == LYAP_E_FORMAT)
        (void)lyap_error_set(reterr, status, "labels: must be an object of strings");
    if (status != LYAP_OK)
        return status;
    silences->entries[silences->count++] = entry;
    silences->revision++;
    return LYAP_OK;
}

static void drop(struct lyap_silences *silences, uint32_t index)
{
    lyap_labels_release(&silences->entries[index].selector);
    silences->entries[index] = silences->entries[--silences->count];
    silences->revision++;
}

bool lyap_silences_remove(struct lyap_silences *silences, int64_t id)
{
    for (uint32_t i = 0; i < silences->count; i++) {
        if (silences->entries[i].silence.id != id)
            continue;
        drop(silences, i);
        return true;
    }
    return false;
}

void lyap_silences_expire(struct lyap_silences *silences, int64_t now_ns)
{
    for (uint32_t i = silences->count; i-- > 0;)
        if (silences->entries[i].silence.until_ns <= now_ns)
            drop(silences, i);
}

void lyap_silences_release(struct lyap_silences *silences)
{
    while (silences->count)
        drop(silences, silences->count - 1);
    lyap_free(silences->entries);
    *silences = (struct lyap_silences)LYAP_SILENCES_NULL;
}

static bool matches(const struct lyap_silence_entry *entry, const struct lyap_alert *alert,
                    const struct lyap_labels *labels)
{
    const struct lyap_silence *silence = &entry->silence;
    return (!silence->run[0] || lyap_glob_match(silence->run, alert->run)) &&
           (!silence->rule[0] || lyap_glob_match(silence->rule, alert->rule)) &&
           (silence->severity < 0 || silence->severity == (int)alert->severity) &&
           lyap_labels_match(&entry->selector, labels);
}

const struct lyap_silence *lyap_silences_match(const struct lyap_silences *silences,
                                               const struct lyap_alert *alert,
                                               const struct lyap_labels *labels, int64_t now_ns)
{
    const struct lyap_silence *found = NULL;
    for (uint32_t i = 0; i < silences->count; i++) {
        const struct lyap_silence_entry *entry = &silences->entries[i];
        if (entry->silence.until_ns > now_ns && matches(entry, alert, labels) &&
            (!found || entry->silence.until_ns > found->until_ns))
            found = &entry->silence;
    }
    return found;
}
