"""Writes ops.safetensors: values and gradients of every op from PyTorch, in f64, stored as f32.

Run from anywhere: python make_ops.py. Needs torch, transformers and safetensors.
Each case is a set of tensors "case/name"; inputs come first, "case/y" is the output, "case/dy"
the gradient fed to it, and "case/d.NAME" the gradient of input NAME.
"""

import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

torch.manual_seed(1234)
torch.set_num_threads(1)
cases = {}


def case(name, function, inputs, **extra):
    """Runs function(**inputs) and its backward for a random upstream gradient."""
    leaves = {k: v.float().double().requires_grad_() for k, v in inputs.items()}
    y = function(**leaves)
    dy = torch.randn_like(y).float().double() if y.ndim else torch.ones_like(y)
    y.backward(dy)
    for key, leaf in leaves.items():
        cases[f"{name}/{key}"] = leaf.detach()
        cases[f"{name}/d.{key}"] = leaf.grad
    cases[f"{name}/y"] = y.detach().reshape(-1)
    cases[f"{name}/dy"] = dy.reshape(-1)
    for key, value in extra.items():
        cases[f"{name}/{key}"] = value


def rand(*shape, scale=1.0, shift=0.0):
    return torch.randn(*shape, dtype=torch.float64) * scale + shift


def norms():
    n, c = 13, 37
    inputs = dict(x=rand(n, c, scale=2.0, shift=0.5), gain=rand(c, scale=0.3, shift=1.0))
    case("layer_norm", lambda x, gain, bias: F.layer_norm(x, (c,), gain, bias, 1e-5),
         dict(inputs, bias=rand(c)))
    case("rms_norm", lambda x, gain: F.rms_norm(x, (c,), gain, 1e-6), inputs)


def linears():
    activations = {
        "none": lambda x: x,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "gelu_erf": F.gelu,
        "silu": F.silu,
        "relu": F.relu,
    }
    for name, activation in activations.items():
        inputs = dict(x=rand(11, 20), weight=rand(29, 20, scale=0.5), bias=rand(29))
        case(f"linear_{name}",
             lambda x, weight, bias: activation(F.linear(x, weight, bias)), inputs)

    def swiglu(x):
        gate, up = x.chunk(2, dim=-1)
        return F.silu(gate) * up

    case("swiglu", swiglu, dict(x=rand(9, 46)))


def split_heads(x, b, t, h, k, d):
    """[B·T, (H+2K)·D] to [B, heads, T, D] each."""
    x = x.view(b, t, h + 2 * k, d).transpose(1, 2)
    return x[:, :h], x[:, h:h + k], x[:, h + k:]


def join_heads(*heads):
    x = torch.cat(heads, dim=1).transpose(1, 2)
    return x.reshape(x.shape[0] * x.shape[1], -1)


def attentions():
    for name, (b, t, h, k, d) in {"attention_gqa": (2, 53, 4, 2, 8),
                                  "attention_long": (1, 101, 2, 2, 20)}.items():
        def attention(x):
            q, key, value = split_heads(x, b, t, h, k, d)
            return join_heads(F.scaled_dot_product_attention(
                q, key, value, is_causal=True, enable_gqa=h != k))

        case(name, attention, dict(x=rand(b * t, (h + 2 * k) * d, scale=1.5)))


def positions():
    b, t, h, k, d = 2, 17, 3, 1, 10
    config = LlamaConfig(hidden_size=h * d, num_attention_heads=h, num_key_value_heads=k,
                         head_dim=d, max_position_embeddings=64)
    embedding = LlamaRotaryEmbedding(config)

    def rotary(x):
        q, key, value = split_heads(x, b, t, h, k, d)
        at = torch.arange(t)[None].expand(b, t)
        cos, sin = embedding(torch.zeros(1, dtype=torch.float32), at)
        q, key = apply_rotary_pos_emb(q, key, cos.double(), sin.double())
        return join_heads(q, key, value)

    case("rotary", rotary, dict(x=rand(b * t, (h + 2 * k) * d)))

    def head_norm(x, q_gain, k_gain):
        q, key, value = split_heads(x, b, t, h, k, d)

        def norm(x, gain):
            module = Qwen3RMSNorm(d, eps=1e-6)
            variance = x.pow(2).mean(-1, keepdim=True)
            expected = x * torch.rsqrt(variance + 1e-6) * gain
            with torch.no_grad():  # the formula is Qwen3's
                module.weight.copy_(gain.float())
                torch.testing.assert_close(module(x.float()), expected.float())
            return expected

        return join_heads(norm(q, q_gain), norm(key, k_gain), value)

    case("head_norm", head_norm, dict(x=rand(b * t, (h + 2 * k) * d),
                                      q_gain=rand(d, shift=1.0), k_gain=rand(d, shift=1.0)))


def embeddings():
    ids = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9])

    def embedding(tokens, positions):
        return F.embedding(ids, tokens) + positions[:5].repeat(3, 1)

    case("embedding", embedding, dict(tokens=rand(10, 18), positions=rand(6, 18)),
         ids=ids.to(torch.int32))


def residuals():
    case("residual", lambda x, branch: x + 0.75 * branch, dict(x=rand(7, 12), branch=rand(7, 12)))


def losses():
    n, c, v, k = 12, 16, 41, 5
    targets = torch.randint(0, v, (n,))
    targets[4] = targets[9] = -100
    inputs = lambda: dict(x=rand(n, c), head=rand(v, c, scale=0.7))
    kept = targets != -100
    hot = F.one_hot(targets[kept], v).double()

    def soft(distribution):
        """Σ −q·log p for a target distribution that may depend on the (detached) logits."""
        def loss(x, head):
            logits = F.linear(x, head)[kept]
            q = distribution(logits.detach())
            return -(q * F.log_softmax(logits, -1)).sum()
        return loss

    def likeliest(logits, epsilon=0.2):
        top = logits.masked_fill(hot.bool(), -torch.inf).topk(k, dim=-1).indices
        q = torch.zeros_like(logits).scatter_(1, top, epsilon / k)
        return q + (1 - epsilon) * hot

    def uniform(epsilon):
        return lambda x, head: F.cross_entropy(F.linear(x, head), targets, reduction="sum",
                                               ignore_index=-100, label_smoothing=epsilon)

    def z_loss(x, head):
        return uniform(0.0)(x, head) + 0.05 * torch.logsumexp(
            F.linear(x, head)[kept], -1).pow(2).sum()

    def confidence(x, head):
        entropy = torch.distributions.Categorical(logits=F.linear(x, head)[kept]).entropy()
        return uniform(0.1)(x, head) - 0.4 * entropy.sum()

    extra = lambda: dict(targets=targets.to(torch.int32))
    case("cross_entropy", uniform(0.0), inputs(), **extra())
    case("cross_entropy_uniform", uniform(0.1), inputs(), **extra())
    case("cross_entropy_wrong", soft(lambda z: 0.85 * hot + (1 - hot) * 0.15 / (v - 1)), inputs(),
         **extra())
    case("cross_entropy_likeliest", soft(likeliest), inputs(), **extra())
    case("cross_entropy_z", z_loss, inputs(), **extra())
    case("cross_entropy_confidence", confidence, inputs(), **extra())


def encoders():
    """What only encoders use: padded attention over whole sequences, tanh, a biased head."""
    for name, (b, t, h, d), lengths in [("attention_padded", (3, 71, 2, 6), (71, 30, 1)),
                                        ("attention_whole", (1, 140, 1, 16), (140,))]:
        kept = torch.arange(t)[None] < torch.tensor(lengths)[:, None]

        def attention(x):
            q, key, value = split_heads(x, b, t, h, h, d)
            y = F.scaled_dot_product_attention(q, key, value, attn_mask=kept[:, None, None])
            return join_heads(y) * kept.reshape(-1, 1)

        case(name, attention, dict(x=rand(b * t, 3 * h * d, scale=1.5)),
             lengths=torch.tensor(lengths, dtype=torch.int32))
    inputs = dict(x=rand(11, 20), weight=rand(29, 20, scale=0.5), bias=rand(29))
    case("linear_tanh", lambda x, weight, bias: F.linear(x, weight, bias).tanh(), inputs)
    targets = torch.randint(0, 41, (12,))
    targets[4] = targets[9] = -100
    case("cross_entropy_bias",
         lambda x, head, bias: F.cross_entropy(F.linear(x, head, bias), targets, reduction="sum"),
         dict(x=rand(12, 16), head=rand(41, 16, scale=0.7), bias=rand(41)),
         targets=targets.to(torch.int32))


if __name__ == "__main__":
    norms()
    linears()
    attentions()
    positions()
    embeddings()
    residuals()
    losses()
    encoders()
    stored = {key: (value.float() if value.is_floating_point() else value).contiguous()
              for key, value in cases.items()}
    save_file(stored, pathlib.Path(__file__).with_name("ops.safetensors"))
    print(sum(value.numel() for value in stored.values()) * 4, "bytes")
