"""What averaging the probabilities of several seeds' models gains over one of them.

usage: ensemble.py TEXT MODEL_FOLDER MODEL_FOLDER [...]      (needs torch and transformers)

The models are what `run.py --keep` left: exports of one arm that differ in their seed. Text is cut
into windows of the models' context, each token predicted once. Prints one JSON line.
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
    count = (len(ids) - 1) // context
    inputs = ids[: count * context].view(count, context)
    targets = ids[1 : count * context + 1].view(count, context)
    rows = [model(inputs[i : i + 64]).logits.log_softmax(-1) for i in range(0, count, 64)]
    return torch.cat(rows).flatten(0, 1), targets.flatten()


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
    print(json.dumps({"models": len(losses), "each": [round(loss, 4) for loss in losses],
                      "mean": round(sum(losses) / len(losses), 4), "ensemble": round(joined, 4),
                      "gain": round(sum(losses) / len(losses) - joined, 4)}))


if __name__ == "__main__":
    main()
