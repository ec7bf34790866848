"""Write the golden steps of techniques that take more than one pass or a second model.

For each family FAMILY/passes.json, from the weights and batches that make_steps.py wrote, without
clipping or decay, SGD with momentum 0.9:
  sam, asam       gradient at w + rho*g/||g||, or w + rho*T^2 g/||T g|| with T = |w| + 0.01
  distillation    (1-a)*CE + a*T^2*KL(teacher || model); the teacher is the start, the model 0.9 of it
  multi_token     the next token's loss + 0.3 * those of two heads, copies of blocks 1 and 0 between
                  the trunk and the shared final norm and output
each with
  losses          the next token's mean loss before every update
  norms           of the gradient that is applied

Run: python crates/train/tests/golden/make_passes.py
"""

import copy
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
STEPS, RATE = 5, 0.05
RHO = {"sam": 0.05, "asam": 0.5}
SHARE, TEMPERATURE, WEIGHT = 0.4, 2.0, 0.3


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

    golden = dict(rate=RATE, rho=RHO, share=SHARE, temperature=TEMPERATURE, weight=WEIGHT)
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
    (HERE / name / "passes.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for family in ("gpt2", "llama"):
        make_family(family)
