/* codec.h - domain <-> JSON. Encoders write text directly; jansson stays inside the other
 * codec_*.c. Shapes: docs/api.md. THREADS: pure functions. */
#ifndef LYAP_API_CODEC_H
#define LYAP_API_CODEC_H

#include "api.h"
#include "text.h"

/* "run":...,"attempt":...,"step":...,"metrics":{...},"state":...: the members of a point, inside an
 * open object. `metrics` false leaves the metrics out. */
void api_encode_point_members(struct api_text *text, const char *run,
                              const struct lyap_point *point, bool has_metrics);
void api_encode_push(struct api_text *text, const struct api_push_reply *reply, bool is_minimal);

void api_encode_run_members(struct api_text *text, const struct lyap_run_record *run);
/* One row of a list, an object. */
void api_encode_run(struct api_text *text, const struct lyap_record *record);
void api_encode_attempt(struct api_text *text, const struct lyap_record *record);
void api_encode_event_members(struct api_text *text, const struct lyap_event_record *event);
void api_encode_event(struct api_text *text, const struct lyap_record *record);
void api_encode_rule(struct api_text *text, const struct lyap_record *record);
void api_encode_alert(struct api_text *text, const struct lyap_record *record);
void api_encode_alert_group(struct api_text *text, const struct lyap_record *record);
void api_encode_silence(struct api_text *text, const struct lyap_record *record);
/* A whole document. */
void api_encode_replay(struct api_text *text, const struct api_replay_request *request,
                       const struct api_replay *replay);
void api_encode_tensor(struct api_text *text, const struct lyap_record *record);
void api_encode_layer(struct api_text *text, const struct lyap_record *record);

/* The body of PUT /v1/rules/{name}, strict: unknown and duplicate keys, types, ranges. The strings
 * of the rule are owned by *ret_rule and freed with api_rule_release. E_FORMAT, E_INVALID,
 * E_UNKNOWN_FIELD, E_MISSING_FIELD, E_LIMIT, E_NOMEM. */
LYAP_MUST_CHECK enum lyap_status api_decode_rule(const char *name, const char *json, size_t length,
                                                 struct lyap_rule *ret_rule,
                                                 struct lyap_error *reterr);
void api_rule_release(struct lyap_rule *rule);

/* codec_silence.c. Strict, as above. The body of POST /v1/silences; labels and comment are owned,
 * freed with api_silence_release. */
LYAP_MUST_CHECK enum lyap_status api_decode_silence(const char *json, size_t length, int64_t now_ns,
                                                    struct lyap_silence *ret_silence,
                                                    struct lyap_error *reterr);
void api_silence_release(struct lyap_silence *silence);
/* The body of POST /v1/alerts/{id}/ack, which may be empty. */
LYAP_MUST_CHECK enum lyap_status api_decode_ack(const char *json, size_t length, int64_t now_ns,
                                                struct api_ack *ret_ack, struct lyap_error *reterr);
/* The body of PUT /v1/packs/{pack}; the names are owned, freed with api_pack_put_release. */
LYAP_MUST_CHECK enum lyap_status api_decode_pack_put(const char *json, size_t length,
                                                     struct api_pack_put *ret_put,
                                                     struct lyap_error *reterr);
void api_pack_put_release(struct api_pack_put *put);

/* The body of PUT /v1/runs/{run}; `base_json` is the stored declaration or NULL. Release with
 * api_run_put_release. Errors as above. */
LYAP_MUST_CHECK enum lyap_status api_decode_run(const char *json, size_t length,
                                                const char *base_json, struct api_run_put *ret_put,
                                                struct lyap_error *reterr);
void api_run_put_release(struct api_run_put *put);

/* The body of PUT /v1/receivers/{name}: api.h. */
void api_encode_receiver(struct api_text *text, const struct lyap_record *record);
void api_encode_delivery(struct api_text *text, const struct lyap_record *record);

#endif
