"""The active probe pair (docs/spec.md 2.3): the sharpest direction of one fixed batch's loss.

A pair is s, a small displacement along a direction v, and y, the change of the probe gradient along
it. v is warm from probe to probe and follows the largest eigenvalue of P^-1 H by a locally optimal
step: Rayleigh-Ritz on v, the residual of v, and the last change of v. Where autograd can
differentiate the gradient, y = |s| H v exactly and the parameters are never touched; otherwise y is
the difference of two gradients and the parameters come back bit by bit.

Nothing of the job changes: .grad is never written, modules are put in eval mode one by one and put
back, random states are restored. The running statistics of batch norms are part of the probe's
function and move with training; so the gradient that follows a probe is taken with the statistics
of that probe, and both belong to one function."""

import contextlib
import math
import random
import sys
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

import torch
from torch import nn

from .declare import unwrap

STEP = 1e-4            # |s| / |theta|; 1e-5 to 1e-3 give the same value in F32 (E4)
SEED = 20251221        # of the probe's own randomness, should the closure use any
FIRST_PRODUCTS = 24    # Hessian products of the first probe: a cold direction is up to 30 % low
MORE_PRODUCTS = 4      # of a later one, at most
LEAST_PRODUCTS = 2     # of every probe: the direction, and one look beside it
RESIDUAL = 0.05        # |P^-1 H v - rho v|_P / rho at which a direction has converged
INDEPENDENT = 1e-6     # least eigenvalue of the scaled Gram matrix that counts as a direction

MODES = ("auto", "exact", "difference")
Vectors = List[torch.Tensor]


class Pair(NamedTuple):
    """What one probe gives. Lists are in the order of the probe's parameters."""
    loss: float
    gradient: Vectors
    s: Optional[Vectors] = None
    y: Optional[Vectors] = None
    sharpness: float = math.nan   # <s,y>/<s,Ps>
    residual: float = math.nan    # of the same unit
    gradients: int = 1            # gradients and Hessian products that this probe cost


def dot(left: Vectors, right: Vectors) -> float:
    return float(torch.stack([(a * b).sum(dtype=torch.float64).cpu()
                              for a, b in zip(left, right)]).sum())


def combine(weights: List[float], vectors: List[Vectors]) -> Vectors:
    result = [part * weights[0] for part in vectors[0]]
    for weight, vector in zip(weights[1:], vectors[1:]):
        for total, part in zip(result, vector):
            total.add_(part, alpha=weight)
    return result


def times(left: Vectors, right: Vectors) -> Vectors:
    return [a * b for a, b in zip(left, right)]


class Probe:
    """`closure` returns the loss of one fixed batch; it only runs the model forward. `mode` is
    exact (second derivatives by autograd), difference (of two gradients), or auto: exact where
    the model allows it."""

    def __init__(self, model: nn.Module, named: Mapping[str, torch.Tensor],
                 closure: Callable[[], torch.Tensor], mode: str = "auto"):
        if not callable(closure):
            raise TypeError("probe must be a function that returns the loss of one fixed batch")
        if mode not in MODES:
            raise ValueError("probe_mode must be one of %s, not %r" % (", ".join(MODES), mode))
        self._model = model
        self._parameters = list(named.values())
        self._closure = closure
        self._is_auto = mode == "auto"
        self.mode = "exact" if mode == "auto" else mode
        self._direction: Optional[Vectors] = None
        self._products = 0
        self._statistics: Vectors = []  # of the batch norms, at the last measure
        self.is_same_function = True    # as at the measure before: those had not moved
        self._can_differ = all(parameter.dtype in (torch.float32, torch.float64)
                               for parameter in self._parameters)

    def direction_of(self, optimizer: Any) -> Optional[Vectors]:
        """The present direction v over all of the optimizer's parameters; None before the first."""
        if self._direction is None:
            return None
        parts = {id(parameter): part
                 for parameter, part in zip(self._parameters, self._direction)}
        return [parts.get(id(parameter), torch.zeros_like(parameter))
                for parameter in dict.fromkeys(p for group in optimizer.param_groups
                                               for p in group["params"])]

    def gradient(self) -> Pair:
        """Loss and gradient of the last probe's function at the present parameters."""
        with undisturbed(self._model, self._parameters), self._past_statistics():
            loss, gradient = self._evaluate(create_graph=False)
        return Pair(float(loss), [part.detach() for part in gradient])

    def measure(self, preconditioner: Optional[Vectors] = None) -> Pair:
        """One probe. `preconditioner` is the diagonal P; without it the identity."""
        present = [buffer.clone() for buffer in _statistics(self._model)]
        self.is_same_function = len(present) == len(self._statistics) and all(
            torch.equal(*both) for both in zip(present, self._statistics))
        self._statistics = present
        if self.mode == "exact" and self._is_auto:
            try:
                return self._measure(preconditioner)
            except (RuntimeError, NotImplementedError):
                self.mode = "difference"  # no second derivatives, or no memory for them
        return self._measure(preconditioner)

    def _measure(self, preconditioner):
        with undisturbed(self._model, self._parameters):
            loss, gradient = self._evaluate(create_graph=self.mode == "exact")
            plain = Pair(float(loss), [part.detach() for part in gradient])
            norm = math.sqrt(dot(self._plain(), self._plain()))
            if not math.isfinite(plain.loss) or not 0 < norm < math.inf:
                return plain
            if self.mode == "difference" and not self._can_differ:
                return plain  # a displacement of 1e-4 drowns in the rounding of half precision
            diagonal = preconditioner or [torch.ones_like(part) for part in plain.gradient]
            diagonal = [_wide(part) for part in diagonal]

            def product(vector):
                self._products += 1
                return (self._exact(gradient, vector) if self.mode == "exact"
                        else self._difference(plain.gradient, vector, STEP * norm))
            self._products = 0
            found = self._climb(product, diagonal, plain.gradient)
        if found is None:
            self._direction = None
            return plain._replace(gradients=1 + self._products)
        vector, image, sharpness, residual = found
        length = STEP * norm / math.sqrt(dot(vector, vector))
        return plain._replace(s=combine([length], [vector]), y=combine([length], [image]),
                              sharpness=sharpness, residual=residual,
                              gradients=1 + self._products)

    @contextlib.contextmanager
    def _past_statistics(self):
        buffers = _statistics(self._model) if self._statistics else []
        present = [buffer.clone() for buffer in buffers]
        try:
            for buffer, past in zip(buffers, self._statistics):
                buffer.copy_(past)
            yield
        finally:
            for buffer, now in zip(buffers, present):
                buffer.copy_(now)

    # ---- the top eigenpair ----

    def _climb(self, product, diagonal, gradient):
        """(v, H v, rho, residual): locally optimal steps until the residual is small."""
        is_first = self._direction is None
        lean = _unit([_wide(part) / weight for part, weight in zip(gradient, diagonal)], diagonal)
        vector = self._start(lean, diagonal) if is_first else self._direction
        # Frozen parameters do not move: they are no part of any direction.
        vector = _unit([part if parameter.requires_grad else torch.zeros_like(part)
                        for parameter, part in zip(self._parameters, vector)], diagonal)
        if vector is None:
            return None
        image = product(vector)
        last = None  # the last change of v and its image
        while True:
            rho = dot(vector, image)
            away = [part / weight - rho * old
                    for part, weight, old in zip(image, diagonal, vector)]
            residual = math.sqrt(max(dot(away, times(diagonal, away)), 0.0))
            if not math.isfinite(rho) or not math.isfinite(residual):
                return None
            is_converged = residual <= RESIDUAL * rho
            if (self._products >= (FIRST_PRODUCTS if is_first else MORE_PRODUCTS)
                    or is_converged and self._products >= LEAST_PRODUCTS):
                break
            # A direction that has become the sharpest meanwhile shows in the gradient before it
            # shows in v: a look that convergence leaves free goes there.
            away = lean if is_converged and lean else _unit(away, diagonal)
            if away is None:
                break
            basis, images = [vector, away], [image, product(away)]
            if last is not None:
                basis.append(last[0])
                images.append(last[1])
            weights = _ritz(basis, images, diagonal)
            if weights is None:
                return None
            change = [0.0] + weights[1:]
            last = (combine(change, basis), combine(change, images))
            vector, image = combine(weights, basis), combine(weights, images)
        self._direction = vector
        return vector, image, rho, residual

    def _start(self, lean, diagonal):
        """The gradient leans towards sharp directions; some noise reaches those it misses."""
        generator = torch.Generator().manual_seed(SEED)
        noise = [torch.randn(part.shape, generator=generator).to(part) for part in diagonal]
        noise = _unit(noise, diagonal)
        if noise is None or lean is None:
            return noise or lean or []
        return combine([1.0, 0.3], [lean, noise])

    # ---- gradients and Hessian products ----

    def _plain(self):
        return [parameter.detach() for parameter in self._parameters]

    def _evaluate(self, create_graph):
        active = self._active()
        with torch.enable_grad():
            loss = self._closure()
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                raise TypeError("the probe closure must return the loss, one number")
            found = torch.autograd.grad(loss, [self._parameters[i] for i in active],
                                        allow_unused=True, create_graph=create_graph)
        gradient = [torch.zeros_like(parameter) for parameter in self._parameters]
        for i, part in zip(active, found):
            if part is not None:
                gradient[i] = part.to_dense() if part.is_sparse else part
        return loss.detach(), gradient

    def _active(self):
        """Parameters that are not frozen at the moment."""
        return [i for i, parameter in enumerate(self._parameters) if parameter.requires_grad]

    def _exact(self, gradient, vector):
        chosen = [i for i, part in enumerate(gradient) if part.requires_grad]
        if not chosen:
            raise RuntimeError("the gradient of the probe has no derivative")
        active = self._active()
        result = [torch.zeros_like(part) for part in vector]
        found = torch.autograd.grad(
            [gradient[i] for i in chosen], [self._parameters[i] for i in active],
            grad_outputs=[vector[i].to(gradient[i].dtype) for i in chosen],
            retain_graph=True, allow_unused=True)
        for i, part in zip(active, found):
            if part is not None:
                result[i] = _wide(part)
        return result

    def _difference(self, gradient, vector, length):
        """`.data` keeps autograd's version counters out of the displacement; copying back restores
        every bit."""
        length /= math.sqrt(dot(vector, vector))
        kept = [parameter.data.clone() for parameter in self._parameters]
        try:
            for parameter, part in zip(self._parameters, vector):
                parameter.data.add_(part, alpha=length)
            with undisturbed(self._model, self._parameters):
                _, moved = self._evaluate(create_graph=False)
        finally:
            for parameter, old in zip(self._parameters, kept):
                parameter.data.copy_(old)
        return [_wide(after.detach() - before) / length
                for after, before in zip(moved, gradient)]


def _statistics(model):
    """Running means and variances that training moves."""
    return [buffer.data for module in model.modules()
            if getattr(module, "track_running_stats", False)
            for name, buffer in module.named_buffers(recurse=False)
            if name.startswith("running_")]


def _wide(part):
    return part.detach() if part.dtype == torch.float64 else part.detach().float()


def _unit(vector, diagonal):
    """Of length 1 in the P norm; None for a vector without direction."""
    norm = math.sqrt(max(dot(vector, times(diagonal, vector)), 0.0)) if vector else 0.0
    return combine([1 / norm], [vector]) if 0 < norm < math.inf else None


def _ritz(basis, images, diagonal) -> Optional[List[float]]:
    """Weights of the unit vector in the span of `basis` with the largest Rayleigh quotient; scaled
    so that the weight of the first, the present direction, is not negative."""
    weighted = [times(diagonal, vector) for vector in basis]
    gram = torch.tensor([[dot(a, b) for b in weighted] for a in basis], dtype=torch.float64)
    form = torch.tensor([[dot(a, b) for b in images] for a in basis], dtype=torch.float64)
    if not (torch.isfinite(gram).all() and torch.isfinite(form).all()):
        return None
    size = gram.diagonal().clamp(min=1e-300).rsqrt()
    values, vectors = torch.linalg.eigh(gram * size[:, None] * size[None, :])
    kept = values > INDEPENDENT * values[-1]
    frame = size[:, None] * vectors[:, kept] * values[kept].rsqrt()
    _, turned = torch.linalg.eigh(frame.T @ (0.5 * (form + form.T)) @ frame)
    weights = frame @ turned[:, -1]
    return (weights if weights[0] >= 0 else -weights).tolist()


@contextlib.contextmanager
def undisturbed(model, parameters):
    """Eval mode (no dropout, batch norm reads its running statistics) and the same random numbers
    at every call; everything back as it was afterwards."""
    modules = [(module, module.training) for module in model.modules()]
    devices = sorted({parameter.device.index for parameter in parameters
                      if parameter.device.type == "cuda"})
    numpy = sys.modules.get("numpy")
    kept = (random.getstate(), numpy.random.get_state() if numpy else None)
    has_rnn = bool(devices) and any(isinstance(module, nn.RNNBase) for module, _ in modules)
    try:
        for module, _ in modules:
            module.training = False
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=devices))
            if hasattr(model, "no_sync"):  # DistributedDataParallel: no gradient exchange
                stack.enter_context(model.no_sync())
            stack.enter_context(_differentiable_attention())
            if has_rnn:  # cudnn has no backward of recurrent layers in eval mode
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            torch.random.default_generator.manual_seed(SEED)
            for device in devices:
                torch.cuda.default_generators[device].manual_seed(SEED)
            yield
    finally:
        for module, was_training in modules:
            module.training = was_training
        random.setstate(kept[0])
        if numpy:
            numpy.random.set_state(kept[1])


def _differentiable_attention():
    """Fused attention has no second derivative; torch 2.3 and later can be told to do without."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:
        return contextlib.nullcontext()
    return sdpa_kernel(SDPBackend.MATH)


def input_sizes(model: nn.Module, closure: Callable[[], Any]) -> Dict[str, List[int]]:
    """Spatial input size of every convolution, from one forward pass of the probe. Hooks live for
    this pass only; none are put on a compiled model."""
    root = unwrap(model)
    if hasattr(model, "_orig_mod"):
        return {}
    sizes: Dict[str, List[int]] = {}
    handles = []

    def hook(path, rank):
        def note(_module, inputs):
            sizes[path] = list(inputs[0].shape[-rank:])
        return note
    ranks = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
    for path, module in root.named_modules():
        if type(module) in ranks:
            handles.append(module.register_forward_pre_hook(hook(path, ranks[type(module)])))
    if not handles:
        return sizes
    try:
        with undisturbed(model, list(root.parameters())), torch.no_grad():
            closure()
    finally:
        for handle in handles:
            handle.remove()
    return sizes
