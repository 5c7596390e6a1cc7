/* Requests that are answered later. */
#include "pending.h"

#include <pthread.h>
#include <stdlib.h>

/* Shared by the exchange and, from submit to the answer, the daemon. */
struct api_pending {
    pthread_mutex_t lock;
    uint32_t refs;
    bool is_answered; /* or abandoned: `answered` was or will never be called */
    enum lyap_status status;
    struct lyap_error error;
    struct api_test_outcome outcome;
    api_pending_answered *answered;
    void *answered_arg;
};

enum lyap_status api_pending_new(struct api_pending **ret_pending)
{
    struct api_pending *pending = calloc(1, sizeof *pending);
    if (!pending)
        return LYAP_E_NOMEM;
    pthread_mutex_init(&pending->lock, NULL);
    pending->refs = 1;
    pending->status = LYAP_E_STOPPING; /* until it is answered */
    *ret_pending = pending;
    return LYAP_OK;
}

static void unref(struct api_pending *pending)
{
    pthread_mutex_lock(&pending->lock);
    const bool is_last = --pending->refs == 0;
    pthread_mutex_unlock(&pending->lock);
    if (!is_last)
        return;
    pthread_mutex_destroy(&pending->lock);
    free(pending);
}

static void on_done(void *arg, enum lyap_status status, const struct lyap_error *error,
                    const struct api_test_outcome *outcome)
{
    struct api_pending *pending = arg;
    pthread_mutex_lock(&pending->lock);
    const bool is_answer = !pending->is_answered;
    if (is_answer) {
        pending->is_answered = true;
        pending->status = status;
        pending->error = error ? *error : (struct lyap_error)LYAP_ERROR_NULL;
        if (outcome)
            pending->outcome = *outcome;
    }
    api_pending_answered *answered = pending->answered;
    void *answered_arg = pending->answered_arg;
    pthread_mutex_unlock(&pending->lock);
    if (is_answer)
        answered(answered_arg);
    unref(pending);
}

void api_pending_submit(struct api_pending *pending, const struct api_request *request,
                        api_pending_answered *answered, void *arg)
{
    const struct api_ports *ports = request->ports;
    pthread_mutex_lock(&pending->lock);
    pending->refs++;
    pending->answered = answered;
    pending->answered_arg = arg;
    pthread_mutex_unlock(&pending->lock);
    ports->receiver_test(ports->ctx, request->path_args[0], on_done, pending);
}

bool api_pending_abandon(struct api_pending *pending)
{
    pthread_mutex_lock(&pending->lock);
    const bool is_ours = !pending->is_answered;
    pending->is_answered = true;
    pthread_mutex_unlock(&pending->lock);
    return is_ours;
}

enum lyap_status api_pending_reply(struct api_pending *pending, struct api_reply *reply,
                                   struct lyap_error *reterr)
{
    struct api_text *text = &reply->body;
    pthread_mutex_lock(&pending->lock);
    const enum lyap_status status = pending->status;
    const struct api_test_outcome outcome = pending->outcome;
    *reterr = pending->error;
    pthread_mutex_unlock(&pending->lock);
    if (status != LYAP_OK)
        return status;
    api_json_open(text, '{');
    api_json_key(text, "delivered");
    api_json_bool(text, outcome.is_delivered);
    api_json_key(text, "seconds");
    api_json_number(text, outcome.seconds);
    api_json_key(text, "error");
    api_json_string(text, outcome.error[0] ? outcome.error : NULL);
    api_json_close(text, '}');
    api_text_puts(text, "\n");
    return LYAP_OK;
}

void api_pending_release(struct api_pending *pending)
{
    if (pending)
        unref(pending);
}
