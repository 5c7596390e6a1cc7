/* Rules with their versions, and silences. */
#include <assert.h>
#include <inttypes.h>

#include "lyap/limits.h"
#include "writer.h"

static void bind_rule(struct lyap_bind *bind, const struct lyap_rule *rule)
{
    lyap_bind_text(bind, rule->name);
    lyap_bind_int(bind, rule->version);
    lyap_bind_int(bind, rule->updated_ns);
    lyap_bind_int(bind, rule->is_enabled);
    lyap_bind_int(bind, rule->is_builtin);
    lyap_bind_text(bind, rule->metric);
    lyap_bind_text(bind, rule->tensor_pattern);
    lyap_bind_text(bind, lyap_comparison_name(rule->comparison));
    lyap_bind_double(bind, rule->threshold);
    lyap_bind_double(bind, rule->clear);
    lyap_bind_int(bind, rule->for_steps);
    lyap_bind_int(bind, rule->clear_steps);
    lyap_bind_int(bind, rule->is_once);
    lyap_bind_int(bind, rule->min_points);
    lyap_bind_int(bind, rule->cooldown_steps);
    lyap_bind_int(bind, rule->cooldown_s);
    lyap_bind_int(bind, rule->notify_per_hour);
    lyap_bind_text(bind, rule->cause);
    lyap_bind_text(bind, lyap_severity_name(rule->severity));
    lyap_bind_text(bind, lyap_action_name(rule->action));
    lyap_bind_text(bind, rule->run_pattern);
    lyap_bind_text(bind, rule->runs_json);
    lyap_bind_text(bind, rule->source);
    lyap_bind_text(bind, rule->notify_json);
}

static enum lyap_status next_version(struct lyap_writer *writer, const char *name,
                                     uint32_t *ret_version, struct lyap_error *reterr)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_NEXT_VERSION);
    lyap_bind_text(&bind, name);
    const enum lyap_status status = lyap_sql_step(&bind, reterr);
    if (status != LYAP_OK)
        return status;
    *ret_version = (uint32_t)sqlite3_column_int64(bind.stmt, 0);
    lyap_sql_idle(&bind);
    return LYAP_OK;
}

/* Statement of the name of a rule and perhaps a number. */
static enum lyap_status run_named(struct lyap_writer *writer, enum lyap_sql_id id, const char *name,
                                  int64_t number, struct lyap_error *reterr)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, id);
    lyap_bind_text(&bind, name);
    if (number >= 0)
        lyap_bind_int(&bind, number);
    return lyap_sql_run(&bind, reterr);
}

static enum lyap_status trim_versions(struct lyap_writer *writer, const char *name,
                                      struct lyap_error *reterr)
{
    const enum lyap_status status =
        run_named(writer, LYAP_SQL_TRIM_VERSIONS, name, LYAP_RULE_VERSIONS_MAX, reterr);
    if (status != LYAP_OK)
        return status;
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_TRIM_ALL_VERSIONS);
    lyap_bind_int(&bind, LYAP_RULE_VERSIONS_TOTAL_MAX);
    return lyap_sql_run(&bind, reterr);
}

enum lyap_status lyap_writer_put_rule(struct lyap_store *store, struct lyap_rule *rule)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open && lyap_rule_name_is_valid(rule->name));
    struct lyap_rule stored = *rule;
    enum lyap_status status = next_version(writer, rule->name, &stored.version, reterr);
    if (status != LYAP_OK)
        return status;
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_PUT_RULE);
    bind_rule(&bind, &stored);
    status = lyap_sql_run(&bind, reterr);
    if (status == LYAP_OK)
        status = run_named(writer, LYAP_SQL_PUT_VERSION, rule->name, -1, reterr);
    if (status == LYAP_OK)
        status = trim_versions(writer, rule->name, reterr);
    if (status == LYAP_OK)
        rule->version = stored.version;
    return status;
}

enum lyap_status lyap_writer_delete_rule(struct lyap_store *store, const char *name, int64_t now_ns)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open);
    enum lyap_status status = run_named(writer, LYAP_SQL_END_VERSIONS, name, now_ns, reterr);
    if (status == LYAP_OK)
        status = run_named(writer, LYAP_SQL_DELETE_RULE, name, -1, reterr);
    if (status == LYAP_OK && sqlite3_changes(writer->sql.db) == 0)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "rule %s", name);
    return status == LYAP_OK ? trim_versions(writer, name, reterr) : status;
}

static enum lyap_status insert_silence(struct lyap_writer *writer, struct lyap_silence *silence,
                                       struct lyap_error *reterr)
{
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_INSERT_SILENCE);
    lyap_bind_text(&bind, silence->run);
    lyap_bind_text(&bind, silence->rule);
    lyap_bind_text(&bind, silence->severity < 0
                              ? NULL
                              : lyap_severity_name((enum lyap_severity)silence->severity));
    lyap_bind_text(&bind, silence->labels_json);
    lyap_bind_text(&bind, silence->comment);
    lyap_bind_text(&bind, silence->by);
    lyap_bind_int(&bind, silence->created_ns);
    lyap_bind_int(&bind, silence->until_ns);
    enum lyap_status status = lyap_sql_run(&bind, reterr);
    if (status != LYAP_OK)
        return status;
    silence->id = sqlite3_last_insert_rowid(writer->sql.db);
    bind = lyap_bind(&writer->sql, LYAP_SQL_TRIM_SILENCES);
    lyap_bind_int(&bind, LYAP_SILENCES_KEPT_MAX);
    lyap_bind_int(&bind, silence->created_ns);
    return lyap_sql_run(&bind, reterr);
}

enum lyap_status lyap_writer_put_silence(struct lyap_store *store, struct lyap_silence *silence)
{
    struct lyap_writer *writer = lyap_writer_of(store);
    struct lyap_error *reterr = lyap_writer_call(writer);
    assert(writer->is_batch_open);
    if (silence->id == 0)
        return insert_silence(writer, silence, reterr);
    struct lyap_bind bind = lyap_bind(&writer->sql, LYAP_SQL_UPDATE_SILENCE);
    lyap_bind_int(&bind, silence->id);
    lyap_bind_int(&bind, silence->until_ns);
    const enum lyap_status status = lyap_sql_run(&bind, reterr);
    if (status == LYAP_OK && sqlite3_changes(writer->sql.db) == 0)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "silence %" PRId64, silence->id);
    return status;
}
