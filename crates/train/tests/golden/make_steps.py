"""Write the golden training runs of crates/train: what PyTorch makes of 20 steps.

For each family a folder with config.json and model.safetensors (the weights before the first
step, as transformers saves them) and steps.json:
  batch, seq_len    B and T
  ids, targets      one list of B*T token ids for each step
  runs              each with
    optimizer         "sgd" (momentum 0.9) | "adam" | "adamw" (betas 0.9 0.999, epsilon 1e-8)
    decay             "coupled" (added to the clipped gradient) | "decoupled"
    weight_decay      0.1
    decayed           names of the decayed tensors: all tensors, or the matrices alone, which here
                      means two dimensions and neither a token embedding, a position embedding nor
                      a head
    precision         "f32" | "bf16" (torch.autocast on the CPU)
    learning_rate     constant
    clip              1.0, one global norm (torch.nn.utils.clip_grad_norm_)
    losses, norms     at every step: mean loss before the update, gradient norm before clipping

Run: python crates/train/tests/golden/make_steps.py
"""

import copy
import json
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
VOCABULARY, LENGTH, BATCH, STEPS, STEPS_BF16 = 64, 16, 4, 20, 10
CLIP, DECAY = 1.0, 0.1

MODELS = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=4,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=None, eos_token_id=None, attn_implementation="eager",
        )
    ),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, max_position_embeddings=LENGTH, hidden_size=32,
            num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=80, rms_norm_eps=1e-5, tie_word_embeddings=False,
            bos_token_id=None, eos_token_id=None, attn_implementation="eager",
        )
    ),
}
# optimizer, which tensors decay, precision, steps, learning rate
RUNS = [
    ("sgd", "matrices", "f32", STEPS, 0.1),
    ("sgd", "all", "f32", STEPS, 0.1),
    ("adam", "matrices", "f32", STEPS, 3e-3),
    ("adam", "all", "f32", STEPS, 3e-3),
    ("adamw", "matrices", "f32", STEPS, 3e-3),
    ("adamw", "all", "f32", STEPS, 3e-3),
    ("adamw", "matrices", "bf16", STEPS_BF16, 3e-3),
]


def is_decayed(which, name, parameter):
    if which == "all":
        return True
    outer = ("wte", "wpe", "embed_tokens", "lm_head")
    return parameter.dim() >= 2 and not any(part in name for part in outer)


def make_optimizer(name, groups, rate):
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(groups, lr=rate, betas=(0.9, 0.999), eps=1e-8)


def run(start, batches, optimizer_name, which, precision, steps, rate):
    model = copy.deepcopy(start).train()
    named = list(model.named_parameters())
    decayed = [name for name, p in named if is_decayed(which, name, p)]
    groups = [
        dict(params=[p for name, p in named if name in decayed], weight_decay=DECAY),
        dict(params=[p for name, p in named if name not in decayed], weight_decay=0.0),
    ]
    optimizer = make_optimizer(optimizer_name, groups, rate)
    losses, norms = [], []
    for ids, targets in batches[:steps]:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = model(ids).logits
        flat = logits.float().reshape(-1, VOCABULARY)
        loss = torch.nn.functional.cross_entropy(flat, targets.reshape(-1))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm.item())
    print(optimizer_name, which, precision, losses[0], losses[-1], norms[0], norms[-1])
    return dict(
        optimizer=optimizer_name, decay="decoupled" if optimizer_name == "adamw" else "coupled",
        weight_decay=DECAY, decayed=decayed, precision=precision, learning_rate=rate, clip=CLIP,
        losses=losses, norms=norms,
    )


def make_batches():
    """A learnable stream: each token follows from the last by a fixed rule, three times in four."""
    rule = torch.randperm(VOCABULARY)
    batches = []
    for _ in range(STEPS):
        tokens = torch.randint(0, VOCABULARY, (BATCH, LENGTH + 1))
        for t in range(LENGTH):
            follows = torch.rand(BATCH) < 0.75
            tokens[:, t + 1] = torch.where(follows, rule[tokens[:, t]], tokens[:, t + 1])
        batches.append((tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()))
    return batches


def make_family(name, build):
    start = build().float()
    with torch.no_grad():
        for parameter in start.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    folder = HERE / name
    start.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    batches = make_batches()
    golden = dict(
        batch=BATCH, seq_len=LENGTH,
        ids=[ids.flatten().tolist() for ids, _ in batches],
        targets=[targets.flatten().tolist() for _, targets in batches],
        runs=[run(start, batches, *settings) for settings in RUNS],
    )
    (folder / "steps.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(20261102)
    for family_name, build_family in MODELS.items():
        make_family(family_name, build_family)
