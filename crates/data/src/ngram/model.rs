//! From counts to probabilities: discounts, backoff weights, and the interpolation down to 1 / V.

use crate::batches::IGNORE;

use super::ORDER_MOST;
use super::counts::{Level, NgramCounts, key};

/// What is taken from counts of 1, 2, and 3 or more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Discounts(pub [f64; 3]);

impl Discounts {
    /// Where counts of counts give none, in small or artificial data (as KenLM's
    /// `--discount_fallback`).
    pub const FALLBACK: Discounts = Discounts([0.5, 1.0, 1.5]);

    /// Chen & Goodman 1998, equation 26: Y = t₁ / (t₁ + 2·t₂), D_k = k − (k + 1)·Y·t_{k+1} / t_k,
    /// where t_k is the number of n-grams with count k. The fallback where one of t₁ to t₃ is zero,
    /// or a discount is not above 0 and at most k (KenLM takes 0, too, which may leave nothing for
    /// tokens that were not seen after a context).
    pub fn from_counts(counts: impl Iterator<Item = u32>) -> Discounts {
        let mut t = [0u64; 5];
        counts.filter(|c| (1..=4).contains(c)).for_each(|c| t[c as usize] += 1);
        if t[1..4].contains(&0) {
            return Discounts::FALLBACK;
        }
        let t = t.map(|t| t as f64);
        let y = t[1] / (t[1] + 2.0 * t[2]);
        let of = |k: usize| k as f64 - (k + 1) as f64 * y * t[k + 1] / t[k];
        let found = [of(1), of(2), of(3)];
        let is_sound = found.iter().zip([1.0, 2.0, 3.0]).all(|(d, k)| *d > 0.0 && *d <= k);
        if is_sound { Discounts(found) } else { Discounts::FALLBACK }
    }

    fn of(&self, count: u32) -> f64 {
        match count {
            0 => 0.0,
            count => self.0[count.min(3) as usize - 1],
        }
    }
}

/// A context's share in an interpolation.
#[derive(Clone, Copy, Debug, Default)]
struct Context {
    /// S: the counts of all that follows.
    sum: u32,
    /// b: what the discounts leave to shorter contexts, as a share.
    backoff: f32,
}

/// One step of an interpolation: contexts of n − 1 tokens, with what follows them.
struct Step {
    discounts: Discounts,
    /// By the context's node.
    contexts: Vec<Context>,
}

impl Step {
    /// `counts` are those of the level's n-grams, `contexts` how many nodes the level before has.
    fn new(level: &Level, counts: &[u32], n: usize, contexts: usize) -> Step {
        let discounts = Discounts::from_counts(counts.iter().copied());
        let mut sums = vec![0u32; contexts];
        let mut left = vec![0f64; contexts];
        let mut take = |parent: usize, count: u32| {
            sums[parent] += count;
            left[parent] += discounts.of(count);
        };
        if n == 1 {
            counts.iter().for_each(|count| take(0, *count));
        } else {
            for (key, node) in &level.children {
                take((key >> 32) as usize, counts[*node as usize]);
            }
        }
        let share = |(sum, left): (u32, f64)| Context {
            sum,
            backoff: if sum > 0 { (left / f64::from(sum)) as f32 } else { 1.0 },
        };
        Step { discounts, contexts: sums.into_iter().zip(left).map(share).collect() }
    }

    /// p(w | h) from the probability under the context without its first token; `None` where
    /// nothing was seen after h.
    fn interpolate(&self, context: u32, count: u32, shorter: f64) -> Option<f64> {
        let Context { sum, backoff } = self.contexts[context as usize];
        let kept = f64::from(count) - self.discounts.of(count);
        (sum > 0).then(|| kept / f64::from(sum) + f64::from(backoff) * shorter)
    }
}

/// Interpolated modified Kneser–Ney models of every order up to that of the counts:
/// p(w | h) = (a(hw) − D) / S(h) + b(h) · p(w | h without its first token), down to 1 / V. The
/// model of order N takes raw counts for its n-grams of N tokens and adjusted counts below, so one
/// set of counts gives all of them.
pub struct NgramModel<'a> {
    counts: &'a NgramCounts,
    /// With raw counts, for order n at `[n - 1]`.
    highest: Vec<Step>,
    /// With adjusted counts; one fewer.
    lower: Vec<Step>,
}

/// Nodes of the last 1, 2, … tokens of a sequence, as far as they were seen in training.
struct Walk {
    nodes: [u32; ORDER_MOST],
    depth: usize,
}

impl<'a> NgramModel<'a> {
    pub(super) fn new(counts: &'a NgramCounts) -> NgramModel<'a> {
        let levels = &counts.levels;
        let step = |n: usize, which: fn(&Level) -> &[u32]| {
            let contexts = if n == 1 { 1 } else { levels[n - 2].raw.len() };
            Step::new(&levels[n - 1], which(&levels[n - 1]), n, contexts)
        };
        NgramModel {
            counts,
            highest: (1..=levels.len()).map(|n| step(n, |level| &level.raw)).collect(),
            lower: (1..levels.len()).map(|n| step(n, |level| &level.adjusted)).collect(),
        }
    }

    /// The highest order.
    pub fn order(&self) -> usize {
        self.highest.len()
    }

    /// The discounts of the model's highest order and of those below it, from 1 on.
    pub fn discounts(&self, order: usize) -> Vec<Discounts> {
        let lower = self.lower[..order - 1].iter();
        lower.chain([&self.highest[order - 1]]).map(|step| step.discounts).collect()
    }

    /// −ln p of each target of one window, for the model of each of `orders`: `take(index, losses)`
    /// gets those of `orders[index]`, with 0 where the target is [`IGNORE`]. As a network's, the
    /// context is that of the window: the first target is predicted from one token.
    ///
    /// # Panics
    /// If an order is 0 or higher than that of the counts.
    pub fn losses(
        &self,
        orders: &[usize],
        ids: &[u32],
        targets: &[u32],
        mut take: impl FnMut(usize, &[f32]),
    ) {
        let mut losses = vec![vec![0f32; ids.len()]; orders.len()];
        let mut walk = Walk { nodes: [0; ORDER_MOST], depth: 0 };
        let mut taken = None;
        let mut found = [0.0; ORDER_MOST];
        for (at, (id, target)) in ids.iter().zip(targets).enumerate() {
            // A target is the next token, except where it is not scored.
            if taken.take() != Some(*id) {
                self.advance(&mut walk, *id, &mut found);
            }
            if *target != IGNORE {
                self.advance(&mut walk, *target, &mut found);
                for (losses, order) in losses.iter_mut().zip(orders) {
                    losses[at] = -found[order - 1].ln() as f32;
                }
                taken = Some(*target);
            }
        }
        for (index, losses) in losses.iter().enumerate() {
            take(index, losses);
        }
    }

    /// Takes one more token; `found[n - 1]` becomes its probability under the model of order n.
    fn advance(&self, walk: &mut Walk, token: u32, found: &mut [f64; ORDER_MOST]) {
        let levels = &self.counts.levels;
        let (mut shorter, mut parent) = (1.0 / f64::from(self.counts.vocabulary()), 0);
        let mut next = Walk { nodes: [0; ORDER_MOST], depth: 0 };
        // No longer context than the one at hand was seen, or stands in this sequence.
        let longest = levels.len().min(walk.depth + 1);
        let mut is_seen = true;
        let mut steps = 0;
        for n in 1..=longest {
            let level = &levels[n - 1];
            let node = match n {
                1 => (token < self.counts.vocabulary()).then_some(token),
                // What was not seen after a shorter context was not after a longer one.
                _ if is_seen => level.children.get(&key(parent, token)).copied(),
                _ => None,
            };
            is_seen &= node.is_some();
            if let Some(node) = node {
                next.nodes[n - 1] = node;
                next.depth = n;
            }
            let count = |counts: &[u32]| node.map_or(0, |node| counts[node as usize]);
            let whole = self.highest[n - 1].interpolate(parent, count(&level.raw), shorter);
            let Some(whole) = whole else { break };
            found[n - 1] = whole;
            steps = n;
            if let Some(lower) = self.lower.get(n - 1) {
                let count = count(&level.adjusted);
                shorter = lower.interpolate(parent, count, shorter).unwrap_or(shorter);
            }
            parent = walk.nodes[n - 1];
        }
        // Where a model's own order is out of reach, its lower orders decide.
        found[steps..levels.len()].fill(shorter);
        next.depth = next.depth.min(levels.len() - 1);
        if Some(token) == self.counts.eos() {
            next.depth = next.depth.min(1);
        }
        *walk = next;
    }
}
