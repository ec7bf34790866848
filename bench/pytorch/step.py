"""Times training steps of the peer on one workload and prints one JSON line.

usage: step.py LAYERS HEADS WIDTH CONTEXT BATCH VOCABULARY DROPOUT f32|bf16 eager|compile THREADS SECONDS|serve

With `serve` it says "ready" once it is warm (and compiled); then it answers every line of its input, a
number of seconds to step for, with a JSON line, and between two lines it sleeps: so that it can take
turns with others without starting anew.
"""

import json
import resource
import statistics
import sys
import time
from contextlib import nullcontext

import torch

from gpt import Gpt, Shape


def main():
    layers, heads, width, context, batch, vocabulary = map(int, sys.argv[1:7])
    dropout, precision, mode = float(sys.argv[7]), sys.argv[8], sys.argv[9]
    threads, seconds = int(sys.argv[10]), sys.argv[11]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Gpt(Shape(layers, heads, width, context, vocabulary, dropout))
    optimizer = model.optimizer(rate=1e-4, decay=0.1)
    step_model = torch.compile(model) if mode == "compile" else model
    cast = torch.autocast("cpu", dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
    ids = torch.randint(vocabulary, (batch, context + 1))

    def step():
        with cast:
            loss = step_model(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    def timed(seconds):
        times, began = [], time.perf_counter()
        while time.perf_counter() - began < seconds or len(times) < 2:
            at = time.perf_counter()
            loss = step()
            times.append(time.perf_counter() - at)
        median = statistics.median(times)
        print(json.dumps({
            "tokens_per_second": batch * context / median,
            "step_seconds": median,
            "steps": len(times),
            "loss": loss,
            "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "parameters": sum(p.numel() for p in model.parameters()),
            "version": torch.__version__,
        }), flush=True)

    for _ in range(3):
        step()
    if seconds != "serve":
        timed(float(seconds))
        return
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        step()
        timed(float(line))


main()
