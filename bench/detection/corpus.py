#!/usr/bin/env python3
"""Real trainings with ground truth, as streams of snapshots (README.md).

    corpus.py list                          families, one a line, with what they are
    corpus.py truth FAMILY SEED             label and events of one run, JSON
    corpus.py export FAMILY SEED FILE|-     the stream of one run, binary
    corpus.py cache DIR --plan design ...   runs, truth, signals and points of bench_replay in a folder (--help)
"""
import json
import signal
import struct
import sys

import numpy as np

import cache
from families import FAMILIES, group_of
from training import Run

MAGIC = b"LYC2"
UPDATED, SKIPPED = 1, 2


def truth(family, seed):
    run = Run(family, seed)
    steps = sum(1 for _ in run)
    return dict(run.truth, steps=steps)


def write_stream(run, out, each=None):
    """Writes the run to the binary file `out`; each(step) sees the snapshots, too."""
    header = json.dumps(run.header()).encode()
    out.write(MAGIC + struct.pack("<I", len(header)) + header)
    for s in run:
        flags = (UPDATED if s.updated else 0) | (SKIPPED if s.skipped else 0)
        out.write(struct.pack("<IIII", s.t, flags, s.updates, 0))
        out.write(struct.pack("<%dd" % (2 + len(s.rates)), s.loss, s.probe_loss, *s.rates))
        for arrays in (s.params, s.grads, *s.state):
            for a in arrays.values():
                out.write(np.asarray(a, "<f4").tobytes())
        if each:
            each(s)


def main(arguments):
    if arguments[:1] == ["list"] and len(arguments) == 1:
        for name, function in FAMILIES.items():
            print("%-20s %-8s %s" % (name, group_of(name), function.__doc__.split("\n")[0]))
        return 0
    if arguments[:1] == ["truth"] and len(arguments) == 3:
        print(json.dumps(truth(arguments[1], int(arguments[2]))))
        return 0
    if arguments[:1] == ["cache"]:
        return cache.main(arguments[1:])
    if arguments[:1] == ["export"] and len(arguments) == 4:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        run = Run(arguments[1], int(arguments[2]))
        if arguments[3] == "-":
            write_stream(run, sys.stdout.buffer)
        else:
            with open(arguments[3], "wb") as out:
                write_stream(run, out)
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
