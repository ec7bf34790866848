//! What a model knows by heart, and what of the held-out text it could have read in training.

use std::collections::HashMap;

use heldout_data::{EvaluationWindows, IGNORE, TokenStore};
use heldout_record::examination::{Overlap, Reproduced};

/// Greedy continuations of windows, counted.
///
/// A greedy continuation equals the text exactly where the likeliest token after every true
/// beginning is the true one: so one pass over a window tells, and nothing has to be generated.
#[derive(Debug)]
pub struct Reproduction {
    prompt: usize,
    whole: usize,
    windows: u64,
    verbatim: u64,
    matched: u64,
    /// The first window that was reproduced, without its prompt.
    pub example: Option<Vec<u32>>,
}

impl Reproduction {
    /// Windows of `whole` tokens of which the first `prompt` are given.
    pub fn new(prompt: usize, whole: usize) -> Reproduction {
        Reproduction { prompt, whole, windows: 0, verbatim: 0, matched: 0, example: None }
    }

    /// `first[i]` is the likeliest token after `ids[..=i]`.
    pub fn add(&mut self, ids: &[u32], first: &[u32]) {
        let length = self.whole - self.prompt;
        let pairs = first[self.prompt - 1..].iter().zip(&ids[self.prompt..]);
        let matched = pairs.take_while(|(likeliest, real)| likeliest == real).count();
        self.windows += 1;
        self.matched += matched as u64;
        if matched == length {
            self.verbatim += 1;
            self.example.get_or_insert_with(|| ids[self.prompt..].to_vec());
        }
    }

    pub fn finish(&self) -> Reproduced {
        let matched = self.matched as f64 / self.windows.max(1) as f64;
        Reproduced { windows: self.windows, verbatim: self.verbatim, matched }
    }
}

/// Counts the held-out windows that stand in training, token for token.
pub fn overlap(windows: &EvaluationWindows, train: &TokenStore) -> Overlap {
    let found = windows_in_training(windows, train);
    // A last window that is cut short compares nothing.
    let whole = whole_windows(windows).iter().filter(|window| window.is_some()).count();
    Overlap {
        length: windows.seq_len() as u64,
        windows: whole as u64,
        found: found.iter().filter(|found| **found).count() as u64,
    }
}

/// Every window's tokens; nothing for one that is cut short.
fn whole_windows(windows: &EvaluationWindows) -> Vec<Option<Vec<u32>>> {
    let of = |row| {
        let batch = windows.batch(row..row + 1);
        let is_whole = !batch.targets.contains(&IGNORE);
        is_whole.then_some(batch.ids)
    };
    (0..windows.len()).map(of).collect()
}

/// Odd, so that every token moves every bit above it; hashes wrap at 2⁶⁴.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
/// Tokens of the training split read at a time.
const CHUNK: usize = 1 << 18;

fn digit(id: u32) -> u64 {
    (u64::from(id) + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93) | 1
}

/// Whether each window stands, token for token, anywhere in the training split: by a rolling hash
/// over the split (Karp & Rabin 1987), hits compared token for token.
pub fn windows_in_training(windows: &EvaluationWindows, train: &TokenStore) -> Vec<bool> {
    let length = windows.seq_len();
    let texts = whole_windows(windows);
    let mut found = vec![false; texts.len()];
    let mut wanted: HashMap<u64, Vec<usize>> = HashMap::new();
    let hash = |ids: &[u32]| {
        ids.iter().fold(0u64, |hash, id| hash.wrapping_mul(FACTOR).wrapping_add(digit(*id)))
    };
    for (number, text) in texts.iter().enumerate() {
        if let Some(text) = text {
            wanted.entry(hash(text)).or_default().push(number);
        }
    }
    let highest = (1..length).fold(1u64, |power, _| power.wrapping_mul(FACTOR));
    let total = train.len();
    let mut start = 0;
    while start + length as u64 <= total {
        let count = (total - start).min((CHUNK + length) as u64) as usize;
        let mut ids = vec![0; count];
        train.read_into(start, &mut ids);
        let mut rolling = hash(&ids[..length]);
        for at in 0..=count - length {
            if at > 0 {
                let leaving = digit(ids[at - 1]).wrapping_mul(highest);
                let entering = digit(ids[at + length - 1]);
                rolling = rolling.wrapping_sub(leaving).wrapping_mul(FACTOR).wrapping_add(entering);
            }
            for number in wanted.get(&rolling).into_iter().flatten() {
                let is_same = texts[*number].as_deref() == Some(&ids[at..at + length]);
                found[*number] |= is_same;
            }
        }
        // Windows that begin in the last `length` tokens are seen with the next chunk.
        start += (count - length + 1) as u64;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_counts_where_every_likeliest_token_is_the_real_one() {
        let mut found = Reproduction::new(2, 5);
        let ids = [7, 8, 1, 2, 3];
        // What is likeliest within the prompt does not matter, nor after the end.
        found.add(&ids, &[0, 1, 2, 3, 9]);
        found.add(&ids, &[8, 1, 2, 0, 9]);
        found.add(&ids, &[8, 0, 2, 3, 9]);
        assert_eq!(found.finish(), Reproduced { windows: 3, verbatim: 1, matched: 5.0 / 3.0 });
        assert_eq!(found.example, Some(vec![1, 2, 3]));
    }
}
