/* Run declarations; a NUL byte separates a stored one from the new one. What is accepted is stored
 * in canonical form, and that form is accepted and stays what it is. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/layer_job.h"
#include "lyap/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* References lead backwards or into a block, and what a step asks of a layer is a number. */
static void look_at_layers(const struct lyap_declaration *declaration)
{
    const struct lyap_network *network = &declaration->network;
    for (uint32_t i = 0; i < network->count; i++) {
        const struct lyap_layer *layer = &network->layers[i];
        const char *name = lyap_network_name(network, i);
        const bool is_inner = layer->parent != LYAP_NETWORK_NONE;
        if (lyap_network_find(network, name, strlen(name)) != (int32_t)i ||
            layer->from < LYAP_NETWORK_INPUT || layer->from >= (int32_t)network->count ||
            layer->parent >= (int32_t)network->count || (!is_inner && layer->from >= (int32_t)i))
            abort();
        if (!(lyap_layer_flops(network, &declaration->set, i) >= 0) ||
            !(lyap_layer_frobenius_factor(network, &declaration->set, i) >= 0) ||
            lyap_layer_fixed_gain(layer) < 0)
            abort();
        (void)lyap_layer_is_job(network, &declaration->set, i);
    }
}

/* Canonical text of what `json` over `base` declares, or NULL. */
static char *declare(const char *json, size_t length, const char *base)
{
    struct lyap_declaration declaration;
    struct lyap_error err = LYAP_ERROR_NULL;
    char *text = NULL;
    const enum lyap_status status =
        lyap_wire_declaration(json, length, base, &declaration, &text, &err);
    if (status) {
        if (text || err.status != status || !err.text[0])
            abort();
        return NULL;
    }
    for (uint32_t i = 0; i < declaration.set.count; i++)
        if (declaration.set.tensors[i].group > declaration.optimizer.group_count)
            abort();
    look_at_layers(&declaration);
    lyap_declaration_release(&declaration);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1);
    if (!copy)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    copy[size] = '\0';
    char *cut = memchr(copy, '\0', size);
    char *base = cut ? declare(copy, strlen(copy), NULL) : NULL;
    const char *json = cut ? cut + 1 : copy;
    char *first = declare(json, (size_t)(copy + size - json), base);
    if (first) {
        char *second = declare(first, strlen(first), NULL);
        if (!second || strcmp(first, second) != 0)
            abort();
        lyap_free(second);
    }
    lyap_free(first);
    lyap_free(base);
    free(copy);
    return 0;
}
