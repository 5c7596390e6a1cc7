#!/usr/bin/env python3
"""By how many steps the answers come late, to the default client and with late_max=1, in real PyTorch loops:
lateness.py [--write]"""
import argparse
import statistics
import sys
import time

import follow
import rescue
import tables
import torch
from torch import nn

import lyapd

STEPS, WARM = 300, 20
# width, hidden layers, batch, samples of the probe (0: none)
NETWORKS = ((32, 2, 64, 0), (256, 2, 256, 0), (1024, 2, 512, 0), (1024, 2, 512, 128))


def measure(url, width, layers, batch, probe, late_max):
    torch.manual_seed(0)
    sizes = [256] + [width] * layers + [10]
    parts = []
    for a, b in zip(sizes, sizes[1:]):
        parts += [nn.Linear(a, b), nn.Tanh()]
    model = nn.Sequential(*parts[:-1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, y, loss_of = torch.randn(4096, 256), torch.randint(0, 10, (4096,)), nn.CrossEntropyLoss()
    closure = (lambda: loss_of(model(x[:probe]), y[:probe])) if probe else None
    late, alone = [], []
    with lyapd.watch(model, optimizer, url=url, run="late-%d-%d-%s" % (width, probe, late_max), probe=closure,
                     late_max=late_max) as monitor:
        guard = lyapd.Guard(monitor, model, optimizer)
        started = time.perf_counter()
        for step in range(STEPS):
            pick = torch.randint(0, len(x), (batch,))
            before = time.perf_counter()
            optimizer.zero_grad()
            loss = loss_of(model(x[pick]), y[pick])
            loss.backward()
            alone.append(time.perf_counter() - before)
            if guard.allows(loss):
                before = time.perf_counter()
                optimizer.step()
                alone[-1] += time.perf_counter() - before
            if step >= WARM and monitor.last_reply is not None:
                late.append(step - int(monitor.last_reply["step"]))
        seconds = time.perf_counter() - started
        assert not [text for text in monitor.errors if not text.startswith("guard: the answers")], monitor.errors
    late.sort()
    return [sum(p.numel() for p in model.parameters()), batch, probe or "-", "none" if late_max is None else late_max,
            "%.1f" % (1e3 * statistics.median(alone)),
            "%.1f" % (1e3 * seconds / STEPS), "%g" % statistics.median(late), late[int(0.95 * len(late))], late[-1]]


def table():
    with rescue.Daemon() as daemon:
        rows = [measure(daemon.url, *network, late_max) for network in NETWORKS for late_max in (None, 1)]
    return tables.table(["parameters", "batch", "probe", "`late_max`", "ms a step of its own", "ms a step watched",
                         "median steps late", "95 %", "most"], rows)


def main(arguments):
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--write", action="store_true", help="put the table into docs/rescue.md")
    a = p.parse_args(arguments)
    found = table()
    print(found)
    if a.write:
        tables.put(follow.ROOT / "docs/rescue.md", {"lateness": found})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
