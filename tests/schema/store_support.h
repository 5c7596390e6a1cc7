/* store_support.h - a store in a new directory, and rows to put into it. */
#ifndef LYAP_TEST_STORE_SUPPORT_H
#define LYAP_TEST_STORE_SUPPORT_H

#include "store.h"
#include "support.h"

struct test_store {
    char directory[64];
    char path[96];
    struct lyap_store *store;
};

/* A fresh directory with an open, empty store. */
void test_store_init(struct test_store *test);
/* Closes and opens the same file again. */
void test_store_reopen(struct test_store *test);
void test_store_close(struct test_store *test);
/* Closes and removes everything. */
void test_store_release(struct test_store *test);
struct lyap_store_options test_store_options(const char *path);

/* Asserts OK, with the writer's error text. */
void test_store_ok(struct lyap_store *store, enum lyap_status status, const char *what);
#define STORE_OK(store, expression) test_store_ok((store), (expression), #expression)

void test_begin(struct lyap_store *store);
void test_commit(struct lyap_store *store);
/* A run with attempt 1, committed. */
struct lyap_run_record test_put_run(struct lyap_store *store, const char *name,
                                    const char *labels_json);
void test_put_attempt(struct lyap_store *store, int64_t run_id, uint32_t attempt);
/* A point whose loss is `loss`; every other metric absent. */
void test_point(struct lyap_point *ret_point, uint32_t attempt, int64_t step, double loss);

/* Every field as a caller that wants everything sets it. */
struct lyap_query test_query(enum lyap_table table, const char *run);
struct lyap_cursor *test_open(struct lyap_store *store, const struct lyap_query *query);
/* Rows of the query. */
uint32_t test_count(struct lyap_store *store, const struct lyap_query *query);
/* Bit by bit, NaN equal to NaN. */
bool test_same_bits(double a, double b);
/* One integer answered by a second connection, as a person's sqlite3 session gets it. */
int64_t test_sql_int(const char *path, const char *sql);

#endif
