/* Runs back from the store. */
#include "engine.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "lyap/alloc.h"
#include "lyap/wire.h"

enum {
    PAGE_ROWS = 1000,
    REPLAY_ROWS = 2000 /* of one slice: some 50 ms, in which other runs wait */
};

struct lyap_query lyap_query_of(enum lyap_table table, const char *run)
{
    return (struct lyap_query){ .table = table,
                                .run = run,
                                .to_step = LYAP_STEP_MAX,
                                .after = -1,
                                .limit = PAGE_ROWS,
                                .state = -1,
                                .severity = -1 };
}

/* Calls `row` for the rows of one page, until it returns another status than OK (E_EXISTS: it has
 * what it wants). The query moves on to the next page; E_NOT_FOUND: this was the last. */
static enum lyap_status page(struct lyap_engine *engine, struct lyap_query *query,
                             enum lyap_status (*row)(void *arg, const struct lyap_record *record),
                             void *arg)
{
    struct lyap_cursor *cursor;
    struct lyap_record record;
    uint32_t count = 0;
    enum lyap_status status = engine->store->ops->query(engine->store, query, &cursor);
    if (status != LYAP_OK)
        return status;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK) {
        query->after = record.key;
        count++;
        status = row(arg, &record);
        if (status != LYAP_OK)
            break;
    }
    cursor->close(cursor);
    return status == LYAP_E_NOT_FOUND && count == query->limit ? LYAP_OK : status;
}

enum lyap_status
lyap_query_each(struct lyap_engine *engine, struct lyap_query query,
                enum lyap_status (*row)(void *arg, const struct lyap_record *record), void *arg)
{
    enum lyap_status status;
    do
        status = page(engine, &query, row, arg);
    while (status == LYAP_OK);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

/* ---- one run ---- */

struct find {
    const char *name;
    struct lyap_run *run;
    bool is_found;
    enum lyap_status status;
};

static enum lyap_status replace_text(char **field, const char *text)
{
    char *copy = lyap_alloc_string(text ? text : "{}");
    if (!copy)
        return LYAP_E_NOMEM;
    lyap_free(*field);
    *field = copy;
    return LYAP_OK;
}

static enum lyap_status take_record(struct lyap_run *run, const struct lyap_run_record *record)
{
    enum lyap_status status = replace_text(&run->declaration_json, record->declaration_json);
    if (status == LYAP_OK)
        status = replace_text(&run->labels_json, record->labels_json);
    if (status != LYAP_OK)
        return status;
    run->record = *record;
    run->record.declaration_json = run->declaration_json;
    run->record.labels_json = run->labels_json;
    run->committed_id = record->id;
    lyap_labels_release(&run->labels);
    return lyap_labels_parse(run->labels_json, &run->labels);
}

/* The store lists runs by id: the page after id - 1 starts with the one that is wanted. */
static enum lyap_status on_run(void *arg, const struct lyap_record *record)
{
    struct find *find = arg;
    if (strcmp(record->u.run.name, find->name) != 0)
        return LYAP_OK;
    find->is_found = true;
    return take_record(find->run, &record->u.run);
}

struct read_attempts {
    struct lyap_run *run;
    bool is_found;
};

static enum lyap_status on_attempt(void *arg, const struct lyap_record *record)
{
    struct read_attempts *read = arg;
    struct lyap_run *run = read->run;
    const struct lyap_attempt_record *attempt = &record->u.attempt;
    if (attempt->attempt + 1 == run->record.attempt)
        run->inherited_loss = attempt->reference_loss;
    if (attempt->attempt != run->record.attempt)
        return LYAP_OK;
    run->attempt_record = *attempt;
    read->is_found = true;
    return LYAP_OK;
}

static enum lyap_status on_alert(void *arg, const struct lyap_record *record)
{
    struct lyap_run *run = arg;
    if (record->u.alert.attempt != run->record.attempt)
        return LYAP_OK;
    const enum lyap_status status = lyap_alerts_restore(run->alert_state, &record->u.alert);
    return status == LYAP_E_LIMIT ? LYAP_OK : status;
}

static enum lyap_status on_last_point(void *arg, const struct lyap_record *record)
{
    struct lyap_run *run = arg;
    lyap_point_release(&run->last);
    const enum lyap_status status = lyap_point_copy(&record->u.point, &run->last);
    run->has_last = status == LYAP_OK;
    return status == LYAP_OK ? LYAP_E_EXISTS : status; /* one row is enough */
}

static enum lyap_status alerts_renew(struct lyap_run *run)
{
    struct lyap_alerts *alerts;
    const enum lyap_status status = lyap_alerts_new(&alerts);
    if (status != LYAP_OK)
        return status;
    lyap_alerts_free(run->alert_state);
    run->alert_state = alerts;
    return LYAP_OK;
}

static enum lyap_status read_alerts(struct lyap_engine *engine, struct lyap_run *run)
{
    enum lyap_status status = alerts_renew(run);
    if (status != LYAP_OK)
        return status;
    status = lyap_query_each(engine, lyap_query_of(LYAP_TABLE_ALERTS, run->name), on_alert, run);
    return status == LYAP_OK ? lyap_alerts_replay_begin(run->alert_state, &engine->rules) : status;
}

/* Everything of the engine's part but declaration and profile. E_NOT_FOUND. */
static enum lyap_status run_read(struct lyap_engine *engine, struct lyap_run *run)
{
    struct find find = { .name = run->name, .run = run };
    struct lyap_query query = lyap_query_of(LYAP_TABLE_RUNS, run->name);
    enum lyap_status status = lyap_query_each(engine, query, on_run, &find);
    if (status == LYAP_OK && !find.is_found)
        status = LYAP_E_NOT_FOUND;
    struct read_attempts read = { .run = run };
    run->inherited_loss = NAN;
    if (status == LYAP_OK)
        status = lyap_query_each(engine, lyap_query_of(LYAP_TABLE_ATTEMPTS, run->name), on_attempt,
                                 &read);
    if (status == LYAP_OK && !read.is_found)
        status = LYAP_E_INTERNAL;
    if (status == LYAP_OK)
        status = read_alerts(engine, run);
    if (status != LYAP_OK)
        return status;
    run->has_last = false;
    query = lyap_query_of(LYAP_TABLE_POINTS, run->name);
    query.attempt = run->record.attempt;
    query.is_descending = true;
    query.limit = 1;
    status = lyap_query_each(engine, query, on_last_point, run);
    if (status != LYAP_OK && status != LYAP_E_EXISTS)
        return status;
    run->is_record_stored = run->is_attempt_stored = true;
    run->is_stale = false;
    return LYAP_OK;
}

/* Declaration as put, with the tensors of the attempt, which may have been learned. */
static enum lyap_status read_declaration(struct lyap_engine *engine, struct lyap_run *run)
{
    struct lyap_declaration declaration;
    struct lyap_tensor_set set = LYAP_TENSOR_SET_NULL;
    struct lyap_shared_declaration *shared = NULL;
    struct lyap_error error = LYAP_ERROR_NULL;
    char *canonical = NULL;
    lyap_declaration_init(&declaration);
    enum lyap_status status =
        lyap_wire_declaration(run->declaration_json, strlen(run->declaration_json), NULL,
                              &declaration, &canonical, &error);
    lyap_free(canonical);
    if (status != LYAP_OK)
        goto out;
    status =
        engine->store->ops->get_tensors(engine->store, run->record.id, run->record.attempt, &set);
    if (status == LYAP_OK)
        status = lyap_shared_declaration_new(&declaration, set.count ? &set : NULL, &shared);
    if (status != LYAP_OK)
        goto out;
    lyap_shared_declaration_unref(run->declaration);
    run->declaration = shared;
    run->is_set_stored = run->is_set_committed = set.count > 0;
out:
    if (status != LYAP_OK && status != LYAP_E_NOMEM)
        lyap_log(LYAP_LOG_ERROR, "run-not-read", "run=%s status=%s", run->name,
                 lyap_status_slug(status));
    lyap_tensor_set_release(&set);
    lyap_declaration_release(&declaration);
    return status;
}

/* What admission sees of a run that was just read; it is in no table yet. */
static enum lyap_status publish_read(struct lyap_run *run)
{
    run->sketch_seed = run->record.sketch_seed;
    run->attempt = run->record.attempt;
    run->last_step = run->record.last_step;
    run->retention = run->record.retention;
    run->is_ended = run->record.state == LYAP_STATE_ENDED;
    const int64_t idle_ns = lyap_clock_utc_ns() - run->record.updated_ns;
    run->active_ns = lyap_clock_ns() - (idle_ns > 0 ? idle_ns : 0);
    run->alert_count = lyap_alerts_count(run->alert_state);
    enum lyap_status status = lyap_alerts_copy(run->alert_state, &run->alerts);
    if (status != LYAP_OK)
        run->alert_count = 0;
    if (status == LYAP_OK && run->has_last)
        status = lyap_point_copy(&run->last, &run->point);
    run->has_point = status == LYAP_OK && run->has_last;
    return status;
}

static enum lyap_status table_add(struct lyap_engine *engine, struct lyap_run *run)
{
    lyap_registry_lock(engine->registry);
    const enum lyap_status status = lyap_registry_add(engine->registry, run);
    lyap_registry_unlock(engine->registry);
    return status;
}

enum lyap_status lyap_run_load(struct lyap_engine *engine, const char *name,
                               struct lyap_run **ret_run)
{
    lyap_registry_lock(engine->registry);
    struct lyap_run *run = lyap_registry_find(engine->registry, name);
    lyap_registry_unlock(engine->registry);
    if (run) {
        *ret_run = run;
        return LYAP_OK;
    }
    enum lyap_status status = lyap_run_new(name, &run);
    if (status == LYAP_OK)
        status = run_read(engine, run);
    if (status == LYAP_OK)
        status = read_declaration(engine, run);
    if (status == LYAP_OK)
        status = publish_read(run);
    if (status == LYAP_OK)
        status = table_add(engine, run);
    if (status != LYAP_OK) {
        lyap_run_free(run);
        return status;
    }
    lyap_count(&engine->counters->runs_loaded);
    *ret_run = run;
    return LYAP_OK;
}

enum lyap_status lyap_run_load_or_new(struct lyap_engine *engine, const char *name,
                                      struct lyap_run **ret_run, bool *ret_is_new)
{
    struct lyap_run *run = NULL;
    enum lyap_status status = lyap_run_load(engine, name, &run);
    bool is_new = false;
    if (status == LYAP_E_NOT_FOUND) {
        is_new = true;
        status = lyap_run_new(name, &run);
        if (status == LYAP_OK) {
            run->active_ns = lyap_clock_ns();
            status = table_add(engine, run);
            if (status != LYAP_OK)
                lyap_run_free(run);
        }
    }
    if (status != LYAP_OK)
        return status;
    *ret_is_new = is_new;
    *ret_run = run;
    return LYAP_OK;
}

/* ---- after a failed batch ---- */

void lyap_run_rolled_back(struct lyap_engine *engine, struct lyap_run *run)
{
    run->is_stale = true;
    run->is_new_point = false;
    run->is_set_stored = run->is_set_committed;
    lyap_profile_free(run->profile);
    run->profile = NULL;
    run->is_replaying = false;
    lyap_shared_declaration_unref(run->profile_declaration);
    run->profile_declaration = NULL;
    lyap_shared_declaration_unref(run->next_declaration);
    run->next_declaration = NULL;
    lyap_registry_lock(engine->registry);
    run->is_deleted = false;
    lyap_run_generation_drop(run);
    lyap_registry_unlock(engine->registry);
}

/* A run of which nothing was ever committed is as new as at first. */
static enum lyap_status run_restart(struct lyap_run *run)
{
    enum lyap_status status = alerts_renew(run);
    if (status != LYAP_OK)
        return status;
    run->record.id = 0;
    run->record.attempt = run->attempt_record.attempt = 1;
    run->record.last_step = -1;
    run->record.retention = LYAP_RETENTION_AUTO;
    run->attempt_record.first_step = run->attempt_record.last_step = -1;
    run->attempt_record.reference_loss = run->attempt_record.healthy_lr = NAN;
    run->attempt_record.key[0] = '\0';
    run->is_record_stored = run->is_attempt_stored = run->is_set_stored = false;
    run->has_last = false;
    status = replace_text(&run->declaration_json, NULL);
    if (status == LYAP_OK)
        status = replace_text(&run->labels_json, NULL);
    if (status == LYAP_OK)
        lyap_labels_release(&run->labels);
    run->is_stale = status != LYAP_OK;
    return status;
}

enum lyap_status lyap_run_refresh(struct lyap_engine *engine, struct lyap_run *run)
{
    if (!run->is_stale)
        return LYAP_OK;
    return run->committed_id ? run_read(engine, run) : run_restart(run);
}

/* ---- profile ---- */

struct replay {
    struct lyap_engine *engine;
    struct lyap_run *run;
};

static enum lyap_status on_point(void *arg, const struct lyap_point *point,
                                 const struct lyap_tensor_row *rows)
{
    struct replay *replay = arg;
    struct lyap_run *run = replay->run;
    const struct lyap_alert_input input = {
        .run = run->name,
        .labels = &run->labels,
        .point = point,
        .rows = rows,
        .set = &run->profile_declaration->declaration.set,
        .is_skipped = lyap_point_is_skipped(point),
    };
    const enum lyap_status status = lyap_profile_replay(run->profile, point);
    if (status != LYAP_OK)
        return status;
    lyap_alerts_replay(run->alert_state, &replay->engine->rules, &input);
    lyap_advice_absorb(&run->advice, point);
    run->points++;
    return LYAP_OK;
}

/* One slice of the points; tensors are read when an alert looks at one. */
static enum lyap_status replay_slice(struct lyap_engine *engine, struct lyap_run *run)
{
    const struct lyap_tensor_set *set = &run->profile_declaration->declaration.set;
    struct replay replay = { engine, run };
    struct lyap_feed feed = { .store = engine->store,
                              .run = run->name,
                              .attempt = run->record.attempt,
                              .after = run->replay_after,
                              .limit = REPLAY_ROWS };
    enum lyap_status status = LYAP_OK;
    if (lyap_alerts_has_tensor(run->alert_state) && set->count > 0) {
        status = lyap_engine_rows_grow(engine, set->count);
        feed.set = set;
        feed.rows = engine->rows;
    }
    if (status == LYAP_OK)
        status = lyap_feed_page(&feed, on_point, &replay);
    run->replay_after = feed.after;
    return status;
}

/* Sketch windows, when they are of the last point. Without them they refill (`warming-up`). */
static void load_windows(struct lyap_engine *engine, struct lyap_run *run)
{
    int64_t step;
    void *bytes;
    uint64_t length;
    if (engine->store->ops->get_profile(engine->store, run->record.id, run->record.attempt, &step,
                                        &bytes, &length) != LYAP_OK)
        return;
    if (step == run->record.last_step && lyap_profile_load(run->profile, bytes, length) != LYAP_OK)
        lyap_log(LYAP_LOG_WARNING, "windows-not-read", "run=%s step=%lld", run->name,
                 (long long)step);
    run->saved_step = step;
    lyap_free(bytes);
}

/* Running maxima of the layers go on where the stored rows left them. */
static enum lyap_status load_layers(struct lyap_engine *engine, struct lyap_run *run)
{
    struct lyap_query query = lyap_query_of(LYAP_TABLE_LAYERS, run->name);
    struct lyap_cursor *cursor;
    struct lyap_record record;
    query.attempt = run->record.attempt;
    enum lyap_status status = engine->store->ops->query(engine->store, &query, &cursor);
    if (status != LYAP_OK)
        return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK) {
        const struct lyap_layer_record *layer = &record.u.layer;
        const enum lyap_status taken = lyap_profile_layers_recall(
            run->profile, layer->row.layer, layer->name,
            layer->row.values[LYAP_LAYER_METRIC_EMPIRICAL_GAIN_MAX].value);
        if (taken != LYAP_OK) {
            status = taken;
            break;
        }
    }
    cursor->close(cursor);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

static enum lyap_status profile_begin(struct lyap_engine *engine, struct lyap_run *run)
{
    if (!run->profile_declaration) {
        lyap_registry_lock(engine->registry);
        run->profile_declaration = lyap_shared_declaration_ref(run->declaration);
        lyap_registry_unlock(engine->registry);
    }
    run->points = 0;
    run->is_mismatch_marked = false;
    run->replay_after = -1;
    lyap_advice_init(&run->advice, run->attempt_record.healthy_lr);
    enum lyap_status status = lyap_alerts_replay_begin(run->alert_state, &engine->rules);
    if (status == LYAP_OK)
        status = lyap_profile_new(&run->profile_declaration->declaration, run->inherited_loss,
                                  &run->profile);
    if (status == LYAP_OK && run->ended_profile) {
        lyap_profile_spectral_move(run->ended_profile, run->profile);
        lyap_profile_free(run->ended_profile);
        run->ended_profile = NULL;
    }
    run->is_replaying = status == LYAP_OK && run->record.last_step >= 0;
    return status;
}

static void profile_drop(struct lyap_run *run)
{
    lyap_profile_free(run->profile);
    run->profile = NULL;
    run->is_replaying = false;
}

enum lyap_status lyap_run_rebuild_some(struct lyap_engine *engine, struct lyap_run *run,
                                       bool *ret_is_done)
{
    enum lyap_status status = lyap_run_refresh(engine, run);
    if (status == LYAP_OK && !run->profile)
        status = profile_begin(engine, run);
    if (status != LYAP_OK)
        return status;
    if (run->is_replaying) {
        status = replay_slice(engine, run);
        if (status != LYAP_OK && status != LYAP_E_NOT_FOUND) {
            profile_drop(run);
            return status;
        }
        if (status == LYAP_E_NOT_FOUND) {
            run->is_replaying = false;
            load_windows(engine, run);
            status = load_layers(engine, run);
            if (status != LYAP_OK) {
                profile_drop(run);
                return status;
            }
        }
    }
    *ret_is_done = !run->is_replaying;
    return LYAP_OK;
}

enum lyap_status lyap_run_rebuild(struct lyap_engine *engine, struct lyap_run *run)
{
    bool is_done = false;
    enum lyap_status status = LYAP_OK;
    while (status == LYAP_OK && !is_done)
        status = lyap_run_rebuild_some(engine, run, &is_done);
    return status;
}

enum lyap_status lyap_run_save_windows(struct lyap_engine *engine, struct lyap_run *run)
{
    if (!run->profile || run->is_replaying || run->is_stale || run->record.last_step < 0 ||
        run->saved_step == run->record.last_step)
        return LYAP_OK;
    void *bytes;
    uint64_t length;
    enum lyap_status status = lyap_profile_save(run->profile, &bytes, &length);
    if (status != LYAP_OK)
        return status;
    status = lyap_engine_touch(engine, run);
    if (status == LYAP_OK)
        status = engine->store->ops->put_profile(engine->store, run->record.id, run->record.attempt,
                                                 run->record.last_step, bytes, length);
    if (status == LYAP_OK) {
        run->saved_step = run->record.last_step;
        engine->tick_bytes += length;
    }
    lyap_free(bytes);
    return status;
}

static enum lyap_status on_step_point(void *arg, const struct lyap_record *record)
{
    struct lyap_point *ret_point = arg;
    const enum lyap_status status = lyap_point_copy(&record->u.point, ret_point);
    return status == LYAP_OK ? LYAP_E_EXISTS : status;
}

enum lyap_status lyap_point_load(struct lyap_engine *engine, const char *run, uint32_t attempt,
                                 int64_t step, struct lyap_point *ret_point)
{
    struct lyap_query query = lyap_query_of(LYAP_TABLE_POINTS, run);
    query.attempt = attempt;
    query.from_step = query.to_step = step;
    query.limit = 1;
    const enum lyap_status status = lyap_query_each(engine, query, on_step_point, ret_point);
    if (status == LYAP_E_EXISTS)
        return LYAP_OK;
    return status == LYAP_OK ? LYAP_E_NOT_FOUND : status;
}
