"""Writes study.json: paired differences with what SciPy makes of them.

    python crates/report/tests/golden/make_study.py

Student's interval and p (ttest_1samp), the bias-corrected and accelerated bootstrap (bootstrap,
from more resamples than ours), and Schuirmann's equivalence test (two one-sided ttest_1samp).
"""

import json
import pathlib

import numpy as np
from scipy import stats

random = np.random.default_rng(4)
ROPE = 0.005
cases = []
for n, mean, spread, kind in [
    (2, 0.01, 0.01, "normal"), (3, 0.0, 0.002, "normal"), (5, 0.03, 0.01, "normal"),
    (5, 0.0, 0.001, "normal"), (8, -0.02, 0.015, "skewed"), (10, 0.001, 0.003, "normal"),
    (20, 0.0, 0.02, "skewed"), (30, 0.004, 0.01, "normal"), (30, 0.0, 0.004, "normal"),
]:
    noise = random.standard_normal(n) if kind == "normal" else random.exponential(size=n) - 1.0
    values = mean + spread * noise
    test = stats.ttest_1samp(values, 0.0)
    interval = test.confidence_interval(0.95)
    case = {
        "values": values.tolist(), "p": float(test.pvalue),
        "low": float(interval.low), "high": float(interval.high),
        "equivalence": float(max(
            stats.ttest_1samp(values, -ROPE, alternative="greater").pvalue,
            stats.ttest_1samp(values, ROPE, alternative="less").pvalue,
        )),
    }
    if n >= 5:
        bca = stats.bootstrap((values,), np.mean, n_resamples=100_000, method="BCa", rng=random)
        case["bca"] = [float(bca.confidence_interval.low), float(bca.confidence_interval.high)]
    cases.append(case)
path = pathlib.Path(__file__).with_name("study.json")
path.write_text(json.dumps({"rope": ROPE, "cases": cases}, indent=1) + "\n")
