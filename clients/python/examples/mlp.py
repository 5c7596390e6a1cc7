"""A small network under lyapd: `python3 mlp.py [URL]`. Takes a few seconds on one core.

The learning rate is raised too far half way; what the daemon says is printed as it comes, and
lyapd.Guard follows its advice: a lower rate, or back to a checkpoint. A step of this network takes
less than a millisecond, so the loop waits for each answer (wait=True); a training with longer steps
need not."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import torch
from torch import nn

import lyapd


def main(url=None, steps=400):
    torch.manual_seed(1)
    x = torch.randn(2000, 20)
    y = torch.sin(2 * x[:, :5]).sum(1, keepdim=True) + 0.1 * torch.randn(2000, 1)
    model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(),
                          nn.Linear(64, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    loss_of = nn.MSELoss()

    def probe():  # one fixed batch, forward only
        return loss_of(model(x[:256]), y[:256])

    with lyapd.watch(model, optimizer, url=url, run="example-mlp", probe=probe,
                     wait=True, labels={"example": "mlp"}) as monitor:
        guard = lyapd.Guard(monitor, model, optimizer)
        seen, told = set(), 0
        for step in range(steps):
            if step == steps // 2:
                optimizer.param_groups[0]["lr"] = 1.0
            pick = torch.randint(256, 2000, (64,))
            optimizer.zero_grad()
            loss = loss_of(model(x[pick]), y[pick])
            loss.backward()
            if guard.allows(loss):
                optimizer.step()
            for event in list(guard.events)[told:]:
                print("step %d: %s: %s" % (step, event["kind"], event["reason"]))
            told = len(guard.events)
            for alert in monitor.alerts:
                if alert["state"] == "firing" and alert["id"] not in seen:
                    seen.add(alert["id"])
                    print("step %d: %s (%s): %s" % (step, alert["rule"], alert["severity"],
                                                    alert.get("summary")))
            if step % 50 == 0:
                reply = monitor.last_reply
                ratio = reply.value("stability_ratio") if reply else None
                print("step %3d loss %8.4f state %-10s share of the stability limit %s" % (
                    step, float(loss.detach()), monitor.state,
                    "%.3f" % ratio if ratio is not None else "unknown"))
            if guard.is_over:
                break
    print("loss %.4f at the end" % float(loss.detach()))
    print("sent %d, dropped %d, errors %s" % (monitor.sent, monitor.dropped, monitor.errors[-1:]))


if __name__ == "__main__":
    main(*sys.argv[1:2])
