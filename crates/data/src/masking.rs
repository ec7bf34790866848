//! Dynamic masking for masked language models (Devlin et al. 2019; drawn anew in every epoch as in
//! Liu et al. 2019): which tokens are to be told, and what the model reads in their place.
//!
//! A pure function of seed, epoch and the token's place in the corpus, so that it depends neither
//! on the batch nor on threads, and a run resumes with the same masks.

use heldout_base::rng::{Random, streams};

use crate::batches::IGNORE;
use crate::error::DataError;
use crate::tokenizer::Tokenizer;

/// What is masked together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Every token by itself.
    #[default]
    Token,
    /// All tokens of a word: a `##` piece goes with the one before it.
    Word,
}

/// The rule by which a corpus is masked.
#[derive(Clone, Debug)]
pub struct Masking {
    /// Share of tokens (or words) that are to be told, in (0, 1); BERT has 0.15.
    share: f64,
    seed: u64,
    mask: u32,
    /// Ids that are never to be told.
    specials: Vec<u32>,
    /// Ids that a token may become: all but the special ones.
    plain: Vec<u32>,
    /// By id, whether the token goes on with the word before it; empty for [`Unit::Token`].
    continues: Vec<bool>,
}

/// Of what is to be told, the share that is read as the mask, and as any token; the rest is read as
/// it is.
const MASKED: f64 = 0.8;
const ANY: f64 = 0.1;

impl Masking {
    /// The rule for a tokenizer, which must have a mask token.
    ///
    /// # Errors
    /// A share outside (0, 1); no `[MASK]` or `<mask>`; words asked for where the vocabulary has no
    /// `##` pieces.
    pub fn new(
        tokenizer: &Tokenizer,
        share: f64,
        unit: Unit,
        seed: u64,
    ) -> Result<Masking, DataError> {
        if !(share > 0.0 && share < 1.0) {
            let words =
                format!("{share} is no share of tokens to mask: between 0 and 1, usually 0.15");
            return Err(DataError::Tokenizer(words));
        }
        let named = |names: [&str; 2]| {
            let found =
                tokenizer.specials().iter().find(|(name, _)| names.contains(&name.as_str()));
            found.map(|(_, id)| *id)
        };
        let mask = named(["[MASK]", "<mask>"]).ok_or_else(|| {
            DataError::Tokenizer(
                "it has no mask token ([MASK] or <mask>): take the tokenizer.json of an encoder"
                    .into(),
            )
        })?;
        let specials: Vec<u32> = tokenizer.specials().iter().map(|(_, id)| *id).collect();
        let size = tokenizer.vocabulary_size() as u32;
        let plain: Vec<u32> = (0..size).filter(|id| !specials.contains(id)).collect();
        let continues = match unit {
            Unit::Token => Vec::new(),
            Unit::Word => continuing(tokenizer)?,
        };
        Ok(Masking { share, seed, mask, specials, plain, continues })
    }

    /// Masks a text whose first token has `place` in the corpus: `ids` become what is read, and
    /// `targets` what is to be told ([`IGNORE`] elsewhere). Special tokens stay.
    ///
    /// # Panics
    /// If the lists differ in length.
    pub fn mask(&self, epoch: u64, place: u64, ids: &mut [u32], targets: &mut [u32]) {
        assert_eq!(ids.len(), targets.len(), "a target or none for each token");
        let random = Random::new(self.seed, streams::MASKING, epoch);
        let mut is_told = false;
        let mut in_word = false;
        for (index, (id, target)) in ids.iter_mut().zip(targets).enumerate() {
            *target = IGNORE;
            if self.specials.contains(id) {
                in_word = false;
                continue;
            }
            // Three draws a token: whether it is told, what becomes of it, and which other.
            let at = 3 * (place + index as u64);
            let goes_on = in_word && self.continues.get(*id as usize) == Some(&true);
            if !goes_on {
                is_told = random.uniform(at) < self.share;
            }
            in_word = true;
            if !is_told {
                continue;
            }
            *target = *id;
            let fate = random.uniform(at + 1);
            if fate < MASKED {
                *id = self.mask;
            } else if fate < MASKED + ANY {
                *id = self.plain[random.below(at + 2, self.plain.len() as u64) as usize];
            }
        }
    }
}

/// By id, whether a token begins with `##`.
fn continuing(tokenizer: &Tokenizer) -> Result<Vec<bool>, DataError> {
    let broken = |words: &str| DataError::Tokenizer(words.into());
    let json: serde_json::Value =
        serde_json::from_str(tokenizer.to_json()).map_err(|e| broken(&e.to_string()))?;
    let vocabulary = json["model"]["vocab"].as_object();
    let mut continues = vec![false; tokenizer.vocabulary_size()];
    for (token, id) in vocabulary.into_iter().flatten() {
        let id = id.as_u64().unwrap_or(u64::MAX) as usize;
        if let Some(continues) = continues.get_mut(id) {
            *continues = token.starts_with("##");
        }
    }
    if !continues.contains(&true) {
        return Err(broken(
            "its vocabulary has no pieces that begin with \"##\", so whole words are not known: \
             mask tokens one by one",
        ));
    }
    Ok(continues)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::TokenizerKind;
    use serde_json::json;

    const PLAIN: u32 = 200;

    /// `[CLS]` 200, `[SEP]` 201, `[MASK]` 202; odd ids below go on with a word.
    fn tokenizer() -> Tokenizer {
        let piece = |id: u32| if id % 2 == 1 { format!("##{id}") } else { format!("w{id}") };
        let names = ["[CLS]", "[SEP]", "[MASK]"];
        let mut vocabulary: serde_json::Map<String, serde_json::Value> =
            (0..PLAIN).map(|id| (piece(id), json!(id))).collect();
        let mut added = Vec::new();
        for (id, name) in (PLAIN..).zip(names) {
            vocabulary.insert(name.into(), json!(id));
            added.push(json!({"id": id, "content": name, "single_word": false, "lstrip": false,
                              "rstrip": false, "normalized": false, "special": true}));
        }
        let file = json!({"version": "1.0", "truncation": null, "padding": null,
            "added_tokens": added, "normalizer": null,
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "w0", "max_input_chars_per_word": 100,
                      "continuing_subword_prefix": "##", "vocab": vocabulary}});
        Tokenizer::from_json(&file.to_string()).unwrap()
    }

    fn run(masking: &Masking, epoch: u64, place: u64, text: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let (mut ids, mut targets) = (text.to_vec(), vec![7; text.len()]);
        masking.mask(epoch, place, &mut ids, &mut targets);
        (ids, targets)
    }

    /// Within five standard errors of a share of `count`.
    fn near(found: usize, count: usize, share: f64) -> bool {
        let error = (share * (1.0 - share) / count as f64).sqrt();
        (found as f64 / count as f64 - share).abs() < 5.0 * error
    }

    #[test]
    fn shares_are_those_of_bert() {
        let masking = Masking::new(&tokenizer(), 0.15, Unit::Token, 3).unwrap();
        let text: Vec<u32> = (0..60_000).map(|i| i * 7 % (PLAIN + 2)).collect();
        let (ids, targets) = run(&masking, 0, 0, &text);
        let plain = text.iter().filter(|id| **id < PLAIN).count();
        let rows = || ids.iter().zip(&targets).zip(&text);
        let told = rows().filter(|((_, target), _)| **target != IGNORE).count();
        assert!(near(told, plain, 0.15), "{told} of {plain}");
        assert!(rows().all(|((id, target), text)| match *target {
            IGNORE => id == text,
            target => target == *text && *text < PLAIN,
        }));
        let of = |fate: &dyn Fn(u32, u32) -> bool| {
            let told = rows().filter(|((_, target), _)| **target != IGNORE);
            told.filter(|((id, _), text)| fate(**id, **text)).count()
        };
        let masked = of(&|id, _| id == PLAIN + 2);
        assert!(near(masked, told, 0.8), "{masked} of {told}");
        let kept = of(&|id, text| id == text);
        assert!(near(kept, told, 0.1 + 0.1 / f64::from(PLAIN)), "{kept} of {told}");
        assert!(of(&|id, text| id != text && id < PLAIN) > 0);
        assert_eq!(of(&|id, text| id != text && (PLAIN..PLAIN + 2).contains(&id)), 0);
    }

    #[test]
    fn masks_depend_on_epoch_and_place_alone() {
        let masking = Masking::new(&tokenizer(), 0.3, Unit::Token, 3).unwrap();
        let text: Vec<u32> = (0..300).map(|i| i * 11 % PLAIN).collect();
        let whole = run(&masking, 4, 1000, &text);
        let (left, right) =
            (run(&masking, 4, 1000, &text[..97]), run(&masking, 4, 1097, &text[97..]));
        assert_eq!([left.0, right.0].concat(), whole.0);
        assert_eq!([left.1, right.1].concat(), whole.1);
        assert_ne!(run(&masking, 5, 1000, &text), whole);
        assert_ne!(run(&masking, 4, 1001, &text), whole);
    }

    #[test]
    fn words_are_told_whole() {
        let masking = Masking::new(&tokenizer(), 0.3, Unit::Word, 3).unwrap();
        // Words of one to three tokens, a special token between some.
        let word = |i: u32| match i % 5 {
            0 => vec![PLAIN],
            1 => vec![2 * i % PLAIN],
            2 => vec![2 * i % PLAIN, (2 * i + 1) % PLAIN],
            _ => vec![2 * i % PLAIN, (2 * i + 1) % PLAIN, 1],
        };
        let words: Vec<Vec<u32>> = (0..5000).map(word).collect();
        let (_, targets) = run(&masking, 0, 0, &words.concat());
        let (mut at, mut told) = (0, 0);
        for word in &words {
            let targets = &targets[at..at + word.len()];
            let count = targets.iter().filter(|target| **target != IGNORE).count();
            assert!(count == 0 || count == word.len(), "{word:?} {targets:?}");
            told += usize::from(count > 0);
            at += word.len();
        }
        assert!(near(told, 4000, 0.3), "{told}");
    }

    #[test]
    fn what_cannot_be_masked_is_refused() {
        let refused = |tokenizer: &Tokenizer, share, unit| {
            Masking::new(tokenizer, share, unit, 0).unwrap_err().to_string()
        };
        assert!(refused(&tokenizer(), 0.0, Unit::Token).contains("usually 0.15"));
        let mut none = std::iter::empty();
        let bytes = Tokenizer::train(TokenizerKind::Byte, 0, &[], &mut none).unwrap();
        assert!(refused(&bytes, 0.15, Unit::Token).contains("no mask token"));
        let mut none = std::iter::empty();
        let bytes = Tokenizer::train(TokenizerKind::Byte, 0, &["[MASK]"], &mut none).unwrap();
        assert!(refused(&bytes, 0.15, Unit::Word).contains("whole words"));
    }
}
