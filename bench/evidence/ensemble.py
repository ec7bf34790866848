"""What averaging the probabilities of several seeds' models gains over one of them.

usage: ensemble.py TEXT MODEL_FOLDER MODEL_FOLDER [...]      (needs torch and transformers)

The models are what `run.py --keep` left: exports of one arm that differ in their seed. Text is cut
into windows of the models' context, each token but the first predicted once. Prints one JSON line.

`heldout evaluate MODEL --with MODEL TEXT --boundary contiguous` gives the same figures, with errors
and intervals; this is the independent implementation that a test holds it against.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


@torch.no_grad()
def log_probabilities(folder, text):
    """Of every token but the first, given what stands before it in its window: [tokens, V]."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    context = model.config.max_position_embeddings
    whole = (len(ids) - 1) // context * context
    pieces = list(ids[:whole].view(-1, context).split(64)) if whole else []
    if whole < len(ids) - 1:
        pieces.append(ids[whole:-1][None])
    rows = [model(piece).logits.log_softmax(-1).flatten(0, 1) for piece in pieces]
    return torch.cat(rows), ids[1:]


def main():
    torch.set_num_threads(1)
    text = open(sys.argv[1], encoding="utf-8").read()
    losses, total = [], None
    for folder in sys.argv[2:]:
        logs, targets = log_probabilities(folder, text)
        losses.append(-logs.gather(1, targets[:, None]).mean().item())
        total = logs if total is None else torch.logaddexp(total, logs)
    mean = total - torch.log(torch.tensor(float(len(losses))))
    joined = -mean.gather(1, targets[:, None]).mean().item()
    print(json.dumps({"models": len(losses), "each": [round(loss, 6) for loss in losses],
                      "mean": round(sum(losses) / len(losses), 6), "ensemble": round(joined, 6),
                      "gain": round(sum(losses) / len(losses) - joined, 6)}))


if __name__ == "__main__":
    main()
