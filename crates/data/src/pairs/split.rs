//! Held-out splits of pairs: equal sources on one side.

use super::prepare::{PairExample, PairSpec};
use crate::error::DataError;
use crate::labelled::{Share, by_share, key, share};
use rayon::prelude::*;

/// Training, validation, test.
pub(crate) type Splits = [Vec<PairExample>; 3];

/// Takes validation and test out of the training pairs, where they have no files of their own;
/// with a sentence that says how.
pub(crate) fn hold_out(
    all: Vec<PairExample>,
    own: [Vec<PairExample>; 2],
    spec: &PairSpec,
) -> Result<(Splits, String), DataError> {
    let shares = [share(Some(&spec.validation))?, share(spec.test.as_ref())?];
    let count = all.len();
    let chosen: [Vec<u32>; 2] = match shares {
        [Share::None | Share::Spread(_), Share::None | Share::Spread(_)] => {
            let part = |s| if let Share::Spread(share) = s { share } else { 0.0 };
            let keys: Vec<_> = all.par_iter().map(|pair| key(&pair.source, None)).collect();
            by_share(&keys, &vec![0; count], 1, shares.map(part), spec.seed)
        }
        [Share::None | Share::End(_), Share::None | Share::End(_)] => {
            let part = |s| if let Share::End(share) = s { share } else { 0.0 };
            let [validation, test] = shares.map(part).map(|s| (s * count as f64).round() as usize);
            let start = count - (validation + test).min(count);
            let middle = (start + validation).min(count);
            [(start as u32..middle as u32).collect(), (middle as u32..count as u32).collect()]
        }
        _ => {
            let words = "one held-out split is a share of all pairs and the other the end of the \
                         file. Take both the same way, or name files";
            return Err(DataError::Split(words.into()));
        }
    };
    let mut part = vec![0u8; count];
    for (number, indices) in (1..).zip(&chosen) {
        indices.iter().for_each(|index| part[*index as usize] = number);
    }
    let [validation, test] = own;
    let mut splits = [Vec::with_capacity(count), validation, test];
    for (pair, part) in all.into_iter().zip(part) {
        splits[usize::from(part)].push(pair);
    }
    let named = [("validation", &splits[1], shares[0]), ("test", &splits[2], shares[1])];
    for (name, split, share) in named {
        if share != Share::None && split.is_empty() || splits[0].is_empty() {
            return Err(DataError::Split(format!(
                "{count} pair(s) are too few to hold out a {name} split. Give more pairs, or name \
                 {name} files"
            )));
        }
    }
    let sentence = |name: &str, share, held_out: usize| match share {
        Share::None => format!("{name} from its own files ({held_out})"),
        Share::Spread(share) => format!(
            "{name} {held_out} of {count} pairs ({:.0}%, by hash of seed and source)",
            share * 100.0
        ),
        Share::End(share) => {
            format!("{name} the last {held_out} of {count} pairs ({:.0}%)", share * 100.0)
        }
    };
    let mut words = sentence("validation", shares[0], splits[1].len());
    if spec.test.is_some() {
        words = format!("{words}; {}", sentence("test", shares[1], splits[2].len()));
    }
    Ok((splits, words))
}
