#!/usr/bin/env python3
"""Encodes and decodes a few texts with Hugging Face `tokenizers` and `transformers`.

Reads the tokenizer_*.json beside it (written by `cargo test -p heldout-data --test golden -- --ignored`)
and either writes ids.json (no argument) or, with `check FOLDER`, compares every tokenizer folder
FOLDER/KIND/{tokenizer.json, tokenizer_config.json, texts.json} with the ids that texts.json holds.
"""

import json
import sys
from pathlib import Path

import tokenizers
import transformers

KINDS = ["char", "byte", "bpe", "unigram", "wordpiece"]
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n",
    "tabs\tand\n\n\nblank lines,  double  spaces   and trailing   ",
    "I'll don't we've it's 12,345.67 x1y2 ## Heading #tag a##b ###",
    "Größe naïve café 中文文本，标点。 日本語 👩‍👩‍👧 Ω≈ç √ ½ Ⅷ",
    " leading, \u00a0no-break\u2003em\r\nwindows",
    "one<|endoftext|>two <|endoftext|>\n",
    "",
]


def encode_all(tokenizer):
    rows = []
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        rows.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
    return rows


def write(folder):
    golden = {"versions": {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__}}
    for kind in KINDS:
        path = folder / f"tokenizer_{kind}.json"
        golden[kind] = encode_all(tokenizers.Tokenizer.from_file(str(path)))
        fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path), clean_up_tokenization_spaces=False)
        for row in golden[kind]:
            assert fast.encode(row["text"], add_special_tokens=False) == row["ids"], (kind, row)
            assert fast.decode(row["ids"]) == row["decoded"], (kind, row)
    (folder / "ids.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


def check(folder):
    for kind in KINDS:
        texts = json.loads((folder / kind / "texts.json").read_text())
        loaded = {
            "tokenizers": tokenizers.Tokenizer.from_file(str(folder / kind / "tokenizer.json")),
            "fast": transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / kind / "tokenizer.json")),
            "auto": transformers.AutoTokenizer.from_pretrained(str(folder / kind)),
        }
        for name, tokenizer in loaded.items():
            for row in texts:
                ids = tokenizer.encode(row["text"], add_special_tokens=False)
                ids = getattr(ids, "ids", ids)
                assert ids == row["ids"], (kind, name, row["text"], ids, row["ids"])
                decoded = tokenizer.decode(ids, skip_special_tokens=False)
                assert decoded == row["text"], (kind, name, row["text"], decoded)
        assert loaded["auto"].eos_token == "<|endoftext|>", kind
        print(f"{kind}: {len(texts)} texts agree")


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(Path(sys.argv[2]))
    else:
        write(Path(__file__).parent)
