/* What the API asks to change, on the engine's thread. */
#include "engine.h"

#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "ranks.h"

/* ---- runs ---- */

/* The attempt that a key opened, or 0. */
struct find_key {
    const char *key;
    uint32_t attempt;
};

static enum lyap_status find_key(struct lyap_engine *engine, const struct lyap_run *run,
                                 struct find_key *find)
{
    const struct lyap_query query = { .table = LYAP_TABLE_ATTEMPTS,
                                      .run = run->name,
                                      .to_step = LYAP_STEP_MAX,
                                      .after = -1,
                                      .state = -1,
                                      .severity = -1 };
    struct lyap_cursor *cursor;
    struct lyap_record record;
    if (strcmp(run->attempt_record.key, find->key) == 0)
        find->attempt = run->record.attempt;
    if (!run->committed_id || find->attempt)
        return LYAP_OK;
    enum lyap_status status = engine->store->ops->query(engine->store, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK)
        if (strcmp(record.u.attempt.key, find->key) == 0)
            find->attempt = record.u.attempt.attempt;
    cursor->close(cursor);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

/* The declaration that holds from now on: what was put, and the tensors known so far. E_TENSOR_SET:
 * within an attempt the tensors stay. */
static enum lyap_status declare(struct lyap_engine *engine, struct lyap_run *run,
                                const struct api_run_put *put, struct lyap_error *reterr)
{
    const struct lyap_tensor_set *declared = &put->declaration.set;
    lyap_registry_lock(engine->registry);
    struct lyap_shared_declaration *present = lyap_shared_declaration_ref(
        run->next_declaration ? run->next_declaration : run->declaration);
    const bool is_learned = run->is_set_learned;
    lyap_registry_unlock(engine->registry);
    const struct lyap_tensor_set *known = &present->declaration.set;
    const bool is_fixed = known->count > 0 && run->record.last_step >= 0;
    struct lyap_shared_declaration *next = NULL;
    enum lyap_status status = LYAP_OK;
    if (declared->count > 0 && is_fixed)
        status = lyap_tensor_set_same(known, declared, reterr);
    /* The known order stays: the stored rows refer to it. */
    const bool keeps_known = known->count > 0 && (is_fixed || declared->count == 0);
    if (status == LYAP_OK)
        status = lyap_shared_declaration_new(&put->declaration, keeps_known ? known : NULL, &next);
    lyap_shared_declaration_unref(present);
    if (status != LYAP_OK)
        return status;
    lyap_shared_declaration_unref(run->next_declaration);
    run->next_declaration = next;
    run->is_next_set_learned = declared->count == 0 && (is_learned || !is_fixed);
    if (run->profile)
        status = lyap_profile_redeclare(run->profile, &next->declaration);
    if (status == LYAP_OK) {
        lyap_shared_declaration_unref(run->profile_declaration);
        run->profile_declaration = lyap_shared_declaration_ref(next);
    }
    return status;
}

static enum lyap_status replace_text(char **field, const char *text)
{
    char *copy = lyap_alloc_string(text);
    if (!copy)
        return LYAP_E_NOMEM;
    lyap_free(*field);
    *field = copy;
    return LYAP_OK;
}

static enum lyap_status label(struct lyap_run *run, const char *json)
{
    struct lyap_labels labels;
    enum lyap_status status = lyap_labels_parse(json, &labels);
    if (status != LYAP_OK)
        return status;
    lyap_labels_release(&run->labels);
    run->labels = labels;
    return replace_text(&run->labels_json, json);
}

/* Texts reach their row with the end of the batch. */
static enum lyap_status run_describe(struct lyap_engine *engine, struct lyap_run *run,
                                     const struct api_run_put *put, bool is_new,
                                     struct lyap_error *reterr)
{
    const bool is_changed = strcmp(run->declaration_json, put->declaration_json) != 0;
    enum lyap_status status = lyap_engine_touch(engine, run);
    if (status == LYAP_OK && (is_changed || run->record.last_step < 0))
        status = declare(engine, run, put, reterr);
    if (status == LYAP_OK && put->labels_json)
        status = label(run, put->labels_json);
    if (status == LYAP_OK && is_changed)
        status = replace_text(&run->declaration_json, put->declaration_json);
    if (status == LYAP_OK && is_changed && !is_new)
        status =
            lyap_engine_event(engine, run, LYAP_EVENT_DECLARATION, run->record.last_step, "{}");
    return status;
}

static enum lyap_status run_end(struct lyap_engine *engine, struct lyap_run *run, bool is_ended)
{
    const enum lyap_run_state before = run->record.state;
    const struct lyap_alert_sink sink = lyap_engine_sink(engine);
    if (is_ended == (before == LYAP_STATE_ENDED))
        return LYAP_OK;
    run->record.state = is_ended        ? LYAP_STATE_ENDED
                        : run->has_last ? run->last.state
                                        : LYAP_STATE_WARMING_UP;
    enum lyap_status status = LYAP_OK;
    if (is_ended)
        status = lyap_alerts_resolve(run->alert_state, NULL, "run-ended", run->record.last_step,
                                     lyap_clock_utc_ns(), &sink);
    if (status != LYAP_OK)
        return status;
    return lyap_engine_event(engine, run, LYAP_EVENT_STATE, run->record.last_step,
                             "{\"from\":\"%s\",\"to\":\"%s\"}", lyap_run_state_name(before),
                             lyap_run_state_name(run->record.state));
}

/* A new attempt, unless its key was used before. The first of a new run takes the key itself. */
static enum lyap_status run_attempt(struct lyap_engine *engine, struct lyap_run *run,
                                    const char *key, bool is_new, uint32_t *ret_attempt)
{
    struct find_key find = { .key = key ? key : "" };
    enum lyap_status status = LYAP_OK;
    *ret_attempt = run->record.attempt;
    if (is_new) {
        (void)strncpy(run->attempt_record.key, find.key, sizeof run->attempt_record.key - 1);
        return LYAP_OK;
    }
    if (find.key[0])
        status = find_key(engine, run, &find);
    if (status == LYAP_OK && !find.attempt)
        status = lyap_attempt_open(engine, run, key);
    if (status == LYAP_OK)
        *ret_attempt = find.attempt ? find.attempt : run->record.attempt;
    return status;
}

enum lyap_status lyap_command_run_put(struct lyap_engine *engine, void *put_run_args,
                                      struct lyap_error *reterr)
{
    struct lyap_put_run_args *args = put_run_args;
    const struct api_run_put *put = args->put;
    struct lyap_run *run;
    bool is_new;
    enum lyap_status status = lyap_run_load_or_new(engine, put->run, &run, &is_new);
    if (status == LYAP_E_BUSY)
        return lyap_error_set(reterr, status, "%d runs are in memory, the maximum",
                              LYAP_RUNS_IN_MEMORY_MAX);
    if (status == LYAP_OK)
        status = lyap_run_refresh(engine, run);
    if (status != LYAP_OK)
        return status;
    is_new = run->record.id == 0; /* a push may have made the run and broken off */
    args->result.attempt = run->record.attempt;
    if (put->is_new_attempt)
        status = run_attempt(engine, run, put->attempt_key, is_new, &args->result.attempt);
    if (status == LYAP_OK)
        status = run_describe(engine, run, put, is_new, reterr);
    if (status == LYAP_OK && put->ended >= 0)
        status = run_end(engine, run, put->ended == 1);
    run->record.updated_ns = lyap_clock_utc_ns();
    args->result.is_created = is_new;
    args->result.sketch_seed = run->sketch_seed;
    return status;
}

enum lyap_status lyap_command_run_delete(struct lyap_engine *engine, void *name,
                                         struct lyap_error *reterr)
{
    struct lyap_run *run;
    enum lyap_status status = lyap_run_load(engine, name, &run);
    if (status == LYAP_OK)
        status = lyap_run_refresh(engine, run);
    if (status == LYAP_E_NOT_FOUND || (status == LYAP_OK && run->record.id == 0))
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no run %s", (const char *)name);
    if (status == LYAP_OK)
        status = lyap_engine_touch(engine, run);
    if (status == LYAP_OK)
        status = engine->store->ops->delete_run(engine->store, run->record.id);
    if (status != LYAP_OK)
        return status;
    lyap_ranks_finish_all(run, &engine->finished);
    lyap_registry_lock(engine->registry);
    run->is_deleted = true;
    lyap_registry_unlock(engine->registry);
    engine->is_batch_full = true; /* what follows finds the run gone, not going */
    engine->next_prune_ns = 0;    /* its rows go bit by bit, from the next tick on */
    return LYAP_OK;
}

/* ---- rules ---- */

enum lyap_status lyap_command_rule_put(struct lyap_engine *engine, void *put_rule_args,
                                       struct lyap_error *reterr)
{
    struct lyap_put_rule_args *args = put_rule_args;
    struct lyap_rule rule = *args->rule;
    const struct lyap_rule_entry *present = lyap_rules_find(&engine->rules, rule.name);
    const struct lyap_rule *shipped = lyap_rules_default_find(rule.name);
    rule.version = present ? present->rule.version + 1 : 1;
    /* What says the same as the default is the default. */
    rule.source = shipped ? shipped->source : NULL;
    rule.is_builtin = shipped && lyap_rules_same(&rule, shipped);
    if (!rule.is_builtin)
        rule.source = NULL;
    args->is_created = !present;
    enum lyap_status status = lyap_rules_check(&rule, reterr);
    if (status == LYAP_OK)
        status = lyap_receivers_check(&engine->receivers, rule.notify_json, reterr);
    if (status == LYAP_OK)
        status = lyap_engine_begin(engine);
    if (status != LYAP_OK)
        return status;
    engine->are_rules_changed = true;
    status = lyap_rules_put(&engine->rules, &rule, reterr);
    if (status == LYAP_OK)
        status = engine->store->ops->put_rule(engine->store, &rule);
    return status;
}

/* Open alerts of a rule that went resolve, in every run in memory; a run that is not resolves them
 * when it is read. */
static enum lyap_status resolve_everywhere(struct lyap_engine *engine, const char *rule)
{
    const struct lyap_alert_sink sink = lyap_engine_sink(engine);
    enum lyap_status status = LYAP_OK;
    struct lyap_run *run = NULL;
    while (status == LYAP_OK && (run = lyap_registry_next(engine->registry, run))) {
        bool is_open = false;
        for (uint32_t i = 0; i < lyap_alerts_count(run->alert_state); i++)
            is_open = is_open || strcmp(lyap_alerts_get(run->alert_state, i)->rule, rule) == 0;
        if (!is_open || run->is_deleted)
            continue;
        status = lyap_engine_touch(engine, run);
        if (status == LYAP_OK)
            status = lyap_alerts_resolve(run->alert_state, rule, "rule-deleted",
                                         run->record.last_step, lyap_clock_utc_ns(), &sink);
    }
    return status;
}

enum lyap_status lyap_command_rule_delete(struct lyap_engine *engine, void *name,
                                          struct lyap_error *reterr)
{
    const struct lyap_rule_entry *present = lyap_rules_find(&engine->rules, name);
    const struct lyap_rule *shipped = lyap_rules_default_find(name);
    if (!present)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no rule %s", (const char *)name);
    enum lyap_status status = lyap_engine_begin(engine);
    if (status != LYAP_OK)
        return status;
    engine->are_rules_changed = true;
    if (!shipped) {
        status = engine->store->ops->delete_rule(engine->store, name);
        lyap_rules_remove(&engine->rules, name);
        return status == LYAP_OK ? resolve_everywhere(engine, name) : status;
    }
    struct lyap_rule rule = *shipped;
    rule.version = present->rule.version + 1;
    rule.is_enabled = !present->rule.is_builtin; /* of a replaced one the default comes back */
    status = lyap_rules_put(&engine->rules, &rule, reterr);
    if (status == LYAP_OK)
        status = engine->store->ops->put_rule(engine->store, &rule);
    return status == LYAP_OK ? resolve_everywhere(engine, name) : status;
}

/* ---- alerts ---- */

static enum lyap_status find_alert(struct lyap_engine *engine, int64_t id,
                                   struct lyap_alert *ret_alert)
{
    const struct lyap_query query = { .table = LYAP_TABLE_ALERTS,
                                      .to_step = LYAP_STEP_MAX,
                                      .after = id - 1,
                                      .limit = 1,
                                      .state = -1,
                                      .severity = -1 };
    struct lyap_cursor *cursor;
    struct lyap_record record;
    enum lyap_status status = engine->store->ops->query(engine->store, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    status = cursor->next(cursor, &record);
    if (status == LYAP_OK && record.u.alert.id != id)
        status = LYAP_E_NOT_FOUND;
    struct lyap_alert *copy = NULL;
    if (status == LYAP_OK)
        status = lyap_alert_list_copy(&record.u.alert, 1, &copy);
    if (status == LYAP_OK)
        *ret_alert = *copy;
    lyap_free(copy);
    cursor->close(cursor);
    return status;
}

enum lyap_status lyap_command_alert_ack(struct lyap_engine *engine, void *id,
                                        struct lyap_error *reterr)
{
    struct lyap_alert alert;
    const int64_t alert_id = *(const int64_t *)id;
    const bool was_batch_open = engine->is_batch_open;
    enum lyap_status status = find_alert(engine, alert_id, &alert);
    if (status == LYAP_E_NOT_FOUND)
        return lyap_error_set(reterr, status, "there is no alert %lld", (long long)alert_id);
    if (status != LYAP_OK)
        return status;
    struct lyap_run *run;
    const int64_t now_ns = lyap_clock_utc_ns();
    status = lyap_run_load(engine, alert.run, &run);
    if (status == LYAP_OK)
        status = lyap_engine_touch(engine, run);
    /* An open alert may have changed in this very batch: the one in memory is stored. */
    struct lyap_alert *open =
        status == LYAP_OK ? lyap_alerts_find(run->alert_state, alert_id) : NULL;
    /* Stored as open, gone from memory: this batch resolves it, and would be overwritten. */
    if (status == LYAP_OK && !open && was_batch_open && alert.state != LYAP_ALERT_RESOLVED)
        status = lyap_error_set(reterr, LYAP_E_BUSY, "alert %lld is being resolved",
                                (long long)alert_id);
    struct lyap_alert *acked = open ? open : &alert;
    acked->acked_ns = acked->acked_ns ? acked->acked_ns : now_ns;
    if (status == LYAP_OK)
        status = engine->store->ops->put_alert(engine->store, acked);
    lyap_free((char *)alert.tensor);
    lyap_free((char *)alert.summary);
    lyap_free((char *)alert.evidence_json);
    return status;
}
