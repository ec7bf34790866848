"""Question answering by fine-tuning, the peer's side: a BERT checkpoint on 900 questions of xquad.

First splits the file by paragraph into OUT/train.json (about 900 questions) and OUT/valid.json (the rest; no paragraph
is in both), so that both sides read the same questions. Then fine-tunes BertForQuestionAnswering with AdamW, a linear
warm-up of 5% and a cosine down to a tenth, clipping at 1 and dropout 0.1 in f32, judges after every epoch by SQuAD's
exact match and F1, and prints the last epoch and the one with the lowest held-out loss, of each the F1's 95% bootstrap
interval. usage: xquad.py en.json MODEL OUT [--seed N] [--epochs N] [--rate R] [--batch N] [--split-only]

The same with heldout (what `--seed` draws differs, nothing else):

  heldout finetune MODEL OUT/train.json --task qa --validation OUT/valid.json --precision f32 --seed N \
    --set data.stride=128 --set model.context=384 --set batch.size=16 --set schedule.horizon="6 epochs" \
    --set optimizer.learning-rate=1e-4 --set regularize.weight-decay=0.01 --set evaluate.every="1 epochs" \
    --set evaluate.windows=\"all\" --set regularize.early-stopping=false
"""

import argparse
import collections
import json
import math
import pathlib
import random
import re
import string
import time

import torch
import transformers

WINDOW, STEP, LONGEST = 384, 128, 30


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("model")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--split-only", action="store_true")
    return parser.parse_args()


def split(source, out, wanted=900):
    """Whole paragraphs in a fixed random order, until the training side has `wanted` questions."""
    names = [out / "train.json", out / "valid.json"]
    if not all(name.exists() for name in names):
        out.mkdir(parents=True, exist_ok=True)
        articles = json.loads(pathlib.Path(source).read_text(encoding="utf-8"))["data"]
        paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
        random.Random(20).shuffle(paragraphs)
        sides, count = [[], []], 0
        for paragraph in paragraphs:
            sides[count >= wanted].append(paragraph)
            count += len(paragraph["qas"])
        for name, side in zip(names, sides):
            text = json.dumps({"version": "1.1", "data": [{"paragraphs": side}]}, ensure_ascii=False)
            name.write_text(text, encoding="utf-8")
    return [json.loads(name.read_text(encoding="utf-8"))["data"] for name in names]


def windows(data, tokenizer):
    """Every question with its pieces of context: ids, types, the span (0, 0 where it has none), offsets."""
    out = []
    for paragraph in (p for article in data for p in article["paragraphs"]):
        for qa in paragraph["qas"]:
            both = tokenizer(qa["question"], paragraph["context"], return_offsets_mapping=True)
            which = both.sequence_ids()
            places = [at for at, part in enumerate(which) if part == 1]
            head, tail = both["input_ids"][: places[0]], both["input_ids"][places[-1] + 1:]
            begin = qa["answers"][0]["answer_start"]
            end = begin + len(qa["answers"][0]["text"])
            room, at, pieces = WINDOW - len(head) - len(tail), 0, []
            while True:
                piece = places[at: at + room]
                offsets = [both["offset_mapping"][place] for place in piece]
                inside = [i for i, (start, stop) in enumerate(offsets) if start < end and begin < stop]
                whole = inside and offsets[inside[0]][0] <= begin and offsets[inside[-1]][1] >= end
                span = (len(head) + inside[0], len(head) + inside[-1]) if whole else (0, 0)
                ids = head + [both["input_ids"][place] for place in piece] + tail
                types = [0] * len(head) + [1] * (len(piece) + len(tail))
                pieces.append((ids, types, span, len(head), offsets))
                if at + room >= len(places):
                    break
                at += min(STEP, room)
            out.append((qa, paragraph["context"], pieces))
    return out


def batch_of(pieces):
    longest = max(len(piece[0]) for piece in pieces)
    fill = lambda rows: torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = fill([[1] * len(piece[0]) for piece in pieces])
    return fill([piece[0] for piece in pieces]), fill([piece[1] for piece in pieces]), mask


def normalized(text):
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def scores(said, answers):
    best = (0.0, 0.0)
    for answer in answers:
        mine, right = normalized(said), normalized(answer["text"])
        shared = sum((collections.Counter(mine) & collections.Counter(right)).values())
        f1 = 2 * shared / (len(mine) + len(right)) if shared else 0.0
        best = (max(best[0], float(mine == right)), max(best[1], f1))
    return best


@torch.no_grad()
def judged(model, questions):
    """Mean loss a question, and (exact match, F1) of each."""
    model.eval()
    losses, each = [], []
    flat = [(at, piece) for at, question in enumerate(questions) for piece in question[2]]
    flat.sort(key=lambda pair: -len(pair[1][0]))
    found = collections.defaultdict(list)
    for first in range(0, len(flat), 16):
        rows = flat[first: first + 16]
        ids, types, mask = batch_of([piece for _, piece in rows])
        out = model(input_ids=ids, token_type_ids=types, attention_mask=mask)
        for row, (at, (tokens, _, span, head, offsets)) in enumerate(rows):
            begin, end = out.start_logits[row, : len(tokens)], out.end_logits[row, : len(tokens)]
            loss = -0.5 * (begin.log_softmax(0)[span[0]] + end.log_softmax(0)[span[1]]).item()
            count = len(offsets)
            both = begin[head: head + count, None] + end[None, head: head + count]
            allowed = torch.ones(count, count).triu().tril(LONGEST - 1).bool()
            best = both.masked_fill(~allowed, -math.inf).argmax().item()
            start, stop = divmod(best, count)
            found[at].append((both[start, stop].item(), offsets[start][0], offsets[stop][1], loss))
    for at, (qa, context, _) in enumerate(questions):
        _, start, stop, _ = max(found[at])
        losses.append(sum(piece[3] for piece in found[at]) / len(found[at]))
        each.append(scores(context[start:stop], qa["answers"]))
    model.train()
    return sum(losses) / len(losses), each


def told(epoch, loss, each):
    f1 = [f for _, f in each]
    draw = random.Random(1)
    means = sorted(sum(draw.choices(f1, k=len(f1))) / len(f1) for _ in range(1000))
    return {"epoch": epoch, "loss": loss, "exact_match": sum(e for e, _ in each) / len(each),
            "f1": sum(f1) / len(f1), "f1_interval": [means[25], means[974]]}


def main():
    options = arguments()
    train, valid = split(options.source, options.out)
    if options.split_only:
        return
    torch.set_num_threads(2)
    torch.manual_seed(options.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    tokenizer.model_max_length = 10**9
    train, valid = windows(train, tokenizer), windows(valid, tokenizer)
    model = transformers.BertForQuestionAnswering.from_pretrained(options.model)
    plain = [p for name, p in model.named_parameters() if p.ndim < 2]
    matrices = [p for name, p in model.named_parameters() if p.ndim >= 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.rate)
    pieces = [piece for question in train for piece in question[2]]
    steps_per_epoch = math.ceil(len(pieces) / options.batch)
    steps = steps_per_epoch * options.epochs
    warmup, step, results = 0.05 * steps, 0, []
    began, seconds = time.perf_counter(), 0.0
    model.train()
    for epoch in range(options.epochs):
        order = torch.randperm(len(pieces)).tolist()
        for first in range(0, len(pieces), options.batch):
            chosen = [pieces[at] for at in order[first: first + options.batch]]
            ids, types, mask = batch_of(chosen)
            spans = torch.tensor([piece[2] for piece in chosen])
            cosine = 0.5 * (1 + math.cos(math.pi * max(0.0, step - warmup) / (steps - warmup)))
            for group in optimizer.param_groups:
                group["lr"] = options.rate * min(1.0, (step + 1) / warmup) * (0.1 + 0.9 * cosine)
            loss = model(input_ids=ids, token_type_ids=types, attention_mask=mask,
                         start_positions=spans[:, 0], end_positions=spans[:, 1]).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
        seconds = time.perf_counter() - began
        results.append(told(epoch + 1, *judged(model, valid)))
        print(json.dumps(results[-1] | {"seconds": seconds}), flush=True)
    best = min(results, key=lambda result: result["loss"])
    versions = f"torch {torch.__version__} eager f32, transformers {transformers.__version__}"
    print(json.dumps({"last": results[-1], "best": best, "seconds": seconds, "versions": versions}))


if __name__ == "__main__":
    main()
