"""Write the golden files of encoder-decoders: tiny random models of transformers, and what they
compute.

For each case a folder with config.json, model.safetensors and
  golden.safetensors   source [B, S], target [B, T] (what the decoder reads), their lengths [1, B],
                       targets [1, B*T] (i32: ids or -1), logits of the target's rows that are no
                       padding, and the gradient of the mean loss under "gradient.<tensor name>"
  golden.json          loss, the losses of ten steps of AdamW, and for each of several settings of
                       generate the sequences found and their scores

Run: python crates/model/tests/golden/make_seq2seq.py
"""

import json

import torch
import transformers as hf
from make_models import HERE, randomize
from safetensors.torch import save_file

VOCABULARY, BATCH, SOURCE, TARGET = 47, 4, 9, 7
SIZES = dict(
    vocab_size=VOCABULARY, d_model=24, encoder_layers=1, decoder_layers=2,
    encoder_attention_heads=3, decoder_attention_heads=3, encoder_ffn_dim=32, decoder_ffn_dim=32,
    max_position_embeddings=20, dropout=0.0, attn_implementation="eager",
)
CASES = {
    "bart": lambda: hf.BartForConditionalGeneration(
        hf.BartConfig(**{**SIZES, "encoder_layers": 2})
    ),
    "mbart": lambda: hf.MBartForConditionalGeneration(
        hf.MBartConfig(
            **{**SIZES, "decoder_attention_heads": 2, "decoder_ffn_dim": 40},
            activation_function="relu", scale_embedding=True, decoder_start_token_id=2,
            forced_eos_token_id=None,
        )
    ),
    "marian": lambda: hf.MarianMTModel(
        hf.MarianConfig(
            **SIZES, activation_function="swish", scale_embedding=True,
            pad_token_id=VOCABULARY - 1, decoder_start_token_id=VOCABULARY - 1, eos_token_id=0,
            forced_eos_token_id=0,
        )
    ),
}
SEARCHES = [
    dict(num_beams=1),
    dict(num_beams=1, no_repeat_ngram_size=2),
    dict(num_beams=2, length_penalty=1.0, forced_bos_token_id=5),
    dict(num_beams=4, length_penalty=0.0, early_stopping="never"),
    dict(num_beams=3, length_penalty=2.0, early_stopping=True, no_repeat_ngram_size=3),
    dict(num_beams=5, length_penalty=0.6, early_stopping="never", no_repeat_ngram_size=1),
    dict(num_beams=3, length_penalty=-0.5, no_repeat_ngram_size=2, max_length=6),
    dict(num_beams=4, length_penalty=1.5, early_stopping=False, bad_words_ids=[[3], [11]]),
]


def randomize_all(model, name):
    randomize(model)
    with torch.no_grad():
        bias = model.final_logits_bias
        bias.copy_(torch.randn_like(bias) * 0.3)
        # Texts that neither repeat one token nor never end.
        bias[0, model.config.eos_token_id] += 0.7 if name == "mbart" else 1.4
        for parameter_name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embed" not in parameter_name and "shared" not in parameter_name:
                parameter.mul_(3)
        if name == "marian":
            for stack in [model.model.encoder, model.model.decoder]:
                stack.embed_positions.weight.copy_(stack.embed_positions.create_weight())


def make_case(name, build):
    model = build().eval().float()
    randomize_all(model, name)
    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = model.config
    pad, end = config.pad_token_id, config.eos_token_id

    def batch(longest, lengths):
        lengths = torch.tensor(lengths)
        mask = torch.arange(longest) < lengths[:, None]
        ids = torch.randint(3, VOCABULARY - 1, (BATCH, longest))
        ids[torch.arange(BATCH), lengths - 1] = end
        return lengths, mask, ids.masked_fill(~mask, pad)

    source_lengths, source_mask, source = batch(SOURCE, [SOURCE, 4, 1, 7])
    target_lengths, target_mask, told = batch(TARGET, [3, TARGET, 1, 5])
    target = torch.cat([torch.full((BATCH, 1), config.decoder_start_token_id), told[:, :-1]], 1)
    target = target.masked_fill(~target_mask, pad)
    labels = told.masked_fill(~target_mask, -100)
    inputs = dict(input_ids=source, attention_mask=source_mask.long(), decoder_input_ids=target)
    out = model(**inputs, labels=labels)
    out.loss.backward()
    tensors = {
        "source": source.to(torch.int32), "target": target.to(torch.int32),
        "source_lengths": source_lengths.to(torch.int32)[None],
        "target_lengths": target_lengths.to(torch.int32)[None],
        "targets": labels.clamp(min=-1).reshape(1, -1).to(torch.int32),
        "logits": out.logits[target_mask].detach().contiguous(),
    }
    for parameter_name, parameter in model.named_parameters():
        if parameter.grad is not None:
            tensors[f"gradient.{parameter_name}"] = parameter.grad.contiguous().clone()
    save_file(tensors, folder / "golden.safetensors")
    golden = {"loss": out.loss.item(), "searches": [search(model, inputs, s) for s in SEARCHES]}
    golden["steps"] = steps(model, inputs, labels)
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(name, golden["loss"], golden["steps"], {len(s["sequences"][0]) for s in golden["searches"]})


def search(model, inputs, settings):
    """What generate finds with these settings, padding cut."""
    config = model.config
    settings = dict(max_length=14) | settings
    found = model.generate(
        inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False,
        decoder_start_token_id=config.decoder_start_token_id, bos_token_id=None,
        eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id,
        forced_eos_token_id=config.forced_eos_token_id,
        return_dict_in_generate=True, output_scores=True, **settings,
    )
    sequences = []
    for ids in found.sequences.tolist():
        ids = ids[1:]
        if config.eos_token_id in ids:
            ids = ids[: ids.index(config.eos_token_id)]
        sequences.append(ids)
    scores = getattr(found, "sequences_scores", None)
    return dict(
        beams=settings["num_beams"], length_penalty=settings.get("length_penalty", 1.0),
        no_repeat_ngram=settings.get("no_repeat_ngram_size", 0), max_length=settings["max_length"],
        early_stopping=str(settings.get("early_stopping", False)),
        forced_first=settings.get("forced_bos_token_id"),
        suppressed=[ids[0] for ids in settings.get("bad_words_ids", [])],
        sequences=sequences, scores=None if scores is None else scores.tolist(),
    )


def steps(model, inputs, labels):
    """The losses of ten steps of AdamW on one batch, and the loss after them."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3, weight_decay=0.1)
    losses = []
    for _ in range(11):
        optimizer.zero_grad()
        loss = model(**inputs, labels=labels).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(20261123)
    for case_name, build_case in CASES.items():
        make_case(case_name, build_case)
