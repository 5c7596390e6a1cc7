/* Parts of a score as bytes: they come back as they were, and nothing else is taken. */
#include <math.h>
#include <string.h>

#include "lyap/parts.h"
#include "support.h"

static struct lyap_parts sample(void)
{
    struct lyap_parts parts = {
        .version = 7,
        .counts = { 2, 1 },
        .parts = { { { .a = LYAP_OBSERVABLE_RECORD,
                       .b = LYAP_OBSERVABLE_GRAD_Z,
                       .value_a = .75,
                       .value_b = 1.0 / 3,
                       .per_a = .5,
                       .per_b = 4,
                       .log_odds = 2.25 },
                     { .a = LYAP_OBSERVABLE_GAP,
                       .b = LYAP_OBSERVABLE_COUNT,
                       .value_a = 1,
                       .value_b = NAN,
                       .per_a = NAN,
                       .per_b = NAN,
                       .log_odds = .1 } },
                   { { .a = LYAP_OBSERVABLE_EXCESS,
                       .b = LYAP_OBSERVABLE_COUNT,
                       .value_a = INFINITY,
                       .value_b = NAN,
                       .per_a = NAN,
                       .per_b = NAN,
                       .log_odds = 3 } } },
        .tensor_count = 2,
        .tensors = { { "fc1.weight", LYAP_NAMED_WORK, .625 }, { "", LYAP_NAMED_MOMENT, 9 } },
    };
    return parts;
}

static void same_number(double a, double b)
{
    ck_assert_msg(a == b || (isnan(a) && isnan(b)), "%g, %g", a, b);
}

START_TEST(test_round_trip)
{
    const struct lyap_parts parts = sample();
    unsigned char bytes[LYAP_PARTS_BYTES_MAX];
    struct lyap_parts back;
    const uint32_t length = lyap_parts_encode(&parts, bytes);
    ck_assert_int_eq(lyap_parts_decode(bytes, length, &back), LYAP_OK);
    ck_assert_uint_eq(back.version, 7);
    for (unsigned kind = 0; kind < LYAP_SCORE_KIND_COUNT; kind++) {
        ck_assert_uint_eq(back.counts[kind], parts.counts[kind]);
        for (uint32_t i = 0; i < back.counts[kind]; i++) {
            const struct lyap_score_part *a = &parts.parts[kind][i], *b = &back.parts[kind][i];
            ck_assert(a->a == b->a && a->b == b->b);
            same_number(a->value_a, b->value_a);
            same_number(a->value_b, b->value_b);
            same_number(a->per_a, b->per_a);
            same_number(a->per_b, b->per_b);
            same_number(a->log_odds, b->log_odds);
        }
    }
    ck_assert_uint_eq(back.tensor_count, 2);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_str_eq(back.tensors[i].name, parts.tensors[i].name);
        ck_assert(back.tensors[i].reason == parts.tensors[i].reason);
        same_number(back.tensors[i].value, parts.tensors[i].value);
    }
}
END_TEST

/* The most that there can be: every slot taken, the longest names. */
START_TEST(test_largest)
{
    struct lyap_parts parts = sample(), back;
    unsigned char bytes[LYAP_PARTS_BYTES_MAX];
    for (unsigned kind = 0; kind < LYAP_SCORE_KIND_COUNT; kind++) {
        parts.counts[kind] = LYAP_SCORE_PARTS_MAX;
        for (unsigned i = 0; i < LYAP_SCORE_PARTS_MAX; i++)
            parts.parts[kind][i] = parts.parts[0][0];
    }
    parts.tensor_count = LYAP_PARTS_TENSORS_MAX;
    for (unsigned i = 0; i < LYAP_PARTS_TENSORS_MAX; i++) {
        memset(parts.tensors[i].name, 'a', LYAP_TENSOR_NAME_BYTES_MAX);
        parts.tensors[i].name[LYAP_TENSOR_NAME_BYTES_MAX] = '\0';
        parts.tensors[i].reason = LYAP_NAMED_GRAD_Z;
    }
    const uint32_t length = lyap_parts_encode(&parts, bytes);
    ck_assert_uint_le(length, sizeof bytes);
    ck_assert_int_eq(lyap_parts_decode(bytes, length, &back), LYAP_OK);
    ck_assert_uint_eq(strlen(back.tensors[LYAP_PARTS_TENSORS_MAX - 1].name),
                      LYAP_TENSOR_NAME_BYTES_MAX);
}
END_TEST

START_TEST(test_what_is_none)
{
    struct lyap_parts parts = { .version = 0 }, back = sample();
    unsigned char bytes[LYAP_PARTS_BYTES_MAX];
    ck_assert_uint_eq(lyap_parts_encode(&parts, bytes), 0);
    ck_assert_int_eq(lyap_parts_decode(bytes, 0, &back), LYAP_OK);
    ck_assert_uint_eq(back.version, 0);
    ck_assert_uint_eq(back.tensor_count, 0);
}
END_TEST

/* Cut anywhere, longer, or of other bytes: refused, or within its bounds. */
START_TEST(test_damaged_bytes)
{
    const struct lyap_parts parts = sample();
    unsigned char bytes[LYAP_PARTS_BYTES_MAX + 1], damaged[sizeof bytes];
    struct lyap_parts back;
    struct test_rng rng = { 11 };
    const uint32_t length = lyap_parts_encode(&parts, bytes);
    bytes[length] = 0;
    for (uint32_t cut = 1; cut <= length + 1; cut++)
        if (cut != length)
            ck_assert_int_eq(lyap_parts_decode(bytes, cut, &back), LYAP_E_FORMAT);
    for (int i = 0; i < 20000; i++) {
        memcpy(damaged, bytes, sizeof damaged);
        damaged[test_rng_u64(&rng) % sizeof damaged] = (unsigned char)test_rng_u64(&rng);
        if (lyap_parts_decode(damaged, length, &back) != LYAP_OK)
            continue;
        ck_assert_uint_le(back.counts[0], LYAP_SCORE_PARTS_MAX);
        ck_assert_uint_le(back.tensor_count, LYAP_PARTS_TENSORS_MAX);
        for (uint32_t k = 0; k < back.tensor_count; k++)
            ck_assert_uint_le(strlen(back.tensors[k].name), LYAP_TENSOR_NAME_BYTES_MAX);
    }
}
END_TEST

/* Points are stored with the numbers of these (docs/storage.md): a new observable goes to the end,
 * and none goes away. */
START_TEST(test_numbers_of_observables_stay)
{
    static const char stored[] =
        "loss_excess loss_ratio loss_sigmas loss_tail loss_record loss_twice loss_z "
        "loss_slope loss_slope_t overshoot_work overshoot_sum overshoot_record "
        "overshoot_growth net_work net_work_sum predicted_decrease decrease_rise "
        "predicted_change reach oscillation edge_ratio update_z update_z_median grad_z "
        "grad_z_median grad_growth update_growth second_moment_ratio update_ratio "
        "param_growth mismatch drift slow_drift level relapse relapse_twice relapse_median "
        "rebound rise_t_20 rise_t_40 excess_noise overshoot_peak overshoot_mads "
        "overshoot_reach net_peak unexplained_rise decrease_peak decrease_record "
        "decrease_jump decrease_sigmas change_sigmas change_share reach_record edge_record "
        "rate_jump update_ratio_rise grad_rise grad_run param_step gap probe_relapse "
        "probe_relapse_twice probe_rise probe_record probe_forecast probe_rebound "
        "relapse_mean rate_rise_1 rate_rise_5 rate_rise_20 rate_rise_50 rate_above "
        "update_rise_3 update_rise_6 update_rise_20 update_rise_50 param_rise_5 "
        "param_rise_20 param_rise_50 grad_rise_6 decrease_rise_6 loss_run_5 loss_run_5_2 "
        "grad_run_3 grad_run_5 grad_run_5_2 update_run_5 loss_shift_30 loss_shift_60 "
        "grad_shift_20 grad_shift_30 grad_shift_60 update_shift_30 update_shift_60 "
        "overshoot_sum_20 overshoot_sum_50 unexplained_20 unexplained_50 excess_least_3 "
        "excess_least_5 net_least_3 curvature_along_step path_curvature grad_cosine "
        "update_slope tensors ";
    const char *rest = stored;
    ck_assert_uint_eq(LYAP_OBSERVABLE_COUNT, 106); /* a new one has its row here, too */
    for (unsigned i = 0; i < LYAP_OBSERVABLE_COUNT; i++) {
        const char *name = lyap_observable_name((enum lyap_observable)i);
        const size_t length = strlen(name);
        ck_assert_msg(strncmp(rest, name, length) == 0 && rest[length] == ' ', "%s", name);
        rest += length + 1;
    }
    ck_assert_str_eq(rest, "");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("parts");
    TCase *tests = tcase_create("bytes");
    tcase_add_test(tests, test_round_trip);
    tcase_add_test(tests, test_numbers_of_observables_stay);
    tcase_add_test(tests, test_largest);
    tcase_add_test(tests, test_what_is_none);
    tcase_add_test(tests, test_damaged_bytes);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
