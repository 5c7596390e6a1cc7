/* Which receivers an alert goes to; the set of them; the file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lyap/alloc.h"
#include "receivers.h"
#include "support.h"

static struct lyap_receiver receiver_of(const char *name)
{
    struct lyap_receiver receiver = { .type = LYAP_RECEIVER_WEBHOOK,
                                      .target = "https://a.example/",
                                      .secret = "s",
                                      .min_severity = LYAP_SEVERITY_WARNING };
    (void)snprintf(receiver.name, sizeof receiver.name, "%s", name);
    return receiver;
}

static const struct {
    const char *notify, *selector, *run_labels;
    enum lyap_severity min, severity;
    bool is_meant;
} cases[] = {
    { NULL, NULL, NULL, LYAP_SEVERITY_WARNING, LYAP_SEVERITY_INFO, false },
    { NULL, NULL, NULL, LYAP_SEVERITY_WARNING, LYAP_SEVERITY_WARNING, true },
    { NULL, NULL, NULL, LYAP_SEVERITY_WARNING, LYAP_SEVERITY_CRITICAL, true },
    { NULL, "{\"a\":\"1\"}", NULL, LYAP_SEVERITY_INFO, LYAP_SEVERITY_CRITICAL, false },
    { NULL, "{\"a\":\"1\"}", "{\"a\":\"1\",\"b\":\"2\"}", LYAP_SEVERITY_INFO, LYAP_SEVERITY_INFO,
      true },
    { NULL, "{\"a\":\"1\"}", "{\"a\":\"2\"}", LYAP_SEVERITY_INFO, LYAP_SEVERITY_INFO, false },
    { "[\"ops\"]", "{\"a\":\"1\"}", NULL, LYAP_SEVERITY_CRITICAL, LYAP_SEVERITY_INFO, true },
    { "[\"other\",\"ops\"]", NULL, NULL, LYAP_SEVERITY_INFO, LYAP_SEVERITY_INFO, true },
    { "[\"opsx\"]", NULL, NULL, LYAP_SEVERITY_INFO, LYAP_SEVERITY_CRITICAL, false },
    { "[]", NULL, NULL, LYAP_SEVERITY_INFO, LYAP_SEVERITY_CRITICAL, false },
};

START_TEST(who_is_meant)
{
    struct lyap_receivers receivers = LYAP_RECEIVERS_NULL;
    struct lyap_receiver receiver = receiver_of("ops");
    struct lyap_labels labels;
    receiver.min_severity = cases[_i].min;
    receiver.labels_json = cases[_i].selector;
    ck_assert_int_eq(lyap_receivers_put(&receivers, &receiver, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_labels_parse(cases[_i].run_labels, &labels), LYAP_OK);
    ck_assert_int_eq(lyap_receiver_is_meant(lyap_receivers_find(&receivers, "ops"),
                                            cases[_i].notify, cases[_i].severity, &labels),
                     cases[_i].is_meant);
    lyap_labels_release(&labels);
    lyap_receivers_release(&receivers);
}
END_TEST

START_TEST(names_of_rules_must_be_receivers)
{
    struct lyap_receivers receivers = LYAP_RECEIVERS_NULL;
    const struct lyap_receiver receiver = receiver_of("ops");
    struct lyap_error error = LYAP_ERROR_NULL;
    ck_assert_int_eq(lyap_receivers_put(&receivers, &receiver, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_receivers_check(&receivers, NULL, NULL), LYAP_OK);
    ck_assert_int_eq(lyap_receivers_check(&receivers, "[]", NULL), LYAP_OK);
    ck_assert_int_eq(lyap_receivers_check(&receivers, "[\"ops\"]", NULL), LYAP_OK);
    ck_assert_int_eq(lyap_receivers_check(&receivers, "[\"ops\",\"nobody\"]", &error),
                     LYAP_E_INVALID);
    ck_assert_ptr_nonnull(strstr(error.text, "nobody"));
    lyap_receivers_release(&receivers);
}
END_TEST

START_TEST(the_set_is_bounded_and_replaced_by_name)
{
    struct lyap_receivers receivers = LYAP_RECEIVERS_NULL;
    struct lyap_error error = LYAP_ERROR_NULL;
    char name[16];
    for (int i = 0; i < LYAP_RECEIVER_COUNT_MAX; i++) {
        (void)snprintf(name, sizeof name, "r%d", i);
        const struct lyap_receiver receiver = receiver_of(name);
        ck_assert_int_eq(lyap_receivers_put(&receivers, &receiver, &error), LYAP_OK);
    }
    struct lyap_receiver more = receiver_of("more");
    ck_assert_int_eq(lyap_receivers_put(&receivers, &more, &error), LYAP_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(error.text, "64"));
    /* One that borrows from the one that it replaces. */
    more = lyap_receivers_find(&receivers, "r7")->receiver;
    more.target = "https://b.example/";
    ck_assert_int_eq(lyap_receivers_put(&receivers, &more, NULL), LYAP_OK);
    ck_assert_uint_eq(receivers.count, LYAP_RECEIVER_COUNT_MAX);
    ck_assert_str_eq(lyap_receivers_find(&receivers, "r7")->receiver.target, "https://b.example/");
    ck_assert_str_eq(lyap_receivers_find(&receivers, "r7")->receiver.secret, "s");
    lyap_receivers_remove(&receivers, "r7");
    lyap_receivers_remove(&receivers, "r7");
    ck_assert_ptr_null(lyap_receivers_find(&receivers, "r7"));
    ck_assert_uint_eq(receivers.count, LYAP_RECEIVER_COUNT_MAX - 1);
    lyap_receivers_release(&receivers);
}
END_TEST

START_TEST(want_of_memory_leaves_the_set_as_it_was)
{
    struct lyap_receivers receivers = LYAP_RECEIVERS_NULL;
    struct lyap_receiver receiver = receiver_of("ops");
    const int64_t live = test_alloc_live();
    ck_assert_int_eq(lyap_receivers_put(&receivers, &receiver, NULL), LYAP_OK);
    receiver.target = "https://b.example/";
    receiver.labels_json = "{\"a\":\"1\"}";
    enum lyap_status status = LYAP_E_NOMEM;
    for (uint64_t n = 1; status != LYAP_OK; n++) {
        ck_assert_str_eq(lyap_receivers_find(&receivers, "ops")->receiver.target,
                         "https://a.example/");
        test_alloc_fail_at(n);
        status = lyap_receivers_put(&receivers, &receiver, NULL);
        ck_assert(status == LYAP_OK || status == LYAP_E_NOMEM);
    }
    test_alloc_fail_at(0);
    ck_assert_str_eq(lyap_receivers_find(&receivers, "ops")->receiver.target, "https://b.example/");
    lyap_receivers_release(&receivers);
    ck_assert_int_eq(test_alloc_live(), live);
}
END_TEST

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(a_file_of_receivers)
{
    static const struct {
        const char *text, *word;
    } wrong[] = {
        { "", "line" },
        { "[]", "object" },
        { "{\"a\":1}", "'a'" },
        { "{\"a\":{\"type\":\"log\"},\"a\":{\"type\":\"log\"}}", "duplicate" },
        { "{\"a\":{\"type\":\"webhook\"}}", "url" },
    };
    struct lyap_receivers receivers = LYAP_RECEIVERS_NULL;
    struct lyap_error error = LYAP_ERROR_NULL;
    char path[] = "/tmp/lyap-receivers-XXXXXX";
    const int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        error = (struct lyap_error)LYAP_ERROR_NULL;
        write_file(path, wrong[i].text);
        ck_assert_int_eq(lyap_receivers_read_file(path, &receivers, &error), LYAP_E_INVALID);
        ck_assert_msg(strstr(error.text, wrong[i].word) != NULL, "%s", error.text);
        ck_assert_uint_eq(receivers.count, 0);
    }
    write_file(path, "{\"a\":{\"type\":\"log\"},\"b\":{\"type\":\"sendmail\",\"to\":\"root\"}}");
    ck_assert_int_eq(lyap_receivers_read_file(path, &receivers, &error), LYAP_OK);
    ck_assert_uint_eq(receivers.count, 2);
    ck_assert(lyap_receivers_find(&receivers, "b")->receiver.is_from_file);
    ck_assert_str_eq(lyap_receivers_find(&receivers, "b")->receiver.target, "root");
    lyap_receivers_release(&receivers);
    (void)unlink(path);
    ck_assert_int_eq(lyap_receivers_read_file(path, &receivers, &error), LYAP_E_INVALID);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("receivers");
    TCase *tcase = tcase_create("receivers");
    test_alloc_install();
    tcase_add_loop_test(tcase, who_is_meant, 0, sizeof cases / sizeof *cases);
    tcase_add_test(tcase, names_of_rules_must_be_receivers);
    tcase_add_test(tcase, the_set_is_bounded_and_replaced_by_name);
    tcase_add_test(tcase, want_of_memory_leaves_the_set_as_it_was);
    tcase_add_test(tcase, a_file_of_receivers);
    suite_add_tcase(suite, tcase);
    return test_main(suite);
}
