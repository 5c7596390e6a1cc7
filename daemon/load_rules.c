/* Rules, silences and the runs to watch, back from the store at the start. */
#include <stdio.h>
#include <string.h>

#include "engine.h"
#include "log.h"
#include "lyap/alloc.h"

enum { WATCHED_RUNS_MAX = 1000 };

static enum lyap_status on_rule(void *arg, const struct lyap_record *record)
{
    struct lyap_engine *engine = arg;
    struct lyap_error error = LYAP_ERROR_NULL;
    const enum lyap_status status = lyap_rules_put(&engine->rules, &record->u.rule, &error);
    if (status == LYAP_OK || status == LYAP_E_NOMEM)
        return status;
    char text[LYAP_ERROR_TEXT_BYTES];
    lyap_log(LYAP_LOG_ERROR, "rule-ignored", "rule=%s detail=%s", record->u.rule.name,
             lyap_log_quote(lyap_error_text(&error), text, sizeof text));
    return LYAP_OK;
}

/* A shipped rule that the store lacks, or that this version changed and nobody replaced. Rules of
 * packs that were never switched on are not stored. */
static enum lyap_status put_shipped(struct lyap_engine *engine, const struct lyap_rule *shipped,
                                    bool is_default)
{
    const struct lyap_rule_entry *stored = lyap_rules_find(&engine->rules, shipped->name);
    if (!stored && !is_default)
        return LYAP_OK;
    if (stored && (!stored->rule.is_builtin || lyap_rules_same(&stored->rule, shipped)))
        return LYAP_OK;
    struct lyap_rule rule = *shipped;
    if (stored)
        rule.is_enabled = stored->rule.is_enabled;
    return lyap_rule_store(engine, &rule, NULL);
}

static enum lyap_status put_packs(struct lyap_engine *engine)
{
    enum lyap_status status = LYAP_OK;
    const struct lyap_pack *pack;
    for (uint32_t i = 0; status == LYAP_OK && (pack = lyap_packs_get(i)); i++)
        for (uint32_t j = 0; status == LYAP_OK && j < pack->count; j++)
            status = put_shipped(engine, &pack->rules[j], i == 0);
    return status;
}

enum lyap_status lyap_rules_load(struct lyap_engine *engine)
{
    struct lyap_rules before = engine->rules;
    engine->rules = (struct lyap_rules)LYAP_RULES_NULL;
    enum lyap_status status =
        lyap_query_each(engine, lyap_query_of(LYAP_TABLE_RULES, NULL), on_rule, engine);
    if (status == LYAP_OK)
        status = put_packs(engine);
    if (status != LYAP_OK) { /* better those that were in force than a part of them */
        lyap_rules_release(&engine->rules);
        engine->rules = before;
        return status;
    }
    lyap_rules_release(&before);
    return LYAP_OK;
}

/* ---- silences ---- */

static enum lyap_status on_silence(void *arg, const struct lyap_record *record)
{
    struct lyap_engine *engine = arg;
    const enum lyap_status status = lyap_silences_add(&engine->silences, &record->u.silence, NULL);
    if (status != LYAP_OK && status != LYAP_E_NOMEM)
        lyap_log(LYAP_LOG_ERROR, "silence-ignored", "id=%lld status=%s",
                 (long long)record->u.silence.id, lyap_status_slug(status));
    return status == LYAP_E_NOMEM ? status : LYAP_OK;
}

enum lyap_status lyap_silences_load(struct lyap_engine *engine)
{
    struct lyap_query query = lyap_query_of(LYAP_TABLE_SILENCES, NULL);
    query.now_ns = lyap_clock_utc_ns();
    lyap_silences_release(&engine->silences);
    return lyap_query_each(engine, query, on_silence, engine);
}

/* ---- watched runs ---- */

struct watched {
    char (*names)[LYAP_RUN_NAME_BYTES_MAX + 1];
    uint32_t count;
};

static enum lyap_status on_watched(void *arg, const struct lyap_record *record)
{
    struct watched *watched = arg;
    const enum lyap_run_state state = record->u.run.state;
    if (state == LYAP_STATE_ENDED || state == LYAP_STATE_SILENT)
        return LYAP_OK;
    (void)snprintf(watched->names[watched->count++], sizeof *watched->names, "%s",
                   record->u.run.name);
    return watched->count == WATCHED_RUNS_MAX ? LYAP_E_LIMIT : LYAP_OK;
}

static void watch(struct watched *watched, const char *name)
{
    for (uint32_t i = 0; i < watched->count; i++)
        if (strcmp(watched->names[i], name) == 0)
            return;
    (void)snprintf(watched->names[watched->count++], sizeof *watched->names, "%s", name);
}

/* Somebody is to be told when what holds the alert back is over. */
static enum lyap_status on_held(void *arg, const struct lyap_record *record)
{
    struct watched *watched = arg;
    if (record->u.alert.notified_ns == 0)
        watch(watched, record->u.alert.run);
    return watched->count == WATCHED_RUNS_MAX ? LYAP_E_LIMIT : LYAP_OK;
}

enum lyap_status lyap_runs_load_watched(struct lyap_engine *engine)
{
    struct watched watched = { .names = lyap_alloc_array(WATCHED_RUNS_MAX, sizeof *watched.names) };
    if (!watched.names)
        return LYAP_E_NOMEM;
    struct lyap_query query = lyap_query_of(LYAP_TABLE_RUNS, NULL);
    query.is_descending = true;
    enum lyap_status status = lyap_query_each(engine, query, on_watched, &watched);
    query = lyap_query_of(LYAP_TABLE_ALERTS, NULL);
    query.state = LYAP_ALERT_FIRING;
    if (status == LYAP_OK)
        status = lyap_query_each(engine, query, on_held, &watched);
    if (status == LYAP_E_LIMIT)
        status = LYAP_OK;
    for (uint32_t i = 0; status == LYAP_OK && i < watched.count; i++) {
        struct lyap_run *run;
        status = lyap_run_load(engine, watched.names[i], &run);
        if (!lyap_status_is_fault(status))
            status = LYAP_OK; /* one unreadable run does not keep the daemon from starting */
    }
    lyap_free(watched.names);
    return status;
}
