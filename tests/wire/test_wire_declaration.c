/* Run declarations out of JSON: every field, merging, canonical text, what is refused. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/alloc.h"
#include "wire_support.h"

static struct lyap_declaration declaration;
static char *canonical;
static struct lyap_error err;

static enum lyap_status declare_over(const char *base, const char *json)
{
    struct lyap_declaration fresh;
    char *text = NULL;
    err = (struct lyap_error)LYAP_ERROR_NULL;
    const enum lyap_status status =
        lyap_wire_declaration(json, strlen(json), base, &fresh, &text, &err);
    if (status) {
        ck_assert_ptr_null(text);
        return status;
    }
    lyap_declaration_release(&declaration);
    lyap_free(canonical);
    declaration = fresh;
    canonical = text;
    return status;
}

static void declare(const char *json)
{
    const enum lyap_status status = declare_over(NULL, json);
    ck_assert_msg(status == LYAP_OK, "%s: %s", lyap_status_slug(status), err.text);
}

static void setup(void)
{
    lyap_declaration_init(&declaration);
    canonical = NULL;
}

static void teardown(void)
{
    lyap_declaration_release(&declaration);
    lyap_free(canonical);
    canonical = NULL;
    ck_assert_int_eq(test_alloc_live(), 0);
}

static const char full[] =
    "{\"optimizer\":{\"type\":\"adamw\",\"lr\":3e-4,\"beta1\":0.9,\"beta2\":0.95,\"eps\":1e-8,"
    "\"weight_decay\":0.1,\"amsgrad\":false,"
    "\"groups\":[{\"tensors\":[\"*.bias\",\"norm.weight\"],\"weight_decay\":0,\"lr\":1e-3}]},"
    "\"tensors\":[{\"name\":\"fc1.weight\",\"shape\":[512,784]},{\"name\":\"fc1.bias\",\"shape\":["
    "512]},"
    "{\"name\":\"scale\",\"shape\":[]},{\"shape\":[3],\"name\":\"norm.weight\"},"
    "{\"name\":\"c.weight\",\"shape\":[4,2,3,3]}],"
    "\"layers\":[{\"name\":\"fc1\",\"tensor\":\"fc1.weight\",\"kind\":\"linear\",\"activation\":"
    "\"relu\"},"
    "{\"name\":\"c\",\"kind\":\"conv2d\",\"tensor\":\"c.weight\",\"stride\":[2,1],\"padding\":1,"
    "\"padding_mode\":\"zeros\",\"dilation\":1,\"groups\":1,\"input\":[32,32]},"
    "{\"name\":\"act\",\"kind\":\"activation\",\"activation\":{\"lipschitz\":1.13}},"
    "{\"name\":\"blk\",\"kind\":\"residual\",\"step\":1.0,\"inner\":[\"fc1\",\"c\"]}],"
    "\"data\":\"full-batch\",\"windows\":[16,64],\"retention\":\"sketch\","
    "\"labels\":{\"team\":\"vision\"},\"attempt\":\"new\",\"attempt_key\":\"k\",\"ended\":false}";

START_TEST(every_field_is_read)
{
    declare(full);
    const struct lyap_optimizer *optimizer = &declaration.optimizer;
    ck_assert(declaration.has_optimizer);
    ck_assert_uint_eq(optimizer->type, LYAP_OPTIMIZER_ADAMW);
    ck_assert(optimizer->base.lr == 3e-4 && optimizer->base.beta2 == 0.95);
    ck_assert(optimizer->base.weight_decay == 0.1);
    ck_assert_uint_eq(optimizer->group_count, 1);
    ck_assert(optimizer->groups[0].params.weight_decay == 0);
    ck_assert(optimizer->groups[0].params.lr == 1e-3);
    ck_assert(optimizer->groups[0].params.beta2 == 0.95); /* of the base */
    ck_assert_uint_eq(declaration.set.count, 5);
    ck_assert_str_eq(declaration.set.tensors[3].name, "norm.weight");
    ck_assert_uint_eq(declaration.set.tensors[0].count, 512 * 784);
    ck_assert_uint_eq(declaration.set.tensors[2].rank, 0);
    static const uint32_t groups[] = { 0, 1, 0, 1 };
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(declaration.set.tensors[i].group, groups[i]);
    ck_assert_uint_eq(declaration.data, LYAP_DATA_FULL_BATCH);
    ck_assert_uint_eq(declaration.retention, LYAP_RETENTION_SKETCH);
    ck_assert_uint_eq(declaration.window_count, 2);
    ck_assert_uint_eq(declaration.windows[1], 64);
    const struct lyap_network *network = &declaration.network;
    ck_assert_uint_eq(network->count, 4);
    const struct lyap_layer *conv = &network->layers[1], *block = &network->layers[3];
    ck_assert_int_eq(network->layers[0].index[LYAP_LAYER_PART_WEIGHT], 0);
    ck_assert_uint_eq(network->layers[0].activation.kind, LYAP_ACTIVATION_RELU);
    ck_assert_uint_eq(conv->kind, LYAP_LAYER_CONV2D);
    ck_assert_uint_eq(lyap_extents_at(&conv->stride, 1, 9), 1);
    ck_assert_uint_eq(lyap_extents_at(&conv->padding, 1, 9), 1);
    ck_assert_uint_eq(lyap_extents_at(&conv->input, 0, 9), 32);
    ck_assert(network->layers[2].activation.lipschitz == 1.13);
    ck_assert(!network->layers[2].activation.is_gate);
    ck_assert(block->step == 1 && block->inner.count == 2);
    ck_assert_int_eq(network->members[block->inner.start + 1].layer, 1);
    ck_assert_int_eq(conv->from, 0);  /* in its block */
    ck_assert_int_eq(block->from, 2); /* the layer before it that is in no block */
    ck_assert_int_eq(network->layers[0].from, 2);
    ck_assert_int_eq(network->output, 3);
}
END_TEST

START_TEST(text_is_canonical)
{
    declare(full);
    char *first = strdup(canonical);
    ck_assert_ptr_null(strstr(first, "labels"));
    ck_assert_ptr_null(strstr(first, "attempt"));
    ck_assert_ptr_eq(strstr(first, "{\"data\":\"full-batch\",\"layers\":[{\"activation\":\"relu\","
                                   "\"kind\":\"linear\",\"name\":\"fc1\""),
                     first);
    ck_assert_ptr_nonnull(strstr(first, "\"beta1\":0.9,\"beta2\":0.95,\"eps\":1e-08"));
    ck_assert_ptr_nonnull(strstr(first, "\"retention\":\"sketch\",\"tensors\":[{\"name\":"
                                        "\"fc1.weight\",\"shape\":[512,784]}"));
    declare(first); /* a fixed point */
    ck_assert_str_eq(canonical, first);
    free(first);
    declare("{\"tensors\":[{\"name\":\"a\\\"b\\\\c\\u0007\\u00e9\",\"shape\":[]}]}");
    ck_assert_str_eq(canonical,
                     "{\"tensors\":[{\"name\":\"a\\\"b\\\\c\\u0007\xC3\xA9\",\"shape\":[]}]}");
}
END_TEST

START_TEST(nothing_declared)
{
    declare("{}");
    ck_assert(!declaration.has_optimizer);
    ck_assert_uint_eq(declaration.set.count, 0);
    ck_assert_uint_eq(declaration.window_count, 3);
    ck_assert_str_eq(canonical, "{}");
    declare("{\"labels\":{\"a\":\"b\"}}");
    ck_assert_str_eq(canonical, "{}");
}
END_TEST

START_TEST(fields_replace_stored_ones_whole)
{
    static const char base[] =
        "{\"optimizer\":{\"lr\":0.1,\"momentum\":0.9,\"type\":\"sgd\"},"
        "\"retention\":\"exact\",\"tensors\":[{\"name\":\"a\",\"shape\":[2]}]}";
    ck_assert_int_eq(declare_over(base, "{}"), LYAP_OK);
    ck_assert_str_eq(canonical, base);
    ck_assert(declaration.optimizer.base.momentum == 0.9);

    ck_assert_int_eq(declare_over(base, "{\"optimizer\":{\"type\":\"sgd\",\"lr\":0.5}}"), LYAP_OK);
    ck_assert(declaration.optimizer.base.momentum == 0);
    ck_assert(declaration.optimizer.base.lr == 0.5);
    ck_assert_uint_eq(declaration.set.count, 1);
    ck_assert_uint_eq(declaration.retention, LYAP_RETENTION_EXACT);

    ck_assert_int_eq(declare_over(base, "{\"optimizer\":null,\"retention\":null}"), LYAP_OK);
    ck_assert(!declaration.has_optimizer);
    ck_assert_str_eq(canonical, "{\"tensors\":[{\"name\":\"a\",\"shape\":[2]}]}");

    /* Groups declared before the tensors are known apply to the merged whole. */
    ck_assert_int_eq(
        declare_over(
            "{\"optimizer\":{\"type\":\"sgd\",\"groups\":[{\"tensors\":[\"b\"]}]}}",
            "{\"tensors\":[{\"name\":\"a\",\"shape\":[2]},{\"name\":\"b\",\"shape\":[2]}]}"),
        LYAP_OK);
    ck_assert_uint_eq(declaration.set.tensors[1].group, 1);
}
END_TEST

START_TEST(proxes_and_sets)
{
    declare("{\"optimizer\":{\"type\":\"proxgd\",\"prox\":{\"kind\":\"l1\",\"lambda\":0.05}}}");
    ck_assert_uint_eq(declaration.optimizer.prox, LYAP_PROX_L1);
    ck_assert(declaration.optimizer.prox_lambda == 0.05);
    declare("{\"optimizer\":{\"type\":\"proxgd\",\"prox\":{\"kind\":\"elastic_net\",\"l1\":1,"
            "\"l2\":2}}}");
    ck_assert_uint_eq(declaration.optimizer.prox, LYAP_PROX_ELASTIC_NET);
    ck_assert(declaration.optimizer.prox_l1 == 1 && declaration.optimizer.prox_l2 == 2);
    declare(
        "{\"optimizer\":{\"type\":\"projgd\",\"set\":{\"kind\":\"box\",\"low\":-1,\"high\":2}}}");
    ck_assert_uint_eq(declaration.optimizer.set, LYAP_SET_BOX);
    ck_assert(declaration.optimizer.set_low == -1 && declaration.optimizer.set_high == 2);
    declare("{\"optimizer\":{\"type\":\"projgd\",\"set\":{\"kind\":\"simplex\",\"radius\":3}}}");
    ck_assert_uint_eq(declaration.optimizer.set, LYAP_SET_SIMPLEX);
    ck_assert(declaration.optimizer.set_radius == 3);
    declare("{\"optimizer\":{\"type\":\"sgd\",\"momentum\":0.9,\"nesterov\":true,\"groups\":[]}}");
    ck_assert(declaration.optimizer.base.is_nesterov);
    ck_assert(isnan(declaration.optimizer.base.lr));
}
END_TEST

#define OPT(members)   "{\"optimizer\":{\"type\":\"sgd\"" members "}}"
#define LAYER(members) "{\"layers\":[{\"name\":\"l\"" members "}]}"
static const struct {
    const char *json;
    enum lyap_status status;
    const char *fragment;
} broken[] = {
    { "", LYAP_E_FORMAT, "declaration: expected an object, found the end" },
    { "[]", LYAP_E_FORMAT, "declaration: expected an object, found a list" },
    { "{\"data\":\"minibatch\"", LYAP_E_FORMAT, "expected ',' or '}'" },
    { "{\"data\":\"minibatch\"}x", LYAP_E_FORMAT, "bytes follow the end" },
    { "{\"data\":\"minibatch\",\"data\":\"minibatch\"}", LYAP_E_FORMAT,
      "key \"data\" occurs twice" },
    { "{\"data\":nul}", LYAP_E_FORMAT, "expected a value" },
    { "{\"data\":'x'}", LYAP_E_FORMAT, "expected a number, found no JSON" },
    { "{\"windows\":[1e999]}", LYAP_E_FORMAT, "\"1e999\" is beyond F64" },
    { "{\"windows\":[9223372036854775808]}", LYAP_E_INVALID,
      "windows[0] is a number, but must be" },
    { "{\"colour\":1}", LYAP_E_UNKNOWN_FIELD,
      "declaration has an unknown field \"colour\"; known: optimizer, tensors, layers" },
    { "{\"data\":\"all\"}", LYAP_E_INVALID,
      "data is \"all\", but must be one of minibatch, full-batch" },
    { "{\"data\":1}", LYAP_E_INVALID, "data is a number, but must be one of" },
    { "{\"retention\":\"none\"}", LYAP_E_INVALID, "one of auto, exact, sketch" },
    { "{\"windows\":[]}", LYAP_E_INVALID, "windows is empty" },
    { "{\"windows\":64}", LYAP_E_INVALID, "windows is a number, but must be a list" },
    { "{\"windows\":[1]}", LYAP_E_INVALID, "windows[0] is 1, but must be from 2 to 65536" },
    { "{\"windows\":[64,64]}", LYAP_E_INVALID, "windows[1] is 64, but must be from 65 to 65536" },
    { "{\"windows\":[64.5]}", LYAP_E_INVALID, "windows[0] is a number, but must be an integer" },
    { "{\"windows\":[2,3,4,5,6,7,8,9,10]}", LYAP_E_LIMIT, "windows has 9 entries, the limit is 8" },
    { "{\"tensors\":[]}", LYAP_E_INVALID, "tensors is empty" },
    { "{\"tensors\":{}}", LYAP_E_INVALID, "tensors is an object, but must be a list" },
    { "{\"tensors\":[1]}", LYAP_E_INVALID, "tensors[0] is a number, but must be an object" },
    { "{\"tensors\":[{\"name\":\"a\"}]}", LYAP_E_MISSING_FIELD, "tensors[0].shape is missing" },
    { "{\"tensors\":[{\"shape\":[]}]}", LYAP_E_MISSING_FIELD, "tensors[0].name is missing" },
    { "{\"tensors\":[{\"name\":\"\",\"shape\":[]}]}", LYAP_E_INVALID,
      "tensors[0].name has 0 bytes" },
    { "{\"tensors\":[{\"name\":\"a\",\"shape\":[],\"dtype\":\"F32\"}]}", LYAP_E_UNKNOWN_FIELD,
      "tensors[0] has an unknown field \"dtype\"; known: name, shape" },
    { "{\"tensors\":[{\"name\":\"a\",\"shape\":[-1]}]}", LYAP_E_INVALID,
      "tensors[0].shape[0] is -1, but must be from 0 to" },
    { "{\"tensors\":[{\"name\":\"a\",\"shape\":[2,\"x\"]}]}", LYAP_E_INVALID,
      "tensors[0].shape[1]" },
    { "{\"tensors\":[{\"name\":\"a\",\"shape\":[1,1,1,1,1,1,1,1,1]}]}", LYAP_E_LIMIT,
      "tensors[0].shape has 9 entries, the limit is 8" },
    { "{\"tensors\":[{\"name\":\"a\",\"shape\":[4294967296,4294967296]}]}", LYAP_E_INVALID,
      "2^48" },
    { "{\"tensors\":[{\"name\":\"a\",\"shape\":[]},{\"name\":\"a\",\"shape\":[1]}]}",
      LYAP_E_INVALID, "tensor \"a\" occurs twice" },
    { "{\"optimizer\":\"sgd\"}", LYAP_E_INVALID, "optimizer is a string, but must be an object" },
    { "{\"optimizer\":{\"lr\":1}}", LYAP_E_MISSING_FIELD, "optimizer.type is missing" },
    { "{\"optimizer\":{\"type\":\"adagrad\"}}", LYAP_E_INVALID,
      "optimizer.type is \"adagrad\", but must be one of other, sgd, adam" },
    { OPT(",\"learning_rate\":1"), LYAP_E_UNKNOWN_FIELD,
      "optimizer has an unknown field \"learning_rate\"; known: type, lr, momentum" },
    { OPT(",\"lr\":\"0.1\""), LYAP_E_INVALID, "optimizer.lr is a string, but must be a number" },
    { OPT(",\"lr\":-1"), LYAP_E_INVALID, "optimizer.lr is -1" },
    { OPT(",\"momentum\":1"), LYAP_E_INVALID, "optimizer.momentum is 1, but must be in [0, 1)" },
    { OPT(",\"nesterov\":1"), LYAP_E_INVALID, "optimizer.nesterov is a number, but must be true" },
    { OPT(",\"nesterov\":true"), LYAP_E_INVALID, "nesterov needs momentum > 0" },
    { OPT(",\"groups\":{}"), LYAP_E_INVALID, "optimizer.groups is an object, but must be a list" },
    { OPT(",\"groups\":[{}]"), LYAP_E_MISSING_FIELD, "optimizer.groups[0].tensors is missing" },
    { OPT(",\"groups\":[{\"tensors\":[]}]"), LYAP_E_INVALID,
      "optimizer.groups[0].tensors is empty" },
    { OPT(",\"groups\":[{\"tensors\":[1]}]"), LYAP_E_INVALID, "groups[0].tensors[0] is a number" },
    { OPT(",\"groups\":[{\"tensors\":[\"*\"],\"type\":\"adam\"}]"), LYAP_E_UNKNOWN_FIELD,
      "optimizer.groups[0] has an unknown field \"type\"" },
    { OPT(",\"groups\":[{\"tensors\":[\"*\"],\"lr\":-1}]"), LYAP_E_INVALID,
      "optimizer.groups[0].lr is -1" },
    { OPT(",\"prox\":{\"kind\":\"l1\",\"lambda\":1}"), LYAP_E_INVALID, "type proxgd alone" },
    { OPT(",\"prox\":{\"kind\":\"l0\"}"), LYAP_E_INVALID,
      "optimizer.prox.kind is \"l0\", but must be one of l1, l2, group_l1, elastic_net" },
    { OPT(",\"prox\":{\"lambda\":1}"), LYAP_E_MISSING_FIELD, "optimizer.prox.kind is missing" },
    { OPT(",\"prox\":{\"kind\":\"l1\"}"), LYAP_E_MISSING_FIELD,
      "optimizer.prox.lambda is missing" },
    { OPT(",\"prox\":{\"kind\":\"l1\",\"lambda\":1,\"l2\":1}"), LYAP_E_UNKNOWN_FIELD,
      "optimizer.prox has an unknown field \"l2\"; known: kind, lambda" },
    { "{\"optimizer\":{\"type\":\"projgd\",\"set\":{\"kind\":\"ball\",\"radius\":0}}}",
      LYAP_E_INVALID, "optimizer.set.radius is 0" },
    { "{\"optimizer\":{\"type\":\"projgd\"}}", LYAP_E_INVALID, "optimizer.set is needed" },
    { "{\"layers\":{}}", LYAP_E_INVALID, "layers is an object, but must be a list" },
    { "{\"layers\":[{\"kind\":\"linear\"}]}", LYAP_E_MISSING_FIELD, "layers[0].name is missing" },
    { LAYER(""), LYAP_E_MISSING_FIELD, "layers[0].kind is missing" },
    { LAYER(",\"kind\":\"lstm\""), LYAP_E_INVALID,
      "layers[0].kind is \"lstm\", but must be one of linear, conv1d, conv2d" },
    { LAYER(",\"kind\":\"linear\""), LYAP_E_MISSING_FIELD, "layers[0].tensor is missing" },
    { LAYER(",\"kind\":\"linear\",\"tensor\":\"w\",\"stride\":1"), LYAP_E_UNKNOWN_FIELD,
      "layers[0] has an unknown field \"stride\"; known: name, kind, tensor, bias, activation" },
    { LAYER(",\"kind\":\"linear\",\"tensor\":\"w\",\"activation\":\"swish\""), LYAP_E_INVALID,
      "layers[0].activation is \"swish\", but must be one of identity, relu" },
    { LAYER(",\"kind\":\"activation\",\"activation\":{}"), LYAP_E_MISSING_FIELD,
      "layers[0].activation.lipschitz is missing" },
    { LAYER(",\"kind\":\"activation\",\"activation\":{\"lipschitz\":0}"), LYAP_E_INVALID,
      "layers[0].activation.lipschitz is 0, but must be > 0" },
    { LAYER(",\"kind\":\"activation\""), LYAP_E_MISSING_FIELD, "layers[0].activation is missing" },
    { LAYER(",\"kind\":\"conv2d\",\"tensor\":\"w\",\"stride\":0"), LYAP_E_INVALID,
      "layers[0].stride is 0, but must be from 1" },
    { LAYER(",\"kind\":\"conv2d\",\"tensor\":\"w\",\"input\":[1,2,3,4]"), LYAP_E_LIMIT,
      "layers[0].input has 4 entries, the limit is 3" },
    { LAYER(",\"kind\":\"conv2d\",\"tensor\":\"w\",\"padding\":\"full\""), LYAP_E_INVALID,
      "one of same, valid" },
    { LAYER(",\"kind\":\"conv2d\",\"tensor\":\"w\",\"padding_mode\":\"wrap\""), LYAP_E_INVALID,
      "one of zeros, reflect, replicate, circular" },
    { LAYER(",\"kind\":\"residual\""), LYAP_E_MISSING_FIELD, "layers[0].inner is missing" },
    { LAYER(",\"kind\":\"residual\",\"inner\":[\"x\"]"), LYAP_E_INVALID,
      "layers[0].inner names \"x\", which is no declared layer" },
#define BLOCK(members) LAYER(",\"kind\":\"residual\"" members)
    { BLOCK(",\"inner\":[\"l\"]"), LYAP_E_INVALID, "layers[0].inner: within itself" },
    { BLOCK(",\"structure\":\"gated\""), LYAP_E_MISSING_FIELD, "layers[0].tensor is missing" },
    { BLOCK(",\"structure\":\"skew\""), LYAP_E_INVALID, "one of free, constant, symmetric, gated" },
    { BLOCK(",\"inner\":[\"l\"],\"tensor\":\"a\""), LYAP_E_CONTRADICTION,
      "layers[0].tensor belongs to a structure other than free" },
    { BLOCK(",\"structure\":\"gated\",\"tensor\":\"a\",\"activation\":\"gelu\""), LYAP_E_INVALID,
      "layers[0].activation must have a derivative from 0 to 1 for the structure gated" },
    { BLOCK(",\"structure\":\"constant\",\"tensor\":\"a\",\"activation\":\"relu\""),
      LYAP_E_CONTRADICTION, "layers[0].activation: the structure constant has none" },
#define OTHERS(first, second)                                                                      \
    "{\"layers\":[{\"name\":\"a\",\"kind\":\"other\"" first "},{\"name\":\"b\"," second "}]}"
    { OTHERS("", "\"kind\":\"residual\",\"inner\":[\"a\",\"a\"]"), LYAP_E_INVALID,
      "layers[1].inner names \"a\", which is in a block already" },
    { OTHERS(",\"from\":\"input\"", "\"kind\":\"residual\",\"inner\":[\"a\"]"), LYAP_E_INVALID,
      "layers[0].from: an inner layer follows the one before it in its block" },
    { OTHERS(",\"from\":\"b\"", "\"kind\":\"other\""), LYAP_E_INVALID,
      "layers[0].from is \"b\", but must be \"input\" or a layer declared before" },
    { OTHERS("", "\"kind\":\"residual\",\"shortcut\":[\"x\"],\"inner\":[\"a\"]"), LYAP_E_INVALID,
      "layers[1].shortcut names \"x\", which is no declared layer" },
    { "{\"layers\":[{\"name\":\"input\",\"kind\":\"other\"}]}", LYAP_E_INVALID,
      "layers[0].name is \"input\", which means the network's input" },
#define TENSOR(shape, members)                                                                     \
    "{\"tensors\":[{\"name\":\"w\",\"shape\":" shape "}],\"layers\":[{\"name\":\"l\"," members "}" \
    "]"                                                                                            \
    "}"
    { TENSOR("[2]", "\"kind\":\"linear\",\"tensor\":\"v\""), LYAP_E_INVALID,
      "layers[0].tensor is \"v\", which is no tensor of the run" },
    { TENSOR("[2]", "\"kind\":\"linear\",\"tensor\":\"w\""), LYAP_E_INVALID,
      "layers[0].tensor is \"w\" with shape [2], which does not fit linear: a matrix is needed" },
    { TENSOR("[4,2,3]", "\"kind\":\"conv1d\",\"tensor\":\"w\",\"groups\":3"), LYAP_E_INVALID,
      "does not fit conv1d: the groups do not divide the channels" },
    { TENSOR("[4,2,3]", "\"kind\":\"conv2d\",\"tensor\":\"w\""), LYAP_E_INVALID,
      "does not fit conv2d: channels" },
    { TENSOR("[12,4]", "\"kind\":\"attention\",\"heads\":3,\"tensor\":\"w\""), LYAP_E_INVALID,
      "its rows are no multiple of 3 times the heads" },
    { TENSOR("[4,3]", "\"kind\":\"residual\",\"structure\":\"constant\",\"tensor\":\"w\""),
      LYAP_E_INVALID, "does not fit residual: a square matrix is needed" },
    { TENSOR("[0,3]", "\"kind\":\"linear\",\"tensor\":\"w\""), LYAP_E_INVALID,
      "does not fit linear: it has no elements" },
    { LAYER(",\"kind\":\"residual\",\"inner\":[\"l\"],\"step\":-1"), LYAP_E_INVALID,
      "layers[0].step is -1, but must be > 0" },
    { "{\"layers\":[{\"name\":\"a\",\"kind\":\"other\"},{\"name\":\"a\",\"kind\":\"other\"}]}",
      LYAP_E_INVALID, "layers: the name \"a\" occurs twice" },
};

START_TEST(bad_declarations_are_explained)
{
    const enum lyap_status status = declare_over(NULL, broken[_i].json);
    ck_assert_msg(status == broken[_i].status, "%s: %s", lyap_status_slug(status), err.text);
    ck_assert_msg(strstr(err.text, broken[_i].fragment) != NULL, "\"%s\" lacks \"%s\"", err.text,
                  broken[_i].fragment);
}
END_TEST

static void assert_limited(const char *unit, size_t count, const char *fragment)
{
    char *text;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    fputs("{\"layers\":[", stream);
    for (size_t i = 0; i < count; i++)
        fputs(unit, stream);
    fclose(stream);
    ck_assert_int_ne(declare_over(NULL, text), LYAP_OK);
    ck_assert_msg(strstr(err.text, fragment) != NULL, "%s", err.text);
    free(text);
}

START_TEST(trees_are_bounded)
{
    assert_limited("[", LYAP_JSON_DEPTH_MAX, "nested deeper than 32");
    assert_limited("[[],[],[],[]],", LYAP_JSON_VALUES_MAX / 5 + 1, "more than 2097152 values");
    assert_limited("        ", LYAP_JSON_BYTES_MAX / 8, "bytes, the limit is 16777216");
    /* Brackets in strings do not count. */
    declare("{\"tensors\":[{\"name\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\",\"shape\":[]"
            "}]}");
}
END_TEST

static void *hooked_malloc(size_t bytes)
{
    return lyap_alloc_array(bytes, 1);
}

/* jansson's own allocations fail too. */
START_TEST(survives_every_failing_allocation)
{
    static const char base[] = "{\"retention\":\"exact\",\"windows\":[4]}";
    json_set_alloc_funcs(hooked_malloc, lyap_free);
    enum lyap_status status = LYAP_E_NOMEM;
    uint64_t n = 0;
    while (status == LYAP_E_NOMEM) {
        test_alloc_fail_at(++n);
        status = declare_over(base, full);
        test_alloc_fail_at(0);
        ck_assert_msg(status == LYAP_OK || test_alloc_live() == 0, "leak at %lu", (unsigned long)n);
        ck_assert_msg(status == LYAP_OK || status == LYAP_E_NOMEM, "at %lu: %s", (unsigned long)n,
                      err.text);
    }
    json_set_alloc_funcs(malloc, free);
    ck_assert_int_eq(status, LYAP_OK);
    ck_assert_uint_gt(n, 100);
}
END_TEST

int main(void)
{
    test_alloc_install();
    Suite *suite = suite_create("wire_declaration");
    TCase *tcase = tcase_create("wire_declaration");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, every_field_is_read);
    tcase_add_test(tcase, text_is_canonical);
    tcase_add_test(tcase, nothing_declared);
    tcase_add_test(tcase, fields_replace_stored_ones_whole);
    tcase_add_test(tcase, proxes_and_sets);
    tcase_add_loop_test(tcase, bad_declarations_are_explained, 0, sizeof broken / sizeof *broken);
    tcase_add_test(tcase, trees_are_bounded);
    tcase_add_test(tcase, survives_every_failing_allocation);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
