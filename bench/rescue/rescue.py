#!/usr/bin/env python3
"""Trains the families of bench/detection with and without lyapd's advice and counts what was saved (README.md).

    run [--families u05_tfm_hilr s10 ...] [--seeds N] [--first SEED] [-j N] [--save FILE | --load FILE] [--write]
"""
import argparse
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import follow
import judge
import tables
from families import FAMILIES, FORMER, TEST_SEED, UNSEEN

BUILD = Path(os.environ.get("LYAP_BUILD_DIR", follow.ROOT / "build"))
FIRST_SEED = 500  # of neither the design of the score nor its test
FRESH_SEED = 3100  # from here on nobody has looked at them: for the published tables
WAYS = {"in time": 0, "late": 1}  # steps by which the answers come late
START_SECONDS = 30


class Daemon:
    """A lyapd on a free port with a database of its own."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="lyapd-rescue-")
        self.log = open(os.path.join(self.folder, "log"), "w")
        self.process = subprocess.Popen(
            [BUILD / "bin/lyapd", "--listen", "127.0.0.1:0", "--db", os.path.join(self.folder, "lyapd.db")],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        timer = threading.Timer(START_SECONDS, self.process.kill)
        timer.start()
        said = self.process.stdout.readline()
        timer.cancel()
        if "listening on " not in said:
            raise SystemExit("lyapd did not start: " + Path(self.folder, "log").read_text())
        self.url = said.split("listening on ")[1].strip()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.process.stdout.close()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def finite(value):
    return value if math.isfinite(value) else repr(value)


def followed(url, family, seed, way, alone, level, onset):
    """What the advice did to one run, compared with the same run `alone`."""
    run = follow.Followed(family, seed)
    run.follow(url, "%s.%d.%s" % (family, seed, way.replace(" ", "-")), WAYS[way])
    guard, floor = run.guard, run.spec.floor
    found = dict(
        label=run.truth["label"], events=len(run.truth["events"]), steps=len(run.probe), end=finite(judge.final(run.probe, floor)),
        skipped=guard.skipped, cuts=guard.cuts, rollbacks=guard.rollbacks, went_back=guard.went_back, late=guard.late,
        is_over=guard.is_over, lowest=run.lowest, lateness=run.lateness, errors=run.monitor.errors[-3:],
        acts=[dict(e, lr_max=finite(e.get("lr_max", math.nan))) for e in guard.events],
        wait_ms=1e3 * run.monitor.waited / max(1, run.monitor.pushes), ms=1e3 * run.seconds / max(1, len(run.probe)),
        harm=finite(judge.harm(alone.probe, run.probe, floor)),
        is_same=run.probe == alone.probe)
    if level is not None:
        found.update(well=judge.ends_well(run.probe, floor, run.truth, level),
                     is_cut_short=not guard.is_over and judge.is_cut_short(alone.truth, run.truth, len(run.probe)),
                     above=judge.above(run.probe, floor, level, onset))
    return found


def measure(job):
    url, family, seed = job
    alone = follow.ignored(family, seed)
    floor, level, onset = alone.spec.floor, None, None
    row = dict(family=family, seed=seed, label=alone.truth["label"], events=len(alone.truth["events"]), steps=len(alone.probe),
               end=finite(judge.final(alone.probe, floor)), ms=1e3 * alone.seconds / len(alone.probe))
    if alone.truth["events"]:
        onset = alone.truth["events"][0][0]
        level = judge.line(alone.probe, floor, onset)
        row.update(onset=onset, well=judge.ends_well(alone.probe, floor, alone.truth, level),
                   above=judge.above(alone.probe, floor, level, onset) + alone.spec.steps - len(alone.probe))
    row["ways"] = {way: followed(url, family, seed, way, alone, level, onset) for way in WAYS}
    return row


def chosen(patterns):
    known = [f for f in FAMILIES if f not in UNSEEN + FORMER]
    return [f for f in known if not patterns or any(f.startswith(p) for p in patterns)]


def stored(path):
    """Rows of a file, {(family, seed): row}."""
    if not path or not path.exists():
        return {}
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    return {(row["family"], row["seed"]): row for row in rows}


def train(a):
    """The rows of the plan; those that --save has already are not made again."""
    seeds, done = {"u": a.seeds, "s": (a.seeds + 1) // 2}, stored(a.save)
    plan = [(f, a.first + i) for f in chosen(a.families) for i in range(seeds[f[0]])]
    with Daemon() as daemon:
        jobs = [(daemon.url, *key) for key in plan if key not in done]
        with multiprocessing.get_context("fork").Pool(a.jobs) as pool:
            for number, row in enumerate(pool.imap_unordered(measure, jobs)):
                done[row["family"], row["seed"]] = row
                if a.save:
                    with a.save.open("a") as out:
                        out.write(json.dumps(row) + "\n")
                if a.verbose:
                    print(tables.one(row), flush=True)
                elif sys.stderr.isatty():
                    print("\r%d of %d" % (number + 1, len(jobs)), end="", file=sys.stderr)
    return [done[key] for key in plan]


def main(arguments):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--families", nargs="+", metavar="NAME", help="beginnings of names (default: all but those of unseen.py and former.py)")
    p.add_argument("--seeds", type=int, default=2, help="runs of each failing family, half as many of healthy ones (%(default)s)")
    p.add_argument("--first", type=int, default=FIRST_SEED, help="first seed (%(default)s)")
    p.add_argument("-j", "--jobs", type=int, default=1, help="trainings at a time (%(default)s)")
    p.add_argument("--save", type=Path, help="file for the rows, JSON lines; those that it has are not made again")
    p.add_argument("--load", type=Path, help="do not train: rows that were saved")
    p.add_argument("--write", action="store_true", help="put the tables into docs/rescue.md")
    p.add_argument("-v", "--verbose", action="store_true", help="a line for every run")
    a = p.parse_args(arguments)
    if a.first < FRESH_SEED and a.first + a.seeds > TEST_SEED:
        p.error("seeds from %d to %d belong to the tests of the score" % (TEST_SEED, FRESH_SEED - 1))
    rows = list(stored(a.load).values()) if a.load else train(a)
    for name, table in tables.TABLES.items():
        print("## %s\n\n%s\n" % (name, table(rows)))
    if a.write:
        tables.write(follow.ROOT / "docs/rescue.md", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
