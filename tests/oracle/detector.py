"""The loss-scaled detector of docs/detection.md, as plainly as NumPy can say it. Reference for tests/lib/test_detector.c."""
import numpy as np


class Detector:
    """push(loss, kappa, dpd, work) -> E, x, sigma, lambda, rise, t, W5, med3 of kappa, ratio of EMAs."""

    def __init__(self, reference=None):
        self.reference, self.inherited, self.least = reference, reference is not None, None
        self.first, self.losses, self.works, self.kappas = [], [], [], []
        self.rise = self.square = 0.0

    def loss(self, loss):
        ratio = np.nan
        if self.losses:
            median = float(np.median(self.losses[-20:]))
            ratio = loss / median if median > 0 else np.nan
        self.losses = (self.losses + [loss])[-50:]
        if len(self.first) < 3:
            self.first.append(loss)
            median = float(np.median(self.first))
            if not self.inherited:
                self.reference = median
            self.least = median if self.least is None else min(self.least, median)
        scale = max(0.5 * max(self.reference - self.least, 0.0), 0.1 * abs(self.reference), 1e-12)
        excess = (loss - self.least) / scale
        spread = rise = t = np.nan
        if len(self.losses) > 5:
            values = np.array(self.losses)
            spread = 1.4826 * float(np.median(np.abs(values - np.median(values)))) / scale
        if len(self.losses) >= 10:
            rise, t = self.slope(np.array(self.losses[-10:]) / scale)
        self.least = min(self.least, float(np.median(self.losses[-5:])))
        return [scale, excess, spread, ratio, rise, t]

    @staticmethod
    def slope(y):
        n = len(y)
        x = np.arange(n) - (n - 1) / 2
        b = float(x @ y / (x @ x))
        r = y - y.mean() - b * x
        error = np.sqrt(float(r @ r) / max(n - 2, 1) / float(x @ x))
        return b * (n - 1), b / (error + 1e-12 + 1e-3 * abs(b))

    def work(self, net_work):
        self.works = (self.works + [net_work])[-5:]
        return float(np.sum(self.works))

    def secant(self, kappa, dpd):
        self.kappas = (self.kappas + [max(kappa, 0.0)])[-3:]
        self.rise = 0.8 * self.rise + kappa * dpd
        self.square = 0.8 * self.square + dpd
        return [float(np.median(self.kappas)), self.rise / self.square]
