"""Expected calibration error (15 equal bins, Guo et al. 2017) and the best temperature, computed
with numpy and scipy, for calibration.json. Run: python make_calibration.py"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax


def case(seed, rows, vocabulary, sureness):
    """Targets drawn from softmax(z); what is judged are the logits sureness * z."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.0, 2.0, (rows, vocabulary))
    targets = np.array([rng.choice(vocabulary, p=softmax(row)) for row in z])
    logits = (sureness * z).astype(np.float32)
    wide = logits.astype(np.float64)
    p = softmax(wide, axis=1)
    confidence, first = p.max(axis=1), p.argmax(axis=1)
    right = (first == targets).astype(float)
    place = np.clip(np.ceil(confidence * 15).astype(int), 1, 15) - 1
    bins, error = [], 0.0
    for b in range(15):
        inside = place == b
        n = int(inside.sum())
        c, a = (confidence[inside].mean(), right[inside].mean()) if n else (0.0, 0.0)
        bins.append((n, float(c), float(a)))
        error += n / rows * abs(a - c)

    def loss(t):
        return -log_softmax(wide / t, axis=1)[np.arange(rows), targets].mean()

    fit = minimize_scalar(loss, bounds=(0.06, 19.0), method="bounded", options={"xatol": 1e-9})
    return {
        "logits": [[float(v) for v in row] for row in logits],
        "targets": targets.tolist(),
        "error": float(error),
        "confidence": float(confidence.mean()),
        "accuracy": float(right.mean()),
        "bins": bins,
        "temperature": float(fit.x),
        "gain": float(loss(1.0) - fit.fun),
    }


cases = [case(1, 120, 7, 3.0), case(2, 120, 11, 0.4), case(3, 80, 5, 1.0)]
path = Path(__file__).with_name("calibration.json")
path.write_text(json.dumps(cases) + "\n")
for c in cases:
    print(c["error"], c["temperature"], c["gain"])
