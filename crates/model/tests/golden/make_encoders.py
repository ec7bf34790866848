"""Write the golden files of encoders: tiny random models of transformers, and what they compute.

For each case a folder with config.json, model.safetensors and
  golden.safetensors   ids, segments [B, T], lengths [1, B], targets (i32: B*T ids or -1 of masked
                       tokens, B labels, B*2 ends of spans), logits of the rows that are no padding
                       (or [B, K] of labels), and the gradient of the mean loss under
                       "gradient.<tensor name>"
  golden.json          loss; for bert-mlm also the losses of ten steps of AdamW
Sequences are padded on the right with PAD, which occurs nowhere else.

Run: python crates/model/tests/golden/make_encoders.py
"""

import json

import torch
import torch.nn.functional as F
import transformers as hf
from make_models import HERE, randomize
from safetensors.torch import save_file

VOCABULARY, BATCH, LENGTH, LABELS, PAD = 47, 4, 9, 3, 1
SIZES = dict(vocab_size=VOCABULARY, pad_token_id=PAD, attn_implementation="eager")
BERT = dict(
    SIZES, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)
DISTIL = dict(
    SIZES, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=12,
    dropout=0.0, attention_dropout=0.0, qa_dropout=0.0, seq_classif_dropout=0.0,
)
LABELLED = dict(num_labels=LABELS, problem_type="single_label_classification")


def bert(**more):
    return hf.BertConfig(**BERT, max_position_embeddings=12, type_vocab_size=2, **more)


def roberta(**more):
    sizes = dict(max_position_embeddings=14, type_vocab_size=1, layer_norm_eps=1e-5)
    return hf.RobertaConfig(**BERT, **sizes, **more)


def distilbert(**more):
    return hf.DistilBertConfig(**DISTIL, **more)


CASES = {
    "bert-base": lambda: hf.BertModel(bert(hidden_act="gelu_new")),
    "bert-mlm": lambda: hf.BertForMaskedLM(bert()),
    "bert-classify": lambda: hf.BertForSequenceClassification(bert(**LABELLED)),
    "bert-span": lambda: hf.BertForQuestionAnswering(bert()),
    "roberta-mlm": lambda: hf.RobertaForMaskedLM(roberta(hidden_act="relu")),
    "roberta-classify": lambda: hf.RobertaForSequenceClassification(roberta(**LABELLED)),
    "distilbert-mlm": lambda: hf.DistilBertForMaskedLM(distilbert()),
    "distilbert-classify": lambda: hf.DistilBertForSequenceClassification(distilbert(**LABELLED)),
    "distilbert-span": lambda: hf.DistilBertForQuestionAnswering(distilbert()),
}


def make_case(name, build):
    model = build().eval().float()
    randomize(model)
    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)

    lengths = torch.tensor([LENGTH, 4, 1, 7])
    mask = torch.arange(LENGTH) < lengths[:, None]
    ids = torch.randint(2, VOCABULARY, (BATCH, LENGTH)).masked_fill(~mask, PAD)
    segments = (torch.arange(LENGTH) >= lengths[:, None] // 2).long()
    inputs = dict(input_ids=ids, attention_mask=mask.long())
    if name.startswith("bert"):
        inputs["token_type_ids"] = segments
    else:
        segments.zero_()
    kind = name.split("-")[1]
    golden = {}
    if kind == "base":
        targets = torch.zeros(0)
        logits = model(**inputs).last_hidden_state[mask]
        loss = logits.pow(2).mean()
    elif kind == "mlm":
        targets = torch.randint(2, VOCABULARY, (BATCH, LENGTH))
        targets[~mask | (torch.rand(BATCH, LENGTH) < 0.6)] = -100
        loss = model(**inputs, labels=targets).loss
        logits = model(**inputs).logits[mask]
    elif kind == "classify":
        targets = torch.randint(0, LABELS, (BATCH,))
        out = model(**inputs, labels=targets)
        loss, logits = out.loss, out.logits
    else:
        out = model(**inputs)
        first = torch.tensor([2, 0, 0, 3])
        targets = torch.stack([first, torch.minimum(first + 2, lengths - 1)], -1)
        ends = torch.stack([out.start_logits, out.end_logits], -1)
        logits = ends[mask]
        ends = ends.masked_fill(~mask[..., None], -torch.inf)
        loss = F.cross_entropy(ends, targets)
    loss.backward()
    tensors = {
        "ids": ids.to(torch.int32), "segments": segments.to(torch.int32),
        "lengths": lengths.to(torch.int32)[None], "logits": logits.detach().contiguous(),
        "targets": targets.clamp(min=-1).reshape(1, -1).to(torch.int32),
    }
    for parameter_name, parameter in model.named_parameters():
        if parameter.grad is not None:
            tensors[f"gradient.{parameter_name}"] = parameter.grad.contiguous().clone()
    save_file(tensors, folder / "golden.safetensors")
    golden["loss"] = loss.item()
    if name == "bert-mlm":
        golden["steps"] = steps(model, inputs, targets)
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(name, golden)


def steps(model, inputs, targets):
    """The losses of ten steps of AdamW on one batch, and the loss after them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    losses = []
    for _ in range(11):
        optimizer.zero_grad()
        loss = model(**inputs, labels=targets).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(20261124)
    for case_name, build_case in CASES.items():
        make_case(case_name, build_case)
