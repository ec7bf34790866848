"""Times greedy generation of `transformers`' GPT-2 with its key-value cache, batch 1, random weights.

usage: generate.py LAYERS HEADS WIDTH CONTEXT VOCABULARY PROMPT NEW f32|bf16 THREADS

Says "ready" when it is warm; then answers every line of its input, a number of seconds, with a JSON line.
Counted is decoding alone: from the first new token, which comes out of the prompt, to the last.
"""

import json
import resource
import statistics
import sys
import time

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel


class Clock:
    """A streamer that only notes when each token came; the first call is the prompt's."""

    def __init__(self):
        self.times = []

    def put(self, _):
        self.times.append(time.perf_counter())

    def end(self):
        pass


def main():
    layers, heads, width, context, vocabulary, prompt, new = map(int, sys.argv[1:8])
    precision, threads = sys.argv[8], int(sys.argv[9])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=layers, n_head=heads, n_embd=width, n_positions=context, vocab_size=vocabulary,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )
    model = GPT2LMHeadModel(config).eval()
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.generation_config, name, None)
    ids = torch.randint(vocabulary, (1, prompt))

    def once():
        clock = Clock()
        began = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False,
                use_cache=True, streamer=clock,
            )
        assert out.shape[1] == prompt + new, out.shape
        first, last = clock.times[1], clock.times[-1]
        assert len(clock.times) == new + 1, len(clock.times)
        return (new - 1) / (last - first), new / (last - began)

    once()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        rates, began = [], time.perf_counter()
        while time.perf_counter() - began < float(line) or not rates:
            rates.append(once())
        print(json.dumps({
            "tokens_per_second": statistics.median(decoding for decoding, _ in rates),
            "tokens_per_second_with_prompt": statistics.median(whole for _, whole in rates),
            "runs": len(rates),
            "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "version": f"{transformers.__version__}, torch {torch.__version__}",
        }), flush=True)


main()
