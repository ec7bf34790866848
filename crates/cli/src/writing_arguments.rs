//! The options that say how texts are written, shared by `predict` and `evaluate`.

use clap::Args;
use heldout_train::WritingOptions;

/// How a model that translates or summarises searches for its texts.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct WritingArguments {
    /// Of a model that writes texts: texts followed at a time, 1 is greedy [default: 4]
    #[arg(long, value_name = "N")]
    pub beams: Option<usize>,
    /// Above 1 favours longer texts, below 1 shorter ones [default: 1]
    #[arg(long, value_name = "X")]
    pub length_penalty: Option<f32>,
    /// No run of so many tokens comes twice in a text; 0 allows all [default: 0]
    #[arg(long, value_name = "N")]
    pub no_repeat_ngram: Option<usize>,
    /// Tokens of a text at most [default: as many as the model has positions]
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
}

impl WritingArguments {
    /// As the library takes them.
    pub fn options(self) -> WritingOptions {
        WritingOptions {
            beams: self.beams,
            length_penalty: self.length_penalty,
            no_repeat_ngram: self.no_repeat_ngram,
            max_length: self.max_length,
        }
    }

    /// Whether any was given.
    pub fn is_given(self) -> bool {
        self.options() != WritingOptions::default()
    }
}
