#!/usr/bin/env python3
"""Writes tests/oracle/score_values.h, scores of random observables by score.py:
`/usr/bin/python3 tests/oracle/score_values.py > tests/oracle/score_values.h`, then clang-format -i."""
import math

import numpy as np

from score import Table, observables

# What tells the tables of pushes without tensors, of those without an update, or of jobs with a probe, from the others.
TENSORS, NORMS = ["tensors"], ["grad_growth", "grad_rise", "param_step"]
UPDATE, PROBE = ["predicted_decrease"], ["probe_relapse"]
names, table, r = list(observables().values()), Table(), np.random.RandomState(5)
number = lambda v: "NAN" if math.isnan(v) else repr(float(v))  # noqa: E731
print("/* score_values.h - scores of random observables; made by tests/oracle/score_values.py. */")
print("#ifndef LYAP_SCORE_VALUES_H\n#define LYAP_SCORE_VALUES_H\n\n#include <math.h>\n")
print("/* every observable, then the score now and of the coming update */")
print("static const double golden_scores[40][%d] = {" % (len(names) + 2))
for i in range(40):
    values = np.sinh(r.randn(len(names)) * 1.5)
    values[r.rand(len(names)) < (0.1 if i % 4 else 0.6)] = math.nan
    values[names.index("tensors")] = 1.0
    absent = (UPDATE if i % 8 == 2 else [], TENSORS if i % 2 else [], NORMS if i % 4 == 3 else [], PROBE if i % 8 < 4 else [])
    for name in sum(absent, []):
        values[names.index(name)] = math.nan
    seen = dict(zip(names, values))
    row = list(values) + [table.score("now", seen), table.score("next", seen)]
    print("    { " + ", ".join(number(v) for v in row) + " },")
print("};\n\n#endif")
assert set(table.asked) == set(table.models) and min(table.asked.values()) >= 2, table.asked
