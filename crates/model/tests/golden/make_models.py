"""Write the golden files of crates/model: tiny random models of transformers, and what they compute.

For each case a folder with config.json, model.safetensors and
  golden.safetensors   ids, targets [B, T] (i32, ignored targets are -1), logits [B*T, V], and the
                       gradient of the mean loss under "gradient.<tensor name>"
  golden.json          loss (mean nats per target), gradient_norm, greedy continuations
and sampling.json: what the logits processors of transformers make of given logits.

Run: python crates/model/tests/golden/make_models.py
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.generation import logits_process as processors

HERE = Path(__file__).parent
VOCABULARY, CONTEXT, BATCH, LENGTH = 61, 16, 2, 12

GPT2_SIZES = dict(
    vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=4,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    bos_token_id=None, eos_token_id=None, attn_implementation="eager",
)
LLAMA_SIZES = dict(
    vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, hidden_size=32, num_hidden_layers=2,
    num_attention_heads=4, intermediate_size=48, rms_norm_eps=1e-5,
    bos_token_id=None, eos_token_id=None, attn_implementation="eager",
)
CASES = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZES)),
    "gpt2-untied-erf": lambda: GPT2LMHeadModel(
        GPT2Config(
            **GPT2_SIZES, n_inner=80, activation_function="gelu", tie_word_embeddings=False
        )
    ),
    "llama-untied": lambda: LlamaForCausalLM(
        LlamaConfig(**LLAMA_SIZES, num_key_value_heads=2, tie_word_embeddings=False)
    ),
    "llama-tied": lambda: LlamaForCausalLM(
        LlamaConfig(
            **LLAMA_SIZES, num_key_value_heads=1, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        )
    ),
    "qwen3": lambda: Qwen3ForCausalLM(
        Qwen3Config(**LLAMA_SIZES, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True)
    ),
}


def randomize(model):
    """Every parameter away from its default, so that no bias or gain is tested at 0 or 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.dim() >= 2:
                parameter.copy_(noise * 0.15)
            elif name.endswith("bias"):
                parameter.copy_(noise * 0.1)
            else:
                parameter.copy_(1.0 + noise * 0.2)


def make_case(name, build):
    model = build().eval().float()
    randomize(model)
    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)

    ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    targets = torch.randint(0, VOCABULARY, (BATCH, LENGTH))
    targets[0, 0] = targets[1, 5] = -100
    logits = model(ids).logits.reshape(-1, VOCABULARY)
    loss = torch.nn.functional.cross_entropy(logits, targets.reshape(-1))
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
    tensors = {
        "ids": ids.to(torch.int32),
        "targets": targets.masked_fill(targets < 0, -1).to(torch.int32),
        "logits": logits.detach(),
    }
    for parameter_name, parameter in model.named_parameters():
        tensors[f"gradient.{parameter_name}"] = parameter.grad.contiguous()
    save_file(tensors, folder / "golden.safetensors")

    prompt = ids[0, :3].unsqueeze(0)
    room = CONTEXT - prompt.shape[1]
    greedy = dict(do_sample=False, max_new_tokens=room, pad_token_id=0)
    plain = model.generate(prompt, **greedy)
    penalized = model.generate(prompt, repetition_penalty=1.5, **greedy)
    golden = dict(
        loss=loss.item(), gradient_norm=norm.item(), prompt=prompt[0].tolist(),
        greedy=plain[0, 3:].tolist(), greedy_penalty_1_5=penalized[0, 3:].tolist(),
    )
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(name, golden)


def make_sampling():
    """Probabilities after penalty, temperature, top-k and top-p, in the order of transformers."""
    logits = torch.randn(24) * 2.0
    seen = [3, 5, 5, 11]
    cases = []
    for penalty, temperature, top_k, top_p in [
        (1.0, 1.0, None, None), (1.0, 0.7, None, None), (1.3, 1.0, None, None),
        (1.0, 1.0, 5, None), (1.0, 1.0, None, 0.8), (1.2, 0.8, 10, 0.7),
        (1.0, 2.5, 3, 0.95), (1.0, 1.0, None, 0.01), (1.0, 1.0, 100, 1.0),
    ]:
        scores, ids = logits.unsqueeze(0).clone(), torch.tensor([seen])
        if penalty != 1.0:
            scores = processors.RepetitionPenaltyLogitsProcessor(penalty)(ids, scores)
        if temperature != 1.0:
            scores = processors.TemperatureLogitsWarper(temperature)(ids, scores)
        if top_k is not None:
            scores = processors.TopKLogitsWarper(top_k)(ids, scores)
        if top_p is not None and top_p < 1.0:
            scores = processors.TopPLogitsWarper(top_p)(ids, scores)
        cases.append(
            dict(
                repetition_penalty=penalty, temperature=temperature, top_k=top_k, top_p=top_p,
                probabilities=scores.softmax(-1)[0].tolist(),
            )
        )
    golden = dict(logits=logits.tolist(), seen=seen, cases=cases)
    (HERE / "sampling.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(20261101)
    for case_name, build_case in CASES.items():
        make_case(case_name, build_case)
    make_sampling()
