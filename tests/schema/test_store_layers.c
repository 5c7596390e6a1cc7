/* The newest numbers of declared layers: replaced, trimmed, read back with trust and reasons. */
#include <math.h>

#include "store_support.h"

static struct test_store test;

static void setup(void)
{
    test_store_init(&test);
}

static void teardown(void)
{
    test_store_release(&test);
}

static struct lyap_network two_layers(void)
{
    static const char *const names[] = { "fc", "norm" };
    struct lyap_network network;
    ck_assert_int_eq(lyap_network_init(&network, 2), LYAP_OK);
    for (uint32_t i = 0; i < 2; i++)
        ck_assert_int_eq(lyap_network_add_text(&network, names[i], &network.layers[i].name),
                         LYAP_OK);
    network.layers[0].kind = LYAP_LAYER_LINEAR;
    network.layers[1].kind = LYAP_LAYER_LAYERNORM;
    ck_assert_int_eq(lyap_network_compile(&network, NULL), LYAP_OK);
    return network;
}

START_TEST(layers_are_replaced_and_come_back_with_their_reasons)
{
    struct lyap_store *store = test.store;
    const struct lyap_run_record run = test_put_run(store, "a", "{}");
    struct lyap_network network = two_layers();
    struct lyap_layer_row rows[2];
    for (uint32_t i = 0; i < 2; i++) {
        rows[i] = (struct lyap_layer_row){ .layer = i, .bound_step = i == 0 ? 7 : -1 };
        for (unsigned m = 0; m < LYAP_LAYER_METRIC_COUNT; m++)
            rows[i].values[m] = (struct lyap_value){
                .value = NAN, .error = NAN, .reason = (uint8_t)(LYAP_REASON_NO_LAYERS + m % 7)
            };
        rows[i].values[LYAP_LAYER_METRIC_GAIN] =
            (struct lyap_value){ .value = 1.5 + i, .error = NAN, .trust = LYAP_TRUST_I };
    }
    rows[0].method = LYAP_BOUND_METHOD_TORUS;
    rows[0].values[LYAP_LAYER_METRIC_LOCAL_GAIN] =
        (struct lyap_value){ .value = 0.25, .error = NAN, .trust = LYAP_TRUST_C };
    struct lyap_layer_batch batch = {
        .run_id = 99, .attempt = 1, .count = 2, .step = 9, .network = &network, .rows = rows
    };
    test_begin(store);
    ck_assert_int_eq(store->ops->put_layers(store, &batch), LYAP_E_NOT_FOUND);
    batch.run_id = run.id;
    STORE_OK(store, store->ops->put_layers(store, &batch));
    batch.step = 10;
    STORE_OK(store, store->ops->put_layers(store, &batch));
    test_commit(store);

    struct lyap_query query = test_query(LYAP_TABLE_LAYERS, "a");
    struct lyap_cursor *cursor;
    struct lyap_record record;
    STORE_OK(store, store->ops->query(store, &query, &cursor));
    for (uint32_t i = 0; i < 2; i++) {
        ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
        const struct lyap_layer_record *layer = &record.u.layer;
        ck_assert_str_eq(layer->name, i == 0 ? "fc" : "norm");
        ck_assert_str_eq(layer->kind, i == 0 ? "linear" : "layernorm");
        ck_assert_str_eq(layer->method, i == 0 ? "torus" : "none");
        ck_assert_int_eq(layer->step, 10);
        ck_assert_int_eq(layer->row.bound_step, rows[i].bound_step);
        for (unsigned m = 0; m < LYAP_LAYER_METRIC_COUNT; m++) {
            const struct lyap_value *got = &layer->row.values[m], *put = &rows[i].values[m];
            ck_assert_uint_eq(got->reason, put->reason);
            ck_assert_int_eq(isnan(got->value), isnan(put->value));
            if (put->reason == LYAP_REASON_NONE) {
                ck_assert_uint_eq(got->trust, put->trust);
                ck_assert(got->value == put->value);
            }
        }
    }
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_E_NOT_FOUND);
    cursor->close(cursor);

    batch.count = 1; /* declared anew with one layer */
    test_begin(store);
    STORE_OK(store, store->ops->put_layers(store, &batch));
    test_commit(store);
    STORE_OK(store, store->ops->query(store, &query, &cursor));
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_OK);
    ck_assert_int_eq(cursor->next(cursor, &record), LYAP_E_NOT_FOUND);
    cursor->close(cursor);
    lyap_network_release(&network);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_layers");
    TCase *tcase = tcase_create("store_layers");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, layers_are_replaced_and_come_back_with_their_reasons);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
