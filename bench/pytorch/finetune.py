"""The peer's side of the fine-tuning comparison: the Hugging Face Trainer on a classifier.

usage: finetune.py make FOLDER
       finetune.py train FOLDER f32|bf16 STEPS THREADS padded|grouped

`make` writes FOLDER/model (a BERT of MiniLM's shape with random weights and a made-up vocabulary) and
FOLDER/texts.jsonl (texts of 8 to 126 made-up words and a label), so that nothing need be fetched.
`train` fine-tunes it for STEPS updates of 32 texts and prints one JSON line: texts a second (from the
third update's end to the last's), peak memory, loss. `grouped` batches texts of like length.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch
import transformers

TEXTS, BATCH, LONGEST = 4096, 32, 128


def make(folder):
    torch.manual_seed(0)
    model = folder / "model"
    model.mkdir(parents=True, exist_ok=True)
    words = [a + b + c + d for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprstvz" for d in
             ("a", "e", "i", "o", "u", "an", "en", "in", "on", "un", "as", "es", "is", "os", "us",
              "al", "el", "il", "ol", "ul", "ar", "er", "ir", "or", "ur", "am", "em", "im", "om", "um",
              "at", "et", "it", "ot", "ut", "ak")][:30522 - 5]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (model / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = transformers.BertTokenizerFast(str(model / "vocab.txt"), model_max_length=512)
    tokenizer.save_pretrained(model)
    config = transformers.BertConfig(
        vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
        intermediate_size=1536, max_position_embeddings=512, num_labels=2)
    transformers.BertForSequenceClassification(config).save_pretrained(model)
    draw = torch.Generator().manual_seed(0)
    with open(folder / "texts.jsonl", "w") as file:
        for _ in range(TEXTS):
            length = int(torch.randint(8, LONGEST - 1, (1,), generator=draw))
            chosen = torch.randint(len(words), (length,), generator=draw).tolist()
            label = ["no", "yes"][int(torch.randint(2, (1,), generator=draw))]
            file.write(json.dumps({"text": " ".join(words[i] for i in chosen), "label": label}) + "\n")


class Clock(transformers.TrainerCallback):
    """When each update ended."""

    def __init__(self):
        self.ends = []

    def on_step_end(self, args, state, control, **_):
        self.ends.append(time.perf_counter())


def train(folder, precision, steps, threads, batching):
    torch.set_num_threads(threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "model")
    lines = [json.loads(line) for line in open(folder / "texts.jsonl")]
    encoded = tokenizer([line["text"] for line in lines], truncation=True, max_length=LONGEST)
    data = [{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(line["label"] == "yes")}
            for ids, line in zip(encoded["input_ids"], lines)]
    clock = Clock()
    grouping = {"train_sampling_strategy": "group_by_length"} if batching == "grouped" else {}
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "trainer"), max_steps=steps, per_device_train_batch_size=BATCH,
        learning_rate=5e-5, weight_decay=0.01, warmup_steps=1, lr_scheduler_type="linear",
        bf16=precision == "bf16", use_cpu=True, save_strategy="no", logging_strategy="no",
        report_to=[], disable_tqdm=True, dataloader_num_workers=0, seed=1, **grouping)
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=data, callbacks=[clock],
        data_collator=transformers.DataCollatorWithPadding(tokenizer))
    result = trainer.train()
    print(json.dumps({
        "texts_per_second": BATCH * (steps - 3) / (clock.ends[-1] - clock.ends[2]),
        "peak_mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": result.training_loss,
        "versions": f"transformers {transformers.__version__}, torch {torch.__version__}",
    }))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        train(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
