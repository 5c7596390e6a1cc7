/* What the API asks to change of rules, on the engine's thread. */
#include <string.h>

#include "engine.h"

/* The batch is closed with it: a rule that looks back finds the points before it committed. */
enum lyap_status lyap_rule_store(struct lyap_engine *engine, struct lyap_rule *rule,
                                 struct lyap_error *reterr)
{
    enum lyap_status status = lyap_engine_begin(engine);
    if (status != LYAP_OK)
        return status;
    engine->are_rules_changed = engine->is_batch_full = true;
    rule->updated_ns = lyap_clock_utc_ns();
    status = lyap_rules_put(&engine->rules, rule, reterr);
    if (status == LYAP_OK)
        status = engine->store->ops->put_rule(engine->store, rule);
    if (status == LYAP_OK)
        lyap_rules_find(&engine->rules, rule->name)->rule.version = rule->version;
    return status;
}

enum lyap_status lyap_command_rule_put(struct lyap_engine *engine, void *put_rule_args,
                                       struct lyap_error *reterr)
{
    struct lyap_put_rule_args *args = put_rule_args;
    struct lyap_rule rule = *args->rule;
    const struct lyap_rule *shipped = lyap_packs_rule(rule.name);
    /* What says the same as the shipped rule is the shipped rule. */
    rule.source = shipped ? shipped->source : NULL;
    rule.is_builtin = shipped && lyap_rules_same(&rule, shipped);
    if (!rule.is_builtin)
        rule.source = NULL;
    args->is_created = !lyap_rules_find(&engine->rules, rule.name);
    enum lyap_status status = lyap_rules_check(&rule, reterr);
    if (status == LYAP_OK)
        status = lyap_receivers_check(&engine->receivers, rule.notify_json, reterr);
    return status == LYAP_OK ? lyap_rule_store(engine, &rule, reterr) : status;
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
    const struct lyap_rule *shipped = lyap_packs_rule(name);
    if (!present)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no rule %s", (const char *)name);
    enum lyap_status status = lyap_engine_begin(engine);
    if (status != LYAP_OK)
        return status;
    if (!shipped) {
        engine->are_rules_changed = true;
        status = engine->store->ops->delete_rule(engine->store, name, lyap_clock_utc_ns());
        lyap_rules_remove(&engine->rules, name);
        return status == LYAP_OK ? resolve_everywhere(engine, name) : status;
    }
    struct lyap_rule rule = *shipped;
    rule.is_enabled = !present->rule.is_builtin; /* of a replaced one the shipped one comes back */
    status = lyap_rule_store(engine, &rule, reterr);
    return status == LYAP_OK ? resolve_everywhere(engine, name) : status;
}

/* ---- packs ---- */

static bool is_named(const struct api_pack_put *put, const char *rule)
{
    for (uint32_t i = 0; i < put->name_count; i++)
        if (strcmp(put->names[i], rule) == 0)
            return true;
    return put->name_count == 0;
}

static enum lyap_status check_names(const struct api_pack_put *put, const struct lyap_pack *pack,
                                    struct lyap_error *reterr)
{
    for (uint32_t i = 0; i < put->name_count; i++) {
        uint32_t at = 0;
        while (at < pack->count && strcmp(pack->rules[at].name, put->names[i]) != 0)
            at++;
        if (at == pack->count)
            return lyap_error_set(reterr, LYAP_E_INVALID, "rules: pack %s has no rule '%.64s'",
                                  pack->name, put->names[i]);
    }
    return LYAP_OK;
}

/* A rule that somebody replaced by an own one stays theirs. */
static enum lyap_status switch_rule(struct lyap_engine *engine, const struct lyap_rule *shipped,
                                    bool is_enabled, struct lyap_error *reterr)
{
    const struct lyap_rule_entry *stored = lyap_rules_find(&engine->rules, shipped->name);
    const bool is_on = stored && stored->rule.is_enabled;
    if (is_on == is_enabled || (stored && !stored->rule.is_builtin))
        return LYAP_OK;
    struct lyap_rule rule = *shipped;
    rule.is_enabled = is_enabled;
    const enum lyap_status status = lyap_rule_store(engine, &rule, reterr);
    return status == LYAP_OK && !is_enabled ? resolve_everywhere(engine, rule.name) : status;
}

enum lyap_status lyap_command_pack_put(struct lyap_engine *engine, void *pack_put,
                                       struct lyap_error *reterr)
{
    const struct api_pack_put *put = pack_put;
    const struct lyap_pack *pack = lyap_packs_find(put->pack);
    if (!pack)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no pack '%.64s'", put->pack);
    enum lyap_status status = check_names(put, pack, reterr);
    for (uint32_t i = 0; status == LYAP_OK && i < pack->count; i++)
        if (is_named(put, pack->rules[i].name))
            status = switch_rule(engine, &pack->rules[i], put->is_enabled, reterr);
    return status;
}
