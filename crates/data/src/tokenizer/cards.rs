//! One card per tokenizer kind, for `list` and `explain`.

use heldout_base::card::{Card, Default_, Kind, Knob, Schedulable, Search, Stage};

const VOCABULARY: Knob = Knob {
    name: "vocabulary",
    unit: "tokens",
    meaning: "How many tokens there are in all, special ones included.",
    default: Default_::Number(4096.0),
    range: (257.0, super::VOCABULARY_MAX as f64),
    search: Some(Search::Integer(512, 32_768)),
    schedulable: Schedulable::No,
    choices: &[],
};

/// The tokenizers that can be trained, in reading order.
pub static CARDS: &[Card] = &[
    Card {
        name: "char",
        kind: Kind::Tokenizer,
        stage: Stage::Data,
        purpose: "One token per character that occurs in the training text.",
        paper: "Karpathy 2015, \"The unreasonable effectiveness of recurrent neural networks\"",
        when_to_use: "Texts up to some 10 MB in an alphabetic script; comparisons with nanoGPT.",
        when_to_avoid: "Large corpora: sequences get four to five times as long as with BPE. \
                        Characters unseen in training become one unknown token.",
        cost: "Longest sequences but for bytes; smallest embedding.",
        knobs: &[],
    },
    Card {
        name: "byte",
        kind: Kind::Tokenizer,
        stage: Stage::Data,
        purpose: "One token per UTF-8 byte; nothing is ever unknown.",
        paper: "Xue et al. 2021, ByT5, arXiv 2105.13626",
        when_to_use: "Any mixture of scripts, code or noise, without training a tokenizer.",
        when_to_avoid: "Scripts of two or three bytes a character, and long-range structure.",
        cost: "Longest sequences; 256 tokens.",
        knobs: &[],
    },
    Card {
        name: "bpe",
        kind: Kind::Tokenizer,
        stage: Stage::Data,
        purpose: "Byte-level byte-pair encoding as GPT-2's: joins the most frequent neighbours.",
        paper: "Sennrich, Haddow, Birch 2016, arXiv 1508.07909; byte level: Radford et al. 2019",
        when_to_use: "The usual choice above some MB of text.",
        when_to_avoid: "Very small texts, where most tokens would be seen a few times only.",
        cost: "Training takes some seconds on a sample of at most 64 MB.",
        knobs: &[VOCABULARY],
    },
    Card {
        name: "unigram",
        kind: Kind::Tokenizer,
        stage: Stage::Data,
        purpose: "Pieces with probabilities, fitted by EM and pruned; the likeliest cut is taken.",
        paper: "Kudo 2018, Subword Regularization, arXiv 1804.10959",
        when_to_use: "Languages with rich word forms; it cuts closer to morphemes than BPE.",
        when_to_avoid: "When tokenizing time matters.",
        cost: "Training and encoding are several times as slow as BPE's.",
        knobs: &[VOCABULARY],
    },
    Card {
        name: "wordpiece",
        kind: Kind::Tokenizer,
        stage: Stage::Data,
        purpose: "Longest piece first, continuations marked ##, as BERT's but over bytes.",
        paper: "Schuster & Nakajima 2012; Devlin et al. 2019, arXiv 1810.04805",
        when_to_use: "Comparisons with BERT-like models.",
        when_to_avoid: "Otherwise: BPE does the same at greater speed.",
        cost: "As BPE to train; slower to run.",
        knobs: &[VOCABULARY],
    },
];
