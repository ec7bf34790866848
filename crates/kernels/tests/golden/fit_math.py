"""Fits the polynomials of src/math.rs: weighted least squares, reweighted towards the minimax
solution (Lawson), in 60 digits. Prints coefficients (lowest power first) and the worst error."""
import numpy as np
from mpmath import mp, mpf, matrix, lu_solve, exp, erfc, erf, log, sqrt, expm1

mp.dps = 50


def fit(name, f, weight, degree, low, high, points=160, rounds=25):
    """min over p of max |p(x) - f(x)| * weight(x) on Chebyshev points of [low, high]."""
    nodes = [mpf(low) + (mpf(high) - low) * (1 - mp.cos(mp.pi * (i + mpf(1) / 2) / points)) / 2
             for i in range(points)]
    values = [f(x) for x in nodes]
    base = [weight(x) for x in nodes]
    lawson = [mpf(1)] * points
    best = None
    for _ in range(rounds):
        rows = matrix(degree + 1, degree + 1)
        right = matrix(degree + 1, 1)
        for x, y, b, l in zip(nodes, values, base, lawson):
            w = l * b * b
            powers = [x**i for i in range(degree + 1)]
            for i in range(degree + 1):
                right[i] += w * powers[i] * y
                for j in range(degree + 1):
                    rows[i, j] += w * powers[i] * powers[j]
        c = lu_solve(rows, right)
        errors = [abs(sum(c[i] * x**i for i in range(degree + 1)) - y) * b
                  for x, y, b in zip(nodes, values, base)]
        worst = max(errors)
        if best is None or worst < best[0]:
            best = (worst, c)
        total = sum(l * e for l, e in zip(lawson, errors))
        lawson = [l * e / total * points for l, e in zip(lawson, errors)]
    worst, c = best
    print(f"{name}: worst weighted error {float(worst):.2e}")
    print("   ", ", ".join(f"{np.float32(float(v))!r}" for v in c))


half_ln2 = log(2) / 2 + mpf("1e-4")
fit("exp: (e^r - 1 - r) / r^2", lambda r: (expm1(r) - r) / r**2 if r else mpf("0.5"),
    lambda r: r * r / exp(r), 4, -half_ln2, half_ln2)
fit("expm1: (e^r - 1 - r) / r^2", lambda r: (expm1(r) - r) / r**2 if r else mpf("0.5"),
    lambda r: abs(r * r / expm1(r)) if r else mpf(0), 4, -half_ln2, half_ln2)
low, high = sqrt(mpf(1) / 2) - 1, sqrt(mpf(2)) - 1
fit("ln: (ln(1+f) - f + f^2/2) / f^3",
    lambda f: (log(1 + f) - f + f**2 / 2) / f**3 if f else mpf(1) / 3,
    lambda f: abs(f**3 / log(1 + f)) if f else mpf(0), 7, low, high)
fit("erf: erf(x) / x in x^2, |x| <= 1", lambda s: erf(sqrt(s)) / sqrt(s),
    lambda s: sqrt(s) / erf(sqrt(s)), 6, mpf("1e-12"), 1)
p = mpf("0.35")
fit("erfc: e^(z^2) erfc(z) / t in t = 1/(1 + 0.35 z)",
    lambda t: exp(((1 / t - 1) / p)**2) * erfc((1 / t - 1) / p) / t,
    lambda t: t / (exp(((1 / t - 1) / p)**2) * erfc((1 / t - 1) / p)),
    9, 1 / (1 + p * 10), 1, points=120)
# Of src/normal.rs, r in turns within 1/8, s = r^2.
turns = lambda s: 2 * mp.pi * sqrt(s)
fit("sin(2 pi r) / r in r^2", lambda s: mp.sin(turns(s)) / sqrt(s), lambda s: sqrt(s), 3,
    mpf("1e-12"), mpf(1) / 64)
fit("cos(2 pi r) in r^2", lambda s: mp.cos(turns(s)), lambda s: mpf(1), 4, 0, mpf(1) / 64)
