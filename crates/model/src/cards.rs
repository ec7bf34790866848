//! The model families' cards, for `list`, `explain` and the search space.
//!
//! The knobs are the keys of a recipe's `[model]` table. Their defaults are those of nanoGPT's
//! character model on a CPU; `train` replaces sizes that a recipe leaves open by what suits the
//! data.

use heldout_base::card::{Card, Default_, Kind, Knob, Schedulable, Search, Stage};

/// One card for each family.
pub static CARDS: &[Card] = &[
    Card {
        name: "gpt2",
        kind: Kind::Model,
        stage: Stage::Model,
        purpose: "Decoder with learned positions, LayerNorm before each branch, GELU and biases.",
        paper: "Radford et al. 2019, Language Models are Unsupervised Multitask Learners",
        when_to_use: "The plain choice for small models and short contexts; comparable with \
                      nanoGPT, and every tool opens it.",
        when_to_avoid: "Contexts longer than the one trained with: positions beyond it do not \
                        exist.",
        cost: "12·C² weights a block with F = 4C; the position table adds T·C.",
        knobs: &[LAYERS, HEADS, WIDTH, CONTEXT, HIDDEN, TIED, GPT2_ACTIVATION, EPSILON, INIT_STD],
    },
    Card {
        name: "llama",
        kind: Kind::Model,
        stage: Stage::Model,
        purpose: "Decoder with rotary positions, RMSNorm, SwiGLU and grouped key/value heads.",
        paper: "Touvron et al. 2023, arXiv 2302.13971; QK-norm: Qwen3, arXiv 2505.09388",
        when_to_use: "Usually a little better than GPT-2 at equal parameters; generation with a \
                      small cache; fine-tuning of Llama and Qwen3 checkpoints.",
        when_to_avoid: "Comparisons with GPT-2 recipes, whose rates were tuned for the other \
                        family.",
        cost: "As gpt2 at F = 8C/3; grouped heads divide the cache by heads / kv-heads.",
        knobs: &[
            LAYERS,
            HEADS,
            WIDTH,
            CONTEXT,
            KV_HEADS,
            HIDDEN,
            HEAD_WIDTH,
            TIED,
            QK_NORM,
            LLAMA_ACTIVATION,
            ROPE_THETA,
            EPSILON,
            INIT_STD,
        ],
    },
];

const LAYERS: Knob = Knob {
    name: "layers",
    unit: "blocks",
    meaning: "Number of blocks.",
    default: Default_::Number(4.0),
    range: (1.0, 4096.0),
    search: Some(Search::Integer(2, 12)),
    schedulable: Schedulable::No,
    choices: &[],
};
const HEADS: Knob = Knob {
    name: "heads",
    unit: "heads",
    meaning: "Number of query heads; the width must be a multiple of it.",
    default: Default_::Number(4.0),
    range: (1.0, 4096.0),
    search: None,
    schedulable: Schedulable::No,
    choices: &[],
};
const WIDTH: Knob = Knob {
    name: "width",
    unit: "channels",
    meaning: "Width of the residual stream.",
    default: Default_::Number(128.0),
    range: (1.0, 1_048_576.0),
    search: Some(Search::Integer(64, 768)),
    schedulable: Schedulable::No,
    choices: &[],
};
const CONTEXT: Knob = Knob {
    name: "context",
    unit: "tokens",
    meaning: "The longest sequence the model is trained on and attends over.",
    default: Default_::Number(64.0),
    range: (1.0, 1_048_576.0),
    search: None,
    schedulable: Schedulable::No,
    choices: &[],
};
const KV_HEADS: Knob = Knob {
    name: "kv-heads",
    unit: "heads",
    meaning: "Number of key/value heads, shared by groups of query heads; off means one for each.",
    default: Default_::Off,
    range: (1.0, 4096.0),
    search: None,
    schedulable: Schedulable::No,
    choices: &[],
};
const HIDDEN: Knob = Knob {
    name: "hidden",
    unit: "channels",
    meaning: "Width of the feed-forward layer; off means 4 × width for gpt2, 8/3 × for llama.",
    default: Default_::Off,
    range: (1.0, 4_194_304.0),
    search: None,
    schedulable: Schedulable::No,
    choices: &[],
};
const HEAD_WIDTH: Knob = Knob {
    name: "head-width",
    unit: "channels",
    meaning: "Width of one head; off means width / heads. Free of both with qk-norm only.",
    default: Default_::Off,
    range: (2.0, 4096.0),
    search: None,
    schedulable: Schedulable::No,
    choices: &[],
};
const TIED: Knob = Knob {
    name: "tied",
    unit: "",
    meaning: "Whether the output projection is the input embedding.",
    default: Default_::Text("yes"),
    range: (0.0, 0.0),
    search: Some(Search::Choice(&["yes", "no"])),
    schedulable: Schedulable::No,
    choices: &["yes", "no"],
};
const QK_NORM: Knob = Knob {
    name: "qk-norm",
    unit: "",
    meaning: "Whether queries and keys are RMS-normalised per head; exported as Qwen3.",
    default: Default_::Text("no"),
    range: (0.0, 0.0),
    search: Some(Search::Choice(&["yes", "no"])),
    schedulable: Schedulable::No,
    choices: &["yes", "no"],
};
const GPT2_ACTIVATION: Knob = Knob {
    name: "activation",
    unit: "",
    meaning: "Non-linearity of the feed-forward layer.",
    default: Default_::Text("gelu-tanh"),
    range: (0.0, 0.0),
    search: None,
    schedulable: Schedulable::No,
    choices: &["gelu-tanh", "gelu-erf", "relu", "silu"],
};
const LLAMA_ACTIVATION: Knob =
    Knob { default: Default_::Text("silu"), choices: &["silu"], ..GPT2_ACTIVATION };
const ROPE_THETA: Knob = Knob {
    name: "rope-theta",
    unit: "",
    meaning: "Base of the rotary frequencies; larger for longer contexts.",
    default: Default_::Number(10_000.0),
    range: (1.0, 1e9),
    search: None,
    schedulable: Schedulable::No,
    choices: &[],
};
const EPSILON: Knob = Knob {
    name: "norm-epsilon",
    unit: "",
    meaning: "Added to the variance or mean square before its root is taken.",
    default: Default_::Number(1e-5),
    range: (1e-12, 1e-1),
    search: None,
    schedulable: Schedulable::No,
    choices: &[],
};
const INIT_STD: Knob = Knob {
    name: "init-std",
    unit: "",
    meaning: "Standard deviation of the initial weights.",
    default: Default_::Number(0.02),
    range: (1e-6, 1.0),
    search: Some(Search::Log(0.005, 0.1)),
    schedulable: Schedulable::No,
    choices: &[],
};

#[cfg(test)]
mod tests {
    use super::CARDS;

    #[test]
    fn cards_are_complete() {
        for card in CARDS {
            assert_eq!(card.problems(), Vec::<String>::new());
        }
    }
}
