"""The daemon's numbers beside the NumPy reading of docs/spec.md (tests/e2e/reference.py), every
metric of every step: on the golden network and on three PyTorch networks, with every optimizer."""

import test_oracle
import trainings
from networks import NETWORKS, Model
from table import Outcome, Table, exponent

STEPS, LIMIT = 30, 1e-6  # steps; a relative difference that is a defect
# Declared optimizer, learning rate of the golden network and of the three networks, mini-batch.
OPTIMIZERS = {
    "SGD": (dict(type="sgd"), 0.5, 0.1, 0),
    "SGD, mini-batches": (dict(type="sgd"), 0.1, 0.05, 8),
    "heavy ball": (dict(type="sgd", momentum=0.9), 0.02, 0.01, 0),
    "heavy ball, dampening": (dict(type="sgd", momentum=0.9, dampening=0.3), 0.05, 0.02, 0),
    "Nesterov": (dict(type="sgd", momentum=0.9, nesterov=True, weight_decay=0.01), 0.02, 0.01, 0),
    "Adam": (dict(type="adam", weight_decay=0.01), 0.01, 0.002, 0),
    "AdamW": (dict(type="adamw", weight_decay=0.1), 0.01, 0.002, 0),
    "AdamW, mini-batches": (dict(type="adamw", weight_decay=0.1), 0.01, 0.002, 8),
    "RMSprop": (dict(type="rmsprop", beta2=0.95), 0.005, 0.0005, 0),
    "RMSprop, momentum": (dict(type="rmsprop", beta2=0.95, momentum=0.8), 0.003, 0.0003, 0),
    "Lion": (dict(type="lion", beta1=0.9, beta2=0.99, weight_decay=0.1), 0.01, 0.0005, 0),
    "signSGD": (dict(type="signsgd"), 0.01, 0.0005, 0),
    "proximal, l1": (dict(type="proxgd", prox={"kind": "l1", "lambda": 0.01}), 0.4, 0.1, 0),
    "proximal, l2": (dict(type="proxgd", prox={"kind": "l2", "lambda": 0.05}), 0.4, 0.1, 0),
    "proximal, group l1": (dict(type="proxgd", prox={"kind": "group_l1", "lambda": 0.1}), 0.4, 0.1,
                           0),
    "proximal, elastic net": (
        dict(type="proxgd", prox={"kind": "elastic_net", "l1": 0.01, "l2": 0.03}), 0.4, 0.1, 0),
    "projected, box": (dict(type="projgd", set={"kind": "box", "low": -0.5, "high": 0.4}), 0.4,
                       0.1, 0),
    "projected, ball": (dict(type="projgd", set={"kind": "ball", "radius": 2.0}), 0.4, 0.1, 0),
    "projected, simplex": (dict(type="projgd", set={"kind": "simplex", "radius": 5.0}), 0.2, 0.05,
                           0),
}


class Case(test_oracle.OracleCase):
    """The machinery of tests/e2e/test_oracle.py without its verdict: differences are noted."""

    def near(self, name, value, want, where, has_state=False):
        test_oracle.difference(name, value, want, has_state)

    def compare_spectral(self, name, value, sigma, where, scope="point"):
        """On their side of the truth; how near they are is spectral.py's business."""
        if name == "spectral_residual":
            return
        below, above = (value, sigma) if name == "spectral_norm" else (sigma, value)
        self.assertLessEqual(below, above * (1 + 1e-9), (where, name))

    def runTest(self):
        raise NotImplementedError  # a unittest case needs one; it is driven by measure()


class Objective:
    """A network with the non-smooth part of its objective, as proximal and projected methods have
    it: in the loss alone; the start is a point of the set."""

    def __init__(self, model, declared):
        self.model, self.shapes, self.rows = model, model.shapes, getattr(model, "rows", 24)
        self.rule = trainings.Optimizer(declared["type"], model.theta.size,
                                        **test_oracle.constants_of(declared))
        self.rule.groups = list(trainings.slices_of(model.shapes).values())
        self.theta = model.theta
        if declared["type"] == "projgd":
            self.theta = self.theta + self.rule.update(self.theta, 0 * self.theta, 1.0)

    def at(self, theta, rows=None):
        loss, gradient = self.model.at(theta, rows)
        return loss + self.rule.penalty(theta), gradient


def measure(networks=("golden",) + tuple(NETWORKS), optimizers=tuple(OPTIMIZERS), steps=STEPS):
    """Worst differences by network and optimizer."""
    case, worst = Case(), {}
    case.setUp()
    result = Table(["optimizer"] + list(networks))
    try:
        for kind in optimizers:
            row = [kind]
            for network in networks:
                test_oracle.table.clear()
                train(case, kind, network, steps)
                found = max(test_oracle.table.items(), key=lambda item: item[1])
                row.append("%s (%s)" % (exponent(found[1]), found[0].replace(" (state)", "")))
                for name, value in test_oracle.table.items():
                    worst[name] = max(worst.get(name, 0.0), value)
            result.add(row)
    finally:
        case.doCleanups()
    largest = max(worst.values())
    return Outcome(result, sum(value > LIMIT for value in worst.values()), [
        ("every other metric of every step, %d metrics" % len(worst),
         "the reference's, in %d optimizers on %d networks" % (len(optimizers), len(networks)),
         "largest relative difference %s (`%s`)" % (
             exponent(largest), max(worst, key=worst.get).replace(" (state)", "")))])


def train(case, kind, network, steps):
    declared, golden_rate, rate, batch = OPTIMIZERS[kind]
    is_golden = network == "golden"
    model = Objective(trainings.Network() if is_golden else Model(network), declared)
    rule = trainings.Optimizer(declared["type"], model.theta.size,
                               **test_oracle.constants_of(declared))
    options = dict(batch=batch, probe=True, probe_every=4) if batch else dict(probe_every=3)
    job = trainings.Job(model, rule, golden_rate if is_golden else rate, **options)
    run = "%s-%s" % (network, kind)
    case.train("".join(c if c.isalnum() else "-" for c in run), job, declared, steps,
               full_batch=not batch)
