/* Periodic work: silent runs, rank deadlines, windows, idle runs, pruning, disk space. */
#include "engine.h"

#include <math.h>
#include <string.h>
#include <sys/statvfs.h>

#include "log.h"
#include "ranks.h"

static const int64_t second_ns = 1000000000;
enum {
    PRUNE_EVERY_S = 10,
    TICK_SAVE_BYTES = 4 << 20, /* of windows: some tens of milliseconds that pushes wait */
};

/* ---- disk ---- */

/* Free bytes where the database lies; UINT64_MAX when that cannot be told. */
static uint64_t free_bytes(const char *path)
{
    char folder[LYAP_SETTING_TEXT_BYTES_MAX];
    const char *slash = strrchr(path, '/');
    const size_t length = slash ? (size_t)(slash - path) + 1 : 0;
    if (length >= sizeof folder)
        return UINT64_MAX;
    memcpy(folder, path, length);
    folder[length] = '\0';
    struct statvfs space;
    if (statvfs(length ? folder : ".", &space) != 0)
        return UINT64_MAX;
    return (uint64_t)space.f_bavail * space.f_frsize;
}

void lyap_disk_check(struct lyap_engine *engine)
{
    const uint64_t free = free_bytes(engine->settings->db);
    pthread_mutex_lock(&engine->mutex);
    const uint64_t reserve = engine->limits.disk_reserve_bytes;
    const bool was_low = engine->is_disk_low;
    engine->is_disk_low = free < reserve;
    engine->disk_headroom =
        free == UINT64_MAX || reserve == 0 ? NAN : (double)free / (double)reserve;
    const bool is_low = engine->is_disk_low;
    pthread_mutex_unlock(&engine->mutex);
    if (is_low != was_low)
        lyap_log(is_low ? LYAP_LOG_WARNING : LYAP_LOG_INFO, is_low ? "disk-low" : "disk-recovered",
                 "free_bytes=%llu reserve_bytes=%llu", (unsigned long long)free,
                 (unsigned long long)reserve);
}

/* ---- silent runs ---- */

/* The least time after which a rule calls a run silent; infinity without such a rule. */
static double silence_threshold(const struct lyap_rules *rules)
{
    double least = INFINITY;
    for (uint32_t i = 0; i < rules->count; i++) {
        const struct lyap_rule_entry *entry = &rules->entries[i];
        if (entry->kind == LYAP_RULE_SILENT_SECONDS && entry->rule.is_enabled)
            least = fmin(least, entry->rule.threshold);
    }
    return least;
}

static struct lyap_alert_input silence_input(const struct lyap_engine *engine,
                                             const struct lyap_run *run,
                                             const struct lyap_point *point)
{
    return (struct lyap_alert_input){
        .run = run->name,
        .run_id = run->record.id,
        .labels = &run->labels,
        .point = point,
        .points = run->points,
        .silences = &engine->silences,
        .now_ns = lyap_clock_utc_ns(),
    };
}

/* A rule may still find the run silent after `seconds`. */
static bool is_watched(const struct lyap_engine *engine, const struct lyap_run *run, double seconds)
{
    const struct lyap_alert_input input = silence_input(engine, run, &run->last);
    return run->has_last && run->record.state != LYAP_STATE_ENDED &&
           !lyap_alerts_is_silent(run->alert_state) &&
           lyap_alerts_silence_meets(&engine->rules, &input, seconds);
}

/* Only what a rule is about to call silent is touched: an idle daemon writes nothing. */
static enum lyap_status watch_silence(struct lyap_engine *engine, struct lyap_run *run)
{
    const double seconds = (double)run->idle_ns / (double)second_ns;
    if (run->is_stale || !is_watched(engine, run, seconds))
        return LYAP_OK;
    enum lyap_status status = lyap_engine_touch(engine, run);
    if (status != LYAP_OK)
        return status;
    struct lyap_point point = run->last; /* borrows its labels */
    point.time_ns = lyap_clock_utc_ns();
    const struct lyap_alert_input input = silence_input(engine, run, &point);
    const struct lyap_alert_sink sink = lyap_engine_sink(engine);
    status = lyap_alerts_silent(run->alert_state, &engine->rules, &input, seconds, &sink);
    if (status != LYAP_OK || !lyap_alerts_is_silent(run->alert_state))
        return status;
    const enum lyap_run_state before = run->record.state;
    run->record.state = LYAP_STATE_SILENT;
    return lyap_engine_event(engine, run, LYAP_EVENT_STATE, run->record.last_step,
                             "{\"from\":\"%s\",\"to\":\"silent\"}", lyap_run_state_name(before));
}

/* ---- ranks ---- */

static enum lyap_status close_late(struct lyap_engine *engine, struct lyap_run *run, int64_t now_ns)
{
    struct lyap_open_step *open = run->open;
    while (open && open->deadline_ns > now_ns)
        open = open->next;
    if (!open)
        return LYAP_OK;
    /* Steps below one that is closed can never be complete: they close with it, in order. */
    const int64_t last = open->step;
    enum lyap_status status = LYAP_OK;
    while (status == LYAP_OK && run->open && run->open->step <= last)
        status = lyap_step_close_missing(engine, run, run->open);
    return status;
}

/* ---- idle runs ---- */

/* Nothing refers to the run but the table. */
static bool is_unused(struct lyap_engine *engine, struct lyap_run *run)
{
    lyap_registry_lock(engine->registry);
    const bool is_unused = run->refs == 1 && !run->is_touched;
    lyap_registry_unlock(engine->registry);
    return is_unused;
}

static void unload(struct lyap_engine *engine, struct lyap_run *run)
{
    lyap_registry_lock(engine->registry);
    if (run->refs == 1)
        lyap_run_forget(engine->registry, run);
    lyap_registry_unlock(engine->registry);
    lyap_profile_free(run->profile);
    run->profile = NULL;
    run->is_replaying = false;
    lyap_shared_declaration_unref(run->profile_declaration);
    run->profile_declaration = NULL;
}

/* Saves the windows of an idle run; at a later tick, when they are committed, drops what is heavy;
 * and the run itself when no rule waits for it to be silent. */
static enum lyap_status evict(struct lyap_engine *engine, struct lyap_run *run)
{
    if (!is_unused(engine, run))
        return LYAP_OK;
    if (run->profile && run->saved_step != run->record.last_step && run->record.last_step >= 0)
        return lyap_run_save_windows(engine, run);
    unload(engine, run);
    if (run->committed_id &&
        (is_watched(engine, run, INFINITY) || lyap_alerts_is_held(run->alert_state)))
        return LYAP_OK;
    lyap_registry_lock(engine->registry);
    if (run->refs == 1)
        lyap_registry_remove(engine->registry, run);
    lyap_registry_unlock(engine->registry);
    return LYAP_OK;
}

/* ---- the tick ---- */

static void note_idle(struct lyap_engine *engine, int64_t now_ns)
{
    struct lyap_run *run = NULL;
    lyap_registry_lock(engine->registry);
    while ((run = lyap_registry_next(engine->registry, run)))
        run->idle_ns = now_ns - run->active_ns;
    lyap_registry_unlock(engine->registry);
}

static enum lyap_status prune(struct lyap_engine *engine, const struct lyap_limits *limits,
                              int64_t now_ns)
{
    if (now_ns < engine->next_prune_ns) /* without limits, too: rows of deleted runs */
        return LYAP_OK;
    const int64_t before_ns =
        limits->prune_days ? lyap_clock_utc_ns() - (int64_t)limits->prune_days * 86400 * second_ns
                           : 0;
    bool is_more = false;
    enum lyap_status status = lyap_engine_begin(engine);
    if (status == LYAP_OK)
        status = engine->store->ops->prune(engine->store, before_ns, limits->prune_bytes, &is_more);
    lyap_count(&engine->counters->prune_passes);
    if (!is_more)
        engine->next_prune_ns = now_ns + PRUNE_EVERY_S * second_ns;
    return status;
}

/* A round saves the windows of all runs that have changed, so much of it in a tick that a thousand
 * runs do not hold up the pushes; the next begins when it is over. */
static void begin_saves(struct lyap_engine *engine, uint32_t every_s, int64_t now_ns)
{
    engine->tick_bytes = 0;
    if (engine->is_round_over && now_ns >= engine->next_save_ns) {
        engine->save_round++;
        engine->next_save_ns = now_ns + (int64_t)every_s * second_ns;
    }
    engine->is_round_over = true;
}

static enum lyap_status save(struct lyap_engine *engine, struct lyap_run *run)
{
    if (run->save_round == 0) /* new in memory: its turn is in the next round */
        run->save_round = engine->save_round;
    if (run->save_round == engine->save_round)
        return LYAP_OK;
    if (engine->tick_bytes >= TICK_SAVE_BYTES) {
        engine->is_round_over = false;
        return LYAP_OK;
    }
    run->save_round = engine->save_round;
    return lyap_run_save_windows(engine, run);
}

/* One run, which may be gone afterwards. */
static enum lyap_status tick_run(struct lyap_engine *engine, struct lyap_run *run, double silence,
                                 int64_t now_ns)
{
    const struct lyap_limits limits = lyap_engine_limits(engine);
    enum lyap_status status = close_late(engine, run, now_ns);
    if (status == LYAP_OK && (double)run->idle_ns > silence * (double)second_ns)
        status = watch_silence(engine, run);
    if (status == LYAP_OK)
        status = lyap_run_look(engine, run);
    if (status == LYAP_OK)
        status = save(engine, run);
    if (status == LYAP_OK && run->idle_ns > (int64_t)limits.idle_evict_s * second_ns)
        status = evict(engine, run);
    return status;
}

enum lyap_status lyap_engine_tick(struct lyap_engine *engine, int64_t now_ns)
{
    const struct lyap_limits limits = lyap_engine_limits(engine);
    const double silence = silence_threshold(&engine->rules);
    lyap_disk_check(engine);
    lyap_silences_expire(&engine->silences, lyap_clock_utc_ns());
    note_idle(engine, now_ns);
    begin_saves(engine, limits.window_save_s, now_ns);
    enum lyap_status status = LYAP_OK;
    struct lyap_run *run = lyap_registry_next(engine->registry, NULL);
    while (run && status == LYAP_OK) {
        struct lyap_run *next = lyap_registry_next(engine->registry, run);
        status = tick_run(engine, run, silence, now_ns);
        run = next;
    }
    const bool is_prune_due = now_ns >= engine->next_prune_ns;
    if (status == LYAP_OK)
        status = prune(engine, &limits, now_ns);
    if (status == LYAP_OK)
        status = lyap_outbox_tick(engine, is_prune_due);
    return status == LYAP_OK ? lyap_own_look(engine, now_ns) : status;
}
