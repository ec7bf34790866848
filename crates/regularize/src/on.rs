//! Which tensors a penalty or decay acts on: the knob `on`.

use heldout_kernels::{Layout, Parameter, Role};
use heldout_optim::Segment;
use heldout_optim::segment::segments;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A kind of tensor, as the knob `on` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Weights of matrix products inside the blocks.
    Matrix,
    /// The input embedding, where it is not also the output projection.
    Embedding,
    /// The input embedding that is also the output projection.
    TiedEmbedding,
    /// The table of learned positions.
    PositionEmbedding,
    /// An output projection of its own.
    Head,
    /// Additive vectors.
    Bias,
    /// Gains of normalisations.
    Gain,
}

impl Part {
    /// All of them, in the order of the declaration.
    pub const ALL: [Part; 7] = [
        Part::Matrix,
        Part::Embedding,
        Part::TiedEmbedding,
        Part::PositionEmbedding,
        Part::Head,
        Part::Bias,
        Part::Gain,
    ];

    /// The words a recipe uses, in the order of [`Part::ALL`].
    pub const WORDS: [&'static str; 7] =
        ["matrix", "embedding", "tied-embedding", "position-embedding", "head", "bias", "gain"];

    /// The word a recipe uses.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// The part that a word names.
    pub fn parse(word: &str) -> Option<Part> {
        Self::ALL.into_iter().find(|part| part.word() == word)
    }

    /// The part that a parameter is in a layout.
    pub fn of(parameter: &Parameter, layout: &Layout) -> Part {
        match parameter.role {
            Role::Matrix => Part::Matrix,
            Role::Embedding if is_tied(layout) => Part::TiedEmbedding,
            Role::Embedding => Part::Embedding,
            Role::PositionEmbedding => Part::PositionEmbedding,
            Role::Head => Part::Head,
            Role::Bias => Part::Bias,
            Role::Gain => Part::Gain,
        }
    }
}

/// Whether the output projection is the input embedding: a layout without a head of its own.
pub fn is_tied(layout: &Layout) -> bool {
    !layout.parameters.iter().any(|parameter| parameter.role == Role::Head)
}

/// A set of parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct On(pub BTreeSet<Part>);

impl Default for On {
    /// All weights; biases, gains and an embedding that is also the output are exempt.
    fn default() -> Self {
        On([Part::Matrix, Part::Embedding, Part::PositionEmbedding, Part::Head].into())
    }
}

impl On {
    /// Whether a parameter belongs to the set.
    pub fn covers(&self, parameter: &Parameter, layout: &Layout) -> bool {
        self.0.contains(&Part::of(parameter, layout))
    }

    /// Every tensor of the layout as a segment, `decay` 1 where this set covers it and 0 elsewhere.
    pub fn mark(&self, layout: &Layout) -> Vec<Segment> {
        segments(layout, |p| if self.covers(p, layout) { 1.0 } else { 0.0 })
    }

    /// The covered tensors alone.
    pub fn select(&self, layout: &Layout) -> Vec<Segment> {
        self.mark(layout).into_iter().filter(|segment| segment.decay > 0.0).collect()
    }

    /// The words, joined by commas.
    pub fn describe(&self) -> String {
        let words: Vec<&str> = self.0.iter().map(|part| part.word()).collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(head: &[&str]) -> Layout {
        let mut layout = Layout::default();
        layout.push("embedding", &[5, 2], Role::Embedding);
        layout.push("matrix", &[2, 2], Role::Matrix);
        layout.push("bias", &[2], Role::Bias);
        layout.push("gain", &[2], Role::Gain);
        for name in head {
            layout.push(*name, &[5, 2], Role::Head);
        }
        layout
    }

    fn names(on: &On, layout: &Layout) -> Vec<String> {
        on.select(layout).into_iter().map(|segment| segment.name).collect()
    }

    #[test]
    fn an_embedding_is_exempt_only_where_it_is_also_the_output() {
        assert_eq!(names(&On::default(), &layout(&[])), ["matrix"]);
        assert_eq!(names(&On::default(), &layout(&["head"])), ["embedding", "matrix", "head"]);
        let tied = On([Part::TiedEmbedding, Part::Gain].into());
        assert_eq!(names(&tied, &layout(&[])), ["embedding", "gain"]);
        assert_eq!(names(&tied, &layout(&["head"])), ["gain"]);
    }

    #[test]
    fn words_and_parts_agree() {
        for part in Part::ALL {
            assert_eq!(Part::parse(part.word()), Some(part));
            assert_eq!(serde_json::to_value(part).expect("a word"), part.word());
        }
        assert_eq!(Part::parse("weights"), None);
    }
}
