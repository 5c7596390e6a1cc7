/* Ports filled from memory: runs, rules and the daemon itself. */
#include "fake_state.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
    const char *secret = receiver->secret ? strdup(receiver->secret) : NULL;
    *ret_is_created = !stored;
    if (!stored && fake->receiver_count < FAKE_RULES_MAX)
        stored = &fake->receivers[fake->receiver_count++];
    if (stored) {
        if (keeps_secret) {
            secret = stored->secret;
            stored->secret = NULL;
        }
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

static enum lyap_status alert_ack(void *ctx, int64_t id, struct lyap_error *reterr)
{
    struct fake *fake = ctx;
    if (id > FAKE_ALERTS)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no alert %lld", (long long)id);
    fake_lock(fake);
    fake->acked_ns[id] = now_ns(NULL);
    fake_unlock(fake);
    return LYAP_OK;
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
    assert(fake->admitted == fake->aborted + fake->submitted);
    pthread_cond_destroy(&fake->changed);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}
