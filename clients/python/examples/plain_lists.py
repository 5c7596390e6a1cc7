"""Gradient descent on a quadratic with nothing but Python: `python3 plain_lists.py [URL]`.

The curvature is 10 and the learning rate 0.21: just beyond the limit of 2 / 10."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import lyapd

CURVATURE = [10.0, 1.0]


def main(url=None, steps=100, lr=0.21):
    theta = [1.0, 1.0]
    with lyapd.Run(url, "example-lists", optimizer={"type": "sgd", "lr": lr},
                   tensors={"theta": [2]}, data="full-batch", new_attempt=True) as run:
        for step in range(steps):
            grad = [h * value for h, value in zip(CURVATURE, theta)]
            loss = 0.5 * sum(g * value for g, value in zip(grad, theta))
            reply = run.push(step, {"theta": theta}, {"theta": grad}, loss=loss, lr=lr)
            theta = [value - lr * g for value, g in zip(theta, grad)]
        print("loss %.3g, state %s, verdict %s, curvature %s, s %s" % (
            loss, reply.state, reply.verdict, reply.value("sharpness"),
            reply.value("stability_ratio")))
        print("action", reply.action)
        run.end()


if __name__ == "__main__":
    main(*sys.argv[1:2])
