"""Runs of the corpus and what detectors made of them, kept in a folder: DIR/<family>/<seed>/.

truth.json    label, events, steps, and a digest of what the run was made from
signals.npz   rows of signals.COLUMNS, one a step; `oracle`: the values of oracle.py where asked for
<variant>.npz columns and rows of bench_replay, one row a push; the first column is the step

What is there and still of the same source (and, for variants, of the same bench_replay) is not made again.
"""
import argparse
import hashlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = {
    "k%d-%s-%s" % (k, retention, state): [
        "--every", str(k), "--retention", retention, "--state", "none" if state == "none" else "pushed",
    ]
    for k in (1, 5, 20)
    for retention in ("exact", "sketch")
    for state in ("state", "none")
}
# What the client does: the update after every k-th one is pushed as well.
VARIANTS.update({"k%d-pairs-state" % k: ["--every", str(k), "--pairs"] for k in (5, 20)})
# Jobs with a probe: as above, and the loss of a fixed batch every so many steps and on the step after (5: the client's default).
VARIANTS.update({"k1-exact-state-probe%d" % n: ["--every", "1", "--probe", str(n)] for n in (1, 5, 10)})
VARIANTS.update({"k%d-pairs-state-probe" % k: ["--every", str(k), "--pairs", "--probe", str(k)] for k in (5, 20)})
SHARED = "data models mechanisms optim tasks training truth".split()


def digest(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part if isinstance(part, bytes) else part.encode())
    return h.hexdigest()[:16]


def source_of(family):
    """Digest of all a run depends on: the family, the shared modules, the build of torch."""
    import torch
    from families import FAMILIES

    here = Path(__file__).resolve().parent
    shared = [(here / (name + ".py")).read_bytes() for name in SHARED]
    return digest(inspect.getsource(FAMILIES[family]), torch.__version__, np.__version__, *shared)


def read_points(path):
    """(columns, rows) of a file of bench_replay without --tensors."""
    with open(path, "rb") as f:
        if f.read(4) != b"LYP1":
            raise ValueError("%s: not an output of bench_replay" % path)
        header = json.loads(f.read(int(np.frombuffer(f.read(4), "<u4")[0])))
        columns = header["columns"]
        rows = np.frombuffer(f.read(), "<f8").reshape(-1, len(columns))
    return columns, rows


def observed(path, tool, kept=None):
    """(columns, rows) of a variant with what the score sees and the scores computed anew by bench_observe, `tool`; `kept`: from
    these columns alone."""
    with np.load(path) as z:
        columns, rows = [str(c) for c in z["columns"]], z["rows"]
    if kept:
        some = [i for i, c in enumerate(columns) if c in kept or c == "seen gap"]
        columns, rows = [columns[i] for i in some], rows[:, some]
    header = json.dumps({"columns": columns}, separators=(",", ":")).encode()
    stream = b"LYP1" + np.uint32(len(header)).astype("<u4").tobytes() + header + rows.astype("<f8").tobytes()
    out = subprocess.run([tool], input=stream, stdout=subprocess.PIPE, check=True).stdout
    size = int(np.frombuffer(out[4:8], "<u4")[0])
    fresh = json.loads(out[8 : 8 + size])["columns"]
    seen = np.frombuffer(out[8 + size :], "<f8").reshape(-1, len(fresh))
    kept = [i for i, c in enumerate(columns) if not c.startswith("seen ") and c not in fresh]
    with np.errstate(over="ignore"):
        return [columns[i] for i in kept] + fresh, np.hstack([rows[:, kept], seen.astype(np.float32)])


class Job:
    """One run: which of its files are missing, and the making of them."""

    def __init__(self, folder, family, seed, replay, variants, oracle=False):
        self.folder, self.family, self.seed, self.replay = Path(folder) / family / str(seed), family, seed, replay
        self.source = source_of(family)
        self.build = digest(Path(replay).read_bytes()) if variants else ""
        truth = self.folder / "truth.json"
        fresh = truth.exists() and json.loads(truth.read_text()).get("source") == self.source
        self.variants = [v for v in variants if not (fresh and self._has(v))]
        self.oracle = oracle or (fresh and self._has_oracle())
        self.needed = bool(self.variants) or not fresh or (oracle and not self._has_oracle())

    def _has(self, variant):
        try:
            with np.load(self.folder / (variant + ".npz")) as z:
                return str(z["build"]) == self.build
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            return False

    def _has_oracle(self):
        try:
            with np.load(self.folder / "signals.npz") as z:
                return "oracle" in z
        except (OSError, zipfile.BadZipFile):
            return False

    def make(self):
        from corpus import write_stream
        from oracle import Oracle
        from signals import COLUMNS, Signals
        from training import Run

        began = time.process_time()
        run = Run(self.family, self.seed)
        seen, oracle = Signals(run.header()), Oracle(run)

        def each(step):
            seen.step(step)
            if self.oracle:
                oracle.step(step)

        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            outputs = {v: os.path.join(scratch, v) for v in self.variants}
            command = [self.replay]
            for v, path in outputs.items():
                command += ["--to", path] + VARIANTS[v]
            if outputs:
                child = subprocess.Popen(command, stdin=subprocess.PIPE)
                with child.stdin:
                    write_stream(run, child.stdin, each)
                if child.wait() != 0:
                    raise RuntimeError("bench_replay failed on %s %d" % (self.family, self.seed))
            else:
                with open(os.devnull, "wb") as nothing:
                    write_stream(run, nothing, each)
            for v, path in outputs.items():
                columns, rows = read_points(path)
                with np.errstate(over="ignore"):
                    self._save(v, columns=np.array(columns), rows=rows.astype(np.float32), build=self.build)
        extra = dict(oracle=np.array(oracle.values)) if self.oracle else {}
        self._save("signals", columns=np.array(COLUMNS), rows=seen.array(), **extra)
        truth = dict(run.truth, steps=len(run.probe), source=self.source)
        (self.folder / "truth.json").write_text(json.dumps(truth) + "\n")
        return truth["label"], len(truth["events"]), time.process_time() - began

    def _save(self, name, **arrays):
        part = self.folder / (name + ".part.npz")
        np.savez_compressed(part, **arrays)
        part.rename(self.folder / (name + ".npz"))


def _work(folder, family, seed, replay, variants, oracle):
    job = Job(folder, family, seed, replay, variants, oracle)
    if not job.needed:
        return None
    return job.make()


def fill(folder, runs, replay, variants, jobs, log=sys.stdout, oracle=False, others=(1, 1)):
    """Makes what is missing of `runs` ((family, seed) ...), at most `jobs` at a time; number of failures.

    Variants but the first are made of the seeds that leave less than a when divided by b, (a, b) = `others`."""
    failures, done = 0, 0
    with ProcessPoolExecutor(jobs, initializer=os.nice, initargs=(10,)) as pool:
        waiting = {}
        for f, s in runs:
            wanted = variants if s % others[1] < others[0] else variants[:1]
            waiting[pool.submit(_work, folder, f, s, replay, wanted, oracle)] = f, s
        for future in as_completed(waiting):
            family, seed = waiting[future]
            done += 1
            try:
                result = future.result()
            except Exception as error:
                failures += 1
                print("%s %d: %s" % (family, seed, error), file=log, flush=True)
                continue
            if result:
                line = "%d/%d %s %d %s, %d events, %.1f s" % (done, len(waiting), family, seed, *result)
                print(line, file=log, flush=True)
    return failures


def load(folder, families, seeds):
    """[(family, seed, truth, path)] of the runs in the folder that belong to families and seeds."""
    out = []
    for family in families:
        for path in sorted(Path(folder, family).glob("*/truth.json"), key=lambda p: int(p.parent.name)):
            seed = int(path.parent.name)
            if seed in seeds:
                out.append((family, seed, json.loads(path.read_text()), path.parent))
    return out


def signals_of(path):
    with np.load(path / "signals.npz") as z:
        out = {str(c): z["rows"][:, i] for i, c in enumerate(z["columns"])}
        if "oracle" in z:
            out["oracle"] = z["oracle"]
    return out


def held(pushed, values, steps):
    """One value a step: that of each push holds until the next; NaN before the first."""
    index = np.searchsorted(pushed, np.arange(steps), side="right") - 1
    return np.where(index >= 0, values[np.maximum(index, 0)], np.nan) if len(pushed) else np.full(steps, np.nan)


def seed_range(text):
    """"3", "0-19" or "0-3,1000-1004" as a sorted list."""
    out = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        out.update(range(int(low), int(high or low) + 1))
    return sorted(out)


def share(text):
    """"1/3" as (1, 3)."""
    a, b = map(int, text.split("/"))
    if not 0 < a <= b:
        raise ValueError(text)
    return a, b


def main(arguments):
    from families import FAMILIES, plan

    p = argparse.ArgumentParser(prog="corpus.py cache", description=__doc__.splitlines()[0])
    p.add_argument("folder")
    p.add_argument("--plan", choices=["design", "probes", "test"], help="the runs behind docs/detection.md")
    p.add_argument("--seeds", type=seed_range, help="in place of a plan: as 0-11 or 0-3,7")
    p.add_argument("--families", nargs="+", default=list(FAMILIES), metavar="NAME", choices=list(FAMILIES))
    p.add_argument("--variants", nargs="*", default=["k1-exact-state"], metavar="VARIANT",
                   choices=list(VARIANTS) + ["all"], help="none, all, or some of: " + " ".join(VARIANTS))
    p.add_argument("--others", type=share, default=(1, 1), metavar="A/B",
                   help="variants but the first: of a share of the runs, seeds that leave less than A when divided by B")
    p.add_argument("--oracle", action="store_true", help="exact sharpness, too (doubles the time of training)")
    p.add_argument("--replay", default=str(ROOT / "build/bin/bench_replay"))
    p.add_argument("-j", type=int, default=1, help="processes")
    a = p.parse_args(arguments)
    if bool(a.plan) == bool(a.seeds):
        p.error("either --plan or --seeds")
    runs = [(f, s) for s in a.seeds for f in a.families] if a.seeds else [
        (f, s) for f, s in plan(a.plan) if f in a.families
    ]
    variants = list(VARIANTS) if "all" in a.variants else a.variants
    return 1 if fill(a.folder, runs, a.replay, variants, a.j, oracle=a.oracle, others=a.others) else 0
