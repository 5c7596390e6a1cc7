"""Scoring protocol: which alarms are right, which are false, and with what uncertainty.

    window    of an event: [max(onset - HORIZON, fault, end of the event before), onset + 1]; found if the alarm is active
              anywhere in it; lead = onset - first active step there
    warm      onset >= WARM; foreseeable: warm, and at least one step between the window's begin and the onset
    early     an alarm strictly before the onset, among foreseeable events
    healthy   stable runs: all steps but the AFTER ones behind a fault that did no harm. Unstable runs: the steps up to
              2 HORIZON before the first onset and before the fault. Borderline runs: none. The rest counts neither way
    false     an alarm episode starting in healthy steps; one that stays on counts again every REFRACTORY steps
    alarmed   stable runs without any fault that had a false alarm, as a share of such runs

Intervals: 95 %, percentiles of a bootstrap over whole runs. Where nothing, or everything, was found a bootstrap has no
width; then the exact binomial bound (for rates: Poisson) takes its place, with events (steps) as if independent.
"""
import math

import numpy as np

HORIZON, AFTER, REFRACTORY, WARM = 50, 50, 25, 12
RESAMPLES = 2000


class Judged:
    """A run's ground truth, ready to judge alarms: events and healthy steps."""

    def __init__(self, family, seed, truth):
        self.family, self.seed, self.truth, self.steps = family, seed, truth, truth["steps"]
        self.stable = truth["label"] == "stable"
        self.healthy = np.ones(self.steps, bool)
        self.events = []  # (begin, onset, end) with end excluded
        if truth["label"] == "borderline":
            self.healthy[:] = False
            return
        inject = truth["inject"]
        if inject >= 0:
            self.healthy[inject : inject + AFTER + 1] = False
        before = 0
        for k, (onset, _, recover) in enumerate(truth["events"]):
            begin = max(onset - HORIZON, before, 0)
            if 0 <= inject <= onset:
                begin = max(begin, inject)
            if k == 0:
                self.healthy[max(0, onset - 2 * HORIZON) :] = False
                if 0 <= inject <= onset:
                    self.healthy[inject:] = False
            self.events.append((begin, onset, min(onset + 2, self.steps)))
            before = self.steps if recover < 0 else min(self.steps, recover + AFTER + 1)

    def judge(self, alarm):
        """Counts of one run; `alarm`: one boolean a step."""
        alarm = np.asarray(alarm, bool)
        assert len(alarm) == self.steps, (self.family, self.seed, len(alarm), self.steps)
        found = warm = warm_found = foreseen = foreseeable = 0
        leads = []
        for begin, onset, end in self.events:
            active = np.flatnonzero(alarm[begin:end])
            hit = len(active) > 0
            first = begin + int(active[0]) if hit else None
            found += hit
            if hit:
                leads.append(onset - first)
            if onset >= WARM:
                warm, warm_found = warm + 1, warm_found + hit
                if onset > begin:
                    foreseeable, foreseen = foreseeable + 1, foreseen + (hit and first < onset)
        false = episodes(alarm & self.healthy)
        whole = self.stable and bool(self.healthy.all())
        return dict(
            family=self.family, seed=self.seed, events=len(self.events), found=found, warm=warm,
            warm_found=warm_found, foreseeable=foreseeable, foreseen=foreseen, leads=leads, false=false,
            healthy=int(self.healthy.sum()), runs=int(whole), alarmed=int(whole and false > 0),
        )


def episodes(alarm):
    """Number of alarms in a boolean series, those within REFRACTORY steps of a counted one left out."""
    count, last = 0, -(10**9)
    for t in np.flatnonzero(alarm):
        if t - last > REFRACTORY:
            count, last = count + 1, t
    return count


RATIOS = {  # name: (numerator, denominator, per)
    "recall": ("found", "events", 1),
    "warm": ("warm_found", "warm", 1),
    "early": ("foreseen", "foreseeable", 1),
    "false": ("false", "healthy", 1e4),
    "alarmed": ("alarmed", "runs", 1),
}


def exact_bounds(hits, of, per):
    """The one-sided 97.5 % bound where all or nothing was seen; binomial, Poisson for rates per 10 000."""
    if of == 0:
        return (math.nan, math.nan)
    if hits == 0:
        return (0.0, per * -math.log(0.025) / of) if per > 1 else (0.0, 1 - 0.025 ** (1 / of))
    return (0.025 ** (1 / of), 1.0)


def summary(records, resamples=RESAMPLES, seed=0):
    """{name: (value, low, high)} of RATIOS and of the median `lead`, over records of Judged.judge."""
    keys = sorted({k for a, b, _ in RATIOS.values() for k in (a, b)})
    table = {k: np.array([q[k] for q in records], float) for k in keys}
    r = np.random.RandomState(seed)
    n = len(records)
    picks = r.randint(0, max(n, 1), (resamples, n)) if resamples and n else np.zeros((0, n), int)
    out = {}
    for name, (over, under, per) in RATIOS.items():
        a, b = table[over].sum(), table[under].sum()
        value = per * a / b if b else math.nan
        low = high = math.nan
        if len(picks) and b:
            top, bottom = table[over][picks].sum(1), table[under][picks].sum(1)
            drawn = per * top[bottom > 0] / bottom[bottom > 0]
            low, high = np.percentile(drawn, [2.5, 97.5])
            if a == 0 or (per == 1 and a == b):
                low, high = exact_bounds(a, b, per)
        out[name] = (value, float(low), float(high))
    out["lead"] = _lead(records, picks[:400])
    out["counts"] = {k: int(v.sum()) for k, v in table.items()}
    return out


def _lead(records, picks):
    leads = [q["leads"] for q in records]
    every = [x for q in leads for x in q]
    if not every:
        return (math.nan, math.nan, math.nan)
    drawn = []
    for pick in picks:
        chosen = [x for i in pick for x in leads[i]]
        if chosen:
            drawn.append(np.median(chosen))
    low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (math.nan, math.nan)
    return (float(np.median(every)), float(low), float(high))


def families(records):
    """{family: records}"""
    out = {}
    for q in records:
        out.setdefault(q["family"], []).append(q)
    return out


def tuned(judged, scores, budget):
    """The least threshold t at which `score > t` gives at most `budget` false alarms per 10 000 healthy steps.

    judged and scores: a list of Judged, and of arrays with one value a step (NaN: no alarm).
    """
    clean = [np.where(np.isnan(v), -np.inf, v) for v in scores]
    values = np.concatenate([v[q.healthy] for q, v in zip(judged, clean)])
    values = np.unique(values[np.isfinite(values)])
    total = sum(int(q.healthy.sum()) for q in judged)
    if not len(values):
        return math.inf

    def rate(limit):
        return 1e4 * sum(episodes((v > limit) & q.healthy) for q, v in zip(judged, clean)) / total

    low, high = 0, len(values) - 1
    if rate(values[high]) > budget:
        return math.inf
    while low < high:
        middle = (low + high) // 2
        if rate(values[middle]) <= budget:
            high = middle
        else:
            low = middle + 1
    return float(values[low])
