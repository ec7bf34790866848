"""Times PyTorch's matrix products and ours in turn: `products_torch.py BINARY [TURNS [THREADS...]]`; BINARY
is the executable of `cargo bench -p heldout-kernels --bench products --no-run`.

Every shape is measured in several turns, ours and theirs alternating, each turn the best and the
median of many runs; printed are GFLOP/s of the best, and the ratio of the medians of the turns.
"""
import statistics
import subprocess
import sys
import time

import torch

SHAPES = [
    (2048, 1152, 384, "forward"), (2048, 384, 384, "forward"), (2048, 1536, 384, "forward"),
    (2048, 384, 1536, "forward"), (2048, 384, 1536, "input"), (2048, 1536, 384, "input"),
    (1536, 384, 2048, "weight"), (384, 1536, 2048, "weight"), (2048, 65, 384, "forward"),
    (1024, 2048, 512, "forward"), (512, 3072, 768, "forward"), (512, 768, 3072, "input"),
    (3072, 768, 512, "weight"), (512, 50257, 768, "forward"), (512, 768, 50257, "input"),
    (50257, 768, 512, "weight"), (768, 384, 128, "forward"), (768, 128, 512, "forward"),
    (768, 512, 128, "input"), (512, 128, 768, "weight"), (768, 65, 128, "forward"),
    (1, 3072, 768, "forward"), (1, 50257, 768, "forward"), (4, 3072, 768, "forward"),
    (16, 3072, 768, "forward"),
]


def torch_times(m, n, k, kind, precision, rounds):
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.rand((k, m) if kind == "weight" else (m, k), dtype=dtype) - 0.5
    b = torch.rand((n, k) if kind == "forward" else (k, n), dtype=dtype) - 0.5
    a = a.t() if kind == "weight" else a
    b = b.t() if kind == "forward" else b
    c = torch.empty((m, n), dtype=dtype)
    torch.mm(a, b, out=c)
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    times = []
    for _ in range(rounds):
        start = clock()
        torch.mm(a, b, out=c)
        times.append(clock() - start)
    return min(times), statistics.median(times)


def main():
    binary, turns = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    ours = subprocess.Popen([binary, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(f"torch {torch.__version__}; GFLOP/s best ours / torch, ratio of medians")
    for threads in map(int, sys.argv[3:] or (1, 2)):
        torch.set_num_threads(threads)
        for precision in ("f32", "bf16"):
            print(f"\n{precision}, {threads} thread{'s' if threads > 1 else ''}")
            for m, n, k, kind in SHAPES:
                gflop = 2e-9 * m * n * k
                rounds = max(5, min(200, int(20 / gflop)))
                times = {"ours": [], "torch": []}
                for _ in range(turns):
                    ours.stdin.write(f"{m} {n} {k} {kind} {precision} {threads} {rounds}\n")
                    ours.stdin.flush()
                    times["ours"].append(tuple(map(float, ours.stdout.readline().split())))
                    times["torch"].append(torch_times(m, n, k, kind, precision, rounds))
                best = {who: gflop / min(best for best, _ in t) for who, t in times.items()}
                middle = {who: statistics.median(m for _, m in t) for who, t in times.items()}
                print(f"{m}×{n}×{k} {kind:<8}".ljust(28)
                      + f"{best['ours']:>8.1f}{best['torch']:>8.1f}"
                      + f"{middle['torch'] / middle['ours']:>7.2f}×", flush=True)


main()
