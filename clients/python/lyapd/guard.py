"""lyapd.Guard: does in a PyTorch loop what the daemon advises (docs/api.md, "Actions")."""

import collections
import copy
import math
import os
from typing import Any, Callable, Deque, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

import torch

from . import declare
from .ceiling import Ceiling
from .run import Reply

# An advised rate is the limit itself; momentum carries on and the curvature still moves.
BELOW_LIMIT = 0.5
# A loss this much of what is at stake above its least has begun to rise (docs/api.md, "rollback").
RISE_SHARE = 0.1
# Steps by which an answer may be late before the user is told that advice comes too late.
LATE_MAX = 16
EVENTS_KEPT = 1000
# What a job that starts again takes along.
_BOOKS = ("skipped", "cuts", "rollbacks", "went_back", "late", "lr_max")
Extra = Union[Tuple[Callable[[], Any], Callable[[Any], None]], List[Any], Tuple[Any, ...]]


class Guard:
    """Between backward and the optimizer's step: `if guard.allows(loss): optimizer.step()`.

    skipped     updates that were left out, because of the batch or for a lower rate to begin
    cuts        times the learning rate was lowered
    rollbacks   times a checkpoint was restored; went_back: steps by which, altogether
    late        skips that came after their update had been made
    lateness    steps by which the newest answer is late; 0 with wait=True, at most late_max
    lr_max      the ceiling of the largest learning rate; infinite until something is advised
    is_over     the daemon advises to stop; every update is left out from then on
    events      of all that, [{"step": ..., "kind": ..., "reason": ...}], newest last

    What goes on behind a rollback: data, random numbers, and what is not in `extra`.

    Of data-parallel replicas every rank has a guard and calls `allows` at every step: what rank 0
    hears decides for all. Not for ranks that hold shards."""

    def __init__(self, monitor: Any, model: Any, optimizer: Any, *, every: int = 20,
                 keep: int = 4, folder: Optional[str] = None, extra: Optional[Extra] = None,
                 restore: Optional[int] = None):
        """monitor   of lyapd.watch; with wait=True advice comes in time for the very update, with
                     late_max=1 one step late
        every, keep  steps between checkpoints, and how many are kept
        folder       for checkpoints on disk; otherwise they are in host memory
        extra        what else goes back: objects with state_dict and load_state_dict, such as
                     [scheduler, scaler], or two functions (get, set)
        restore      calm answers in a row after which a lowered ceiling is doubled, and again
                     after as many more, until the rate is what it was; None: it stays low"""
        for name, value in (("every", every), ("keep", keep), ("restore", restore)):
            if name == "restore" and value is None:
                continue
            if not isinstance(value, int) or value < 1:
                raise ValueError("%s must be a whole number, at least 1, not %r" % (name, value))
        self._parts = {"model": (model.state_dict, model.load_state_dict),
                       "optimizer": (optimizer.state_dict, self._load_optimizer)}
        if extra is not None:
            self._parts["extra"] = _functions(extra)
        self._ranks = _ranks(monitor)
        self._monitor, self._model, self._optimizer = monitor, model, optimizer
        self._groups = declare.unwrap_optimizer(optimizer)
        self._every = every
        self._kept = (_Folder(folder, keep, self._ranks.suffix) if folder is not None
                      else _Memory(keep))
        self._checked: Optional[int] = None   # the step of the last checkpoint
        self._obeyed: Tuple[Any, Any] = (None, None)  # attempt and step of the last answer
        self._missed: Optional[int] = None    # step of the last rollback without a checkpoint
        self._left_attempt: Any = None        # answers of it and before no longer matter
        self.skipped = self.cuts = self.rollbacks = self.went_back = self.late = 0
        self.lateness = 0
        self._restore_after, self._calm = restore, 0  # calm answers in a row
        self._ceiling = Ceiling(self._groups, lambda: self._monitor.lr)
        self.is_over = False
        self.events: Deque[Dict[str, Any]] = collections.deque(maxlen=EVENTS_KEPT)

    def allows(self, loss: Any = None, step: Optional[int] = None, **values: Any) -> bool:
        """Pushes (the arguments are those of `monitor.step`), obeys the newest answer, and says
        whether the update is to be made. Never raises."""
        if self.is_over:
            return False
        heard = self._ranks.agree(self._hear(loss, step, values))
        try:
            may_update = self._obey(heard)
            if may_update:
                self._check(heard)
            return may_update
        except Exception as error:  # the job goes on as it would without a guard
            self._monitor.note("guard: %r" % error)
            return True

    def state_dict(self) -> Dict[str, Any]:
        """For the job's own checkpoints: a job that starts again keeps its ceiling."""
        return dict({name: getattr(self, name) for name in _BOOKS}, lr=self._ceiling.whole)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Behind that of the optimizer, where that has one."""
        for name in _BOOKS:
            setattr(self, name, state[name])
        self._ceiling.whole = state.get("lr", self._monitor.lr)

    # ---- what is advised ----

    def _hear(self, loss, step, values) -> "_Heard":
        at = self._monitor.next_step if step is None else int(step)
        try:
            self._hold_rate()
            timely = self._monitor.step(loss, step, **values)
            newest = self._monitor.last_reply
            reply = timely if timely is not None else newest
            if reply is None or not self._is_news(reply):
                return _Heard(at, None, False, _is_calm(newest))
            self._note_lateness(at, reply)
            return _Heard(at, dict(reply.action), timely is not None, _is_calm(newest))
        except Exception as error:
            self._monitor.note("guard: %r" % error)
            return _Heard(at, None, False, False)

    def _obey(self, heard: "_Heard") -> bool:
        if heard.action is None:
            return True
        self._calm = self._calm + 1 if heard.is_calm else 0
        obey = {"skip": self._skip, "reduce_lr": self._reduce, "rollback": self._roll_back,
                "stop": self._stop}.get(heard.action["kind"])
        return obey is None or obey(heard.action, heard.at, heard.is_timely)

    def _note_lateness(self, at: int, reply: Reply) -> None:
        """A loop that is faster than its pushes fills the queue, and acts on what is long past."""
        self.lateness = at - int(reply.get("step", at))
        if self.lateness > LATE_MAX:
            self._monitor.note("guard: the answers are more than %d steps late: watch(..., "
                               "late_max=1) bounds that" % LATE_MAX)

    def _is_news(self, reply: Reply) -> bool:
        """An answer counts once, and none of an attempt that was left."""
        attempt, step = key = (reply.get("attempt"), reply.get("step"))
        if key == self._obeyed or (self._left_attempt is not None and attempt is not None
                                   and attempt <= self._left_attempt):
            return False
        self._obeyed = key
        return True

    def _skip(self, action, at, is_timely):
        if not is_timely or action.get("step", at) != at:
            self.late += 1
            return True
        self._leave_out()
        self._clean_buffers()
        self._tell(at, action)
        return False

    def _reduce(self, action, at, is_timely):
        lr = self._monitor.lr
        advised = _number(action.get("lr"))
        lr_max = BELOW_LIMIT * (lr if math.isnan(advised) else advised)
        if not lr_max < min(lr, self.lr_max):
            return True  # it is followed already
        self.lr_max = lr_max
        self.cuts += 1
        self._tell(at, action, lr_max=lr_max)
        if is_timely:  # what was pushed is the update at the higher rate: it is not made
            self._leave_out()
            return False
        return True

    def _roll_back(self, action, at, is_timely):
        target = action.get("step")
        found = self._read(at if target is None else int(target))
        steps = self._ranks.of_all(found[0] if found else None)
        if found is None or len(set(steps)) > 1:  # one that some rank could not keep is none
            self._do_without(action, at)
            return True
        step, checkpoint = found
        why_not = self._restore(step, checkpoint)
        if why_not:
            self._kept.forget_after(step - 1)  # the one before may be better
            self._do_without(dict(action, reason=why_not), at)
            return True
        self._clear_gradients()
        self._kept.forget_after(step)
        self._left_attempt, _ = self._obeyed
        self._monitor.new_attempt(step=step)
        self._checked = step
        self.lr_max = min(self.lr_max, _finite(action.get("lr"), BELOW_LIMIT * self._monitor.lr))
        self.rollbacks += 1
        self.went_back += at - step
        self._tell(at, action, to=step, went_back=at - step, lr_max=self.lr_max)
        return False

    def _read(self, step):
        """One that cannot be read is none: the other ranks wait for what this one says."""
        try:
            return self._kept.newest(step)
        except Exception as error:
            self._monitor.note("guard: %r" % error)
            return None

    def _do_without(self, action, at):
        """No checkpoint is that old: the rate that was advised with it, once in a row."""
        if self._missed != at - 1:
            lr_max = _finite(action.get("lr"), BELOW_LIMIT * self._monitor.lr)
            if lr_max < min(self._monitor.lr, self.lr_max):
                self.lr_max = lr_max
                self.cuts += 1
            self._tell(at, dict(action, kind="no-checkpoint"), lr_max=self.lr_max)
        self._missed = at

    def _stop(self, action, at, is_timely):
        self.is_over = True
        self._tell(at, action)
        return False

    def _leave_out(self):
        self.skipped += 1
        self._clear_gradients()
        self._monitor.leave_out()

    def _clear_gradients(self):
        """They belong to an update that is not made; a loop that clears them only behind its
        update, as with accumulation, would add to them."""
        self._monitor.forget_scaling()
        with torch.no_grad():
            for group in self._groups.param_groups:
                for parameter in group.get("params", ()):
                    if parameter.grad is not None:
                        parameter.grad.detach_().zero_()

    def _tell(self, at, action, **more):
        self.events.append(dict(more, step=at, kind=action["kind"], reason=action.get("reason")))

    @property
    def lr_max(self) -> float:
        return self._ceiling.lr_max

    @lr_max.setter
    def lr_max(self, value: float) -> None:
        self._ceiling.lr_max = value

    def _hold_rate(self):
        """Before every push, so that what is pushed is what is used, whatever a scheduler set."""
        if self._restore_after is not None and self._calm >= self._restore_after:
            self._calm = 0
            if self._ceiling.double():
                self._tell(self._monitor.next_step, {"kind": "restore"}, lr_max=self.lr_max)
        self._ceiling.hold()

    # ---- checkpoints ----

    def _check(self, heard):
        """Keeps what the step began with, unless something is wrong or the loss has begun to rise:
        a slow rise would push out all that is worth going back to before it is recognised."""
        at = heard.at
        is_due = self._checked is None or not self._checked <= at < self._checked + self._every
        if is_due and heard.is_calm:
            self._checked = at  # also where it fails: ranks keep those of the same steps
            self._kept.forget_after(at - 1)  # of a loop that started again
            self._kept.put(at, dict(self._states(), rates=self._ceiling.state()))

    def _restore(self, step, checkpoint):
        """On all ranks or on none; why not, or None. What one rank could restore before another
        failed is put back."""
        before, error = {}, None
        try:
            before = self._states()
            self._put(checkpoint)
        except Exception as failure:
            error = repr(failure)
        errors = self._ranks.of_all(error)
        failed = ["rank %d: %s" % (rank, text) if len(errors) > 1 else text
                  for rank, text in enumerate(errors) if text]
        if not failed:
            self._ceiling.restored(checkpoint["rates"])
            return None
        for name, state in before.items():
            try:
                self._put({name: state})
            except Exception as failure:
                self._monitor.note("guard: %s was not put back: %r" % (name, failure))
        why_not = "the checkpoint of step %d was not restored: %s" % (step, "; ".join(failed))
        self._monitor.note("guard: " + why_not)
        return why_not

    def _states(self):
        return {name: _copied(get()) for name, (get, _) in self._parts.items()}

    def _put(self, states):
        for name, (_, put) in self._parts.items():
            if name in states:
                put(states[name])

    def _load_optimizer(self, state):
        rates = [group["lr"] for group in self._groups.param_groups]
        self._optimizer.load_state_dict(state)
        for group, rate in zip(self._groups.param_groups, rates):
            if isinstance(rate, torch.Tensor):  # that graphs, or the job itself, hold on to
                group["lr"] = rate.fill_(float(group["lr"]))

    def _clean_buffers(self):
        """A batch that is left out has gone through forward: running statistics that it made
        non-finite come from the newest checkpoint."""
        bad = [name for name, buffer in self._model.named_buffers()
               if buffer.is_floating_point() and not bool(torch.isfinite(buffer).all())]
        found = self._read(None) if bad else None
        if found is None:
            return
        buffers = dict(self._model.named_buffers())
        with torch.no_grad():
            for name in bad:
                if name in found[1]["model"]:
                    buffers[name].copy_(found[1]["model"][name])


class _Heard(NamedTuple):
    """All that decides about a step: the same on every rank."""
    at: int
    action: Optional[Dict[str, Any]]  # None: no news
    is_timely: bool
    is_calm: bool


class _Alone:
    suffix = ""  # of this rank's files

    def agree(self, heard: _Heard) -> _Heard:
        return heard

    def of_all(self, value: Any) -> List[Any]:
        return [value]


class _Replicas:
    """Ranks that must take the same way. One small broadcast a step."""

    def __init__(self):
        rank = torch.distributed.get_rank()
        self.suffix = "-rank%d" % rank if rank else ""

    def agree(self, heard: _Heard) -> _Heard:
        held = [heard]
        torch.distributed.broadcast_object_list(held, src=0)
        return held[0]

    def of_all(self, value: Any) -> List[Any]:
        """What each rank says, by rank. Every rank must ask."""
        values: List[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(values, value)
        return values


def _ranks(monitor) -> Union[_Alone, _Replicas]:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()
            and distributed.get_world_size() > 1):
        return _Alone()
    if getattr(monitor, "is_sharded", False):
        raise ValueError("Guard is for one process or for replicas, not for ranks that hold shards")
    return _Replicas()


def _functions(extra):
    """(get, set) of what the user gave."""
    parts = list(extra)
    if len(parts) == 2 and all(callable(part) and not _has_state(part) for part in parts):
        return parts[0], parts[1]
    if not parts or not all(_has_state(part) for part in parts):
        raise ValueError("extra must be objects with state_dict and load_state_dict, or two "
                         "functions (get, set)")

    def restore(states):
        for part, state in zip(parts, states):
            part.load_state_dict(state)
    return lambda: [part.state_dict() for part in parts], restore


def _has_state(part):
    return callable(getattr(part, "state_dict", None)) and callable(
        getattr(part, "load_state_dict", None))


def _is_calm(reply: Optional[Reply]) -> bool:
    if reply is None:
        return True
    excess, spread = reply.value("loss_excess"), reply.value("loss_spread")
    has_risen = excess is not None and not excess <= RISE_SHARE + (spread or 0.0)
    return reply.action["kind"] == "continue" and reply.state != "unstable" and not has_risen


def _number(value):
    return float(value) if isinstance(value, (int, float)) else math.nan


def _finite(value, otherwise):
    number = _number(value)
    return number if math.isfinite(number) else otherwise


def _copied(value):
    """Tensors in host memory, of their own; containers with what they carry beside their items."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        result = copy.copy(value)
        for key, item in value.items():
            result[key] = _copied(item)
        return result
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    return copy.deepcopy(value)


# ---- where checkpoints are kept ----

class _Kept(NamedTuple):
    step: int
    content: Any  # the checkpoint, or the name of its file


class _Memory:
    """The newest `keep` checkpoints, in the order in which they were taken."""

    def __init__(self, keep: int):
        self._keep = keep
        self._list: List[_Kept] = []

    def put(self, step: int, checkpoint: Mapping[str, Any]) -> None:
        self._list.append(_Kept(step, self._store(step, checkpoint)))
        while len(self._list) > self._keep:
            self._drop(self._list.pop(0))

    def newest(self, step: Optional[int]) -> Optional[Tuple[int, Mapping[str, Any]]]:
        """The newest at or before `step` (None: of all), a copy; None when there is none."""
        found = [kept for kept in self._list if step is None or kept.step <= step]
        return (found[-1].step, self._load(found[-1])) if found else None

    def forget_after(self, step: int) -> None:
        for kept in [kept for kept in self._list if kept.step > step]:
            self._list.remove(kept)
            self._drop(kept)

    def _store(self, step, checkpoint):
        return checkpoint

    def _load(self, kept):
        return _copied(kept.content)

    def _drop(self, kept):
        pass


class _Folder(_Memory):
    """On disk; files of an earlier process are left alone, and written over."""

    def __init__(self, folder: str, keep: int, suffix: str):
        super().__init__(keep)
        self._folder, self._suffix = folder, suffix
        os.makedirs(folder, exist_ok=True)

    def _store(self, step, checkpoint):
        path = os.path.join(self._folder, "guard-%d%s.pt" % (step, self._suffix))
        torch.save(checkpoint, path + ".part")
        os.replace(path + ".part", path)
        return path

    def _load(self, kept):
        return torch.load(kept.content, map_location="cpu", weights_only=False)  # our own file

    def _drop(self, kept):
        try:
            os.unlink(kept.content)
        except OSError:  # somebody cleared the folder: no reason to take another way than other ranks
            pass
