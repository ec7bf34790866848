"""Scores of made-up predictions by scikit-learn, numpy, the definitions of SQuAD's script v1.1,
sacreBLEU and rouge-score, for scores.json.

    pip install scikit-learn sacrebleu rouge-score
    python make_scores.py [CASES.json]     # of real texts instead, to hold a test against: `real`

The texts are drawn from a small vocabulary with every kind of sign that a tokenizer treats in its
own way, so that predictions and references share much, but not all.
"""

import collections
import json
import random
import re
import string
import sys
from pathlib import Path

import numpy as np
import sacrebleu
import sklearn.metrics as sk
from rouge_score.rouge_scorer import RougeScorer

HERE = Path(__file__).parent

WORDS = (
    "the a an cat Cat sat mat on THE house houses U.S. 3.14 1,000 10-12 don't it's e-mail well-known "
    "(see below) \"quoted\" &amp; &lt;b&gt; &quot; <skipped> 50% $5 C++ x/y a_b ... .. , . ! ? ; : - -- "
    "naïve café Straße ÉTÉ İstanbul «oui» “yes” — … € 他 们 你好 世界。 ，（中文） a， 𠀀 ⅷ ½ "
    "end- 5- -5 2.b b.2 ,x x, 7,8 the—end the.end An, \u00a0 \x1c na\u0301ive 日本 カタカナ Ａ １ ™ [x] {y} ~z ^ ` @me #tag"
).split(" ")


def text(rng, longest):
    words = [rng.choice(WORDS) for _ in range(rng.randint(0, longest))]
    return "".join(w + rng.choice([" ", " ", " ", " ", "  ", "", "\n", "-\n", "\t"]) for w in words)


def changed(rng, source):
    """The text with some words left out, exchanged, or doubled."""
    out = []
    for part in re.split(r"( )", source):
        chance = rng.random()
        if chance < 0.75:
            out.append(part)
        elif chance < 0.85:
            out.append(rng.choice(WORDS))
        elif chance < 0.9:
            out += [part, part]
    return "".join(out)


def pairs(seed, count, longest):
    rng = random.Random(seed)
    predictions, references = [], []
    for _ in range(count):
        first = text(rng, longest)
        predictions.append(first if rng.random() < 0.1 else changed(rng, first))
        others = [changed(rng, first) for _ in range(rng.randint(0, 2))]
        references.append([first, *others])
    return predictions, references


def ece(p, y):
    confidence, right = p.max(axis=1), (p.argmax(axis=1) == y).astype(float)
    place = np.clip(np.ceil(confidence * 15).astype(int), 1, 15) - 1
    inside = [place == b for b in range(15)]
    gaps = [abs(right[i].sum() - confidence[i].sum()) for i in inside]
    return sum(gaps) / len(y)


def classification(seed, rows, classes, sureness, used):
    """Only the first `used` of the classes occur; every fifth row is rounded, so that ties are many."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0.0, 1.0, (rows, classes))
    z[:, used:] -= 50.0
    y = np.array([rng.choice(classes, p=np.exp(r) / np.exp(r).sum()) for r in z])
    logits = sureness * z
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[::5] = np.round(p[::5], 1)
    p[::5] /= p[::5].sum(axis=1, keepdims=True)
    first = p.argmax(axis=1)
    average = {
        name: [float(f(y, first, average=name, zero_division=0)) for f in
               (sk.precision_score, sk.recall_score, sk.f1_score)]
        for name in ("micro", "macro", "weighted")
    }
    every = range(classes)
    area = [sk.roc_auc_score(y == k, p[:, k]) for k in range(used)]
    return {
        "classes": classes,
        "probabilities": p.tolist(),
        "references": y.tolist(),
        "predictions": first.tolist(),
        "confusion": sk.confusion_matrix(y, first, labels=every).ravel().tolist(),
        "accuracy": sk.accuracy_score(y, first),
        "mcc": sk.matthews_corrcoef(y, first),
        "average": average,
        "each": np.array(sk.precision_recall_fscore_support(
            y, first, labels=every, zero_division=0)).T.tolist(),
        "log_loss": sk.log_loss(y, p, labels=list(every)),
        "auroc": area[1] if classes == 2 else (
            sk.roc_auc_score(y, p, multi_class="ovr") if used == classes else float(np.mean(area))),
        "ece": ece(p, y),
    }


# SQuAD v1.1, by its definition: normalize, then compare strings and bags of words.
def normalize(s):
    s = "".join(c for c in s.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", s).split())


def answer_f1(prediction, reference):
    p, r = normalize(prediction).split(), normalize(reference).split()
    same = sum((collections.Counter(p) & collections.Counter(r)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(p), same / len(r)
    return 2 * precision * recall / (precision + recall)


def squad(predictions, references):
    return {
        "predictions": predictions,
        "references": references,
        "normalized": [normalize(p) for p in predictions],
        "exact_match": [
            float(max(normalize(p) == normalize(r) for r in rs))
            for p, rs in zip(predictions, references)
        ],
        "f1": [max(answer_f1(p, r) for r in rs) for p, rs in zip(predictions, references)],
    }


def translation(predictions, references):
    most = max(len(r) for r in references)
    streams = [[r[i] if i < len(r) else None for r in references] for i in range(most)]
    out = {"predictions": predictions, "references": references, "bleu": [], "chrf": []}
    for tokenizer in ("13a", "zh", "char"):
        for lower in (False, True):
            metric = sacrebleu.BLEU(tokenize=tokenizer, lowercase=lower)
            whole = metric.corpus_score(predictions, streams)
            alone = sacrebleu.BLEU(tokenize=tokenizer, lowercase=lower, effective_order=True)
            out["bleu"].append({
                "tokenizer": tokenizer,
                "lower": lower,
                "signature": str(metric.get_signature()),
                "score": whole.score,
                "precisions": list(whole.precisions),
                "brevity_penalty": whole.bp,
                "lengths": [whole.sys_len, whole.ref_len],
                "counts": list(whole.counts),
                "sentences": [
                    alone.sentence_score(p, rs).score for p, rs in zip(predictions, references)],
            })
    for words in (0, 2):
        metric = sacrebleu.CHRF(word_order=words)
        out["chrf"].append({
            "words": words,
            "score": metric.corpus_score(predictions, streams).score,
            "signature": str(metric.get_signature()),
            "sentences": [
                metric.sentence_score(p, rs).score for p, rs in zip(predictions, references)],
        })
    return out


def summaries(predictions, references):
    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = RougeScorer(names)
    found = [scorer.score_multi(r, p) for p, r in zip(predictions, references)]
    return {
        "predictions": predictions,
        "references": references,
        "scores": {name: [list(f[name]) for f in found] for name in names},
    }


def made():
    short = pairs(4, 60, 5)
    return {
        "classification": [
            classification(1, 200, 2, 1.0, 2),
            classification(2, 150, 6, 3.0, 6),
            classification(3, 60, 5, 0.5, 3),
        ],
        "squad": squad(*pairs(2, 300, 7)),
        "translation": [
            translation(*pairs(3, 250, 25)),
            translation(*short),
            translation(["a b c"], [["a b c"]]),
            translation(["", "x y"], [["a b c"], ["u v w"]]),
        ],
        "summaries": summaries(*pairs(5, 200, 40)),
    }


def real(path):
    """{"squad": [[prediction, [references]], ...], "translation": ..., "summaries": ...}"""
    cases = json.loads(Path(path).read_text())
    split = {task: tuple(map(list, zip(*cases[task]))) for task in cases}
    return made() | {
        "squad": squad(*split["squad"]),
        "translation": [translation(*split["translation"])],
        "summaries": summaries(*split["summaries"]),
    }


golden = real(sys.argv[1]) if len(sys.argv) > 1 else made()
(HERE / "scores.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")
for case in golden["translation"]:
    print([b["score"] for b in case["bleu"]], [c["score"] for c in case["chrf"]])
