/* Convolutions: the oracle's, closed forms, and 1000 random operators written out as matrices, with
 * stride, dilation, groups and every padding that is allowed. */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "lyap/blas.h"
#include "lyap/conv.h"
#include "lyap/spectral.h"
#include "support.h"
#include "../oracle/representation_values.h"

#define ROWS(table) (sizeof(table) / sizeof *(table))

enum { KERNEL_MAX = 512, MATRIX_MAX = 1 << 15 };

static struct lyap_conv dense(const double *kernel, uint32_t out, uint32_t in, uint32_t rows,
                              uint32_t cols)
{
    return (struct lyap_conv){ .kernel = kernel,
                               .out = out,
                               .in = in,
                               .groups = 1,
                               .size = { rows, cols },
                               .stride = { 1, 1 },
                               .dilation = { 1, 1 } };
}

static double torus(const struct lyap_conv *conv, uint32_t rows, uint32_t cols)
{
    double norm;
    ck_assert_int_eq(lyap_conv_torus_norm(conv, rows, cols, &norm), LYAP_OK);
    return norm;
}

static double reshaped(const struct lyap_conv *conv)
{
    double upper;
    ck_assert_int_eq(lyap_conv_reshape_upper(conv, &upper), LYAP_OK);
    return upper;
}

/* Where nothing wraps around: an upper bound for zero padding (SPEC 1.3). */
static double longer_torus(const struct lyap_conv *conv, uint32_t rows, uint32_t cols)
{
    return torus(conv, rows + (conv->size[0] - 1) * conv->dilation[0],
                 cols + (conv->size[1] - 1) * conv->dilation[1]);
}

START_TEST(test_oracle)
{
    for (size_t i = 0; i < ROWS(golden_conv); i++) {
        const double *row = golden_conv[i];
        struct test_rng rng = { (uint64_t)row[0] };
        double kernel[KERNEL_MAX];
        struct lyap_conv c =
            dense(kernel, (uint32_t)row[1], (uint32_t)row[2], (uint32_t)row[3], (uint32_t)row[4]);
        const uint32_t n1 = (uint32_t)row[5], n2 = (uint32_t)row[6];
        test_rng_normals(&rng, kernel, (uint64_t)(row[1] * row[2] * row[3] * row[4]));
        test_close(reshaped(&c), row[8], 1e-12);
        test_close(torus(&c, n1, n2), row[10], 1e-12);
        test_close(longer_torus(&c, n1, n2), row[11], 1e-12);
        c.stride[0] = c.stride[1] = (uint32_t)row[7];
        test_close(reshaped(&c), row[9], 1e-12);
    }
}
END_TEST

/* T2 and other kernels whose norm is known. */
START_TEST(test_closed_forms)
{
    double ones[9], delta[9] = { 0 }, edge[2] = { 1, -1 };
    for (int i = 0; i < 9; i++)
        ones[i] = 1;
    delta[3] = -2;
    const struct lyap_conv box = dense(ones, 1, 1, 3, 3), shift = dense(delta, 1, 1, 3, 3);
    const struct lyap_conv difference = dense(edge, 1, 1, 1, 2);
    test_close(torus(&box, 8, 8), 9, 1e-13); /* frequency 0 */
    ck_assert(reshaped(&box) >= 9 - 1e-9);
    test_close(torus(&shift, 5, 7), 2, 1e-13);
    test_close(torus(&difference, 1, 8), 2, 1e-13);                      /* the highest frequency */
    test_close(torus(&difference, 1, 7), 2 * cos(acos(-1) / 14), 1e-13); /* an odd side has none */
    /* 1 x 1 kernels are their matrix, whatever the image. */
    struct test_rng rng = { 3 };
    double values[12], norm;
    test_rng_normals(&rng, values, 12);
    const struct lyap_conv pointwise = dense(values, 3, 4, 1, 1);
    ck_assert_int_eq(lyap_spectral_norm(&(struct lyap_spectral_matrix){ values, 3, 4 }, &norm),
                     LYAP_OK);
    test_close(torus(&pointwise, 4, 9), norm, 1e-13);
    test_close(reshaped(&pointwise), norm, 1e-13);
}
END_TEST

/* What a random trial looks at. */
struct image {
    struct lyap_conv conv;
    uint32_t rows, cols;
    int padding[2];
    bool is_circular;
};

/* The operator written out: rows are outputs. Returns its norm. */
static double norm_of(const struct image *image, double *matrix)
{
    const struct lyap_conv *c = &image->conv;
    const int side[2] = { (int)image->rows, (int)image->cols };
    int out[2];
    for (int axis = 0; axis < 2; axis++) {
        const int width = (int)((c->size[axis] - 1) * c->dilation[axis]);
        const int positions =
            image->is_circular ? side[axis] : side[axis] + 2 * image->padding[axis] - width;
        if (positions <= 0)
            return 0;
        out[axis] = (positions - 1) / (int)c->stride[axis] + 1;
    }
    const size_t inputs = (size_t)c->in * image->rows * image->cols;
    const size_t outputs = (size_t)c->out * (size_t)out[0] * (size_t)out[1];
    ck_assert_uint_le(inputs * outputs, MATRIX_MAX);
    memset(matrix, 0, inputs * outputs * sizeof *matrix);
    const uint32_t in_each = c->in / c->groups, out_each = c->out / c->groups;
    size_t row = 0;
    for (uint32_t o = 0; o < c->out; o++)
        for (int y = 0; y < out[0]; y++)
            for (int x = 0; x < out[1]; x++, row++)
                for (uint32_t k = 0; k < in_each * c->size[0] * c->size[1]; k++) {
                    const uint32_t i = k / (c->size[0] * c->size[1]);
                    const uint32_t a = k / c->size[1] % c->size[0], b = k % c->size[1];
                    int p = y * (int)c->stride[0] + (int)(a * c->dilation[0]) - image->padding[0];
                    int q = x * (int)c->stride[1] + (int)(b * c->dilation[1]) - image->padding[1];
                    if (image->is_circular) {
                        p = (p + 100 * side[0]) % side[0];
                        q = (q + 100 * side[1]) % side[1];
                    }
                    if (p < 0 || p >= side[0] || q < 0 || q >= side[1])
                        continue;
                    const size_t channel = o / out_each * in_each + i;
                    const size_t column =
                        (channel * image->rows + (size_t)p) * image->cols + (size_t)q;
                    matrix[row * inputs + column] +=
                        c->kernel[(size_t)o * in_each * c->size[0] * c->size[1] + k];
                }
    double norm;
    const struct lyap_spectral_matrix w = { matrix, (uint32_t)outputs, (uint32_t)inputs };
    ck_assert_int_eq(lyap_spectral_norm(&w, &norm), LYAP_OK);
    return norm;
}

static uint32_t at_most(struct test_rng *rng, uint32_t limit)
{
    return 1 + (uint32_t)(test_rng_u64(rng) % limit);
}

static struct image random_image(struct test_rng *rng, double *kernel)
{
    struct image image = { .rows = at_most(rng, 5), .cols = at_most(rng, 5) };
    struct lyap_conv *c = &image.conv;
    c->kernel = kernel;
    c->groups = at_most(rng, 2);
    c->out = c->groups * at_most(rng, 2);
    c->in = c->groups * at_most(rng, 2);
    for (int axis = 0; axis < 2; axis++) {
        c->size[axis] = at_most(rng, 3);
        c->stride[axis] = at_most(rng, 3);
        c->dilation[axis] = at_most(rng, 2);
        image.padding[axis] = (int)at_most(rng, 4) - 1;
    }
    test_rng_normals(rng, kernel, (uint64_t)c->out * (c->in / c->groups) * c->size[0] * c->size[1]);
    return image;
}

/* 1000 random operators: the reshape bound, the torus and the zero-padding bound hold; at stride 1
 * the torus norm is exact, also where the kernel wraps around. */
START_TEST(test_certificates)
{
    static double matrix[MATRIX_MAX];
    struct test_rng rng = { 17 };
    int larger = 0;
    for (int trial = 0; trial < 1000; trial++) {
        double kernel[KERNEL_MAX];
        struct image image = random_image(&rng, kernel);
        if (trial % 2)
            image.conv.stride[0] = image.conv.stride[1] = 1;
        const bool is_plain = image.conv.stride[0] == 1 && image.conv.stride[1] == 1;
        const double on_torus = torus(&image.conv, image.rows, image.cols);
        const double padded = norm_of(&image, matrix);
        ck_assert(padded <= reshaped(&image.conv) + 1e-9);
        ck_assert(padded <= longer_torus(&image.conv, image.rows, image.cols) + 1e-9);
        larger += padded > on_torus + 1e-6;
        image.is_circular = true;
        const double circular = norm_of(&image, matrix);
        ck_assert(circular <= on_torus + 1e-9);
        if (is_plain) {
            test_close(on_torus, circular, 1e-11);
            ck_assert(circular <= reshaped(&image.conv) + 1e-9);
        }
    }
    ck_assert_int_gt(larger, 10); /* the torus of the image itself does not bound zero padding */
}
END_TEST

/* Factors, mirrored and shifted kernels, exchanged channels; a depthwise kernel is the worst of its
 * channels. */
START_TEST(test_invariances)
{
    enum { OUT = 3, IN = 2, H = 3, W = 2, COUNT = OUT * IN * H * W };
    struct test_rng rng = { 23 };
    double kernel[COUNT], changed[COUNT], single = 0;
    test_rng_normals(&rng, kernel, COUNT);
    const struct lyap_conv c = dense(kernel, OUT, IN, H, W);
    const double norm = torus(&c, 6, 7);
    static const double factors[] = { -1, 1e150, 1e-150 };
    for (size_t f = 0; f < ROWS(factors); f++) {
        for (int i = 0; i < COUNT; i++)
            changed[i] = factors[f] * kernel[i];
        const struct lyap_conv scaled = dense(changed, OUT, IN, H, W);
        test_close(torus(&scaled, 6, 7) / fabs(factors[f]), norm, 1e-12);
        test_close(reshaped(&scaled) / fabs(factors[f]), reshaped(&c), 1e-12);
    }
    for (int pair = 0; pair < OUT * IN; pair++) /* mirrored: the conjugate symbol */
        for (int tap = 0; tap < H * W; tap++)
            changed[pair * H * W + tap] = kernel[pair * H * W + H * W - 1 - tap];
    const struct lyap_conv mirrored = dense(changed, OUT, IN, H, W);
    test_close(torus(&mirrored, 6, 7), norm, 1e-12);
    test_close(reshaped(&mirrored), reshaped(&c), 1e-12);
    for (int o = 0; o < OUT; o++) /* in and out exchanged: the adjoint, mirrored */
        for (int i = 0; i < IN; i++)
            memcpy(changed + (i * OUT + o) * H * W, kernel + (o * IN + i) * H * W,
                   H * W * sizeof *kernel);
    const struct lyap_conv exchanged = dense(changed, IN, OUT, H, W);
    test_close(torus(&exchanged, 6, 7), norm, 1e-12);
    for (int i = 0; i < OUT * IN; i++) {
        const struct lyap_conv one = dense(kernel + i * H * W, 1, 1, H, W);
        single = fmax(single, torus(&one, 6, 7));
    }
    struct lyap_conv depthwise = dense(kernel, OUT * IN, OUT * IN, H, W);
    depthwise.groups = OUT * IN;
    test_close(torus(&depthwise, 6, 7), single, 1e-14);
    ck_assert(reshaped(&depthwise) >= single - 1e-12);
}
END_TEST

START_TEST(test_zero_and_bad)
{
    double kernel[8] = { 0 }, out = 7;
    struct lyap_conv c = dense(kernel, 2, 1, 2, 2);
    ck_assert(torus(&c, 4, 4) == 0 && reshaped(&c) == 0);
    static const double bad[] = { NAN, INFINITY };
    for (size_t i = 0; i < ROWS(bad); i++) {
        kernel[6] = bad[i];
        ck_assert_int_eq(lyap_conv_torus_norm(&c, 4, 4, &out), LYAP_E_NUMERIC);
        ck_assert_int_eq(lyap_conv_reshape_upper(&c, &out), LYAP_E_NUMERIC);
    }
    kernel[6] = 1;
    ck_assert_int_eq(lyap_conv_torus_norm(&c, LYAP_CONV_SIDE_MAX + 1, 1, &out), LYAP_E_LIMIT);
    const struct lyap_conv heavy = dense(kernel, 512, 512, 1, 1);
    ck_assert(lyap_conv_torus_flops(&heavy, 1000, 1000) > LYAP_CONV_FLOPS_MAX);
    ck_assert_int_eq(lyap_conv_torus_norm(&heavy, 1000, 1000, &out), LYAP_E_LIMIT);
    ck_assert(out == 7);
}
END_TEST

/* Each wrong field is named with its value. */
START_TEST(test_check)
{
    const double kernel[4] = { 0 };
    const struct lyap_conv good = dense(kernel, 2, 2, 1, 1);
    const struct {
        size_t at;
        uint32_t value;
        enum lyap_status status;
        const char *text;
    } cases[] = {
        { offsetof(struct lyap_conv, groups), 0, LYAP_E_INVALID, "0 groups" },
        { offsetof(struct lyap_conv, groups), 3, LYAP_E_INVALID, "3 groups" },
        { offsetof(struct lyap_conv, out), 0, LYAP_E_INVALID, "0 out" },
        { offsetof(struct lyap_conv, in), 0, LYAP_E_INVALID, "0 in" },
        { offsetof(struct lyap_conv, size), 0, LYAP_E_INVALID, "size 0" },
        { offsetof(struct lyap_conv, stride), 0, LYAP_E_INVALID, "stride 0" },
        { offsetof(struct lyap_conv, dilation[1]), 0, LYAP_E_INVALID, "dilation 0" },
        { offsetof(struct lyap_conv, size[1]), UINT32_MAX, LYAP_E_LIMIT, "4294967295" },
        { offsetof(struct lyap_conv, dilation), UINT32_MAX, LYAP_E_LIMIT, "4294967295" },
        { offsetof(struct lyap_conv, stride), 1025, LYAP_E_LIMIT, "stride 1025" },
        { offsetof(struct lyap_conv, out), 1u << 31, LYAP_E_LIMIT, "elements" },
    };
    ck_assert_int_eq(lyap_conv_check(&good, NULL), LYAP_OK);
    for (size_t i = 0; i < ROWS(cases); i++) {
        struct lyap_conv c = good;
        struct lyap_error err = LYAP_ERROR_NULL;
        memcpy((char *)&c + cases[i].at, &cases[i].value, sizeof cases[i].value);
        ck_assert_int_eq(lyap_conv_check(&c, &err), cases[i].status);
        ck_assert_msg(strstr(err.text, cases[i].text), "%s", err.text);
    }
    struct lyap_conv c = good;
    c.kernel = NULL;
    ck_assert_int_eq(lyap_conv_check(&c, NULL), LYAP_E_INVALID);
}
END_TEST

START_TEST(test_no_memory)
{
    struct test_rng rng = { 29 };
    double kernel[36], out;
    test_rng_normals(&rng, kernel, 36);
    const struct lyap_conv c = dense(kernel, 2, 2, 3, 3);
    test_alloc_install();
    for (int call = 0; call < 2; call++) {
        enum lyap_status status = LYAP_E_NOMEM;
        for (uint64_t n = 1; status != LYAP_OK; n++) {
            test_alloc_fail_at(n);
            status =
                call ? lyap_conv_torus_norm(&c, 4, 4, &out) : lyap_conv_reshape_upper(&c, &out);
            ck_assert(status == LYAP_OK ? n > 1 : status == LYAP_E_NOMEM);
            ck_assert_int_eq(test_alloc_live(), 0);
            ck_assert_uint_lt(n, 30);
        }
        test_alloc_fail_at(0);
    }
}
END_TEST

int main(void)
{
    lyap_blas_one_thread();
    Suite *suite = suite_create("conv");
    TCase *tests = tcase_create("conv");
    tcase_add_test(tests, test_oracle);
    tcase_add_test(tests, test_closed_forms);
    tcase_add_test(tests, test_certificates);
    tcase_add_test(tests, test_invariances);
    tcase_add_test(tests, test_zero_and_bad);
    tcase_add_test(tests, test_check);
    tcase_add_test(tests, test_no_memory);
    suite_add_tcase(suite, tests);
    return test_main(suite);
}
