"""Tables of docs/rescue.md."""
import statistics

from families import FAMILIES
from judge import HARM
from kinds import KINDS, kind_of

WAYS = ("in time", "late")
ACTS = ("skip", "reduce_lr", "rollback", "stop")


def number(value):
    return float(value)


def one(row):
    """A line about one run."""
    parts = ["%-20s %3d %-10s end %-8.3g" % (row["family"], row["seed"], row["label"], number(row["end"]))]
    for way in WAYS:
        w = row["ways"][way]
        parts.append("%s: %s%s end %.3g, %d skipped, %d cuts, %d back%s%s" % (
            way, w["label"], " WELL" if w.get("well") else "", number(w["end"]), w["skipped"], w["cuts"], w["rollbacks"],
            ", stopped" if w["is_over"] else "", " ERRORS %s" % w["errors"] if w["errors"] else ""))
    return " | ".join(parts)


def failing(rows):
    return [row for row in rows if row["events"]]


def healthy(rows):
    return [row for row in rows if row["label"] == "stable"]


def table(head, lines):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] +
                     ["| " + " | ".join(str(cell) for cell in cells) + " |" for cells in lines])


def _acts(rows, way):
    """Runs that ended well where the act was made, of those where it was."""
    cells = []
    for act in ACTS:
        met = [row["ways"][way] for row in rows if any(e["kind"] == act for e in row["ways"][way]["acts"])]
        cells.append("%d of %d" % (sum(w["well"] for w in met), len(met)) if met else "-")
    return cells


def _saved_row(name, rows):
    cells = [name, len(rows), sum(row["well"] for row in rows)]
    for way in WAYS:
        ways = [row["ways"][way] for row in rows]
        cells += ["%d" % sum(w["well"] for w in ways), sum(w["events"] == 0 for w in ways)]
    spoilt = [[row["ways"][way] for row in rows if row["well"] and not row["ways"][way]["well"]] for way in WAYS]
    return cells + [len(ways) for ways in spoilt] + [sum(w["is_cut_short"] for ways in spoilt for w in ways)]


SAVED = ["failing runs", "end well ignored", "in time", "of these no event", "late", "of these no event",
         "well ignored, not in time", "well ignored, not late", "of both cut short"]


def saved(rows):
    rows = failing(rows)
    lines = [_saved_row(kind, found) for kind in KINDS
             for found in [[row for row in rows if kind_of(row["family"]) == kind]] if found]
    controls = [row for row in rows if kind_of(row["family"]) == "other"]
    if controls:
        lines.append(_saved_row("controls that had an event", controls))
    return table(["what fails"] + SAVED, lines + [_saved_row("**all**", rows)])


def acts(rows):
    rows = failing(rows)
    head = ["what fails"] + ["%s %s" % (act, way) for way in WAYS for act in ("skip", "lower rate", "rollback", "stop")]
    groups = [(kind, [row for row in rows if kind_of(row["family"]) == kind]) for kind in KINDS]
    return table(head, [[name] + _acts(found, "in time") + _acts(found, "late")
                         for name, found in groups + [("**all**", rows)] if found])


def families(rows):
    lines = []
    for family in FAMILIES:
        found = [row for row in failing(rows) if row["family"] == family]
        if found:
            lines.append(_saved_row("`%s`" % family, found))
    return table(["family"] + SAVED, lines)


def _median(values):
    return statistics.median(values) if values else float("nan")


def costs(rows):
    rows = healthy(rows)
    steps = sum(row["steps"] for row in rows)
    lines = []
    for way in WAYS:
        w = [row["ways"][way] for row in rows]
        touched = [x for x in w if not x["is_same"]]
        lines.append([
            way, len(w), len(w) - len(touched), sum(x["skipped"] for x in w), sum(x["cuts"] for x in w),
            sum(x["rollbacks"] for x in w), "%d (%.2f %%)" % (sum(x["went_back"] for x in w), 100 * sum(x["went_back"] for x in w) / max(1, steps)),
            sum(x["is_over"] for x in w), "%.2g" % _median([x["lowest"] for x in w if x["cuts"] or x["rollbacks"]]),
            sum(number(x["harm"]) > HARM for x in w), sum(x["events"] > 0 for x in w)])
    return table(["followed", "healthy runs", "bit by bit as ignored", "updates left out", "rate cuts", "rollbacks", "steps gone back",
                   "stopped", "median rate, of its own, where cut", "harmed", "with an event"], lines)


def times(rows):
    lines = []
    for way in WAYS:
        w = [row["ways"][way] for row in rows]
        late = [step for x in w for step in x["lateness"]]
        lines.append([way, "%.2f" % _median([row["ms"] for row in rows]), "%.2f" % _median([x["wait_ms"] for x in w]),
                      "%.2f" % _median([x["ms"] for x in w]), len(late), "%g" % _median(late), max(late, default=0)])
    return table(["followed", "ms a step ignored", "ms of push and answer", "ms a step followed", "acts", "median steps late",
                   "most"], lines)


TABLES = {"saved": saved, "acts": acts, "families": families, "costs": costs, "times": times}


def put(document, found):
    """Replaces the tables of that name in the document."""
    from report import replace
    text = document.read_text()
    for name, body in found.items():
        text = replace(text, name, body)
    document.write_text(text)


def write(document, rows):
    put(document, {name: make(rows) for name, make in TABLES.items()})
