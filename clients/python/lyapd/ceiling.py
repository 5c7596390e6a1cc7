"""What a Guard allows the learning rate to be, whatever a scheduler sets, and how it gives it back."""

import math
from typing import Any, Callable, Tuple

import torch

SAME = 1 - 1e-6     # a rate may be a tensor of single precision
ROUNDED = 1 + 1e-6  # above a ceiling by no more: nobody set it anew


class Ceiling:
    """Of the largest rate of the groups, whose ratios stay. `lr_max`: infinite until something is advised."""

    def __init__(self, groups: Any, rate: Callable[[], float]):
        self._groups, self._rate = groups, rate
        self.lr_max = math.inf
        self._held = math.inf       # the ceiling when rates were last held
        self._taken = 1.0           # the rates are this part of what the schedule alone would give
        self._left = math.nan       # the rate as it was left: another one was set since
        self._is_rewritten = False  # by a schedule that does not start from what it finds

    def hold(self) -> None:
        rate = self._rate()
        if self._is_set(rate):
            self._is_rewritten, self._taken = True, 1.0
        if rate > self.lr_max:
            factor = self.lr_max / rate
            self._taken *= factor
            self._multiply(factor)
        self._held, self._left = self.lr_max, self._rate()

    def double(self) -> bool:
        """One step back to where it was; False when it is there."""
        if math.isinf(self.lr_max):
            return False
        if self._is_set(self._rate()):
            is_back = self._rate() < self.lr_max
        else:
            factor = min(2.0, 1.0 / self._taken)
            self._multiply(factor)
            self._taken *= factor
            is_back = self._taken >= SAME
            self._left = self._rate()
        self.lr_max = math.inf if is_back else 2 * self.lr_max
        self._held = self.lr_max
        return True

    def state(self) -> Tuple[float, bool]:
        """Of the rates, for a checkpoint; the ceiling itself does not go back."""
        return self._taken, self._is_rewritten

    @property
    def whole(self) -> float:
        """The rate of the schedule alone."""
        rate = self._rate()
        return rate if self._is_set(rate) else rate / self._taken

    @whole.setter
    def whole(self, rate: float) -> None:
        """Of a job that starts again: its optimizer has the lowered rate, or a new one."""
        self._taken = min(1.0, self._rate() / rate) if rate > 0 else 1.0

    def restored(self, state: Tuple[float, bool]) -> None:
        """The rates are those of the checkpoint again."""
        self._taken, self._is_rewritten = state
        self._held, self._left = math.inf, self._rate()

    def _is_set(self, rate: float) -> bool:
        """By a schedule, since the rate was left."""
        return rate > self._held * ROUNDED or (self._is_rewritten and rate != self._left)

    def _multiply(self, factor: float) -> None:
        for group in self._groups.param_groups:
            if isinstance(group["lr"], torch.Tensor):  # that graphs hold on to
                group["lr"].mul_(factor)
            else:
                group["lr"] = group["lr"] * factor
