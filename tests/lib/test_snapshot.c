/* Metadata keys: parsing, ranges, contradictions, labels, merging. */
#include "lyap/snapshot.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"
#include "support.h"

static struct lyap_snapshot snapshot;
static struct lyap_error err;

static void setup(void)
{
    lyap_snapshot_init(&snapshot);
    err = (struct lyap_error)LYAP_ERROR_NULL;
}

static void teardown(void)
{
    lyap_snapshot_release(&snapshot);
    ck_assert_int_eq(test_alloc_live(), 0);
}

static enum lyap_status set(const char *key, const char *value)
{
    err = (struct lyap_error)LYAP_ERROR_NULL;
    return lyap_snapshot_set(&snapshot, key, value, &err);
}

START_TEST(every_key_is_read)
{
    static const char *const pairs[][2] = {
        { "step", "9007199254740991" },
        { "loss", "NaN" },
        { "lr", "0.1, 0.01,0" },
        { "optimizer_step", "5" },
        { "updates", "0" },
        { "probe_loss", "0.5" },
        { "same_batch_loss", "-Infinity" },
        { "half_diff_sq", "2.5" },
        { "attempt", "3" },
        { "rank", "1" },
        { "world", "4" },
        { "time", "2026-11-23T17:00:00Z" },
        { "skipped", "true" },
        { "twin_log", "-3.5, NaN" },
        { "twin_name", "a, active" },
        { "batch_id", "0badcafe" },
        { "clip_norm", "1" },
        { "grad_norm", "Infinity" },
        { "clip_factor", "0.25" },
        { "loss_scale", "65536" },
        { "param_norm", "12" },
        { "update_norm", "0" },
        { "delta_unit", "5.96e-08" },
        { "grad_unit", "0" },
        { "state_exact", "true" },
        { "act_input_sq", "4" },
        { "act_input_diff_sq", "1e-6" },
        { "sent", "1764331200.25" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        ck_assert_msg(set(pairs[i][0], pairs[i][1]) == LYAP_OK, "%s: %s", pairs[i][0], err.text);
    for (unsigned key = 0; key < LYAP_META_COUNT; key++)
        ck_assert_msg(lyap_snapshot_has(&snapshot, (enum lyap_meta_key)key) ==
                          (key != LYAP_META_SHARD),
                      "%s", lyap_meta_name((enum lyap_meta_key)key));
    ck_assert_int_eq(snapshot.step, LYAP_STEP_MAX);
    ck_assert_int_eq(snapshot.sent_ns, INT64_C(1764331200250000000));
    ck_assert(isnan(snapshot.loss));
    ck_assert_uint_eq(snapshot.lr_count, 3);
    ck_assert(snapshot.lr[0] == 0.1 && snapshot.lr[1] == 0.01 && snapshot.lr[2] == 0);
    ck_assert_int_eq(snapshot.optimizer_step, 5);
    ck_assert_int_eq(snapshot.updates, 0);
    ck_assert(snapshot.same_batch_loss == -INFINITY && snapshot.half_diff_sq == 2.5);
    ck_assert_int_eq(snapshot.attempt, 3);
    ck_assert_uint_eq(snapshot.rank, 1);
    ck_assert_uint_eq(snapshot.world, 4);
    ck_assert_int_eq(snapshot.time_ns, INT64_C(1795453200000000000));
    ck_assert(snapshot.is_skipped && snapshot.is_state_exact);
    ck_assert_uint_eq(snapshot.twin_count, 2);
    ck_assert(snapshot.twin_log[0] == -3.5 && isnan(snapshot.twin_log[1]));
    char name[LYAP_TWIN_NAME_BYTES_MAX + 1];
    ck_assert(lyap_snapshot_twin_name(&snapshot, 0, name));
    ck_assert_str_eq(name, "a");
    ck_assert(lyap_snapshot_twin_name(&snapshot, 1, name));
    ck_assert_str_eq(name, "active");
    ck_assert(!lyap_snapshot_twin_name(&snapshot, 2, name));
    ck_assert_str_eq(snapshot.batch_id, "0badcafe");
    ck_assert(snapshot.grad_norm == INFINITY && snapshot.update_norm == 0);
    ck_assert(snapshot.delta_unit == 5.96e-08);
    ck_assert(snapshot.act_input_sq == 4 && snapshot.act_input_diff_sq == 1e-6);
    ck_assert_int_eq(lyap_snapshot_check(&snapshot, &err), LYAP_OK);
}
END_TEST

#define LONG64 "0123456789012345678901234567890123456789012345678901234567890123"
static const struct {
    const char *key, *value;
    enum lyap_status status;
    const char *fragment;
} refused[] = {
    { "step", "-1", LYAP_E_INVALID,
      "step is \"-1\", but must be an integer from 0 to 9007199254740991" },
    { "step", "9007199254740992", LYAP_E_INVALID, "from 0 to 9007199254740991" },
    { "step", "1e3", LYAP_E_INVALID, "step is \"1e3\"" },
    { "step", "7.5", LYAP_E_INVALID, "an integer" },
    { "step", "", LYAP_E_INVALID, "step is \"\"" },
    { "step", "NaN", LYAP_E_INVALID, "an integer" },
    { "step", "99999999999999999999999999", LYAP_E_INVALID, "from 0 to" },
    { "loss", "high", LYAP_E_INVALID, "loss is \"high\", but must be a number, NaN" },
    { "loss", "1e999", LYAP_E_INVALID, "a number" },
    { "lr", "-0.1", LYAP_E_INVALID, "lr is \"-0.1\", but must be a finite number >= 0" },
    { "lr", "NaN", LYAP_E_INVALID, "finite" },
    { "lr", "Infinity", LYAP_E_INVALID, "finite" },
    { "lr", "0.1,,0.2", LYAP_E_INVALID, "lr is \"0.1,,0.2\"" },
    { "lr", "0.1,", LYAP_E_INVALID, "lr is" },
    { "lr", "", LYAP_E_INVALID, "lr is" },
    { "attempt", "0", LYAP_E_INVALID, "from 1 to 4294967295" },
    { "attempt", "4294967296", LYAP_E_INVALID, "from 1 to 4294967295" },
    { "rank", "4096", LYAP_E_INVALID, "from 0 to 4095" },
    { "world", "4097", LYAP_E_INVALID, "from 1 to 4096" },
    { "world", "0", LYAP_E_INVALID, "from 1 to 4096" },
    { "half_diff_sq", "-1", LYAP_E_INVALID, "a number >= 0, NaN or Infinity" },
    { "clip_norm", "0", LYAP_E_INVALID, "clip_norm is \"0\", but must be a finite number > 0" },
    { "clip_norm", "-1", LYAP_E_INVALID, "> 0" },
    { "clip_norm", "Infinity", LYAP_E_INVALID, "> 0" },
    { "clip_factor", "NaN", LYAP_E_INVALID, "> 0" },
    { "grad_norm", "-0.5", LYAP_E_INVALID, ">= 0" },
    { "delta_unit", "1", LYAP_E_INVALID, "in [0, 1)" },
    { "grad_unit", "NaN", LYAP_E_INVALID, "in [0, 1)" },
    { "skipped", "yes", LYAP_E_INVALID, "true or false" },
    { "time", "2026-11-23T17:00:00", LYAP_E_INVALID, "RFC 3339 with an offset" },
    { "batch_id", "", LYAP_E_INVALID, "1 to 64 bytes of UTF-8" },
    { "batch_id", LONG64 "5", LYAP_E_INVALID, "1 to 64 bytes" },
    { "twin_name", "\xFF", LYAP_E_INVALID, "UTF-8" },
    { "twin_log", "1,2,3,4,5", LYAP_E_LIMIT, "twin_log has more than 4 values, one a twin" },
    { "twin_log", "1,,2", LYAP_E_INVALID, "twin_log is \"1,,2\", but must be a number" },
    { "shard", "{}", LYAP_E_INVALID, "metadata of the body" },
    { "Loss", "1", LYAP_E_UNKNOWN_FIELD, "\"Loss\" is not a key of a snapshot" },
    { "epoch", "1", LYAP_E_UNKNOWN_FIELD, "known: step loss lr optimizer_step" },
    { "x-\xFF", "1", LYAP_E_INVALID, "is not UTF-8" },
};

START_TEST(bad_values_are_named)
{
    ck_assert_int_eq(set(refused[_i].key, refused[_i].value), refused[_i].status);
    ck_assert_msg(strstr(err.text, refused[_i].fragment) != NULL, "%s", err.text);
    ck_assert_uint_eq(snapshot.present, 0);
    ck_assert_uint_eq(snapshot.label_count, 0);
}
END_TEST

START_TEST(strings_up_to_their_limit)
{
    ck_assert_int_eq(set("batch_id", LONG64), LYAP_OK);
    ck_assert_str_eq(snapshot.batch_id, LONG64);
}
END_TEST

START_TEST(learning_rates_up_to_their_limit)
{
    char list[2 * (LYAP_GROUP_COUNT_MAX + 2)];
    for (size_t i = 0; i < LYAP_GROUP_COUNT_MAX + 2; i++)
        memcpy(list + 2 * i, "1,", 2);
    list[sizeof list - 1] = '\0';
    ck_assert_int_eq(set("lr", list), LYAP_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 257 values"));
    list[sizeof list - 3] = '\0';
    ck_assert_int_eq(set("lr", list), LYAP_OK);
    ck_assert_uint_eq(snapshot.lr_count, LYAP_GROUP_COUNT_MAX + 1);
}
END_TEST

/* The same value again, however it is written, is fine. */
START_TEST(equal_values_may_be_repeated)
{
    static const char *const pairs[][3] = {
        { "step", "7", "+7" },
        { "loss", "0.5", "5e-1" },
        { "loss", "NaN", "nan" },
        { "lr", "0.1", "1e-1" },
        { "time", "2026-11-23T17:00:00Z", "1795453200" },
        { "skipped", "true", "1" },
        { "batch_id", "b", "b" },
        { "x-note", "b", "b" },
        { "world", "4", "04" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        setup();
        ck_assert_int_eq(set(pairs[i][0], pairs[i][1]), LYAP_OK);
        ck_assert_msg(set(pairs[i][0], pairs[i][2]) == LYAP_OK, "%s", err.text);
        lyap_snapshot_release(&snapshot);
    }
}
END_TEST

START_TEST(contradictions_name_both_values)
{
    static const char *const triples[][4] = {
        { "step", "7", "8", "step is given as 7 and as 8" },
        { "loss", "0.5", "NaN", "loss is given as 0.5 and as NaN" },
        { "lr", "0.1", "0.1,0.1", "lr is given as 0.1 and as 0.1,..." },
        { "lr", "0.1,0.2", "0.1,0.3", "lr is given as" },
        { "skipped", "true", "false", "skipped is given as true and as false" },
        { "batch_id", "a", "b", "batch_id is given as \"a\" and as \"b\"" },
        { "x-k", "a", "b", "label \"x-k\" is given as \"a\" and as \"b\"" },
        { "rank", "1", "2", "rank is given as 1 and as 2" },
    };
    for (size_t i = 0; i < sizeof triples / sizeof *triples; i++) {
        setup();
        ck_assert_int_eq(set(triples[i][0], triples[i][1]), LYAP_OK);
        ck_assert_int_eq(set(triples[i][0], triples[i][2]), LYAP_E_CONTRADICTION);
        ck_assert_msg(strstr(err.text, triples[i][3]) != NULL, "%s", err.text);
        lyap_snapshot_release(&snapshot);
    }
}
END_TEST

START_TEST(labels_have_limits)
{
    char key[LYAP_LABEL_BYTES_MAX + 2];
    for (int i = 0; i < LYAP_LABEL_COUNT_MAX; i++) {
        (void)snprintf(key, sizeof key, "x-%d", i);
        ck_assert_int_eq(set(key, "v"), LYAP_OK);
    }
    ck_assert_int_eq(set("x-more", "v"), LYAP_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(err.text, "more than 32 labels"));
    ck_assert_int_eq(set("x-3", "v"), LYAP_OK);
    ck_assert_str_eq(snapshot.labels[3].key, "x-3");

    lyap_snapshot_release(&snapshot);
    memset(key, 'k', sizeof key - 1);
    memcpy(key, "x-", 2);
    key[sizeof key - 1] = '\0';
    ck_assert_int_eq(set(key, "v"), LYAP_E_LIMIT);
    ck_assert_int_eq(set("x-v", key), LYAP_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(err.text, "a value of 257 bytes; at most 256"));
    key[sizeof key - 2] = '\0';
    ck_assert_int_eq(set("x-v", key), LYAP_OK);
}
END_TEST

START_TEST(check_wants_step_and_rank_below_world)
{
    ck_assert_int_eq(lyap_snapshot_check(&snapshot, &err), LYAP_E_MISSING_FIELD);
    ck_assert_str_eq(err.text, "step is required");
    ck_assert_int_eq(set("step", "0"), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_check(&snapshot, NULL), LYAP_OK);
    ck_assert_int_eq(set("rank", "1"), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_check(&snapshot, &err), LYAP_E_INVALID);
    ck_assert_str_eq(err.text, "rank is 1, but must be below world, 1 when not given");
    ck_assert_int_eq(set("world", "2"), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_check(&snapshot, NULL), LYAP_OK);
}
END_TEST

START_TEST(merge_adds_and_compares)
{
    struct lyap_snapshot query;
    lyap_snapshot_init(&query);
    ck_assert_int_eq(lyap_snapshot_set(&query, "step", "7", NULL), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_set(&query, "lr", "0.1,0.2", NULL), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_set(&query, "skipped", "true", NULL), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_set(&query, "batch_id", "b", NULL), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_set(&query, "x-a", "1", NULL), LYAP_OK);
    ck_assert_int_eq(set("step", "7"), LYAP_OK);
    ck_assert_int_eq(set("loss", "1"), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_merge(&snapshot, &query, &err), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_merge(&snapshot, &query, &err), LYAP_OK);
    ck_assert_uint_eq(snapshot.lr_count, 2);
    ck_assert(snapshot.lr != query.lr && snapshot.is_skipped && snapshot.loss == 1);
    ck_assert_str_eq(snapshot.batch_id, "b");
    ck_assert_uint_eq(snapshot.label_count, 1);

    ck_assert_int_eq(lyap_snapshot_set(&query, "loss", "2", NULL), LYAP_OK);
    ck_assert_int_eq(lyap_snapshot_merge(&snapshot, &query, &err), LYAP_E_CONTRADICTION);
    ck_assert_str_eq(err.text, "loss is given as 1 and as 2");
    lyap_snapshot_release(&query);
}
END_TEST

static enum lyap_status fill(struct lyap_snapshot *target)
{
    enum lyap_status status = lyap_snapshot_set(target, "lr", "0.1,0.2", NULL);
    if (status == LYAP_OK)
        status = lyap_snapshot_set(target, "x-a", "1", NULL);
    if (status == LYAP_OK)
        status = lyap_snapshot_set(target, "x-b", "2", NULL);
    return status;
}

START_TEST(survives_every_failing_allocation)
{
    enum lyap_status status = LYAP_E_NOMEM;
    uint64_t n = 0;
    while (status == LYAP_E_NOMEM) {
        setup();
        test_alloc_fail_at(++n);
        status = fill(&snapshot);
        test_alloc_fail_at(0);
        lyap_snapshot_release(&snapshot);
        ck_assert_int_eq(test_alloc_live(), 0);
    }
    ck_assert_int_eq(status, LYAP_OK);
    ck_assert_uint_eq(n, 7);
}
END_TEST

int main(void)
{
    test_alloc_install();
    Suite *suite = suite_create("snapshot");
    TCase *tcase = tcase_create("snapshot");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, every_key_is_read);
    tcase_add_loop_test(tcase, bad_values_are_named, 0, sizeof refused / sizeof *refused);
    tcase_add_test(tcase, strings_up_to_their_limit);
    tcase_add_test(tcase, learning_rates_up_to_their_limit);
    tcase_add_test(tcase, equal_values_may_be_repeated);
    tcase_add_test(tcase, contradictions_name_both_values);
    tcase_add_test(tcase, labels_have_limits);
    tcase_add_test(tcase, check_wants_step_and_rank_below_world);
    tcase_add_test(tcase, merge_adds_and_compares);
    tcase_add_test(tcase, survives_every_failing_allocation);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
