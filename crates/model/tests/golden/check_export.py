"""Open an exported folder with transformers and write its logits for ids.json to logits.json."""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

torch.set_num_threads(1)
for folder in map(Path, sys.argv[1:]):
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model = model.eval().float()
    GenerationConfig.from_pretrained(folder)
    ids = torch.tensor(json.loads((folder / "ids.json").read_text()))
    with torch.no_grad():
        logits = model(ids).logits
    answer = dict(
        architecture=type(model).__name__,
        missing=sorted(info["missing_keys"]), unexpected=sorted(info["unexpected_keys"]),
        mismatched=[str(key) for key in info["mismatched_keys"]],
        bos=model.generation_config.bos_token_id, eos=model.generation_config.eos_token_id,
        parameters=sum(p.numel() for p in model.parameters()),
        logits=logits.flatten().tolist(),
    )
    (folder / "logits.json").write_text(json.dumps(answer))
