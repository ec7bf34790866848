"""Writes schedules.json: learning rates of torch's and transformers' schedulers, step by step.

Run with a Python that has torch and transformers:  python make_schedules.py
"""

import json
import math
import os
import warnings

import torch
import transformers

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
PEAK = 0.003


def rates(make, steps):
    """The rate before each of `steps` updates."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=PEAK)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def case(source, shape, horizon, make, warmup=0, steps=None):
    return {
        "source": source,
        "schedule": {"peak": PEAK, "warmup": {"steps": warmup}, "shape": shape},
        "horizon": horizon,
        "values": rates(make, steps or horizon),
    }


def plateau(factor, patience, floor, losses):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=factor, patience=patience, min_lr=floor
    )
    factors = []
    for loss in losses:
        scheduler.step(loss)
        factors.append(optimizer.param_groups[0]["lr"])
    shape = {"plateau": {"factor": factor, "patience": patience, "floor": floor}}
    return {"shape": shape, "losses": losses, "factors": factors}


L = torch.optim.lr_scheduler
H = transformers
cases = [
    case("torch ConstantLR", "constant", 50, lambda o: L.ConstantLR(o, factor=1.0)),
    case(
        "torch ExponentialLR",
        {"exponential": {"rate": 3.0}},
        97,
        lambda o: L.ExponentialLR(o, math.exp(-3.0 / 97)),
    ),
    case(
        "torch StepLR",
        {"step": {"every": {"steps": 17}, "factor": 0.3}},
        100,
        lambda o: L.StepLR(o, 17, 0.3),
    ),
    case(
        "torch PolynomialLR",
        {"polynomial": {"power": 2.0, "end": 0.0}},
        60,
        lambda o: L.PolynomialLR(o, total_iters=60, power=2.0),
        steps=66,
    ),
    case(
        "torch LinearLR",
        {"linear": {"end": 0.25}},
        60,
        lambda o: L.LinearLR(o, start_factor=1.0, end_factor=0.25, total_iters=60),
        steps=66,
    ),
    case(
        "torch CosineAnnealingLR",
        {"cosine": {"end": 0.1}},
        101,
        lambda o: L.CosineAnnealingLR(o, T_max=101, eta_min=0.1 * PEAK),
    ),
    case(
        "torch OneCycleLR",
        {"one_cycle": {"up": 0.3, "start": 0.04, "end": 0.04 / 1e4}},
        100,
        lambda o: L.OneCycleLR(o, PEAK, total_steps=100, pct_start=0.3, cycle_momentum=False),
        steps=99,
    ),
    case(
        "torch OneCycleLR, odd sizes",
        {"one_cycle": {"up": 0.37, "start": 0.2, "end": 0.02}},
        53,
        lambda o: L.OneCycleLR(
            o, PEAK, total_steps=53, pct_start=0.37, div_factor=5, final_div_factor=10,
            cycle_momentum=False,
        ),
        steps=52,
    ),
    case(
        "transformers constant with warm-up",
        "constant",
        40,
        lambda o: H.get_constant_schedule_with_warmup(o, 7),
        warmup=7,
    ),
    case(
        "transformers linear",
        {"linear": {"end": 0.0}},
        80,
        lambda o: H.get_linear_schedule_with_warmup(o, 13, 80),
        warmup=13,
    ),
    case(
        "transformers cosine",
        {"cosine": {"end": 0.0}},
        80,
        lambda o: H.get_cosine_schedule_with_warmup(o, 13, 80),
        warmup=13,
    ),
    case(
        "transformers polynomial",
        {"polynomial": {"power": 1.7, "end": 0.1}},
        80,
        lambda o: H.get_polynomial_decay_schedule_with_warmup(
            o, 10, 80, lr_end=0.1 * PEAK, power=1.7
        ),
        warmup=10,
    ),
    case(
        "transformers inverse square root",
        "inverse_sqrt",
        200,
        lambda o: H.get_inverse_sqrt_schedule(o, 20),
        warmup=20,
    ),
    case(
        "transformers warm-up, stable, decay",
        {"warmup_stable_decay": {"decay": 0.25, "end": 0.0}},
        80,
        lambda o: H.get_wsd_schedule(
            o, num_warmup_steps=8, num_decay_steps=20, num_training_steps=80,
            decay_type="linear",
        ),
        warmup=8,
    ),
    # With min_lr_ratio their warm-up starts at that ratio too, so this one has no warm-up.
    case(
        "transformers stable, decay to a tenth",
        {"warmup_stable_decay": {"decay": 0.25, "end": 0.1}},
        80,
        lambda o: H.get_wsd_schedule(
            o, num_warmup_steps=0, num_decay_steps=20, num_training_steps=80,
            decay_type="linear", min_lr_ratio=0.1,
        ),
        steps=90,
    ),
]
losses = [3.0, 2.5, 2.4, 2.41, 2.4, 2.39999, 2.2, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3, 2.1, 2.1]
losses += [2.2] * 12
plateaus = [plateau(0.5, 2, 0.1, losses), plateau(0.1, 0, 0.0005, losses)]

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "schedules.json")
with open(path, "w") as out:
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    json.dump({"versions": versions, "cases": cases, "plateaus": plateaus}, out, separators=(",", ":"))
    out.write("\n")
