/* Tensor sets and run declarations: build, look up, compare, copy. */
#include "lyap/declaration.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/glob.h"
#include "lyap/text.h"
#include "banned.h"

static const uint32_t default_windows[] = { 64, 256, 1024 };

static void tensors_free(struct lyap_tensor *tensors, uint32_t count)
{
    for (uint32_t i = 0; tensors && i < count; i++)
        lyap_free(tensors[i].name);
    lyap_free(tensors);
}

/* Checks one tensor and sets its count. */
static enum lyap_status tensor_check(struct lyap_tensor *tensor, struct lyap_error *reterr)
{
    struct lyap_quote quote;
    const size_t bytes = tensor->name ? strlen(tensor->name) : 0;
    if (bytes == 0 || bytes > LYAP_TENSOR_NAME_BYTES_MAX)
        return lyap_error_set(reterr, LYAP_E_INVALID,
                              "the tensor name %s has %zu bytes, but must have 1 to %d",
                              lyap_quote(bytes > 0 ? tensor->name : "", bytes, &quote), bytes,
                              LYAP_TENSOR_NAME_BYTES_MAX);
    if (tensor->rank > LYAP_TENSOR_RANK_MAX)
        return lyap_error_set(
            reterr, LYAP_E_INVALID, "tensor %s has %u dimensions; at most %d are allowed",
            lyap_quote(tensor->name, bytes, &quote), tensor->rank, LYAP_TENSOR_RANK_MAX);
    uint64_t count = 1;
    bool is_empty = false;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        const uint64_t size = tensor->shape[i];
        is_empty = is_empty || size == 0;
        if (size > 0 && count > LYAP_TENSOR_ELEMENTS_MAX / size)
            return lyap_error_set(reterr, LYAP_E_INVALID,
                                  "tensor %s has more than 2^48 elements, the limit",
                                  lyap_quote(tensor->name, bytes, &quote));
        count *= size > 0 ? size : 1;
    }
    tensor->count = is_empty ? 0 : count;
    return LYAP_OK;
}

static int compare_names(const void *a, const void *b)
{
    const struct lyap_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static enum lyap_status order_build(const struct lyap_tensor *tensors, uint32_t count,
                                    uint32_t **ret_order, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_E_NOMEM;
    struct lyap_quote quote;
    uint32_t *order = lyap_alloc_array(count, sizeof *order);
    const struct lyap_tensor **sorted = lyap_alloc_array(count, sizeof *sorted);
    if (!order || !sorted)
        goto out;
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, count, sizeof *sorted, compare_names);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0 && strcmp(sorted[i - 1]->name, sorted[i]->name) == 0) {
            status = lyap_error_set(reterr, LYAP_E_INVALID, "tensor %s occurs twice",
                                    lyap_quote_string(sorted[i]->name, &quote));
            goto out;
        }
        order[i] = (uint32_t)(sorted[i] - tensors);
    }
    *ret_order = order;
    order = NULL;
    status = LYAP_OK;
out:
    lyap_free(sorted);
    lyap_free(order);
    return status;
}

enum lyap_status lyap_tensor_set_build(struct lyap_tensor *take_tensors, uint32_t count,
                                       struct lyap_tensor_set *ret_set, struct lyap_error *reterr)
{
    enum lyap_status status = LYAP_OK;
    uint32_t *order = NULL;
    if (count == 0)
        status = lyap_error_set(reterr, LYAP_E_INVALID, "a tensor set has at least one tensor");
    if (count > LYAP_TENSOR_COUNT_MAX)
        status = lyap_error_set(reterr, LYAP_E_LIMIT, "%u tensors exceed the limit of %d", count,
                                LYAP_TENSOR_COUNT_MAX);
    for (uint32_t i = 0; status == LYAP_OK && i < count; i++)
        status = tensor_check(&take_tensors[i], reterr);
    if (status == LYAP_OK)
        status = order_build(take_tensors, count, &order, reterr);
    if (status) {
        tensors_free(take_tensors, count);
        return status;
    }
    *ret_set = (struct lyap_tensor_set){ take_tensors, count, order };
    return LYAP_OK;
}

void lyap_tensor_set_release(struct lyap_tensor_set *set)
{
    if (!set)
        return;
    tensors_free(set->tensors, set->count);
    lyap_free(set->order);
    *set = (struct lyap_tensor_set)LYAP_TENSOR_SET_NULL;
}

/* strcmp of a terminated name with `length` bytes. */
static int name_compare(const char *name, const char *bytes, uint64_t length)
{
    const int order = strncmp(name, bytes, (size_t)length);
    return order ? order : name[length] != '\0';
}

int64_t lyap_tensor_set_find(const struct lyap_tensor_set *set, const char *name, uint64_t length)
{
    uint32_t low = 0, high = set->count;
    if (length > LYAP_TENSOR_NAME_BYTES_MAX)
        return -1;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = name_compare(set->tensors[set->order[middle]].name, name, length);
        if (order == 0)
            return set->order[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static bool shapes_equal(const struct lyap_tensor *a, const struct lyap_tensor *b)
{
    return a->rank == b->rank && memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0;
}

/* Every tensor of `left` is in `right` with the same shape; `absent` says what it means if not. */
static enum lyap_status set_within(const struct lyap_tensor_set *left,
                                   const struct lyap_tensor_set *right, const char *absent,
                                   struct lyap_error *reterr)
{
    for (uint32_t i = 0; i < left->count; i++) {
        const struct lyap_tensor *tensor = &left->tensors[i];
        struct lyap_quote quote;
        struct lyap_quote here, there;
        const int64_t found = lyap_tensor_set_find(right, tensor->name, strlen(tensor->name));
        if (found < 0)
            return lyap_error_set(reterr, LYAP_E_TENSOR_SET, "param tensor %s %s",
                                  lyap_quote_string(tensor->name, &quote), absent);
        if (!shapes_equal(tensor, &right->tensors[found]))
            return lyap_error_set(
                reterr, LYAP_E_TENSOR_SET, "param tensor %s has shape %s, but the run has it as %s",
                lyap_quote_string(tensor->name, &quote),
                lyap_quote_shape(tensor->shape, tensor->rank, &here),
                lyap_quote_shape(right->tensors[found].shape, right->tensors[found].rank, &there));
    }
    return LYAP_OK;
}

enum lyap_status lyap_tensor_set_same(const struct lyap_tensor_set *declared,
                                      const struct lyap_tensor_set *pushed,
                                      struct lyap_error *reterr)
{
    const enum lyap_status status =
        set_within(pushed, declared, "is not among the tensors of the run", reterr);
    if (status || pushed->count == declared->count)
        return status;
    return set_within(declared, pushed, "of the run is missing from the push", reterr);
}

void lyap_declaration_init(struct lyap_declaration *declaration)
{
    *declaration = (struct lyap_declaration){
        .retention = LYAP_RETENTION_AUTO,
        .data = LYAP_DATA_MINIBATCH,
        .window_count = sizeof default_windows / sizeof *default_windows,
    };
    memcpy(declaration->windows, default_windows, sizeof default_windows);
    lyap_optimizer_init(&declaration->optimizer);
}

static enum lyap_status set_copy(const struct lyap_tensor_set *source,
                                 struct lyap_tensor_set *ret_copy)
{
    struct lyap_tensor_set copy = LYAP_TENSOR_SET_NULL;
    if (source->count == 0) {
        *ret_copy = copy;
        return LYAP_OK;
    }
    copy.tensors = lyap_alloc_array(source->count, sizeof *copy.tensors);
    copy.order = lyap_alloc_array(source->count, sizeof *copy.order);
    bool is_whole = copy.tensors && copy.order;
    for (; is_whole && copy.count < source->count; copy.count++) {
        struct lyap_tensor *tensor = &copy.tensors[copy.count];
        *tensor = source->tensors[copy.count];
        tensor->name = lyap_alloc_string(tensor->name);
        is_whole = tensor->name != NULL;
    }
    if (!is_whole) {
        lyap_tensor_set_release(&copy);
        return LYAP_E_NOMEM;
    }
    memcpy(copy.order, source->order, source->count * sizeof *copy.order);
    *ret_copy = copy;
    return LYAP_OK;
}

enum lyap_status lyap_declaration_copy(const struct lyap_declaration *source,
                                       struct lyap_declaration *ret_copy)
{
    struct lyap_declaration copy = *source;
    copy.set = (struct lyap_tensor_set)LYAP_TENSOR_SET_NULL;
    copy.network = (struct lyap_network)LYAP_NETWORK_NULL;
    lyap_optimizer_init(&copy.optimizer);

    enum lyap_status status = lyap_optimizer_copy(&source->optimizer, &copy.optimizer);
    if (status == LYAP_OK)
        status = set_copy(&source->set, &copy.set);
    if (status == LYAP_OK)
        status = lyap_network_copy(&source->network, &copy.network);
    if (status) {
        lyap_declaration_release(&copy);
        return status;
    }
    *ret_copy = copy;
    return LYAP_OK;
}

void lyap_declaration_release(struct lyap_declaration *declaration)
{
    if (!declaration)
        return;
    lyap_tensor_set_release(&declaration->set);
    lyap_optimizer_release(&declaration->optimizer);
    lyap_network_release(&declaration->network);
}

static void group_join(struct lyap_tensor *tensor, uint32_t group)
{
    if (tensor->group == 0)
        tensor->group = group;
}

/* A pattern without wildcards is looked up, so that a run which lists every tensor by name costs
 * n log n; one with wildcards is compiled once and run over all tensors. */
static void pattern_resolve(struct lyap_tensor_set *set, const char *pattern, uint32_t group)
{
    struct lyap_glob glob;
    if (!lyap_glob_is_wild(pattern)) {
        const int64_t found = lyap_tensor_set_find(set, pattern, strlen(pattern));
        if (found >= 0)
            group_join(&set->tensors[found], group);
        return;
    }
    if (!lyap_glob_compile(pattern, &glob))
        return;
    for (uint32_t i = 0; i < set->count; i++)
        if (set->tensors[i].group == 0 && lyap_glob_run(&glob, set->tensors[i].name))
            group_join(&set->tensors[i], group);
}

void lyap_declaration_resolve_groups(struct lyap_declaration *declaration)
{
    const struct lyap_optimizer *optimizer = &declaration->optimizer;
    for (uint32_t i = 0; i < declaration->set.count; i++)
        declaration->set.tensors[i].group = 0;
    for (uint32_t g = 0; g < optimizer->group_count; g++)
        for (uint32_t p = 0; p < optimizer->groups[g].pattern_count; p++)
            pattern_resolve(&declaration->set, optimizer->groups[g].patterns[p], g + 1);
}
