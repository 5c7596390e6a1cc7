/* The header of an LYC2 stream and its steps. */
#include "stream.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "lyap/alloc.h"

/* What the header says of the optimizer, by its own names. */
struct constant {
    const char *name;
    size_t offset;
};
#define AT(member) offsetof(struct lyap_optimizer, member)
static const struct constant constants[] = {
    { "momentum", AT(base.momentum) },
    { "dampening", AT(base.dampening) },
    { "weight_decay", AT(base.weight_decay) },
    { "beta1", AT(base.beta1) },
    { "beta2", AT(base.beta2) },
    { "alpha", AT(base.beta2) },
    { "eps", AT(base.eps) },
    { "l1", AT(prox_lambda) },
    { "box", AT(set_high) },
};
#undef AT

static bool take(enum lyap_status status)
{
    return status == LYAP_OK;
}

/* A value of any kind but an object, not looked at. */
static bool skip(struct lyap_json *json)
{
    const char *word;
    size_t length;
    char *text;
    bool is_more = false;
    switch (lyap_json_peek(json)) {
    case '[':
        if (!take(lyap_json_open(json, '[')))
            return false;
        while (take(lyap_json_more(json, &is_more)) && is_more)
            if (!skip(json))
                return false;
        return !is_more;
    case '"':
        return take(lyap_json_string(json, &text));
    case 't':
    case 'f':
    case 'n':
        return take(lyap_json_literal(json, &word));
    default:
        return take(lyap_json_number(json, &word, &length));
    }
}

static bool read_type(struct lyap_json *json, struct lyap_optimizer *optimizer)
{
    char *type;
    if (!take(lyap_json_string(json, &type)))
        return false;
    enum lyap_optimizer_type parsed;
    if (!lyap_optimizer_type_parse(type, &parsed))
        return false;
    lyap_optimizer_defaults(optimizer, parsed);
    optimizer->base.weight_decay = 0;
    return true;
}

static double *constant_of(const char *key, struct lyap_optimizer *optimizer)
{
    for (unsigned i = 0; i < sizeof constants / sizeof *constants; i++)
        if (strcmp(key, constants[i].name) == 0)
            return (double *)((char *)optimizer + constants[i].offset);
    return NULL;
}

static bool read_patterns(struct lyap_json *json, struct lyap_optimizer_group *group)
{
    bool is_more = false;
    char *text;
    group->patterns = lyap_alloc_array(STREAM_PATTERNS_MAX, sizeof *group->patterns);
    if (!group->patterns || !take(lyap_json_open(json, '[')))
        return false;
    while (take(lyap_json_more(json, &is_more)) && is_more) {
        if (group->pattern_count == STREAM_PATTERNS_MAX || !take(lyap_json_string(json, &text)))
            return false;
        group->patterns[group->pattern_count++] = lyap_alloc_string(text);
    }
    return !is_more;
}

/* {"params": [globs], constants that differ} */
static bool read_group(struct lyap_json *json, const struct lyap_optimizer *optimizer,
                       struct lyap_optimizer_group *group)
{
    struct lyap_optimizer overridden = *optimizer;
    char *key;
    if (!take(lyap_json_open(json, '{')))
        return false;
    while (take(lyap_json_key(json, &key))) {
        if (!key) {
            group->params = overridden.base;
            return true;
        }
        double *value = constant_of(key, &overridden);
        const bool is_good = strcmp(key, "params") == 0 ? read_patterns(json, group)
                             : value                    ? take(lyap_json_double(json, value))
                                                        : skip(json);
        if (!is_good)
            return false;
    }
    return false;
}

static bool read_groups(struct lyap_json *json, struct lyap_optimizer *optimizer)
{
    bool is_more = false;
    optimizer->groups = lyap_alloc_array(STREAM_GROUPS_MAX, sizeof *optimizer->groups);
    if (!optimizer->groups || !take(lyap_json_open(json, '[')))
        return false;
    while (take(lyap_json_more(json, &is_more)) && is_more)
        if (optimizer->group_count == STREAM_GROUPS_MAX ||
            !read_group(json, optimizer, &optimizer->groups[optimizer->group_count++]))
            return false;
    return !is_more;
}

static bool read_member(struct lyap_json *json, const char *key, struct stream *stream)
{
    struct lyap_optimizer *optimizer = &stream->declaration.optimizer;
    char *text;
    const char *word;
    if (strcmp(key, "type") == 0)
        return read_type(json, optimizer);
    if (strcmp(key, "prox") == 0 && lyap_json_peek(json) == '"') {
        if (!take(lyap_json_string(json, &text)))
            return false;
        optimizer->prox = strcmp(text, "l1") == 0 ? LYAP_PROX_L1 : LYAP_PROX_NONE;
        optimizer->set = strcmp(text, "box") == 0 ? LYAP_SET_BOX : LYAP_SET_NONE;
        return true;
    }
    if (strcmp(key, "nesterov") == 0 && lyap_json_peek(json) != '0') {
        if (!take(lyap_json_literal(json, &word)))
            return false;
        optimizer->base.is_nesterov = strcmp(word, "true") == 0;
        return true;
    }
    if (strcmp(key, "groups") == 0)
        return read_groups(json, optimizer);
    double *value = constant_of(key, optimizer);
    return value ? take(lyap_json_double(json, value)) : skip(json);
}

/* The type comes first: it sets the defaults; the groups last: they override the base. */
static bool read_optimizer(struct lyap_json *json, struct stream *stream)
{
    struct lyap_optimizer *optimizer = &stream->declaration.optimizer;
    char *key;
    if (!take(lyap_json_open(json, '{')))
        return false;
    while (take(lyap_json_key(json, &key))) {
        if (!key) {
            optimizer->set_low = -optimizer->set_high;
            if (optimizer->set != LYAP_SET_NONE)
                optimizer->type = LYAP_OPTIMIZER_PROJGD;
            stream->declaration.has_optimizer = optimizer->type != LYAP_OPTIMIZER_OTHER;
            return true;
        }
        if (!read_member(json, key, stream))
            return false;
    }
    return false;
}

/* ["name", [extents]] */
static bool read_tensor(struct lyap_json *json, struct lyap_tensor *tensor)
{
    bool is_more;
    char *name;
    uint64_t extent;
    if (!take(lyap_json_open(json, '[')) || !take(lyap_json_more(json, &is_more)) || !is_more ||
        !take(lyap_json_string(json, &name)) || !take(lyap_json_more(json, &is_more)) || !is_more ||
        !take(lyap_json_open(json, '[')))
        return false;
    tensor->name = lyap_alloc_string(name);
    tensor->count = 1;
    while (take(lyap_json_more(json, &is_more)) && is_more) {
        if (tensor->rank == LYAP_TENSOR_RANK_MAX || !take(lyap_json_unsigned(json, &extent)))
            return false;
        tensor->shape[tensor->rank++] = extent;
        tensor->count *= extent;
    }
    return tensor->name && take(lyap_json_more(json, &is_more)) && !is_more;
}

static bool read_tensors(struct lyap_json *json, struct stream *stream)
{
    struct lyap_tensor *tensors = lyap_alloc_array(STREAM_TENSORS_MAX, sizeof *tensors);
    uint32_t count = 0;
    bool is_more = false;
    if (!tensors || !take(lyap_json_open(json, '[')))
        return false;
    while (take(lyap_json_more(json, &is_more)) && is_more) {
        if (count == STREAM_TENSORS_MAX || !read_tensor(json, &tensors[count]))
            return false;
        stream->elements += tensors[count++].count;
    }
    return take(lyap_tensor_set_build(tensors, count, &stream->declaration.set, NULL));
}

static bool read_data(struct lyap_json *json, struct lyap_declaration *declaration)
{
    char *text;
    if (!take(lyap_json_string(json, &text)))
        return false;
    declaration->data =
        strcmp(text, "full-batch") == 0 ? LYAP_DATA_FULL_BATCH : LYAP_DATA_MINIBATCH;
    return true;
}

/* param and grad, or these and Adam's two. */
static bool read_roles(struct lyap_json *json, struct stream *stream)
{
    unsigned count = 0;
    bool is_more = false;
    char *text;
    if (!take(lyap_json_open(json, '[')))
        return false;
    while (take(lyap_json_more(json, &is_more)) && is_more) {
        if (!take(lyap_json_string(json, &text)))
            return false;
        count++;
    }
    stream->has_state = count == STREAM_ROLES;
    return count == STREAM_ROLES || count == 2;
}

static bool read_header(struct stream *stream, char *text, uint32_t length)
{
    struct lyap_error error = LYAP_ERROR_NULL;
    struct lyap_json json;
    char *key;
    bool is_good = true;
    lyap_json_init(&json, text, length, "header", &error);
    if (!take(lyap_json_open(&json, '{')))
        return false;
    while (is_good && take(lyap_json_key(&json, &key)) && key) {
        if (strcmp(key, "opt") == 0)
            is_good = read_optimizer(&json, stream);
        else if (strcmp(key, "tensors") == 0)
            is_good = read_tensors(&json, stream);
        else if (strcmp(key, "clip") == 0)
            is_good = take(lyap_json_double(&json, &stream->clip));
        else if (strcmp(key, "data") == 0)
            is_good = read_data(&json, &stream->declaration);
        else
            is_good = strcmp(key, "roles") == 0 ? read_roles(&json, stream) : skip(&json);
    }
    lyap_declaration_resolve_groups(&stream->declaration);
    if (error.status != LYAP_OK)
        (void)fprintf(stderr, "%s\n", error.text);
    return is_good && error.status == LYAP_OK && stream->declaration.set.count > 0;
}

bool stream_open(struct stream *stream, FILE *file)
{
    char magic[4];
    uint32_t length;
    memset(stream, 0, sizeof *stream);
    stream->file = file;
    lyap_declaration_init(&stream->declaration);
    if (fread(magic, 1, 4, file) != 4 || memcmp(magic, "LYC2", 4) != 0 ||
        fread(&length, sizeof length, 1, file) != 1 || length > STREAM_HEADER_BYTES_MAX) {
        (void)fprintf(stderr, "stdin is no LYC2 stream\n");
        return false;
    }
    char *text = calloc(length + 1, 1);
    const bool is_good =
        text && fread(text, 1, length, file) == length && read_header(stream, text, length);
    free(text);
    if (!is_good) {
        (void)fprintf(stderr, "the header of the stream is not as described\n");
        return false;
    }
    for (unsigned i = 0; i < (stream->has_state ? STREAM_ROLES : 2U); i++) {
        stream->roles[i] = malloc(stream->elements * sizeof(float));
        if (!stream->roles[i])
            return false;
    }
    return true;
}

bool stream_next(struct stream *stream)
{
    uint32_t head[4];
    const uint64_t n = stream->elements;
    const uint32_t rates = 1 + stream->declaration.optimizer.group_count;
    if (fread(head, sizeof *head, 4, stream->file) != 4 ||
        fread(&stream->loss, sizeof stream->loss, 1, stream->file) != 1 ||
        fread(&stream->probe_loss, sizeof stream->probe_loss, 1, stream->file) != 1 ||
        fread(stream->rates, sizeof *stream->rates, rates, stream->file) != rates)
        return false;
    for (unsigned i = 0; i < STREAM_ROLES; i++)
        if (stream->roles[i] &&
            fread(stream->roles[i], sizeof *stream->roles[i], n, stream->file) != n)
            return false;
    stream->step = head[0];
    stream->is_updated = head[1] & 1;
    stream->is_skipped = head[1] & 2;
    stream->optimizer_step = head[2];
    return true;
}

void stream_close(struct stream *stream)
{
    lyap_declaration_release(&stream->declaration);
    for (unsigned i = 0; i < STREAM_ROLES; i++)
        free(stream->roles[i]);
}
