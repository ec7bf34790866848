"""Tables of a study's results: every arm's losses, and each contrast as a paired difference.

usage: table.py STUDY.toml [RESULTS.jsonl ...]

Differences are taken seed by seed; the interval is Student's, 95%, two-sided. A contrast is written
in the study as [[contrast]] with `claim`, `arm`, `against` (or `published`, a figure from the
literature) and `of` (best, last, test or gap).
Only Python's standard library is used.
"""

import json
import math
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent


def incomplete_beta(a, b, x):
    """Regularized, by the continued fraction of Lentz (Numerical Recipes 6.4's formula)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
                     + a * math.log(x) + b * math.log(1 - x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    h = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1 / (1 + term * d), 1 + term / c
            h *= c * d
    return front * h


def t_quantile(freedom, tail=0.025):
    """The t above which `tail` of Student's distribution lies."""
    low, high = 0.0, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        beyond = incomplete_beta(freedom / 2, 0.5, freedom / (freedom + middle * middle)) / 2
        low, high = (middle, high) if beyond > tail else (low, middle)
    return (low + high) / 2


def interval(values):
    """Mean and half-width of its 95% interval; no width from a single value."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, math.inf
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, t_quantile(n - 1) * deviation / math.sqrt(n)


def value_of(line, of):
    if of == "test":
        return line["test"]["loss"]
    if of == "accuracy":
        return line["test"]["accuracy"]
    if of == "points":
        return 100 * line["test"]["accuracy"]
    if of == "gap":
        return line["last"]["gap"]
    if of in ("raw", "ema", "swa"):
        return min(e[3] for e in line["evaluations"] if e[1] == of)
    if of in ("last-raw", "last-ema", "last-swa"):
        return [e[3] for e in line["evaluations"] if e[1] == of[5:]][-1]
    return line[of]["loss_valid"]


def load(paths):
    """{arm: {seed: line}}; a later line of the same run replaces an earlier one."""
    arms = {}
    for path in [path for path in paths if Path(path).exists()]:
        for text in Path(path).read_text().splitlines():
            line = json.loads(text)
            arms.setdefault(line["arm"], {})[line["seed"]] = line
    return arms


def arms_table(arms, order):
    columns = ["best", "last", "gap"]
    if any("test" in line for lines in arms.values() for line in lines.values()):
        columns.append("test")
    if any("f1" in line.get("test", {}) for lines in arms.values() for line in lines.values()):
        return labels_table(arms, order)
    print("| arm | seeds | best held-out | at step | held-out at the end | gap at the end | test |")
    print("|---|---|---|---|---|---|---|")
    for arm in order:
        lines = list(arms.get(arm, {}).values())
        if not lines:
            continue
        cells = [mean_text([value_of(line, of) for line in lines]) for of in ("best", "last", "gap")]
        step = sum(line["best"]["step"] for line in lines) / len(lines)
        test = mean_text([value_of(line, "test") for line in lines]) if "test" in columns else "–"
        print(f"| {arm} | {len(lines)} | {cells[0]} | {step:.0f} | {cells[1]} | {cells[2]} | {test} |")


def labels_table(arms, order):
    """Arms of classifiers: what counts is what they get right."""
    print("| arm | seeds | test accuracy, % | test loss, nats | best at step | gap at the end |")
    print("|---|---|---|---|---|---|")
    for arm in order:
        lines = list(arms.get(arm, {}).values())
        if lines:
            mean, half = interval([value_of(line, "points") for line in lines])
            step = sum(line["best"]["step"] for line in lines) / len(lines)
            loss, gap = (mean_text([value_of(line, of) for line in lines]) for of in ("test", "gap"))
            print(f"| {arm} | {len(lines)} | {mean:.2f} ± {half:.2f} | {loss} | {step:.0f} | {gap} |")


def mean_text(values):
    mean, half = interval(values)
    return f"{mean:.4f} ± {half:.4f}" if math.isfinite(half) else f"{mean:.4f}"


def contrasts_table(arms, contrasts):
    print("| claim | difference | 95% interval | seeds |")
    print("|---|---|---|---|")
    for contrast in contrasts:
        of = contrast.get("of", "best")
        one = {seed: value_of(line, of) for seed, line in arms.get(contrast["arm"], {}).items()}
        if "published" in contrast:
            name, other = "published", dict.fromkeys(one, contrast["published"])
        else:
            name, against = contrast["against"], contrast.get("against-of", of)
            other = {seed: value_of(line, against) for seed, line in arms.get(name, {}).items()}
        seeds = sorted(set(one) & set(other))
        if not seeds:
            continue
        differences = [one[s] - other[s] for s in seeds]
        mean, half = interval(differences)
        print(f"| {contrast['claim']}: {contrast['arm']} − {name} ({of}) "
              f"| {mean:+.4f} | {mean - half:+.4f} to {mean + half:+.4f} | {len(seeds)} |")


def main():
    study = tomllib.loads(Path(sys.argv[1]).read_text())
    name = study.get("name", Path(sys.argv[1]).stem)
    arms = load(sys.argv[2:] or [HERE / "results" / f"{name}.jsonl"])
    print(f"### {name}\n")
    arms_table(arms, study["arms"])
    print()
    contrasts_table(arms, study.get("contrast", []))
    cost = sum(line["seconds_step"] for lines in arms.values() for line in lines.values())
    runs = sum(len(lines) for lines in arms.values())
    print(f"\n{runs} runs, {cost:.0f} s in training steps (wall time beside other work)")


if __name__ == "__main__":
    main()
