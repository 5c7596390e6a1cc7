/* Ports filled from memory: runs, rules and the daemon itself. */
#include "fake_state.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lyap/alloc.h"

void fake_lock(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
}

void fake_unlock(struct fake *fake)
{
    pthread_mutex_unlock(&fake->lock);
}

static int64_t now_ns(void *ctx)
{
    (void)ctx;
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

struct fake_run *fake_run_find(struct fake *fake, const char *name)
{
    for (uint32_t i = 0; i < FAKE_RUNS_MAX; i++)
        if (fake->runs[i].name[0] && strcmp(fake->runs[i].name, name) == 0)
            return &fake->runs[i];
    return NULL;
}

struct fake_run *fake_run_at(struct fake *fake, uint32_t index)
{
    return index < FAKE_RUNS_MAX ? &fake->runs[index] : NULL;
}

struct lyap_rule *fake_rule_at(struct fake *fake, uint32_t index)
{
    return index < fake->rule_count ? &fake->rules[index] : NULL;
}

const struct lyap_receiver *fake_receiver_at(struct fake *fake, uint32_t index)
{
    return index < fake->receiver_count ? &fake->receivers[index] : NULL;
}

int64_t fake_alert_acked(struct fake *fake, int64_t id)
{
    return fake->acked_ns[id];
}

struct fake_run *fake_run_create(struct fake *fake, const char *name)
{
    for (uint32_t i = 0; i < FAKE_RUNS_MAX; i++) {
        struct fake_run *run = &fake->runs[i];
        if (run->name[0])
            continue;
        (void)snprintf(run->name, sizeof run->name, "%s", name);
        run->attempt = 1;
        run->labels_json = strdup("{}");
        run->declaration_json = strdup("{}");
        lyap_declaration_init(&run->declaration);
        return run;
    }
    return NULL;
}

static void run_clear(struct fake_run *run)
{
    if (!run->name[0])
        return;
    free(run->labels_json);
    free(run->declaration_json);
    lyap_declaration_release(&run->declaration);
    free(run->points);
    *run = (struct fake_run){ 0 };
}

/* ---- receivers ---- */

static struct lyap_receiver *receiver_find(struct fake *fake, const char *name)
{
    for (uint32_t i = 0; i < fake->receiver_count; i++)
        if (strcmp(fake->receivers[i].name, name) == 0)
            return &fake->receivers[i];
    return NULL;
}

static enum lyap_status receiver_put(void *ctx, const struct lyap_receiver *receiver,
                                     bool keeps_secret, bool *ret_is_created,
                                     struct lyap_error *reterr)
{
    struct fake *fake = ctx;
    fake_lock(fake);
    struct lyap_receiver *stored = receiver_find(fake, receiver->name);
    *ret_is_created = !stored;
    if (!stored && fake->receiver_count < FAKE_RULES_MAX)
        stored = &fake->receivers[fake->receiver_count++];
    if (stored) {
        const char *secret = NULL;
        if (keeps_secret) {
            secret = stored->secret;
            stored->secret = NULL;
        } else if (receiver->secret)
            secret = strdup(receiver->secret);
        api_receiver_release(stored);
        *stored = *receiver;
        stored->secret = secret;
        stored->target = strdup(receiver->target);
        stored->labels_json = receiver->labels_json ? strdup(receiver->labels_json) : NULL;
    }
    fake_unlock(fake);
    return stored ? LYAP_OK : lyap_error_set(reterr, LYAP_E_LIMIT, "too many receivers");
}

static enum lyap_status receiver_delete(void *ctx, const char *name, struct lyap_error *reterr)
{
    struct fake *fake = ctx;
    fake_lock(fake);
    struct lyap_receiver *stored = receiver_find(fake, name);
    if (stored) {
        api_receiver_release(stored);
        *stored = fake->receivers[--fake->receiver_count];
        fake->receivers[fake->receiver_count] = (struct lyap_receiver){ 0 };
    }
    fake_unlock(fake);
    return stored ? LYAP_OK : lyap_error_set(reterr, LYAP_E_NOT_FOUND, "no receiver '%s'", name);
}

static void receiver_test(void *ctx, const char *name, api_test_done *done, void *arg)
{
    struct fake *fake = ctx;
    struct api_test_outcome outcome = { .is_delivered = true, .seconds = 0.25 };
    struct lyap_error error = LYAP_ERROR_NULL;
    fake_lock(fake);
    const bool is_known = receiver_find(fake, name) != NULL;
    const bool is_kept = is_known && strcmp(name, "never") == 0 && !fake->test_done;
    if (is_kept) {
        fake->test_done = done;
        fake->test_arg = arg;
    }
    fake_unlock(fake);
    if (is_kept)
        return;
    if (strcmp(name, "fails") == 0) {
        outcome.is_delivered = false;
        (void)snprintf(outcome.error, sizeof outcome.error, "HTTP 500");
    }
    if (is_known)
        done(arg, LYAP_OK, NULL, &outcome);
    else
        done(arg, lyap_error_set(&error, LYAP_E_NOT_FOUND, "no receiver '%s'", name), &error, NULL);
}

/* ---- runs and rules ---- */

static void replace(char **target, const char *text)
{
    free(*target);
    *target = strdup(text);
}

static enum lyap_status run_put(void *ctx, const struct api_run_put *put,
                                struct api_run_put_result *ret, struct lyap_error *reterr)
{
    struct fake *fake = ctx;
    fake_lock(fake);
    struct fake_run *run = fake_run_find(fake, put->run);
    *ret = (struct api_run_put_result){ .is_created = !run };
    if (!run && !(run = fake_run_create(fake, put->run))) {
        fake_unlock(fake);
        return lyap_error_set(reterr, LYAP_E_LIMIT, "too many runs");
    }
    replace(&run->declaration_json, put->declaration_json);
    lyap_declaration_release(&run->declaration);
    enum lyap_status status = lyap_declaration_copy(&put->declaration, &run->declaration);
    if (put->labels_json)
        replace(&run->labels_json, put->labels_json);
    if (put->is_new_attempt && strcmp(run->attempt_key, put->attempt_key) != 0) {
        (void)snprintf(run->attempt_key, sizeof run->attempt_key, "%s", put->attempt_key);
        run->attempt++;
    }
    if (put->ended >= 0)
        run->is_ended = put->ended == 1;
    ret->attempt = run->attempt;
    fake_unlock(fake);
    return status;
}

static enum lyap_status run_delete(void *ctx, const char *name, struct lyap_error *reterr)
{
    struct fake *fake = ctx;
    fake_lock(fake);
    struct fake_run *run = fake_run_find(fake, name);
    if (run)
        run_clear(run);
    fake_unlock(fake);
    return run ? LYAP_OK : lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no run '%s'", name);
}

static struct lyap_rule *rule_find(struct fake *fake, const char *name)
{
    for (uint32_t i = 0; i < fake->rule_count; i++)
        if (strcmp(fake->rules[i].name, name) == 0)
            return &fake->rules[i];
    return NULL;
}

static enum lyap_status rule_put(void *ctx, const struct lyap_rule *rule, bool *ret_is_created,
                                 struct lyap_error *reterr)
{
    struct fake *fake = ctx;
    fake_lock(fake);
    struct lyap_rule *stored = rule_find(fake, rule->name);
    *ret_is_created = !stored;
    if (!stored && fake->rule_count < FAKE_RULES_MAX)
        stored = &fake->rules[fake->rule_count++];
    if (stored) {
        const uint32_t version = stored->version + 1;
        free((void *)(uintptr_t)stored->runs_json);
        *stored = *rule;
        stored->version = version;
        stored->runs_json = rule->runs_json ? strdup(rule->runs_json) : NULL;
        stored->notify_json = NULL;
    }
    fake_unlock(fake);
    return stored ? LYAP_OK : lyap_error_set(reterr, LYAP_E_LIMIT, "too many rules");
}

static enum lyap_status rule_delete(void *ctx, const char *name, struct lyap_error *reterr)
{
    struct fake *fake = ctx;
    fake_lock(fake);
    struct lyap_rule *rule = rule_find(fake, name);
    if (rule) {
        free((void *)(uintptr_t)rule->runs_json);
        *rule = fake->rules[--fake->rule_count];
        fake->rules[fake->rule_count] = (struct lyap_rule){ 0 };
    }
    fake_unlock(fake);
    return rule ? LYAP_OK : lyap_error_set(reterr, LYAP_E_NOT_FOUND, "no rule '%s'", name);
}

static enum lyap_status alert_ack(void *ctx, const struct api_ack *ack, struct lyap_error *reterr)
{
    struct fake *fake = ctx;
    if (ack->id > FAKE_ALERTS)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no alert %lld",
                              (long long)ack->id);
    fake_lock(fake);
    fake->acked_ns[ack->id] = now_ns(NULL);
    fake->ack = *ack;
    fake_unlock(fake);
    return LYAP_OK;
}

/* ---- packs, replays, silences ---- */

static const struct lyap_rule pack_rules[] = {
    { .name = "shipped", .metric = "loss", .threshold = 2, .source = "the fake" },
    { .name = "other", .metric = "lr", .threshold = 3, .source = "the fake" },
};
static const struct lyap_pack packs[] = { { "fake", "of the tests", pack_rules, 2 } };

static const struct lyap_pack *pack(void *ctx, uint32_t index)
{
    (void)ctx;
    return index < sizeof packs / sizeof *packs ? &packs[index] : NULL;
}

static enum lyap_status pack_put(void *ctx, const struct api_pack_put *put,
                                 struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    if (strcmp(put->pack, "fake") != 0)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no pack '%s'", put->pack);
    for (uint32_t i = 0; status == LYAP_OK && i < 2; i++) {
        struct lyap_rule rule = pack_rules[i];
        bool is_created, is_named = put->name_count == 0;
        for (uint32_t j = 0; j < put->name_count; j++)
            is_named = is_named || strcmp(put->names[j], rule.name) == 0;
        rule.is_enabled = put->is_enabled;
        rule.is_builtin = true;
        if (is_named)
            status = rule_put(ctx, &rule, &is_created, reterr);
    }
    return status;
}

/* One right alarm, ten steps ahead of a divergence at step 50. */
static enum lyap_status replay(void *ctx, const struct api_replay_request *request,
                               struct api_replay *ret_replay, struct lyap_error *reterr)
{
    (void)ctx;
    if (strcmp(request->run, "gpt") != 0)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no run '%s'", request->run);
    struct api_replay result = { .attempt = request->attempt ? request->attempt : 1,
                                 .first_step = request->from_step,
                                 .last_step = request->to_step < 60 ? request->to_step : 60,
                                 .points = 61,
                                 .evaluated = 59,
                                 .is_complete = true,
                                 .end = "diverged",
                                 .truth = "loss",
                                 .alert_count = 1,
                                 .healthy_points = 7,
                                 .notifications = 1 };
    result.absent[LYAP_REASON_WARMING_UP] = 2;
    result.onset.events[0] = (struct lyap_onset_event){ .onset_step = 50, .end_step = -1 };
    result.onset.count = 1;
    result.outcomes[API_OUTCOME_RIGHT] = 1;
    result.alerts = lyap_alloc_array(1, sizeof *result.alerts);
    assert(result.alerts);
    result.alerts[0] =
        (struct api_replay_alert){ .pending_step = 39,
                                   .firing_step = 40,
                                   .resolved_step = -1,
                                   .value = request->body ? request->body->threshold : INFINITY,
                                   .severity = LYAP_SEVERITY_CRITICAL,
                                   .outcome = API_OUTCOME_RIGHT,
                                   .lead_steps = 10 };
    *ret_replay = result;
    return LYAP_OK;
}

static enum lyap_status silence_put(void *ctx, struct lyap_silence *silence,
                                    struct lyap_error *reterr)
{
    struct fake *fake = ctx;
    fake_lock(fake);
    const bool has_room = fake->silence_count < FAKE_SILENCES_MAX;
    if (has_room) {
        struct lyap_silence *stored = &fake->silences[fake->silence_count++];
        silence->id = fake->silence_count;
        *stored = *silence;
        stored->comment = strdup(silence->comment);
        stored->labels_json = silence->labels_json ? strdup(silence->labels_json) : NULL;
    }
    fake_unlock(fake);
    return has_room ? LYAP_OK : lyap_error_set(reterr, LYAP_E_LIMIT, "too many silences");
}

static enum lyap_status silence_delete(void *ctx, int64_t id, struct lyap_error *reterr)
{
    struct fake *fake = ctx;
    fake_lock(fake);
    struct lyap_silence *silence =
        id <= (int64_t)fake->silence_count ? &fake->silences[id - 1] : NULL;
    const bool is_found = silence && silence->until_ns > now_ns(NULL);
    if (is_found)
        silence->until_ns = now_ns(NULL);
    fake_unlock(fake);
    return is_found ? LYAP_OK
                    : lyap_error_set(reterr, LYAP_E_NOT_FOUND, "no silence %lld", (long long)id);
}

struct lyap_silence *fake_silence_at(struct fake *fake, uint32_t index)
{
    return index < fake->silence_count ? &fake->silences[index] : NULL;
}

/* ---- the rest ---- */

static enum lyap_status latest(void *ctx, const char *name, struct lyap_point *ret_point)
{
    struct fake *fake = ctx;
    enum lyap_status status = LYAP_E_NOT_FOUND;
    fake_lock(fake);
    const struct fake_run *run = fake_run_find(fake, name);
    if (run && run->point_count > 0)
        status = lyap_point_copy(&run->points[run->point_count - 1], ret_point);
    fake_unlock(fake);
    return status;
}

static bool is_ready(void *ctx, char *ret_why, size_t why_bytes)
{
    struct fake *fake = ctx;
    fake_lock(fake);
    const bool is_sick = fake_run_find(fake, "sick") != NULL;
    fake_unlock(fake);
    if (is_sick)
        (void)snprintf(ret_why, why_bytes, "the store is not writable");
    return !is_sick;
}

static char *metrics_text(void *ctx)
{
    struct fake *fake = ctx;
    char *text = malloc(256);
    fake_lock(fake);
    if (text)
        (void)snprintf(text, 256, "admitted %llu\nattached %llu\nsubmitted %llu\naborted %llu\n",
                       (unsigned long long)fake->admitted, (unsigned long long)fake->attached,
                       (unsigned long long)fake->submitted, (unsigned long long)fake->aborted);
    fake_unlock(fake);
    return text;
}

static char *config_json(void *ctx)
{
    (void)ctx;
    return strdup("{\"listen\":\"127.0.0.1:0\"}\n");
}

struct fake *fake_new(void)
{
    struct fake *fake = calloc(1, sizeof *fake);
    assert(fake);
    fake->last = &fake->first;
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    fake->ports = (struct api_ports){ .ctx = fake,
                                      .feed = api_feed_new(1),
                                      .run_put = run_put,
                                      .run_delete = run_delete,
                                      .query = fake_query,
                                      .latest = latest,
                                      .rule_put = rule_put,
                                      .rule_delete = rule_delete,
                                      .receiver_put = receiver_put,
                                      .receiver_delete = receiver_delete,
                                      .receiver_test = receiver_test,
                                      .alert_ack = alert_ack,
                                      .pack = pack,
                                      .pack_put = pack_put,
                                      .replay = replay,
                                      .silence_put = silence_put,
                                      .silence_delete = silence_delete,
                                      .is_ready = is_ready,
                                      .metrics_text = metrics_text,
                                      .config_json = config_json,
                                      .now_ns = now_ns };
    fake_engine_ports(&fake->ports);
    fake_engine_start(fake);
    return fake;
}

const struct api_ports *fake_ports(struct fake *fake)
{
    return &fake->ports;
}

void fake_stop(struct fake *fake)
{
    fake_lock(fake);
    fake->is_stopping = true;
    pthread_cond_signal(&fake->changed);
    fake_unlock(fake);
    (void)pthread_join(fake->engine, NULL);
    if (fake->test_done)
        fake->test_done(fake->test_arg, LYAP_E_STOPPING, NULL, NULL);
}

void fake_free(struct fake *fake)
{
    for (uint32_t i = 0; i < FAKE_RUNS_MAX; i++)
        run_clear(&fake->runs[i]);
    for (uint32_t i = 0; i < fake->rule_count; i++)
        free((void *)(uintptr_t)fake->rules[i].runs_json);
    for (uint32_t i = 0; i < fake->receiver_count; i++)
        api_receiver_release(&fake->receivers[i]);
    for (uint32_t i = 0; i < fake->silence_count; i++) {
        free((void *)(uintptr_t)fake->silences[i].comment);
        free((void *)(uintptr_t)fake->silences[i].labels_json);
    }
    assert(fake->admitted == fake->aborted + fake->submitted);
    api_feed_free(fake->ports.feed);
    pthread_cond_destroy(&fake->changed);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}
