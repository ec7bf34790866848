//! The gradients of a pass: one for each parameter, written by the first op that has one.
//!
//! Gradients that are overwritten need not be cleared between steps, nor read by the first
//! product: eight bytes less a parameter and step.

use std::ops::Range;

use crate::gemm::Accumulate;
use crate::parameters::Weight;

/// The flat gradients and the parts of them that hold nothing yet.
pub(crate) struct Accumulator<'a> {
    all: &'a mut [f32],
    /// Disjoint and in ascending order.
    unwritten: Vec<Range<usize>>,
}

impl<'a> Accumulator<'a> {
    /// Gradients to be added to.
    pub fn adding(all: &'a mut [f32]) -> Accumulator<'a> {
        Accumulator { all, unwritten: Vec::new() }
    }

    /// Gradients whose old values do not count; `memory` is for keeping account of them.
    pub fn overwriting(all: &'a mut [f32], mut memory: Vec<Range<usize>>) -> Accumulator<'a> {
        memory.clear();
        memory.push(0..all.len());
        Accumulator { all, unwritten: memory }
    }

    /// For an op that can do either: a weight's gradient, and whether to write or add to it.
    pub fn write_or_add(&mut self, weight: Weight) -> (&mut [f32], Accumulate) {
        let range = weight.range();
        let whole = self.unwritten.iter().any(|u| u.start <= range.start && range.end <= u.end);
        let into = if whole { Accumulate::Overwrite } else { Accumulate::Add };
        self.take(&range, into);
        (&mut self.all[range], into)
    }

    /// A weight's gradient, to be added to.
    pub fn add(&mut self, weight: Weight) -> &mut [f32] {
        self.take(&weight.range(), Accumulate::Add);
        weight.of_mut(self.all)
    }

    /// Those of two weights.
    pub fn add_two(&mut self, a: Weight, b: Weight) -> (&mut [f32], &mut [f32]) {
        self.take(&a.range(), Accumulate::Add);
        self.take(&b.range(), Accumulate::Add);
        let both = self.all.get_disjoint_mut([a.range(), b.range()]);
        let [a, b] = both.expect("two weights of one op do not overlap");
        (a, b)
    }

    /// As [`Accumulator::write_or_add`], with the gradient of a bias that goes with the weight, to
    /// be added to.
    pub fn write_or_add_biased(
        &mut self,
        weight: Weight,
        bias: Option<Weight>,
    ) -> (&mut [f32], Accumulate, Option<&mut [f32]>) {
        let Some(bias) = bias else {
            let (values, into) = self.write_or_add(weight);
            return (values, into, None);
        };
        let into = self.write_or_add(weight).1;
        self.take(&bias.range(), Accumulate::Add);
        let both = self.all.get_disjoint_mut([weight.range(), bias.range()]);
        let [values, bias] = both.expect("a weight and its bias do not overlap");
        (values, into, Some(bias))
    }

    /// No more gradients come: those that nothing was written to are zero.
    pub fn finish(&mut self) {
        for range in self.unwritten.drain(..) {
            self.all[range].fill(0.0);
        }
    }

    /// The memory that [`Accumulator::overwriting`] was given.
    pub fn into_memory(self) -> Vec<Range<usize>> {
        self.unwritten
    }

    /// A range is no longer unwritten; what of it was becomes zero if it is to be added to.
    fn take(&mut self, range: &Range<usize>, into: Accumulate) {
        let mut index = 0;
        while index < self.unwritten.len() {
            let free = self.unwritten[index].clone();
            let taken = free.start.max(range.start)..free.end.min(range.end);
            if taken.is_empty() {
                index += 1;
                continue;
            }
            if into == Accumulate::Add {
                self.all[taken.clone()].fill(0.0);
            }
            let (before, after) = (free.start..taken.start, taken.end..free.end);
            self.unwritten.remove(index);
            for part in [before, after] {
                if !part.is_empty() {
                    self.unwritten.insert(index, part);
                    index += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(range: Range<usize>) -> Weight {
        Weight { offset: range.start, rows: 1, cols: range.len() }
    }

    #[test]
    fn old_values_do_not_count() {
        let mut all = vec![7.0; 10];
        let mut gradients = Accumulator::overwriting(&mut all, Vec::new());
        let (values, into) = gradients.write_or_add(weight(2..4));
        assert_eq!(into, Accumulate::Overwrite);
        values.fill(1.0);
        // Half written: the rest becomes zero and all of it is added to.
        let (values, into) = gradients.write_or_add(weight(3..6));
        assert_eq!(into, Accumulate::Add);
        assert_eq!(values, [1.0, 0.0, 0.0]);
        assert_eq!(gradients.add(weight(6..7)), [0.0]);
        let (a, b) = gradients.add_two(weight(2..3), weight(8..9));
        assert_eq!((&*a, &*b), (&[1.0][..], &[0.0][..]));
        gradients.finish();
        assert!(gradients.into_memory().is_empty());
        assert_eq!(all, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn added_gradients_keep_what_they_hold() {
        let mut all = vec![7.0; 3];
        let mut gradients = Accumulator::adding(&mut all);
        assert_eq!(gradients.write_or_add(weight(0..2)).1, Accumulate::Add);
        gradients.finish();
        assert_eq!(all, [7.0; 3]);
    }
}
