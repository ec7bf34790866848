"""The peer's run of nanoGPT's CPU shape on a text file: the wall time and the held-out loss.

Plain PyTorch as people write it: random windows, AdamW, cosine schedule with warm-up, gradient clipping;
the held-out loss is measured over the whole tail. usage: shakespeare.py INPUT.txt [STEPS]
"""

import json
import math
import sys
import time

import torch

from gpt import Gpt, Shape

STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
CONTEXT, BATCH, EVERY, RATE, WARMUP = 64, 12, 250, 1e-3, 100


def main():
    began = time.perf_counter()
    torch.set_num_threads(2)
    torch.manual_seed(1337)
    text = open(sys.argv[1], encoding="utf-8").read()
    letters = sorted(set(text))
    code = {letter: at for at, letter in enumerate(letters)}
    ids = torch.tensor([code[letter] for letter in text])
    train, held_out = ids[: int(0.9 * len(ids))], ids[int(0.9 * len(ids)):]
    model = Gpt(Shape(4, 4, 128, CONTEXT, len(letters), 0.0))
    optimizer = model.optimizer(rate=RATE, decay=0.1, betas=(0.9, 0.99))

    @torch.no_grad()
    def held_out_loss(tokens):
        model.eval()
        count = (len(tokens) - 1) // CONTEXT
        x = tokens[: count * CONTEXT].view(count, CONTEXT)
        y = tokens[1: count * CONTEXT + 1].view(count, CONTEXT)
        losses = [model(x[i: i + 64], y[i: i + 64]).item() * len(x[i: i + 64]) for i in range(0, count, 64)]
        model.train()
        return sum(losses) / count

    for step in range(STEPS):
        decay = 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))
        rate = RATE * step / WARMUP if step < WARMUP else RATE * (0.1 + 0.9 * decay)
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(train) - CONTEXT - 1, (BATCH,))
        x = torch.stack([train[s: s + CONTEXT] for s in starts])
        y = torch.stack([train[s + 1: s + CONTEXT + 1] for s in starts])
        loss = model(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % EVERY == 0:
            print(f"step {step + 1} train {loss.item():.4f} held-out {held_out_loss(held_out):.4f}", file=sys.stderr)
    print(json.dumps({
        "seconds": time.perf_counter() - began,
        "loss_valid": held_out_loss(held_out),
        "versions": f"torch {torch.__version__} eager f32",
    }))


main()
