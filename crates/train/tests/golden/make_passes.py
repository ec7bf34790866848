"""Write the golden steps of techniques that take more than one pass or a second model.

For each family FAMILY/passes.json, from the weights and batches that make_steps.py wrote, without
clipping or decay, SGD with momentum 0.9:
  sam, asam       gradient at w + rho*g/||g||, or w + rho*T^2 g/||T g|| with T = |w| + 0.01
  distillation    (1-a)*CE + a*T^2*KL(teacher || model); the teacher is the start, the model 0.9 of it
  multi_token     the next token's loss + 0.3 * those of two heads, copies of blocks 1 and 0 between
                  the trunk and the shared final norm and output
  r_drop          (CE1 + CE2)/2 + s*(KL(p1 || p2) + KL(p2 || p1))/2 of two passes of every sequence,
                  side by side, under dropout behind the embedding, attention and feed-forward; the
                  masks are those of heldout's counter-based hash, written anew below
each with
  losses          the next token's mean loss before every update
  norms           of the gradient that is applied

Run: python crates/train/tests/golden/make_passes.py
"""

import copy
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
STEPS, RATE = 5, 0.05
RHO = {"sam": 0.05, "asam": 0.5}
SHARE, TEMPERATURE, WEIGHT = 0.4, 2.0, 0.3
SEED, STRENGTH = 11, 1.5
RATES = {"embedding": 0.2, "attention-output": 0.1, "feed-forward-output": 0.3}
# Stream of each site: 2^16 + 4096 * number + layer.
SITES = {"embedding": 0, "attention-output": 2, "feed-forward-output": 4}


def cross_entropy(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def climbed_backward(model, loss, rho, adaptive):
    """Backward at the point uphill; the weights are put back from a copy."""
    first = loss()
    first.backward()
    parameters = list(model.parameters())
    metric = [p.detach().abs() + 0.01 if adaptive else torch.ones_like(p) for p in parameters]
    norm = torch.cat([(t * p.grad).flatten() for t, p in zip(metric, parameters)]).norm()
    kept = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for t, p in zip(metric, parameters):
            p.add_(t * t * p.grad * (rho / norm))
    model.zero_grad()
    loss().backward()
    with torch.no_grad():
        for p, k in zip(parameters, kept):
            p.copy_(k)
    return first.item()


def distilled_backward(model, teacher, ids, targets):
    logits = model(ids, use_cache=False).logits
    with torch.no_grad():
        taught = F.log_softmax(teacher(ids, use_cache=False).logits / TEMPERATURE, -1)
    own = F.log_softmax(logits / TEMPERATURE, -1)
    vocabulary = own.shape[-1]
    kl = F.kl_div(own.reshape(-1, vocabulary), taught.reshape(-1, vocabulary),
                  log_target=True, reduction="batchmean")
    hard = cross_entropy(logits, targets)
    ((1 - SHARE) * hard + SHARE * TEMPERATURE**2 * kl).backward()
    return hard.item()


def mix64(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def mask(step, stream, p, rows, columns):
    """Factors 0 or 1/(1-p) of a tensor [len(rows), columns]; rows are numbered over the run."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        key = mix64(np.uint64(SEED) + golden)
        key = mix64(key ^ (np.uint64(stream) * golden + np.uint64(1)))
        key = mix64(key ^ (np.uint64(step) * golden + np.uint64(2)))
        row = mix64(key ^ (np.asarray(rows, np.uint64) * golden))[:, None]
        x = np.arange(columns, dtype=np.uint32)[None] * np.uint32(0x9E3779B9)
        x = x + row.astype(np.uint32)
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D) ^ (row >> np.uint64(32)).astype(
            np.uint32)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
        x = x ^ (x >> np.uint32(16))
    p = np.float32(p)
    keeps = x >= np.uint32(round(float(p) * 2**32))
    return torch.tensor(np.where(keeps, np.float32(1) / (np.float32(1) - p), np.float32(0)))


class Dropped:
    """Hooks that multiply a model's tensors with masks."""

    def __init__(self, model):
        self.rows, self.step = None, 0
        inner = getattr(model, "transformer", None)
        if inner is not None:
            places = [("embedding", 0, inner.drop)]
            for layer, block in enumerate(inner.h):
                places += [("attention-output", layer, block.attn.c_proj),
                           ("feed-forward-output", layer, block.mlp.c_proj)]
        else:
            places = [("embedding", 0, model.model.embed_tokens)]
            for layer, block in enumerate(model.model.layers):
                places += [("attention-output", layer, block.self_attn.o_proj),
                           ("feed-forward-output", layer, block.mlp.down_proj)]
        for site, layer, module in places:
            module.register_forward_hook(self.hook(site, layer))

    def hook(self, site, layer):
        def drop(_, __, output):
            stream = 2**16 + 4096 * SITES[site] + layer
            factors = mask(self.step, stream, RATES[site], self.rows, output.shape[-1])
            return output * factors.view(output.shape)
        return drop


def r_drop_backward(model, dropped, ids, targets):
    sequences, length = ids.shape
    first = 2 * sequences * dropped.step * length
    dropped.rows = first + np.arange(2 * sequences * length)
    logits = model(ids.repeat_interleave(2, 0), use_cache=False).logits
    dropped.step += 1
    one, two = (F.log_softmax(part, -1).reshape(-1, logits.shape[-1])
                for part in (logits[0::2], logits[1::2]))
    hard = (F.nll_loss(one, targets.reshape(-1)) + F.nll_loss(two, targets.reshape(-1))) / 2
    both = (F.kl_div(two, one, log_target=True, reduction="batchmean")
            + F.kl_div(one, two, log_target=True, reduction="batchmean"))
    (hard + STRENGTH * both / 2).backward()
    return hard.item()


class MultiToken(torch.nn.Module):
    """A model with two heads that look further ahead."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        inner = getattr(model, "transformer", None)
        self.blocks, self.norm = [
            (lambda: (inner.h, inner.ln_f)),
            (lambda: (model.model.layers, model.model.norm)),
        ][inner is None]()
        self.heads = torch.nn.ModuleList(copy.deepcopy(self.blocks[k]) for k in (1, 0))

    def backward(self, ids, targets):
        seen = {}

        def keep(_, args, kwargs, output):
            seen.update(args=args, kwargs=kwargs, output=output)

        handle = self.blocks[-1].register_forward_hook(keep, with_kwargs=True)
        logits = self.model(ids, use_cache=False).logits
        handle.remove()
        trunk = seen["output"][0] if isinstance(seen["output"], tuple) else seen["output"]
        hard = cross_entropy(logits, targets)
        total = hard
        for places, head in enumerate(self.heads, 1):
            x = head(trunk, *seen["args"][1:], **seen["kwargs"])
            x = x[0] if isinstance(x, tuple) else x
            further = self.model.lm_head(self.norm(x))[:, :-places]
            wanted = targets[:, places:]
            loss = F.cross_entropy(further.reshape(-1, further.shape[-1]), wanted.reshape(-1),
                                   reduction="sum")
            total = total + WEIGHT * loss / targets.numel()
        total.backward()
        return hard.item()


def run(model, batches, backward):
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    losses, norms = [], []
    for ids, targets in batches:
        optimizer.zero_grad()
        losses.append(backward(ids, targets))
        grads = [p.grad.flatten() for p in model.parameters()]
        norms.append(torch.cat(grads).norm().item())
        optimizer.step()
    print(losses, norms)
    return dict(losses=losses, norms=norms)


def make_family(name):
    steps = json.loads((HERE / name / "steps.json").read_text())
    shape = (steps["batch"], steps["seq_len"])
    batches = [(torch.tensor(ids).view(shape), torch.tensor(targets).view(shape))
               for ids, targets in zip(steps["ids"][:STEPS], steps["targets"][:STEPS])]

    def start():
        return AutoModelForCausalLM.from_pretrained(
            HERE / name, dtype=torch.float32, attn_implementation="eager").train()

    golden = dict(rate=RATE, rho=RHO, share=SHARE, temperature=TEMPERATURE, weight=WEIGHT,
                  seed=SEED, strength=STRENGTH, rates=RATES)
    for kind, rho in RHO.items():
        model = start()
        golden[kind] = run(model, batches, lambda ids, targets: climbed_backward(
            model, lambda: cross_entropy(model(ids, use_cache=False).logits, targets),
            rho, kind == "asam"))
    teacher, model = start().eval(), start()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
    golden["distillation"] = run(
        model, batches, lambda ids, targets: distilled_backward(model, teacher, ids, targets))
    several = MultiToken(start())
    golden["multi_token"] = run(several, batches, several.backward)
    twice = start().eval()
    dropped = Dropped(twice)
    golden["r_drop"] = run(
        twice, batches, lambda ids, targets: r_drop_backward(twice, dropped, ids, targets))
    (HERE / name / "passes.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for family in ("gpt2", "llama"):
        make_family(family)
