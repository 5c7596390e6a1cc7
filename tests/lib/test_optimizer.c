/* Declared optimizers: defaults, ranges, groups, globs. */
#include "lyap/optimizer.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "lyap/alloc.h"
#include "lyap/glob.h"
#include "support.h"

static const char *const type_names[LYAP_OPTIMIZER_COUNT] = {
#define ROW(name, wire) wire,
    LYAP_OPTIMIZER_TABLE(ROW)
#undef ROW
};

START_TEST(types_have_names)
{
    for (unsigned i = 0; i < LYAP_OPTIMIZER_COUNT; i++) {
        enum lyap_optimizer_type type = LYAP_OPTIMIZER_COUNT;
        ck_assert(lyap_optimizer_type_parse(type_names[i], &type));
        ck_assert_uint_eq(type, i);
    }
    enum lyap_optimizer_type type = LYAP_OPTIMIZER_LION;
    ck_assert(!lyap_optimizer_type_parse("SGD", &type));
    ck_assert(!lyap_optimizer_type_parse("", &type));
    ck_assert_uint_eq(type, LYAP_OPTIMIZER_LION);
}
END_TEST

/* torch.optim's documented defaults. */
START_TEST(defaults_are_those_of_torch)
{
    struct lyap_optimizer optimizer;
    lyap_optimizer_init(&optimizer);
    ck_assert_uint_eq(optimizer.type, LYAP_OPTIMIZER_OTHER);
    ck_assert(isnan(optimizer.base.lr));

    lyap_optimizer_defaults(&optimizer, LYAP_OPTIMIZER_ADAMW);
    ck_assert(optimizer.base.beta1 == 0.9 && optimizer.base.beta2 == 0.999);
    ck_assert(optimizer.base.eps == 1e-8 && optimizer.base.weight_decay == 1e-2);
    lyap_optimizer_defaults(&optimizer, LYAP_OPTIMIZER_ADAM);
    ck_assert(optimizer.base.weight_decay == 0);
    lyap_optimizer_defaults(&optimizer, LYAP_OPTIMIZER_RMSPROP);
    ck_assert(optimizer.base.beta2 == 0.99 && optimizer.base.momentum == 0);
    lyap_optimizer_defaults(&optimizer, LYAP_OPTIMIZER_LION);
    ck_assert(optimizer.base.beta1 == 0.9 && optimizer.base.beta2 == 0.99);
    lyap_optimizer_defaults(&optimizer, LYAP_OPTIMIZER_SGD);
    ck_assert(optimizer.base.momentum == 0 && optimizer.base.dampening == 0);
    ck_assert(!optimizer.base.is_nesterov && optimizer.base.weight_decay == 0);
    ck_assert_int_eq(lyap_optimizer_check(&optimizer, NULL), LYAP_OK);
}
END_TEST

#define PARAM(member) offsetof(struct lyap_optimizer, base.member)
static const struct {
    size_t offset;
    double value;
    const char *fragment; /* NULL: allowed */
} constants[] = {
    { PARAM(lr), 0, NULL },
    { PARAM(lr), NAN, NULL },
    { PARAM(lr), -1e-3, "optimizer.lr is -0.001" },
    { PARAM(lr), INFINITY, "optimizer.lr is inf" },
    { PARAM(momentum), 0.999, NULL },
    { PARAM(momentum), 1, "optimizer.momentum is 1, but must be in [0, 1)" },
    { PARAM(momentum), NAN, "optimizer.momentum is nan" },
    { PARAM(dampening), 1, NULL },
    { PARAM(dampening), 1.5, "optimizer.dampening is 1.5" },
    { PARAM(beta1), 1, "optimizer.beta1" },
    { PARAM(beta1), -0.1, "optimizer.beta1" },
    { PARAM(beta2), 1, "optimizer.beta2" },
    { PARAM(eps), 0, NULL },
    { PARAM(eps), -1, "optimizer.eps" },
    { PARAM(weight_decay), -1, "optimizer.weight_decay" },
    { PARAM(weight_decay), INFINITY, "optimizer.weight_decay" },
};

START_TEST(constants_have_ranges)
{
    struct lyap_optimizer optimizer;
    struct lyap_error err = LYAP_ERROR_NULL;
    lyap_optimizer_init(&optimizer);
    memcpy((char *)&optimizer + constants[_i].offset, &constants[_i].value, sizeof(double));
    const enum lyap_status status = lyap_optimizer_check(&optimizer, &err);
    ck_assert_int_eq(status, constants[_i].fragment ? LYAP_E_INVALID : LYAP_OK);
    if (constants[_i].fragment)
        ck_assert_msg(strstr(err.text, constants[_i].fragment) != NULL, "%s", err.text);
}
END_TEST

/* The check of one changed optimizer says `fragment`. */
static void assert_refused(const struct lyap_optimizer *optimizer, const char *fragment)
{
    struct lyap_error err = LYAP_ERROR_NULL;
    ck_assert_int_eq(lyap_optimizer_check(optimizer, &err), LYAP_E_INVALID);
    ck_assert_msg(strstr(err.text, fragment) != NULL, "%s lacks: %s", err.text, fragment);
}

START_TEST(nesterov_needs_momentum)
{
    struct lyap_optimizer optimizer;
    lyap_optimizer_init(&optimizer);
    lyap_optimizer_defaults(&optimizer, LYAP_OPTIMIZER_SGD);
    optimizer.base.is_nesterov = true;
    assert_refused(&optimizer, "nesterov needs momentum > 0");
    optimizer.base.momentum = 0.9;
    ck_assert_int_eq(lyap_optimizer_check(&optimizer, NULL), LYAP_OK);
    optimizer.base.dampening = 0.1;
    assert_refused(&optimizer, "dampening 0");
}
END_TEST

START_TEST(prox_and_set_go_with_their_types)
{
    struct lyap_optimizer optimizer;
    lyap_optimizer_init(&optimizer);
    optimizer.prox = LYAP_PROX_L1;
    assert_refused(&optimizer, "goes with type proxgd alone");
    lyap_optimizer_defaults(&optimizer, LYAP_OPTIMIZER_PROXGD);
    optimizer.prox_lambda = 0.05;
    ck_assert_int_eq(lyap_optimizer_check(&optimizer, NULL), LYAP_OK);
    optimizer.prox_lambda = -1;
    assert_refused(&optimizer, "lambda, l1, l2 are -1");
    optimizer.prox_lambda = 0;
    optimizer.prox = LYAP_PROX_NONE;
    assert_refused(&optimizer, "optimizer.prox is needed");

    lyap_optimizer_defaults(&optimizer, LYAP_OPTIMIZER_PROJGD);
    assert_refused(&optimizer, "optimizer.set is needed");
    optimizer.set = LYAP_SET_BALL;
    assert_refused(&optimizer, "optimizer.set.radius is 0");
    optimizer.set_radius = 1;
    ck_assert_int_eq(lyap_optimizer_check(&optimizer, NULL), LYAP_OK);
    optimizer.set = LYAP_SET_BOX;
    optimizer.set_low = 1;
    assert_refused(&optimizer, "low is 1, but must be below high, 0");
    optimizer.set_high = INFINITY;
    ck_assert_int_eq(lyap_optimizer_check(&optimizer, NULL), LYAP_OK);
    lyap_optimizer_defaults(&optimizer, LYAP_OPTIMIZER_SGD);
    assert_refused(&optimizer, "goes with type projgd alone");
}
END_TEST

/* An optimizer of `count` groups, each with the patterns "p<g>.*" and "q". */
static struct lyap_optimizer grouped(uint32_t count)
{
    struct lyap_optimizer optimizer;
    lyap_optimizer_init(&optimizer);
    optimizer.groups = lyap_alloc_array(count, sizeof *optimizer.groups);
    optimizer.group_count = count;
    for (uint32_t g = 0; g < count; g++) {
        char pattern[32];
        (void)snprintf(pattern, sizeof pattern, "p%u.*", g);
        optimizer.groups[g].params = optimizer.base;
        optimizer.groups[g].params.weight_decay = g;
        optimizer.groups[g].patterns = lyap_alloc_array(2, sizeof(char *));
        optimizer.groups[g].patterns[0] = lyap_alloc_string(pattern);
        optimizer.groups[g].patterns[1] = lyap_alloc_string("q");
        optimizer.groups[g].pattern_count = 2;
    }
    return optimizer;
}

START_TEST(groups_have_constants)
{
    struct lyap_optimizer optimizer = grouped(3);
    ck_assert_int_eq(lyap_optimizer_check(&optimizer, NULL), LYAP_OK);
    ck_assert_ptr_eq(lyap_optimizer_group_params(&optimizer, 0), &optimizer.base);
    ck_assert(lyap_optimizer_group_params(&optimizer, 3)->weight_decay == 2);
    lyap_optimizer_release(&optimizer);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

START_TEST(groups_are_checked)
{
    struct lyap_optimizer optimizer = grouped(3);
    optimizer.groups[2].params.beta1 = 2;
    assert_refused(&optimizer, "optimizer.groups[2].beta1 is 2");
    optimizer.groups[2].params.beta1 = 0.5;
    optimizer.groups[1].patterns[1][0] = '\0';
    assert_refused(&optimizer, "pattern \"\" has 0 bytes, but must have 1 to 256");
    lyap_optimizer_release(&optimizer);

    optimizer = grouped(LYAP_WILDCARD_COUNT_MAX);
    ck_assert_int_eq(lyap_optimizer_check(&optimizer, NULL), LYAP_OK);
    optimizer.groups[7].patterns[1][0] = '*';
    assert_refused(&optimizer, "257 with wildcards; at most 4096 and 256");
    lyap_optimizer_release(&optimizer);

    optimizer = grouped(LYAP_GROUP_COUNT_MAX + 1);
    assert_refused(&optimizer, "257 entries; at most 256");
    lyap_optimizer_release(&optimizer);
}
END_TEST

START_TEST(copy_survives_every_failing_allocation)
{
    struct lyap_optimizer source = grouped(3), copy;
    const int64_t live = test_alloc_live();
    enum lyap_status status = LYAP_E_NOMEM;
    uint64_t n = 0;
    while (status == LYAP_E_NOMEM) {
        test_alloc_fail_at(++n);
        status = lyap_optimizer_copy(&source, &copy);
        ck_assert(status == LYAP_OK || test_alloc_live() == live);
    }
    test_alloc_fail_at(0);
    ck_assert_int_eq(status, LYAP_OK);
    ck_assert_uint_gt(n, 6);
    ck_assert_str_eq(copy.groups[2].patterns[0], "p2.*");
    ck_assert_ptr_ne(copy.groups[2].patterns[0], source.groups[2].patterns[0]);
    ck_assert(copy.groups[2].params.weight_decay == 2);
    lyap_optimizer_release(&copy);
    lyap_optimizer_release(&source);
    ck_assert_int_eq(test_alloc_live(), 0);
}
END_TEST

/* The obvious recursive matcher, exponential but short. */
static bool slow_match(const char *pattern, const char *text)
{
    if (!*pattern)
        return !*text;
    if (*pattern == '*')
        return slow_match(pattern + 1, text) || (*text && slow_match(pattern, text + 1));
    return *text && (*pattern == '?' || *pattern == *text) && slow_match(pattern + 1, text + 1);
}

START_TEST(glob_agrees_with_the_obvious_matcher)
{
    struct test_rng rng = { 5 };
    unsigned matched = 0;
    for (int i = 0; i < 50000; i++) {
        char pattern[9], text[11];
        const size_t m = test_rng_u64(&rng) % sizeof pattern;
        const size_t n = test_rng_u64(&rng) % sizeof text;
        for (size_t k = 0; k < m; k++)
            pattern[k] = "ab*?"[test_rng_u64(&rng) % 4];
        for (size_t k = 0; k < n; k++)
            text[k] = "ab"[test_rng_u64(&rng) % 2];
        pattern[m] = text[n] = '\0';
        const bool expected = slow_match(pattern, text);
        ck_assert_msg(lyap_glob_match(pattern, text) == expected, "%s on %s", pattern, text);
        matched += expected;
    }
    ck_assert_uint_gt(matched, 1000);
}
END_TEST

/* States cross the 64-bit words; the longest pattern; one byte more matches nothing. */
START_TEST(glob_of_any_length)
{
    char pattern[LYAP_PATTERN_BYTES_MAX + 2], text[2 * LYAP_PATTERN_BYTES_MAX];
    memset(text, 'a', sizeof text);
    for (size_t m = 1; m <= LYAP_PATTERN_BYTES_MAX; m++) {
        memset(pattern, '?', m);
        pattern[0] = '*';
        pattern[m] = '\0';
        text[m] = '\0';
        ck_assert(lyap_glob_match(pattern, text));
        ck_assert(lyap_glob_match(pattern, text + 1));
        ck_assert(m == 1 || !lyap_glob_match(pattern, text + 2));
        text[m] = 'a';
    }
    memset(pattern, '*', sizeof pattern - 1);
    pattern[sizeof pattern - 1] = '\0';
    ck_assert(!lyap_glob_match(pattern, "a"));
    ck_assert(lyap_glob_match(pattern + 1, "a"));
}
END_TEST

/* A backtracking matcher would not return from this one. */
START_TEST(glob_is_linear)
{
    char text[200001];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    const char *pattern = "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*aaaaaaaaaaaaaaaaaaaaaaaab";
    ck_assert(!lyap_glob_match(pattern, text));
}
END_TEST

int main(void)
{
    test_alloc_install();
    Suite *suite = suite_create("optimizer");
    TCase *tcase = tcase_create("optimizer");
    tcase_add_test(tcase, types_have_names);
    tcase_add_test(tcase, defaults_are_those_of_torch);
    tcase_add_loop_test(tcase, constants_have_ranges, 0, sizeof constants / sizeof *constants);
    tcase_add_test(tcase, nesterov_needs_momentum);
    tcase_add_test(tcase, prox_and_set_go_with_their_types);
    tcase_add_test(tcase, groups_have_constants);
    tcase_add_test(tcase, groups_are_checked);
    tcase_add_test(tcase, copy_survives_every_failing_allocation);
    tcase_add_test(tcase, glob_agrees_with_the_obvious_matcher);
    tcase_add_test(tcase, glob_of_any_length);
    tcase_add_test(tcase, glob_is_linear);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
