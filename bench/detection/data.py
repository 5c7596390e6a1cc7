"""Data of the corpus: bundled digits, a small artificial language, the adding problem, synthetic regressions.

All draws come from the caller's numpy RandomState `r`, so a run is a function of its seed. What is held out for the probe of a
job (training.Spec.held) takes none of them: it is what training left, or drawn by `other()`.
"""
import math

import numpy as np
import torch

_digits = []
HELD = 128  # examples that are held out
HELD_SEED = 2**31 - 1

WORDS = (
    "the a one this every small big old red green slow quick quiet strange boat dog cat river house road "
    "teacher baker sailor engine garden winter stone letter sees finds keeps leaves paints carries follows "
    "and but while near under over behind before after"
).split()
ALPHABET = " .abcdefghijklmnopqrstuvwxyz"


def tensor(a):
    return torch.from_numpy(np.ascontiguousarray(a))


def other():
    """Draws of examples that are held out: always the same."""
    return np.random.RandomState(HELD_SEED)


def uniform(r, low, high):
    return float(r.uniform(low, high))


def log_uniform(r, low, high):
    return float(math.exp(r.uniform(math.log(low), math.log(high))))


def digits():
    """1797 images of 8x8 grey values (scaled to -0.3 .. 0.7) and their labels."""
    if not _digits:
        from sklearn.datasets import load_digits

        d = load_digits()
        _digits.append(((d.data / 16.0 - 0.3).astype(np.float32), d.target.astype(np.int64)))
    return _digits[0]


def some_digits(i):
    x, y = digits()
    return tensor(x[i]), tensor(y[i])


def full_digits(r, n):
    """(batch of n images, images held out)"""
    order = r.permutation(len(digits()[0]))
    return some_digits(order[:n]), some_digits(order[n : n + HELD])


def mini_digits(r, n, size):
    """(batch(t), probe, held): mini-batches of `size` out of n images; the probe is 256 of them, held none of them."""
    order = r.permutation(len(digits()[0]))
    train = order[:n]

    def batch(t):
        return some_digits(train[r.randint(0, n, size)])

    return batch, some_digits(train[:256]), some_digits(order[n : n + HELD])


def adding(r, n, length):
    """Sequences of (value, mark); the target is the sum of the two marked values."""
    x = r.rand(n, length, 2).astype(np.float32)
    x[:, :, 1] = 0
    for k in range(n):
        i, j = r.choice(length, 2, False)
        x[k, i, 1] = x[k, j, 1] = 1
    return tensor(x), tensor((x[:, :, 0] * x[:, :, 1]).sum(1).astype(np.float32))


def adding_batches(r, x, y, n, size):
    def batch(t):
        j = tensor(r.randint(0, n, size))
        return x[j], y[j]

    return batch


def text(n, seed):
    """n characters of sentences from a tiny grammar, as indices, and the size of the alphabet."""
    r = np.random.RandomState(seed)
    det, adj, noun, verb, conj, prep = (
        WORDS[:5], WORDS[5:14], WORDS[14:27], WORDS[27:34], WORDS[34:37], WORDS[37:],
    )
    out, size = [], 0

    def phrase():
        words = [det[r.randint(len(det))]]
        if r.rand() < 0.5:
            words.append(adj[r.randint(len(adj))])
        words.append(noun[r.randint(len(noun))])
        return " ".join(words)

    while size < n:
        s = phrase() + " " + verb[r.randint(len(verb))] + " " + phrase()
        if r.rand() < 0.4:
            s += " " + prep[r.randint(len(prep))] + " " + phrase()
        s += ". " if r.rand() < 0.7 else " " + conj[r.randint(len(conj))] + " "
        out.append(s)
        size += len(s)
    return np.array([ALPHABET.index(c) for c in "".join(out)[:n]], np.int64), len(ALPHABET)


def chars(r, size, context=32):
    """(batch(t), probe, held, alphabet size): next-character prediction."""
    d, vocabulary = text(30000, 7)
    more, _ = text(3000, 8)

    def get(d, r, n):
        k = r.randint(0, len(d) - context - 1, n)
        return (
            tensor(np.stack([d[a : a + context] for a in k])),
            tensor(np.stack([d[a + 1 : a + context + 1] for a in k])),
        )

    probe = get(d, r, 32)
    return (lambda t: get(d, r, size)), probe, get(more, other(), 32), vocabulary


def regression(r, n, p, low, high):
    """Random design whose columns have scales low .. high."""
    return r.randn(n, p).astype(np.float32) * np.linspace(low, high, p, dtype=np.float32)
