"""Reported sharpness over the exact top eigenvalue of the probe's Hessian (of P^-1 H for AdamW) by
Lanczos on Hessian-vector products: real trainings under lyapd.watch."""

import statistics

import lyapd
from jobs import Job, exact_sharpness
from table import Outcome, Table, percent, share

STEPS, PROBE_EVERY, EXACT_EVERY, COLD_PROBES = 300, 5, 15, 10


def ratios(url, network, kind, steps=STEPS):
    """(reported / exact, error stated / exact) of the probes after the cold ones."""
    job = Job(network, kind)
    found = []
    with lyapd.watch(job.model, job.optimizer, url=url, run="sharpness-%s-%s" % (network, kind),
                     probe=job.probe, probe_every=PROBE_EVERY, wait=True, timeout=60) as monitor:
        for step in range(steps):
            loss = job.backward()
            reply = monitor.step(loss)
            is_due = monitor.probed_at == step and step % EXACT_EVERY < PROBE_EVERY
            if is_due and step >= COLD_PROBES * PROBE_EVERY:
                metric = reply["metrics"]["sharpness"]
                exact = exact_sharpness(job)
                found.append(None if metric["value"] is None
                             else (metric["value"] / exact, metric["error"] / exact))
            job.optimizer.step()
        if monitor.errors:
            raise RuntimeError(monitor.errors)
    return found


def measure(url, steps=STEPS, networks=("mlp", "cnn", "transformer"),
            optimizers=("sgd", "heavy-ball", "adamw")):
    result = Table(["network", "optimizer", "probes", "absent", "median of reported / exact",
                    "median distance from 1", "least", "largest", "outside the stated error"])
    every, missing, beyond = [], 0, 0
    for network in networks:
        for kind in optimizers:
            found = ratios(url, network, kind, steps)
            present = [pair for pair in found if pair is not None]
            values = [value for value, _ in present]
            outside = sum(abs(value - 1) > error for value, error in present)
            result.add([network, kind, len(found), len(found) - len(present),
                        "%.4f" % statistics.median(values),
                        percent(statistics.median(abs(v - 1) for v in values)),
                        "%.3f" % min(values), "%.3f" % max(values), outside])
            every += values
            missing += len(found) - len(present)
            beyond += outside
    return Outcome(result, 0, [
        ("`sharpness` with a probe, after ten probes", "within 2 % median of the probe batch's own",
         "median %s, largest %s from it; %d of %d outside the stated error, %d absent" % (
             share(statistics.median(abs(v - 1) for v in every)),
             share(max(abs(v - 1) for v in every)), beyond, len(every), missing))])
