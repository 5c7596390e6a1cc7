/* The trainer's command line, from one table. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_type { TEXT, WHOLE, NUMBER, FLAG };

struct option {
    const char *name;
    enum option_type type;
    size_t offset;
    double minimum, maximum;
    const char *help;
};

static const struct option table[] = {
    { "--url", TEXT, offsetof(struct options, url), 0, 0,
      "of lyapd; without it nothing is pushed" },
    { "--token", TEXT, offsetof(struct options, token), 0, 0, "bearer token" },
    { "--run", TEXT, offsetof(struct options, run), 0, 0, "name of the run" },
    { "--data", TEXT, offsetof(struct options, data), 0, 0, "digits.txt" },
    { "--steps", WHOLE, offsetof(struct options, steps), 1, 1e7, "updates" },
    { "--batch", WHOLE, offsetof(struct options, batch), 1, 1e5, "samples a step" },
    { "--lr", NUMBER, offsetof(struct options, lr), 1e-12, 1e6, "learning rate" },
    { "--momentum", NUMBER, offsetof(struct options, momentum), 0, 0.9999, "heavy ball" },
    { "--raise-at", WHOLE, offsetof(struct options, raise_at), 0, 1e7, "step of the fault" },
    { "--raise-lr", NUMBER, offsetof(struct options, raise_lr), 1e-12, 1e6, "learning rate then" },
    { "--poison-at", WHOLE, offsetof(struct options, poison_at), 0, 1e7,
      "step whose batch holds a NaN" },
    { "--corrupt-at", WHOLE, offsetof(struct options, corrupt_at), 0, 1e7,
      "step after which a weight is infinite" },
    { "--probe-every", WHOLE, offsetof(struct options, probe_every), 0, 1e6,
      "steps between curvature probes; 0: none" },
    { "--report-every", WHOLE, offsetof(struct options, report_every), 1, 1e7, "steps" },
    { "--seed", WHOLE, offsetof(struct options, seed), 0, 1e9, "of model and batches" },
    { "--obey", FLAG, offsetof(struct options, is_obeying), 0, 0, "follow the advised action" },
    { "--partial", FLAG, offsetof(struct options, is_partial), 0, 0, "push sums, not tensors" },
};

static const char *const expectations[] = { "nothing", "calm", "alert", "rescue" };

static void print_help(void)
{
    printf("Trains a small network on handwritten digits and tells lyapd about it.\n");
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        printf("  %-15s %s\n", table[i].name, table[i].help);
    printf(
        "  --expect W      nothing, calm, alert (before the loss triples), rescue: the exit status"
        "\n                  says whether it came so\n");
}

static bool set_number(const struct option *option, const char *text, void *target)
{
    char *end;
    errno = 0;
    const double value = strtod(text, &end);
    const bool is_whole = option->type == NUMBER || value == floor(value);
    if (errno != 0 || end == text || *end || !is_whole || !(value >= option->minimum) ||
        !(value <= option->maximum)) {
        fprintf(stderr, "trainer: %s %s: a%s number from %g to %g\n", option->name, text,
                option->type == WHOLE ? " whole" : "", option->minimum, option->maximum);
        return false;
    }
    if (option->type == WHOLE)
        *(long *)target = (long)value;
    else
        *(double *)target = value;
    return true;
}

static bool set_expectation(const char *text, struct options *options)
{
    for (size_t i = 0; i < sizeof expectations / sizeof *expectations; i++)
        if (strcmp(text, expectations[i]) == 0) {
            options->expectation = (enum expectation)i;
            return true;
        }
    fprintf(stderr, "trainer: --expect %s: nothing, calm, alert or rescue\n", text);
    return false;
}

static const struct option *find(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(name, table[i].name) == 0)
            return &table[i];
    return NULL;
}

/* Takes one option with its value; *index moves past the value. */
static bool take(int argc, char **argv, int *index, struct options *options)
{
    const char *name = argv[*index];
    const struct option *option = find(name);
    const bool is_expectation = strcmp(name, "--expect") == 0;
    if (!option && !is_expectation) {
        fprintf(stderr, "trainer: unknown option %s (see --help)\n", name);
        return false;
    }
    if (option && option->type == FLAG) {
        *(bool *)((char *)options + option->offset) = true;
        return true;
    }
    if (*index + 1 >= argc) {
        fprintf(stderr, "trainer: %s needs a value\n", name);
        return false;
    }
    const char *value = argv[++*index];
    if (is_expectation)
        return set_expectation(value, options);
    void *target = (char *)options + option->offset;
    if (option->type != TEXT)
        return set_number(option, value, target);
    *(const char **)target = value;
    return true;
}

bool options_parse(int argc, char **argv, struct options *ret_options)
{
    struct options options = { .run = "digits",
                               .data = "clients/c/examples/data/digits.txt",
                               .steps = 300,
                               .batch = 500,
                               .lr = 0.3,
                               .momentum = 0,
                               .raise_at = NEVER,
                               .poison_at = NEVER,
                               .corrupt_at = NEVER,
                               .raise_lr = 1.5,
                               .probe_every = 5,
                               .report_every = 20,
                               .seed = 1 };
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            print_help();
            exit(EXIT_SUCCESS);
        }
        if (!take(argc, argv, &i, &options))
            return false;
    }
    *ret_options = options;
    return true;
}
