"""Logistic regression by stochastic gradient descent in NumPy: `python3 numpy_sgd.py [URL]`."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import numpy

import lyapd


def main(url=None, steps=200, lr=0.5):
    rng = numpy.random.default_rng(1)
    x = rng.normal(size=(1000, 10))
    y = (x @ rng.normal(size=10) + 0.3 * rng.normal(size=1000) > 0).astype(float)
    params = {"w": numpy.zeros(10), "b": numpy.zeros(())}
    with lyapd.Run(url, "example-numpy", optimizer={"type": "sgd", "lr": lr},
                   tensors=params, new_attempt=True) as run:
        for step in range(steps):
            pick = rng.integers(0, 1000, 64)
            p = 1 / (1 + numpy.exp(-(x[pick] @ params["w"] + params["b"])))
            loss = -numpy.mean(y[pick] * numpy.log(p + 1e-12)
                               + (1 - y[pick]) * numpy.log(1 - p + 1e-12))
            error = (p - y[pick]) / len(pick)
            grads = {"w": x[pick].T @ error, "b": error.sum()}
            reply = run.push(step, params, grads, loss=loss, lr=lr)
            if reply.action["kind"] == "stop":
                break
            for name in params:
                params[name] = params[name] - lr * grads[name]
        print("loss %.4f, state %s, score %s" % (loss, reply.state, reply.score))
        run.end()


if __name__ == "__main__":
    main(*sys.argv[1:2])
