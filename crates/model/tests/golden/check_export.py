"""Open an exported folder with transformers and write what it computes for ids.json to logits.json.

An encoder is also given attention_mask.json and, if it has segments, token_type_ids.json; an
encoder-decoder decoder_input_ids.json, and it also searches with three beams, without padding.
"""

import json
import sys
from pathlib import Path

import torch
import transformers

torch.set_num_threads(1)
for folder in map(Path, sys.argv[1:]):
    read = lambda name: json.loads((folder / name).read_text())
    architecture = read("config.json")["architectures"][0]
    causal = architecture.endswith(("LMHeadModel", "ForCausalLM"))
    model_class = transformers.AutoModelForCausalLM if causal else getattr(transformers, architecture)
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    model = model.eval().float()
    answer = {}
    if causal:
        generation = transformers.GenerationConfig.from_pretrained(folder)
        answer.update(bos=generation.bos_token_id, eos=generation.eos_token_id)
    inputs = {
        name: torch.tensor(read(f"{name}.json"))
        for name in ["attention_mask", "token_type_ids", "decoder_input_ids"] if (folder / f"{name}.json").exists()
    }
    with torch.no_grad():
        out = model(torch.tensor(read("ids.json")), **inputs)
    if "start_logits" in out:
        logits = torch.stack([out.start_logits, out.end_logits], -1)
    else:
        logits = out.logits if "logits" in out else out.last_hidden_state
    if "decoder_input_ids" in inputs:
        found = model.generate(
            torch.tensor(read("ids.json")), attention_mask=inputs["attention_mask"], num_beams=3
        )
        end = model.config.eos_token_id
        cut = lambda ids: ids[: ids.index(end)] if end in ids else ids
        answer["generated"] = [cut(ids[1:]) for ids in found.tolist()]
    elif "attention_mask" in inputs and logits.dim() == 3:
        logits = logits[inputs["attention_mask"].bool()]
    answer.update(
        architecture=type(model).__name__,
        missing=sorted(info["missing_keys"]), unexpected=sorted(info["unexpected_keys"]),
        mismatched=[str(key) for key in info["mismatched_keys"]],
        parameters=sum(p.numel() for p in model.parameters()),
        logits=logits.flatten().tolist(),
    )
    (folder / "logits.json").write_text(json.dumps(answer))
