"""Write the golden steps of techniques that look back at the model they started from.

For each family FAMILY/fine_tuning.json, from the weights and batches that make_steps.py wrote,
without clipping or decay, SGD with momentum 0.9:
  lora     every matrix of the blocks is W + (alpha/rank) B A, A as given in `down` (by the weight's
           name, [rank, in]), B zero; only A and B are trained
  mixout   every matrix is read as (M w0 + (1-M) w - p w0)/(1-p); everything is trained
each with
  losses   mean loss before every update, as trained
  norms    of the gradient that is applied
  tensor   name and first values, [out, in], of one weight after the updates; of lora W with the
           change added

Heldout's masks are a hash of (seed, stream, step, place of the row in the flat vector, column),
written down here a second time; the flat vector's order is that of ORDER.

Run: python crates/train/tests/golden/make_fine_tuning.py
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.utils import parametrize
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
STEPS, RATE, RANK, ALPHA, P = 5, 0.5, 4, 16.0, 0.5
MIXOUT_STREAM, SEED = 25, 0

BLOCK = {
    "gpt2": ["ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias",
             "attn.c_proj.weight", "attn.c_proj.bias", "ln_2.weight", "ln_2.bias",
             "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"],
    "llama": ["self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight",
              "self_attn.o_proj.weight", "mlp.gate_proj.weight", "mlp.up_proj.weight",
              "mlp.down_proj.weight", "input_layernorm.weight",
              "post_attention_layernorm.weight"],
}
ORDER = {
    "gpt2": ["transformer.wte.weight", "transformer.wpe.weight"]
    + [f"transformer.h.{layer}.{name}" for layer in (0, 1) for name in BLOCK["gpt2"]],
    "llama": ["model.embed_tokens.weight"]
    + [f"model.layers.{layer}.{name}" for layer in (0, 1) for name in BLOCK["llama"]],
}

LOW, ALL = (1 << 32) - 1, (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix64(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & ALL
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & ALL
    return z ^ (z >> 31)


def mask(place, rows, cols, step):
    """0 or 1/(1-p) for every element of a [rows, cols] weight that begins at `place`."""
    key = mix64((SEED + GOLDEN) & ALL)
    key = mix64(key ^ ((MIXOUT_STREAM * GOLDEN + 1) & ALL))
    key = mix64(key ^ ((step * GOLDEN + 2) & ALL))
    out = torch.zeros(rows, cols)
    for row in range(rows):
        own = mix64(key ^ (((place + row * cols) * GOLDEN) & ALL))
        for col in range(cols):
            x = (col * 0x9E3779B9 + (own & LOW)) & LOW
            x = (((x ^ (x >> 16)) * 0x7FEB352D) & LOW) ^ (own >> 32)
            x = ((x ^ (x >> 15)) * 0x846CA68B) & LOW
            kept = (x ^ (x >> 16)) >= round(P * 2**32)
            out[row, col] = 1 / (1 - P) if kept else 0.0
    return out


class LoRA(torch.nn.Module):
    def __init__(self, out, inputs, turned):
        super().__init__()
        self.down = torch.nn.Parameter((torch.rand(RANK, inputs) * 2 - 1) / inputs**0.5)
        self.up = torch.nn.Parameter(torch.zeros(out, RANK))
        self.turned = turned

    def forward(self, weight):
        change = (ALPHA / RANK) * self.up @ self.down
        return weight + (change.T if self.turned else change)


class Mixout(torch.nn.Module):
    def __init__(self, weight, place, turned):
        super().__init__()
        self.start, self.place, self.turned, self.step = weight.detach().clone(), place, turned, 0

    def forward(self, weight):
        shape = reversed(weight.shape) if self.turned else weight.shape
        kept = mask(self.place, *shape, self.step)
        drawn = ((kept.T if self.turned else kept) == 0).float()
        return (drawn * self.start + (1 - drawn) * weight - P * self.start) / (1 - P)


def matrices(name, model):
    """(name, module, place in the flat vector, [out, in], whether it is kept as [in, out])"""
    place, parameters = 0, dict(model.named_parameters())
    for full in ORDER[name]:
        parameter = parameters[full]
        inner = "wte" not in full and "wpe" not in full and "embed" not in full
        if parameter.dim() == 2 and inner:
            turned = name == "gpt2"
            shape = tuple(reversed(parameter.shape)) if turned else tuple(parameter.shape)
            module = model.get_submodule(full.removesuffix(".weight"))
            yield full, module, place, shape, turned
        place += parameter.numel()


def run(model, batches, parts, step_of):
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=RATE, momentum=0.9)
    losses, norms = [], []
    for step, (ids, targets) in enumerate(batches):
        step_of(step)
        optimizer.zero_grad()
        # One draw a step, however often a weight is read.
        with parametrize.cached():
            logits = model(ids, use_cache=False).logits
            loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))
            loss.backward()
        losses.append(loss.item())
        norms.append(torch.cat([p.grad.flatten() for p in trained]).norm().item())
        optimizer.step()
    print(losses, norms)
    return dict(losses=losses, norms=norms)


def first_values(full, module, turned, weight):
    weight = weight.detach()
    return dict(name=full, values=(weight.T if turned else weight).flatten()[:48].tolist())


def make_family(name):
    steps = json.loads((HERE / name / "steps.json").read_text())
    shape = (steps["batch"], steps["seq_len"])
    batches = [(torch.tensor(ids).view(shape), torch.tensor(targets).view(shape))
               for ids, targets in zip(steps["ids"][:STEPS], steps["targets"][:STEPS])]

    def start():
        return AutoModelForCausalLM.from_pretrained(
            HERE / name, dtype=torch.float32, attn_implementation="eager").train()

    golden = dict(rate=RATE, rank=RANK, alpha=ALPHA, p=P)
    model = start()
    parts = list(matrices(name, model))
    model.requires_grad_(False)
    down = {}
    for full, module, _, (out, inputs), turned in parts:
        part = LoRA(out, inputs, turned)
        down[full] = part.down.detach().flatten().tolist()
        parametrize.register_parametrization(module, "weight", part)
    golden["lora"] = run(model, batches, parts, lambda step: None)
    full, module, _, _, turned = parts[0]
    golden["lora"]["tensor"] = first_values(full, module, turned, module.weight)
    golden["down"] = down

    model = start()
    parts = list(matrices(name, model))
    mixed = []
    for full, module, place, _, turned in parts:
        mixed.append(Mixout(module.weight, place, turned))
        parametrize.register_parametrization(module, "weight", mixed[-1])

    def step_of(step):
        for part in mixed:
            part.step = step

    golden["mixout"] = run(model, batches, parts, step_of)
    full, module, _, _, turned = parts[0]
    weight = module.parametrizations.weight.original
    golden["mixout"]["tensor"] = first_values(full, module, turned, weight)
    (HERE / name / "fine_tuning.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(11)
    for family in ("gpt2", "llama"):
        make_family(family)
