/* Life cycle of what crosses the ports. */
#include "api.h"

#include "lyap/alloc.h"

void api_push_reply_free(struct api_push_reply *reply)
{
    if (!reply)
        return;
    for (uint32_t i = 0; i < reply->alert_count; i++) {
        struct lyap_alert *alert = &reply->alerts[i];
        lyap_free((void *)(uintptr_t)alert->tensor);
        lyap_free((void *)(uintptr_t)alert->summary);
        lyap_free((void *)(uintptr_t)alert->evidence_json);
    }
    lyap_free(reply->alerts);
    lyap_point_release(&reply->point);
    lyap_free(reply);
}

void api_replay_release(struct api_replay *replay)
{
    for (uint32_t i = 0; replay->alerts && i < replay->alert_count; i++)
        lyap_free(replay->alerts[i].tensor);
    lyap_free(replay->alerts);
    replay->alerts = NULL;
    replay->alert_count = 0;
}
