/* Handlers of packs of rules. */
#include <stdlib.h>
#include <string.h>

#include "codec.h"
#include "codec_text.h"
#include "handlers.h"

/* What the store knows of a pack's rules: on, or replaced by an own one. */
struct rule_state {
    bool is_stored, is_enabled, is_own;
};

static uint32_t index_of(const struct lyap_pack *pack, const char *rule)
{
    uint32_t i = 0;
    while (i < pack->count && strcmp(pack->rules[i].name, rule) != 0)
        i++;
    return i;
}

static enum lyap_status read_states(const struct api_request *request, const struct lyap_pack *pack,
                                    struct rule_state *states)
{
    struct lyap_query query = api_query_init(LYAP_TABLE_RULES);
    struct lyap_cursor *cursor = NULL;
    struct lyap_record record;
    query.limit = LYAP_RULE_COUNT_MAX;
    enum lyap_status status = request->ports->query(request->ports->ctx, &query, &cursor);
    if (status != LYAP_OK)
        return status;
    while ((status = cursor->next(cursor, &record)) == LYAP_OK) {
        const struct lyap_rule *rule = &record.u.rule;
        const uint32_t index = index_of(pack, rule->name);
        if (index < pack->count)
            states[index] = (struct rule_state){ true, rule->is_enabled, !rule->is_builtin };
    }
    cursor->close(cursor);
    return status == LYAP_E_NOT_FOUND ? LYAP_OK : status;
}

static void encode(struct api_text *text, const struct lyap_pack *pack,
                   const struct rule_state *states)
{
    uint32_t on = 0;
    for (uint32_t i = 0; i < pack->count; i++)
        on += states[i].is_enabled;
    api_json_open(text, '{');
    api_member_string(text, "pack", pack->name);
    api_member_string(text, "title", pack->title);
    api_member_bool(text, "enabled", on == pack->count);
    api_member_int(text, "enabled_rules", on);
    api_json_key(text, "rules");
    api_json_open(text, '[');
    for (uint32_t i = 0; i < pack->count; i++) {
        const struct lyap_rule *rule = &pack->rules[i];
        api_json_open(text, '{');
        api_member_string(text, "rule", rule->name);
        api_member_bool(text, "enabled", states[i].is_enabled);
        if (states[i].is_own)
            api_member_bool(text, "replaced", true);
        api_member_string(text, "metric", rule->metric);
        api_member_string(text, "comparison", lyap_comparison_name(rule->comparison));
        api_member_number(text, "threshold", rule->threshold);
        api_member_string(text, "severity", lyap_severity_name(rule->severity));
        api_member_string(text, "source", rule->source);
        api_json_close(text, '}');
    }
    api_json_close(text, ']');
    api_json_close(text, '}');
}

static enum lyap_status encode_pack(const struct api_request *request, const struct lyap_pack *pack,
                                    struct api_text *text)
{
    struct rule_state *states = calloc(pack->count, sizeof *states);
    if (!states)
        return LYAP_E_NOMEM;
    const enum lyap_status status = read_states(request, pack, states);
    if (status == LYAP_OK)
        encode(text, pack, states);
    free(states);
    return status;
}

static const struct lyap_pack *find(const struct api_request *request, const char *name)
{
    const struct lyap_pack *pack;
    for (uint32_t i = 0; (pack = request->ports->pack(request->ports->ctx, i)); i++)
        if (strcmp(pack->name, name) == 0)
            return pack;
    return NULL;
}

enum lyap_status api_h_pack_list(const struct api_request *request, struct api_reply *reply,
                                 struct lyap_error *reterr)
{
    (void)reterr;
    struct api_text *text = &reply->body;
    enum lyap_status status = LYAP_OK;
    const struct lyap_pack *pack;
    api_json_open(text, '{');
    api_json_key(text, "packs");
    api_json_open(text, '[');
    for (uint32_t i = 0; status == LYAP_OK && (pack = request->ports->pack(request->ports->ctx, i));
         i++)
        status = encode_pack(request, pack, text);
    api_json_close(text, ']');
    api_json_close(text, '}');
    api_text_puts(text, "\n");
    return status;
}

enum lyap_status api_h_pack_get(const struct api_request *request, struct api_reply *reply,
                                struct lyap_error *reterr)
{
    const struct lyap_pack *pack = find(request, request->path_args[0]);
    if (!pack)
        return lyap_error_set(reterr, LYAP_E_NOT_FOUND, "there is no pack '%.80s'",
                              request->path_args[0]);
    const enum lyap_status status = encode_pack(request, pack, &reply->body);
    api_text_puts(&reply->body, "\n");
    return status;
}

enum lyap_status api_h_pack_put(const struct api_request *request, struct api_reply *reply,
                                struct lyap_error *reterr)
{
    const struct api_ports *ports = request->ports;
    struct api_pack_put put;
    enum lyap_status status = api_decode_pack_put(request->body, request->body_bytes, &put, reterr);
    if (status != LYAP_OK)
        return status;
    put.pack = request->path_args[0];
    status = ports->pack_put(ports->ctx, &put, reterr);
    api_pack_put_release(&put);
    return status == LYAP_OK ? api_h_pack_get(request, reply, reterr) : status;
}
