"""The families of the corpus: name -> function(spec, r, seed) that fills a training.Spec.

Names begin with u (unstable by design) or s (stable by design); the label decides, not the name.
"""
import classic
import former
import healthy
import unseen
import unstable

ORIGINAL = list(classic.FAMILIES)
FORMER = list(former.FAMILIES)
UNSEEN = list(unseen.FAMILIES)
FAMILIES = dict(
    classic.FAMILIES, **unstable.FAMILIES, **healthy.FAMILIES, **former.FAMILIES, **unseen.FAMILIES
)


def group_of(family):
    """The part of the corpus it belongs to; `unseen` kinds take no part in any design."""
    if family in ORIGINAL:
        return "original"
    return "unseen" if family in UNSEEN else "added"


TEST_SEED = 3000  # seeds below are for design; from it on they are for tests and trained once the score is frozen
DESIGN_RUNS = {"u": 12, "s": 8}
MORE_SEEDS = range(100, 124)  # all unstable families, controls of three seeds in four
# Seeds from these on tested the second and the third version of the score; once looked at they are for design.
SECOND_TESTS, THIRD_TESTS = 1000, 2000
# Healthy kinds written last: on such runs pushes of the loss alone had alarmed. The blocks of design runs before them are as they were.
LATER, LATER_RUNS = ["s69_idle", "s70_fitted"], 60
# Test runs: enough for twenty events a family, by the share of design runs that had one, and for 200 000
# healthy steps of controls.
TEST_RUNS = {"u": 32, "s": 11}
FORMER_RUNS = {"u": 30, "s": 8}
UNSEEN_RUNS = {"u": 30, "s": 10}
FEW_EVENTS = "u01 u05 u07 u08 u13 u14".split()  # 0.58 .. 0.67 events a run
MANY_EVENTS = "u03 u04 u06 u09 u10 u12 u15 u20 u25 u26 u27 u29 u31 u32 u33".split()  # one or more


def test_runs(family):
    if family in UNSEEN:
        return UNSEEN_RUNS[family[0]]
    if family in FORMER:
        return FORMER_RUNS[family[0]]
    if family[:3] in FEW_EVENTS:
        return 44
    return 26 if family[:3] in MANY_EVENTS else TEST_RUNS[family[0]]


def plan(kind):
    """[(family, seed)] of the runs of `design`, of `probes` or of `test`, all families of a seed together.

    `probes`: design runs that a job with a probe makes, too: the first block, the third one's seeds that 3 divides, and the last."""
    if kind == "test":
        return _block(FAMILIES, TEST_SEED, test_runs)
    known = [f for f in FAMILIES if f not in UNSEEN]
    early = [f for f in known if f not in FORMER + LATER]  # the kinds of the first two versions' design
    first, third = _block(early, 0, lambda f: DESIGN_RUNS[f[0]]), _block(early + FORMER, THIRD_TESTS, test_runs)
    later = _block(LATER, 0, lambda f: LATER_RUNS)
    if kind == "probes":
        return first + later + [(f, s) for f, s in third if s % 3 == 0]
    more = [(f, s) for s in MORE_SEEDS for f in early if f[0] == "u" or s % 4 != 3]
    return first + more + _block(early, SECOND_TESTS, test_runs) + third + later


def _block(families, seed, count):
    return [(f, seed + i) for i in range(max(map(count, families))) for f in families if i < count(f)]
