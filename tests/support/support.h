/* support.h - what several test programs share: failing allocators, running a suite. */
#ifndef LYAP_TEST_SUPPORT_H
#define LYAP_TEST_SUPPORT_H

#include <check.h>
#include <stdint.h>

#include "rng.h"

/* Makes the n-th allocation of liblyap from now on fail (n from 1; 0: none), once. */
void test_alloc_fail_at(uint64_t n);
/* Whether it was reached since; and how many blocks are live. Call test_alloc_install first. */
void test_alloc_install(void);
uint64_t test_alloc_count(void);
int64_t test_alloc_live(void);

/* |a - b| <= tol * max(1, |b|) */
#define test_close(a, b, tol)                                                                      \
    do {                                                                                           \
        const double test_a = (a), test_b = (b);                                                   \
        const double test_scale = test_b < -1 || test_b > 1 ? (test_b < 0 ? -test_b : test_b) : 1; \
        ck_assert_msg(test_a - test_b <= (tol)*test_scale && test_b - test_a <= (tol)*test_scale,  \
                      "%s = %.17g, expected %.17g (%s)", #a, test_a, test_b, #b);                  \
    } while (0)

/* Runs the suite and returns main's exit status. */
int test_main(Suite *suite);

#endif
