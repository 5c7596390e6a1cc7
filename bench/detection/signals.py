"""What the published detectors look at, one row a step, from the stream alone.

`grad_norm` before clipping; `update_ratio` and `small_gradient` as SageMaker Debugger's rules take them; `rms` is the
largest over tensors of sqrt(mean(g^2 / max(v, eps^2))), v Adam's second moment as the optimizer holds it after this
gradient (for other optimizers what Adam with beta2 = 0.99 would hold); `clip_ratio` the largest over tensors of
norm / running mean of its clipped norm (AdaGC); `element` the largest g^2/v of an element (SPAM).
"""
import numpy as np

COLUMNS = (
    "loss", "rate", "updated", "skipped", "nonfinite", "grad_norm", "update_ratio", "small_gradient",
    "unchanged", "rms", "element", "clip_ratio",
)
ADAGC_LIMIT, ADAGC_BETA = 1.05, 0.98


class Signals:
    def __init__(self, header):
        self.opt, self.clip = header["opt"], header["clip"]
        self.rows, self.second, self.updates, self.previous, self.norms = [], None, 0, None, None
        self.still = 0

    def step(self, s):
        with np.errstate(all="ignore"):
            row = self._row(s)
        self.rows.append([row.get(c, np.nan) for c in COLUMNS])

    def array(self):
        return np.array(self.rows, np.float64)

    def _row(self, s):
        params = [a.ravel().astype(np.float64) for a in s.params.values()]
        grads = [a.ravel().astype(np.float64) for a in s.grads.values()]
        squares = [float(g @ g) for g in grads]
        norm = float(np.sqrt(sum(squares)))
        finite = np.isfinite(s.loss) and np.isfinite(norm) and all(np.isfinite(p).all() for p in params)
        row = dict(
            loss=s.loss, rate=s.rates[0], updated=s.updated, skipped=s.skipped, nonfinite=not finite,
            grad_norm=norm, small_gradient=min(np.mean(np.abs(g)) for g in grads),
        )
        if self.previous is not None:
            row.update(self._change(params))
        if s.updated:
            self._second_moment(s, grads, norm, row)
            self._clipping(np.sqrt(squares), row)
            self.previous = params
        return row

    def _change(self, params):
        ratios, same = [], True
        for p, q in zip(params, self.previous):
            d = p - q
            ratios.append(np.mean(np.abs(d)) / (np.mean(np.abs(q)) + 1e-9))
            same = same and np.allclose(p, q, rtol=1e-5, atol=1e-8)
        self.still = self.still + 1 if same else 0
        return dict(update_ratio=max(ratios, key=lambda x: max(x, 1 / max(x, 1e-300))), unchanged=self.still)

    def _second_moment(self, s, grads, norm, row):
        beta, eps = self.opt.get("beta2", 0.99), self.opt.get("eps", 1e-8)
        if self.clip and norm > self.clip:
            grads = [g * (self.clip / norm) for g in grads]
        held, updates = self.second, self.updates
        if s.state:
            held, updates = [a.ravel().astype(np.float64) for a in s.state[1].values()], s.updates
        if held is None:
            held = [np.zeros_like(g) for g in grads]
        updates += 1
        second = [beta * v + (1 - beta) * g * g for v, g in zip(held, grads)]
        rms, element = 0.0, 0.0
        for v, g in zip(second, grads):
            q = g * g / np.maximum(v / (1 - beta**updates), eps * eps + 1e-24)
            rms, element = max(rms, float(np.sqrt(q.mean()))), max(element, float(q.max()))
        row.update(rms=rms, element=element)
        self.second, self.updates = second, updates

    def _clipping(self, norms, row):
        if self.norms is None:
            self.norms = norms.copy()
            return
        row["clip_ratio"] = float(np.max(norms / np.maximum(self.norms, 1e-30)))
        kept = np.minimum(norms, ADAGC_LIMIT * self.norms)
        kept = np.where(np.isfinite(kept), kept, self.norms)
        self.norms = ADAGC_BETA * self.norms + (1 - ADAGC_BETA) * kept
