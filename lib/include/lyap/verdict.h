/* verdict.h - what the measured growth of perturbations and the predicted one say together: the
 * table of SPEC 4.3. A verdict is a function of the columns of one point, so that it can be read
 * again from the store. It never claims the converse: a finite window can falsify a bound, not
 * prove one. THREADS: pure functions. */
#ifndef LYAP_VERDICT_H
#define LYAP_VERDICT_H

#include "lyap/growth.h"
#include "lyap/point.h"

/* One side is absent: NaN, or has_ false. */
struct lyap_sides {
    bool is_violated;  /* the level monitor of the probe loss is in alarm */
    bool has_function; /* ever a probe, a pair or two snapshots of one function */
    bool has_twin, has_active;
    enum lyap_growth twin;   /* worst of the twins beside `active` */
    enum lyap_growth active; /* of the twin along the active direction */
    double rate, rate_ci;    /* of the fastest twin, per step */
    double log_m;            /* log of the largest gain that a twin showed */
    double ratio;            /* s = accepted curvature / limit */
    double sharpness_rate;   /* log spectral radius at the accepted curvature */
    double lambda_min_rate;  /* the same at the least accepted curvature, where that is negative */
    double gain;             /* sqrt(c2/c1) of the mode energy, where there is one */
    double dissipation;      /* windowed dissipation residual on one function */
};

enum lyap_verdict_mode { LYAP_MODE_NONE, LYAP_MODE_SHARPNESS, LYAP_MODE_LAMBDA_MIN };

/* X(enum, wire name): qualifiers of a verdict, 1u << LYAP_QUALIFIER_*. */
#define LYAP_QUALIFIER_TABLE(X)                                                                    \
    X(SENSITIVE, "sensitive-but-training") /* not reproducible, not diverging */                   \
    X(THEOREM, "theorem-check-failed")     /* growth above what an explicit energy allows */
enum lyap_qualifier {
#define LYAP_QUALIFIER_ENUM(name, wire) LYAP_QUALIFIER_##name,
    LYAP_QUALIFIER_TABLE(LYAP_QUALIFIER_ENUM)
#undef LYAP_QUALIFIER_ENUM
        LYAP_QUALIFIER_COUNT
};

struct lyap_judgement {
    enum lyap_verdict verdict;
    uint32_t qualifiers;
    enum lyap_verdict_mode mode; /* the one that explains what grows or may grow */
    uint8_t trust;               /* enum lyap_trust; C: one side is missing */
    double predicted; /* largest log spectral radius over {0} and the known curvatures; NaN */
};

LYAP_API struct lyap_judgement lyap_verdict_judge(const struct lyap_sides *sides);
/* The sides that stand in the metrics of a point. is_violated and has_function are those that its
 * verdict implies; while a point is made, the caller sets them. */
LYAP_API struct lyap_sides lyap_verdict_sides(const struct lyap_point *point);
/* Does the growth exceed what the mode energy allows (SPEC 4.3)? With the neutral mode the state
 * has no contracting energy: q = 1. The gain may be exceeded twofold, the tolerance of SPEC 4.2; it
 * is compared for methods without memory alone, whose state is what a twin measures. False where a
 * side is missing. */
LYAP_API bool lyap_verdict_contradicts(const struct lyap_sides *sides);
LYAP_API const char *lyap_mode_name(enum lyap_verdict_mode mode); /* NULL: none */
LYAP_API const char *lyap_qualifier_name(enum lyap_qualifier qualifier);

#endif
