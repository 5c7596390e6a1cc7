/* Building, resolving, copying and reading the declared layers. */
#include "lyap/network.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/declaration.h"
#include "lyap/limits.h"
#include "lyap/text.h"
#include "banned.h"

static const char *const kind_names[] = {
#define NAME(name, wire, axes) wire,
    LYAP_LAYER_KIND_TABLE(NAME)
#undef NAME
};

static const uint8_t kind_axes[] = {
#define AXES(name, wire, axes) axes,
    LYAP_LAYER_KIND_TABLE(AXES)
#undef AXES
};

static const char *const part_names[] = {
#define NAME(name, wire) wire,
    LYAP_LAYER_PART_TABLE(NAME)
#undef NAME
};

const char *lyap_layer_kind_name(enum lyap_layer_kind kind)
{
    assert(kind < LYAP_LAYER_KIND_COUNT);
    return kind_names[kind];
}

const char *lyap_layer_part_name(enum lyap_layer_part part)
{
    assert(part < LYAP_LAYER_PARTS);
    return part_names[part];
}

const char *lyap_network_text(const struct lyap_network *network, uint32_t offset)
{
    assert(offset < network->text_bytes);
    return network->text + offset;
}

const char *lyap_network_name(const struct lyap_network *network, uint32_t layer)
{
    assert(layer < network->count);
    return lyap_network_text(network, network->layers[layer].name);
}

uint32_t lyap_extents_at(const struct lyap_extents *extents, uint32_t axis, uint32_t otherwise)
{
    if (extents->count == 0)
        return otherwise;
    return extents->count == 1 || axis >= extents->count ? extents->at[0] : extents->at[axis];
}

uint32_t lyap_layer_axes(const struct lyap_layer *layer)
{
    return kind_axes[layer->kind];
}

bool lyap_layer_is_transposed(const struct lyap_layer *layer)
{
    return layer->kind == LYAP_LAYER_CONV_TRANSPOSE1D ||
           layer->kind == LYAP_LAYER_CONV_TRANSPOSE2D || layer->kind == LYAP_LAYER_CONV_TRANSPOSE3D;
}

/* -- memory -- */
static struct lyap_layer layer_default(void)
{
    struct lyap_layer layer = { .kind = LYAP_LAYER_OTHER,
                                .activation = { .lipschitz = 1, .is_gate = true },
                                .groups = 1,
                                .heads = 1,
                                .eps = 1e-5,
                                .step = 1,
                                .from = LYAP_NETWORK_INPUT,
                                .parent = LYAP_NETWORK_NONE };
    for (int part = 0; part < LYAP_LAYER_PARTS; part++)
        layer.index[part] = LYAP_NETWORK_TENSOR_UNKNOWN;
    return layer;
}

enum lyap_status lyap_network_init(struct lyap_network *network, uint32_t count)
{
    assert(count >= 1 && count <= LYAP_LAYER_COUNT_MAX);
    *network = (struct lyap_network)LYAP_NETWORK_NULL;
    network->layers = lyap_alloc_array(count, sizeof *network->layers);
    network->order = lyap_alloc_array(count, sizeof *network->order);
    uint32_t empty;
    if (!network->layers || !network->order ||
        lyap_network_add_text(network, "", &empty) != LYAP_OK) {
        lyap_network_release(network);
        return LYAP_E_NOMEM;
    }
    for (uint32_t i = 0; i < count; i++)
        network->layers[i] = layer_default();
    network->count = count;
    network->output = LYAP_NETWORK_NONE;
    return LYAP_OK;
}

/* Room for `needed` elements; *room grows by halves. */
static void *grown(void *array, uint32_t used, uint32_t needed, size_t size, uint32_t *room)
{
    if (needed <= *room)
        return array;
    const uint32_t wanted = needed + needed / 2 + 16;
    char *larger = lyap_alloc_array(wanted, size);
    if (!larger)
        return NULL;
    if (used > 0)
        memcpy(larger, array, used * size);
    lyap_free(array);
    *room = wanted;
    return larger;
}

enum lyap_status lyap_network_add_text(struct lyap_network *network, const char *text,
                                       uint32_t *ret_offset)
{
    const size_t bytes = strlen(text) + 1;
    if (bytes > LYAP_NETWORK_TEXT_MAX - network->text_bytes)
        return LYAP_E_LIMIT;
    const uint32_t needed = network->text_bytes + (uint32_t)bytes;
    char *room = grown(network->text, network->text_bytes, needed, 1, &network->text_room);
    if (!room)
        return LYAP_E_NOMEM;
    network->text = room;
    memcpy(room + network->text_bytes, text, bytes);
    *ret_offset = network->text_bytes;
    network->text_bytes = needed;
    return LYAP_OK;
}

enum lyap_status lyap_network_add_member(struct lyap_network *network, const char *name,
                                         struct lyap_layer_list *list)
{
    struct lyap_network_member member = { .layer = LYAP_NETWORK_NONE };
    if (list->count == 0)
        list->start = network->member_count;
    assert(list->start + list->count == network->member_count);
    if (network->member_count >= 2 * LYAP_LAYER_COUNT_MAX)
        return LYAP_E_LIMIT;
    const enum lyap_status status = lyap_network_add_text(network, name, &member.name);
    if (status)
        return status;
    struct lyap_network_member *room =
        grown(network->members, network->member_count, network->member_count + 1, sizeof *room,
              &network->member_room);
    if (!room)
        return LYAP_E_NOMEM;
    network->members = room;
    room[network->member_count++] = member;
    list->count++;
    return LYAP_OK;
}

/* NULL when memory is short; an empty array stays NULL, which `ret_is_whole` does not count. */
static void *duplicate(const void *array, uint32_t count, size_t size, bool *ret_is_whole)
{
    if (count == 0)
        return NULL;
    void *copy = lyap_alloc_array(count, size);
    if (copy)
        memcpy(copy, array, count * size);
    else
        *ret_is_whole = false;
    return copy;
}

enum lyap_status lyap_network_copy(const struct lyap_network *source, struct lyap_network *ret_copy)
{
    struct lyap_network copy = *source;
    bool is_whole = true;
    copy.layers = duplicate(source->layers, source->count, sizeof *copy.layers, &is_whole);
    copy.order = duplicate(source->order, source->count, sizeof *copy.order, &is_whole);
    copy.members =
        duplicate(source->members, source->member_count, sizeof *copy.members, &is_whole);
    copy.text = duplicate(source->text, source->text_bytes, 1, &is_whole);
    copy.member_room = copy.member_count;
    copy.text_room = copy.text_bytes;
    if (!is_whole) {
        lyap_network_release(&copy);
        return LYAP_E_NOMEM;
    }
    *ret_copy = copy;
    return LYAP_OK;
}

void lyap_network_release(struct lyap_network *network)
{
    if (!network)
        return;
    lyap_free(network->layers);
    lyap_free(network->order);
    lyap_free(network->members);
    lyap_free(network->text);
    *network = (struct lyap_network)LYAP_NETWORK_NULL;
}

/* -- names -- */
struct named {
    const char *name;
    uint32_t layer;
};

static int compare_names(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static enum lyap_status names_check(const struct named *sorted, uint32_t count,
                                    struct lyap_error *reterr)
{
    struct lyap_quote quote;
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(sorted[i].name, LYAP_NETWORK_INPUT_NAME) == 0)
            return lyap_error_set(reterr, LYAP_E_INVALID,
                                  "layers[%u].name is \"input\", which means the network's input",
                                  sorted[i].layer);
        if (i > 0 && strcmp(sorted[i - 1].name, sorted[i].name) == 0)
            return lyap_error_set(reterr, LYAP_E_INVALID, "layers: the name %s occurs twice",
                                  lyap_quote_string(sorted[i].name, &quote));
    }
    return LYAP_OK;
}

static enum lyap_status order_build(struct lyap_network *network, struct lyap_error *reterr)
{
    struct named *sorted = lyap_alloc_array(network->count, sizeof *sorted);
    if (!sorted)
        return LYAP_E_NOMEM;
    for (uint32_t i = 0; i < network->count; i++)
        sorted[i] = (struct named){ lyap_network_name(network, i), i };
    qsort(sorted, network->count, sizeof *sorted, compare_names);
    const enum lyap_status status = names_check(sorted, network->count, reterr);
    for (uint32_t i = 0; i < network->count; i++)
        network->order[i] = sorted[i].layer;
    lyap_free(sorted);
    return status;
}

int32_t lyap_network_find(const struct lyap_network *network, const char *name, uint64_t length)
{
    uint32_t low = 0, high = network->count;
    if (length > LYAP_TENSOR_NAME_BYTES_MAX)
        return LYAP_NETWORK_NONE;
    if (length == strlen(LYAP_NETWORK_INPUT_NAME) &&
        memcmp(name, LYAP_NETWORK_INPUT_NAME, length) == 0)
        return network->count > 0 ? LYAP_NETWORK_INPUT : LYAP_NETWORK_NONE;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const char *here = lyap_network_name(network, network->order[middle]);
        int order = strncmp(here, name, (size_t)length);
        if (order == 0)
            order = here[length] != '\0';
        if (order == 0)
            return (int32_t)network->order[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return LYAP_NETWORK_NONE;
}

/* -- references -- */
static enum lyap_status list_resolve(struct lyap_network *network, uint32_t block,
                                     const struct lyap_layer_list *list, const char *field,
                                     struct lyap_error *reterr)
{
    int32_t before = LYAP_NETWORK_NONE;
    for (uint32_t i = list->start; i < list->start + list->count; i++) {
        struct lyap_network_member *member = &network->members[i];
        const char *name = lyap_network_text(network, member->name);
        struct lyap_quote quote;
        member->layer = lyap_network_find(network, name, strlen(name));
        if (member->layer < 0)
            return lyap_error_set(reterr, LYAP_E_INVALID,
                                  "layers[%u].%s names %s, which is no declared layer", block,
                                  field, lyap_quote_string(name, &quote));
        struct lyap_layer *inner = &network->layers[member->layer];
        if (inner->parent != LYAP_NETWORK_NONE)
            return lyap_error_set(reterr, LYAP_E_INVALID,
                                  "layers[%u].%s names %s, which is in a block already", block,
                                  field, lyap_quote_string(name, &quote));
        if (inner->from_name != 0)
            return lyap_error_set(reterr, LYAP_E_INVALID,
                                  "layers[%d].from: an inner layer follows the one before it in "
                                  "its block",
                                  (int)member->layer);
        inner->parent = (int32_t)block;
        inner->from = before; /* the first one: see chain_resolve */
        before = member->layer;
    }
    return LYAP_OK;
}

static enum lyap_status depth_check(const struct lyap_network *network, uint32_t layer,
                                    struct lyap_error *reterr)
{
    int depth = 0;
    for (int32_t at = network->layers[layer].parent; at >= 0; at = network->layers[at].parent) {
        if (at == (int32_t)layer)
            return lyap_error_set(reterr, LYAP_E_INVALID, "layers[%u].inner: within itself", layer);
        if (++depth > LYAP_NETWORK_DEPTH_MAX)
            return lyap_error_set(reterr, LYAP_E_LIMIT,
                                  "layers[%u] lies in more than %d residual blocks", layer,
                                  LYAP_NETWORK_DEPTH_MAX);
    }
    return LYAP_OK;
}

static enum lyap_status from_resolve(struct lyap_network *network, uint32_t index,
                                     struct lyap_error *reterr)
{
    struct lyap_layer *layer = &network->layers[index];
    const char *name = lyap_network_text(network, layer->from_name);
    struct lyap_quote quote;
    const int32_t from = lyap_network_find(network, name, strlen(name));
    if (from == LYAP_NETWORK_NONE || from >= (int32_t)index)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "layers[%u].from is %s, but must be \"input\" or a layer declared "
                              "before",
                              index, lyap_quote_string(name, &quote));
    if (from >= 0 && network->layers[from].parent != LYAP_NETWORK_NONE)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "layers[%u].from is %s, which is inside of a block", index,
                              lyap_quote_string(name, &quote));
    layer->from = from;
    return LYAP_OK;
}

/* The chain outside of blocks. */
static enum lyap_status chain_resolve(struct lyap_network *network, struct lyap_error *reterr)
{
    int32_t before = LYAP_NETWORK_INPUT;
    for (uint32_t i = 0; i < network->count; i++) {
        struct lyap_layer *layer = &network->layers[i];
        if (layer->parent != LYAP_NETWORK_NONE)
            continue;
        layer->from = before;
        before = (int32_t)i;
        if (layer->from_name == 0)
            continue;
        const enum lyap_status status = from_resolve(network, i, reterr);
        if (status)
            return status;
    }
    network->output = before;
    return LYAP_OK;
}

/* The first layer of a list has its block's input, which for a block within another is known only
 * once the outer one is. */
static void inner_resolve(struct lyap_network *network)
{
    for (uint32_t i = 0; i < network->count; i++) {
        struct lyap_layer *layer = &network->layers[i];
        if (layer->from != LYAP_NETWORK_NONE)
            continue;
        const struct lyap_layer *block = &network->layers[layer->parent];
        while (block->from == LYAP_NETWORK_NONE)
            block = &network->layers[block->parent];
        layer->from = block->from;
    }
}

enum lyap_status lyap_network_compile(struct lyap_network *network, struct lyap_error *reterr)
{
    enum lyap_status status = order_build(network, reterr);
    for (uint32_t i = 0; status == LYAP_OK && i < network->count; i++) {
        status = list_resolve(network, i, &network->layers[i].inner, "inner", reterr);
        if (status == LYAP_OK)
            status = list_resolve(network, i, &network->layers[i].shortcut, "shortcut", reterr);
    }
    for (uint32_t i = 0; status == LYAP_OK && i < network->count; i++)
        status = depth_check(network, i, reterr);
    if (status == LYAP_OK)
        status = chain_resolve(network, reterr);
    if (status == LYAP_OK)
        inner_resolve(network);
    return status;
}
