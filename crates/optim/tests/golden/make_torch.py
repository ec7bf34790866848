"""Runs PyTorch's optimizers for 100 steps and writes where the parameters went.

    python make_torch.py        # writes torch.safetensors beside this script

The gradients are recomputed by the Rust test: a linear congruential generator's value plus half the
parameter itself (so that errors would feed back), and zero for some elements in the first half.
"""

import contextlib
import pathlib

import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
HERE = pathlib.Path(__file__).parent
SHAPES = {"wide": (12, 24), "tall": (20, 6), "table": (10, 8), "bias": (7,)}
MATRICES = ["wide", "tall"]
STEPS = 100
KEPT = [1, 10, 100]


class Generator:
    """x <- 1664525 x + 1013904223 mod 2^32; the upper 24 bits as a number in [-1/2, 1/2)."""

    def __init__(self, seed):
        self.state = seed

    def tensor(self, shape):
        values = []
        for _ in range(torch.Size(shape).numel()):
            self.state = (self.state * 1664525 + 1013904223) % 2**32
            values.append((self.state >> 8) / 2**24 - 0.5)
        return torch.tensor(values, dtype=torch.float32).reshape(shape)


def gradient(generator, step, parameter):
    raw = generator.tensor(parameter.shape)
    grad = raw + 0.5 * parameter.detach()
    if step <= STEPS // 2:
        grad.view(-1)[3::7] = 0.0
    return grad


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, program 1."""

    def __init__(self, params, lr, betas, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(torch.sign(beta1 * m + (1 - beta1) * p.grad), alpha=-group["lr"])
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)


@contextlib.contextmanager
def products_in_f32():
    """torch.optim.Muon orthogonalises in bfloat16; this makes the same code use float32."""
    bfloat16 = torch.bfloat16
    torch.bfloat16 = torch.float32
    try:
        yield
    finally:
        torch.bfloat16 = bfloat16


def groups(parameters, decay):
    """Decay acts on everything but the bias."""
    exempt = [parameters["bias"]]
    decayed = [p for name, p in parameters.items() if name != "bias"]
    return [dict(params=decayed, weight_decay=decay), dict(params=exempt, weight_decay=0.0)]


def muon(parameters, rate, vector_rate, decay, **knobs):
    hidden = torch.optim.Muon([parameters[n] for n in MATRICES], lr=rate, weight_decay=decay, **knobs)
    others = {name: p for name, p in parameters.items() if name not in MATRICES}
    adamw = torch.optim.AdamW(groups(others, decay), lr=rate * vector_rate, betas=(0.9, 0.95))
    return [hidden, adamw]


O = torch.optim
CASES = {
    "gradient-descent": lambda p: [O.SGD(groups(p, 0), lr=0.05)],
    "gradient-descent.clip": lambda p: [O.SGD(groups(p, 0), lr=0.05)],
    "sgd.momentum": lambda p: [O.SGD(groups(p, 0), lr=0.05, momentum=0.9)],
    "sgd.nesterov": lambda p: [O.SGD(groups(p, 0), lr=0.05, momentum=0.9, nesterov=True)],
    "sgd.dampening.coupled": lambda p: [O.SGD(groups(p, 0.1), lr=0.05, momentum=0.8, dampening=0.3)],
    "adam": lambda p: [O.Adam(groups(p, 0), lr=0.01)],
    "adam.coupled.clip": lambda p: [O.Adam(groups(p, 0.1), lr=0.01, betas=(0.8, 0.95))],
    "adamw": lambda p: [O.AdamW(groups(p, 0.1), lr=0.01)],
    "adamw.clip.schedule": lambda p: [O.AdamW(groups(p, 1.0), lr=0.01, betas=(0.9, 0.95))],
    "rmsprop": lambda p: [O.RMSprop(groups(p, 0), lr=0.01)],
    "rmsprop.centered": lambda p: [O.RMSprop(groups(p, 0.1), lr=0.01, centered=True, alpha=0.9)],
    "rmsprop.momentum": lambda p: [O.RMSprop(groups(p, 0), lr=0.01, momentum=0.7)],
    "rmsprop.centered.momentum": lambda p: [
        O.RMSprop(groups(p, 0), lr=0.01, momentum=0.7, centered=True, alpha=0.95)
    ],
    "adagrad": lambda p: [O.Adagrad(groups(p, 0), lr=0.05)],
    "adagrad.initial": lambda p: [O.Adagrad(groups(p, 0.1), lr=0.05, initial_accumulator_value=0.1)],
    "lion": lambda p: [Lion(groups(p, 0), lr=0.01, betas=(0.9, 0.99))],
    "lion.decay": lambda p: [Lion(groups(p, 0.3), lr=0.01, betas=(0.95, 0.98))],
    "muon": lambda p: muon(p, 0.02, 0.15, 0.1),
    "muon.plain": lambda p: muon(p, 0.02, 0.15, 0.0, nesterov=False, momentum=0.9, ns_steps=3),
    "muon.match": lambda p: muon(p, 0.01, 1.0, 0.1, adjust_lr_fn="match_rms_adamw"),
    "muon.bf16": lambda p: muon(p, 0.02, 0.15, 0.1),
}


def run(name, build):
    generator = Generator(12345)
    parameters = {
        key: torch.nn.Parameter(generator.tensor(shape)) for key, shape in SHAPES.items()
    }
    optimizers = build(parameters)
    rates = [[group["lr"] for group in o.param_groups] for o in optimizers]
    kept = {}
    for step in range(1, STEPS + 1):
        for p in parameters.values():
            p.grad = gradient(generator, step, p)
        if "clip" in name:
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        for optimizer, base in zip(optimizers, rates):
            for group, rate in zip(optimizer.param_groups, base):
                group["lr"] = rate * (step / STEPS) if "schedule" in name else rate
            optimizer.step()
        if step in KEPT:
            flat = torch.cat([p.detach().flatten() for p in parameters.values()])
            kept[f"{name}/{step}"] = flat.clone()
    return kept


def clips():
    generator = Generator(777)
    weights = [generator.tensor(shape) for shape in SHAPES.values()]
    grads = [generator.tensor(shape) * 0.05 for shape in SHAPES.values()]
    flat = lambda tensors: torch.cat([t.flatten() for t in tensors])
    out = {}
    for name, clip in {
        "norm": lambda ps: torch.nn.utils.clip_grad_norm_(ps, 0.1),
        "value": lambda ps: torch.nn.utils.clip_grad_value_(ps, 0.01),
    }.items():
        parameters = [torch.nn.Parameter(w.clone()) for w in weights]
        for p, g in zip(parameters, grads):
            p.grad = g.clone()
        clip(parameters)
        out[f"clip.{name}"] = flat([p.grad for p in parameters])
    # Brock et al. 2021, equation 3: rows of matrices, whole vectors.
    clipped = []
    for w, g in zip(weights, grads):
        rows = lambda t: t.double().reshape(1, -1) if t.dim() == 1 else t.double()
        w_norm = rows(w).norm(dim=1, keepdim=True).clamp(min=1e-3)
        g_norm = rows(g).norm(dim=1, keepdim=True)
        factor = torch.where(g_norm > 0.05 * w_norm, 0.05 * w_norm / g_norm, torch.ones_like(g_norm))
        clipped.append((rows(g) * factor).float().reshape(g.shape))
    out["clip.adaptive"] = flat(clipped)
    return out


if __name__ == "__main__":
    tensors = clips()
    for name, build in CASES.items():
        with contextlib.nullcontext() if name == "muon.bf16" else products_in_f32():
            tensors |= run(name, build)
    save_file(tensors, HERE / "torch.safetensors", metadata={"torch": torch.__version__})
    print(len(tensors), "tensors")
