//! A named stretch of the flat parameter vector.

use heldout_kernels::{Layout, Role};
use std::ops::Range;

/// One parameter tensor inside the flat vector.
///
/// Lists of segments are in ascending order and never overlap; they may leave gaps, and what lies
/// in a gap is left alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// The parameter's name in the layout.
    pub name: String,
    /// Elements of the flat vector, `shape`'s product long.
    pub range: Range<usize>,
    /// Row-major.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: Role,
    /// 1 where weight decay acts, 0 where the tensor is exempt.
    pub decay: f32,
    /// Multiplies the learning rate (and with it decoupled decay): 1 unless layers differ.
    pub rate: f32,
}

impl Segment {
    /// Rows and columns; a vector is one row.
    pub fn rows_and_columns(&self) -> (usize, usize) {
        match self.shape.as_slice() {
            [] => (1, 1),
            [n] => (1, *n),
            [rows, rest @ ..] => (*rows, rest.iter().product()),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }
}

/// Every parameter of a layout as a segment, with `decay` deciding who is decayed.
pub fn segments(
    layout: &Layout,
    mut decayed: impl FnMut(&heldout_kernels::Parameter) -> f32,
) -> Vec<Segment> {
    layout
        .parameters
        .iter()
        .map(|parameter| Segment {
            name: parameter.name.clone(),
            range: parameter.offset..parameter.offset + parameter.shape.iter().product::<usize>(),
            shape: parameter.shape.clone(),
            role: parameter.role,
            decay: decayed(parameter),
            rate: 1.0,
        })
        .collect()
}

/// Asserts order and fit: a wrong list is a programmer's error.
pub(crate) fn assert_segments(segments: &[Segment], len: usize) {
    let mut end = 0;
    for segment in segments {
        assert!(
            segment.range.start >= end && segment.range.end >= segment.range.start,
            "segment {} at {:?} overlaps or precedes the one before it, which ends at {end}",
            segment.name,
            segment.range
        );
        end = segment.range.end;
    }
    assert!(end <= len, "segments reach {end} but the vector has {len} elements");
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn segment(name: &str, range: Range<usize>, shape: &[usize], role: Role) -> Segment {
        Segment { name: name.to_owned(), range, shape: shape.to_vec(), role, decay: 1.0, rate: 1.0 }
    }

    #[test]
    fn a_vector_is_one_row() {
        assert_eq!(segment("b", 0..6, &[6], Role::Bias).rows_and_columns(), (1, 6));
        assert_eq!(segment("w", 0..6, &[2, 3], Role::Matrix).rows_and_columns(), (2, 3));
    }

    #[test]
    #[should_panic(expected = "overlaps")]
    fn overlapping_segments_are_a_programmers_error() {
        let pair = [segment("a", 0..4, &[4], Role::Bias), segment("b", 3..5, &[2], Role::Bias)];
        assert_segments(&pair, 10);
    }
}
