/* What the API asks to change of runs, on the engine's thread. */
#include "engine.h"

#include <math.h>
#include <string.h>

#include "lyap/alloc.h"
#include "ranks.h"

/* The attempt that a key opened, or 0. */
struct find_key {
    const char *key;
    uint32_t attempt;
};

static enum lyap_status find_key(struct lyap_engine *engine, const struct lyap_run *run,
                                 struct find_key *find)
{
    struct lyap_query query = lyap_query_of(LYAP_TABLE_ATTEMPTS, run->name);
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
