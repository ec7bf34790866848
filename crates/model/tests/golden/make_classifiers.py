"""Write the golden files of classifiers: tiny random models of transformers, and what they compute.

For each case a folder with config.json, model.safetensors and
  golden.safetensors   ids [B, T], lengths [B], targets [B] (i32), logits [B, K], and the gradient
                       of the mean loss under "gradient.<tensor name>"
  golden.json          loss (mean nats per sequence)
Sequences are padded on the right with PAD, which occurs nowhere else.

Run: python crates/model/tests/golden/make_classifiers.py
"""

import json

import torch
from make_models import GPT2_SIZES, HERE, LLAMA_SIZES, VOCABULARY, randomize
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2ForSequenceClassification
from transformers import LlamaConfig, LlamaForSequenceClassification

BATCH, LENGTH, LABELS, PAD = 4, 9, 3, VOCABULARY - 1
NAMES = dict(
    id2label={0: "bad", 1: "so so", 2: "good"}, label2id={"bad": 0, "so so": 1, "good": 2},
    problem_type="single_label_classification", pad_token_id=PAD,
)
CASES = {
    "gpt2-classify": lambda: GPT2ForSequenceClassification(GPT2Config(**GPT2_SIZES, **NAMES)),
    "llama-classify": lambda: LlamaForSequenceClassification(
        LlamaConfig(**LLAMA_SIZES, num_key_value_heads=2, **NAMES)
    ),
}


def make_case(name, build):
    model = build().eval().float()
    randomize(model)
    folder = HERE / name
    model.save_pretrained(folder)

    lengths = torch.tensor([LENGTH, 4, 1, 7])
    ids = torch.randint(0, PAD, (BATCH, LENGTH))
    mask = torch.arange(LENGTH) < lengths[:, None]
    ids = ids.masked_fill(~mask, PAD)
    targets = torch.randint(0, LABELS, (BATCH,))
    out = model(ids, attention_mask=mask.long(), labels=targets)
    out.loss.backward()
    tensors = {
        "ids": ids.to(torch.int32), "lengths": lengths.to(torch.int32)[None],
        "targets": targets.to(torch.int32)[None], "logits": out.logits.detach(),
    }
    for parameter_name, parameter in model.named_parameters():
        tensors[f"gradient.{parameter_name}"] = parameter.grad.contiguous()
    save_file(tensors, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(dict(loss=out.loss.item())) + "\n")
    print(name, out.loss.item())


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(20261123)
    for case_name, build_case in CASES.items():
        make_case(case_name, build_case)
