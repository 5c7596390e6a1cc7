"""Client of lyapd, the monitoring daemon for training stability.

    mon = lyapd.watch(model, optimizer, run="gpt-7", probe=closure)      # PyTorch
    loss.backward(); mon.step(loss); optimizer.step()

    guard = lyapd.Guard(mon, model, optimizer)                           # does what is advised
    loss.backward()
    if guard.allows(loss): optimizer.step()

    run = lyapd.Run(url, "gpt-7", optimizer={"type": "sgd", "lr": 0.1})  # anything
    reply = run.push(step, params, grads, loss=loss, lr=0.1)

Needs nothing but the standard library; PyTorch is imported by `watch` and `Guard` alone.
"""

from typing import Any

from .errors import Error, Unreachable
from .run import Reply, Run
from .sender import Limits
from .spool import send_spool

__version__ = "0.1.0"
__all__ = ["Error", "Limits", "Reply", "Run", "Twins", "Unreachable", "send_spool", "watch"]


def watch(model: Any, optimizer: Any, **options: Any) -> Any:
    """Watches a PyTorch training loop; `help(lyapd.monitor.watch)` lists the options."""
    from .monitor import watch as watch_torch
    return watch_torch(model, optimizer, **options)


def __getattr__(name: str) -> Any:
    if name == "Monitor":
        from .monitor import Monitor
        return Monitor
    if name == "Twins":
        from .twin import Twins
        return Twins
    if name == "Guard":
        from .guard import Guard
        return Guard
    raise AttributeError("module 'lyapd' has no attribute %r" % name)
