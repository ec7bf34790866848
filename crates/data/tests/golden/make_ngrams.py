#!/usr/bin/env python3
"""Interpolated modified Kneser-Ney n-gram models, slow and plain, to check ours against.

Written from Chen & Goodman (1998, section 3, equation 26) and Heafield et al. (2013): counts in
dictionaries of tuples, probabilities by recursion, nothing shared with the Rust side.

    make_ngrams.py                 writes ngrams.json beside itself
    make_ngrams.py check FILE      reads a case from FILE and prints its losses as JSON

A case: `vocabulary`, `eos` (or null), `train` (ids), `held` (ids), `context` (window length), and
`orders`. Windows are cut from `held` without overlap; each scores the tokens after its first.
"""

import json
import math
import sys
from collections import Counter, defaultdict
from pathlib import Path

FALLBACK = (0.5, 1.0, 1.5)


def sequences(ids, eos):
    """Rows that begin with a start token and, but for the last, end with the end of text."""
    start = "start" if eos is None else eos
    rows, row = [], [start]
    for token in ids:
        row.append(token)
        if token == eos:
            rows.append(row)
            row = [start]
    if len(row) > 1:
        rows.append(row)
    return rows


def counts(rows, order):
    """For each length: raw counts, and adjusted ones (distinct tokens to the left)."""
    raw = {n: Counter() for n in range(1, order + 1)}
    left = {n: defaultdict(set) for n in range(1, order + 1)}
    for row in rows:
        for end in range(1, len(row)):
            for n in range(1, min(order, end + 1) + 1):
                begin = end - n + 1
                gram = tuple(row[begin : end + 1])
                raw[n][gram] += 1
                if begin > 0:
                    left[n][gram].add(row[begin - 1])
    adjusted = {}
    for n in range(1, order):
        adjusted[n] = {g: len(left[n][g]) if g in left[n] else c for g, c in raw[n].items()}
    adjusted[order] = dict(raw[order])
    return adjusted


def discounts(table):
    t = Counter(table.values())
    if not (t[1] and t[2] and t[3]):
        return FALLBACK
    y = t[1] / (t[1] + 2 * t[2])
    found = tuple(k - (k + 1) * y * t[k + 1] / t[k] for k in (1, 2, 3))
    # Not zero either: it might leave no probability for what is unseen.
    if any(d <= 0 or d > k for d, k in zip(found, (1, 2, 3))):
        return FALLBACK
    return found


class KneserNey:
    def __init__(self, rows, order, vocabulary, eos):
        self.order, self.vocabulary, self.eos = order, vocabulary, eos
        self.table = counts(rows, order)
        self.discounts = {n: discounts(self.table[n]) for n in self.table}
        self.total, self.classes = Counter(), defaultdict(lambda: [0, 0, 0])
        for n in self.table:
            for gram, count in self.table[n].items():
                self.total[gram[:-1]] += count
                self.classes[gram[:-1]][min(count, 3) - 1] += 1

    def probability(self, history, word):
        """`history` is a tuple of at most order - 1 tokens."""
        lower = 1 / self.vocabulary if not history else self.probability(history[1:], word)
        if history and history not in self.total:
            return lower
        n = len(history) + 1
        d, total = self.discounts[n], self.total[history]
        count = self.table[n].get(history + (word,), 0)
        taken = d[min(count, 3) - 1] if count else 0
        backoff = sum(a * b for a, b in zip(d, self.classes[history])) / total
        return (count - taken) / total + backoff * lower

    def losses(self, held, context):
        found = []
        for begin in range(0, len(held) - 1, context):
            for at in range(begin, min(begin + context, len(held) - 1)):
                history = tuple(held[max(begin, at - self.order + 2) : at + 1])
                if self.order == 1:
                    history = ()
                elif self.eos in history:
                    # Nothing before the last document's start counts.
                    last = max(i for i, token in enumerate(history) if token == self.eos)
                    history = history[last:]
                found.append(-math.log(self.probability(history, held[at + 1])))
        return found


def solve(case):
    rows = sequences(case["train"], case["eos"])
    results = []
    for order in case["orders"]:
        model = KneserNey(rows, order, case["vocabulary"], case["eos"])
        losses = model.losses(case["held"], case["context"])
        results.append({
            "order": order,
            "loss": sum(losses) / len(losses),
            "first": losses[:40],
            "ngrams": sum(len(model.table[n]) for n in model.table),
            "discounts": [model.discounts[n] for n in range(1, order + 1)],
        })
    return results


class Draw:
    """A small generator of its own, so that the cases are the same with any Python."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n


def text(draw, length, vocabulary, eos=None, document=0):
    """Tokens that depend on the two before them, with a long tail."""
    ids = [0, 1 % vocabulary]
    while len(ids) < length:
        if eos is not None and draw.below(document) == 0:
            ids.append(eos)
            continue
        likely = (ids[-1] * 7 + ids[-2] * 3 + draw.below(3)) % vocabulary
        rare = (draw.below(vocabulary) * draw.below(vocabulary)) // vocabulary
        ids.append(likely if draw.below(10) < 7 else rare)
    return ids


def cases():
    def case(name, vocabulary, length, context, orders, eos=None, document=0, seed=1):
        draw = Draw(seed)
        ids = text(draw, length + length // 5, vocabulary, eos, document)
        train, held = ids[:length], ids[length:]
        return dict(name=name, vocabulary=vocabulary, eos=eos, context=context, orders=orders,
                    train=train, held=held)

    yield case("one text", 40, 3000, 32, [1, 2, 3, 4, 5, 6])
    yield case("documents", 40, 3000, 32, [1, 2, 3, 5], eos=39, document=25, seed=2)
    yield case("short documents", 20, 1500, 16, [2, 4, 8], eos=0, document=4, seed=3)
    # Every token is frequent: counts of one or two do not occur in the lowest orders.
    yield case("few tokens", 3, 2000, 10, [1, 2, 3, 6], seed=4)
    yield case("two tokens", 2, 50, 7, [1, 2, 4], seed=5)
    # Most of the vocabulary is never trained on.
    unseen = case("unseen tokens", 30, 400, 12, [1, 2, 3, 4], seed=6)
    unseen["vocabulary"] = 90
    unseen["held"] = [(token * 5) % 90 for token in unseen["held"]]
    yield unseen
    tiny = dict(name="shorter than the order", vocabulary=5, eos=None, context=4,
                orders=[1, 2, 3, 6], train=[0, 1, 2], held=[0, 1, 2, 4, 4, 0])
    yield tiny
    yield dict(name="a single token", vocabulary=3, eos=2, context=4, orders=[1, 2, 3], train=[1],
               held=[1, 2, 1, 0])


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        print(json.dumps(solve(json.loads(Path(sys.argv[2]).read_text()))))
    else:
        solved = [dict(case, expected=solve(case)) for case in cases()]
        lines = ",\n".join(json.dumps(case) for case in solved)
        path = Path(__file__).with_name("ngrams.json")
        path.write_text(f"[\n{lines}\n]\n")
