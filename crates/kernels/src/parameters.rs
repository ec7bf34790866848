//! Where each parameter lives in the one flat f32 vector that holds them all.
//!
//! A model pushes its parameters in order and keeps the returned [`Weight`] handles; optimizers,
//! checkpoints and exports read the same [`Layout`]. There is no padding: parameters that are
//! pushed one after the other may be viewed as one weight (query, key and value; gate and up).

use std::ops::Range;

/// What a parameter is for. Decay, clipping and initialisation rules are chosen by role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A weight of a matrix product, `[out, in]`.
    Matrix,
    /// A table of token vectors, `[vocabulary, width]`.
    Embedding,
    /// A table of position vectors, `[context, width]`.
    PositionEmbedding,
    /// An output projection of its own (not tied), `[vocabulary, width]`.
    Head,
    /// An additive vector.
    Bias,
    /// A multiplicative vector of a normalisation.
    Gain,
}

/// One named tensor inside the flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Unique dotted name, for example `h.0.attn.c_attn.weight`.
    pub name: String,
    /// Row-major shape; vectors have one dimension.
    pub shape: Vec<usize>,
    /// Index of the first element in the flat vector.
    pub offset: usize,
    /// What it is for.
    pub role: Role,
}

impl Parameter {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no element (never true in a [`Layout`]).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements this parameter occupies in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }
}

/// All parameters of a model, in the order of the flat vector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The tensors, in ascending order of offset, without gaps.
    pub parameters: Vec<Parameter>,
    /// Total number of elements.
    pub len: usize,
}

impl Layout {
    /// Appends a tensor of one or two dimensions and returns the handle that ops take.
    ///
    /// # Panics
    /// If the name is taken, or the shape is empty or has more than two dimensions.
    pub fn push(&mut self, name: impl Into<String>, shape: &[usize], role: Role) -> Weight {
        let name = name.into();
        assert!(self.get(&name).is_none(), "parameter {name} was pushed twice");
        let (rows, cols) = match *shape {
            [cols] => (1, cols),
            [rows, cols] => (rows, cols),
            _ => panic!("parameter {name} has shape {shape:?}; one or two dimensions expected"),
        };
        assert!(rows * cols > 0, "parameter {name} of shape {shape:?} has no element");
        let offset = self.len;
        self.parameters.push(Parameter { name, shape: shape.to_vec(), offset, role });
        self.len += rows * cols;
        Weight { offset, rows, cols }
    }

    /// The parameter called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// Whether no parameter has been pushed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A matrix `[rows, cols]` inside the flat vector; a vector has one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Index of the first element.
    pub offset: usize,
    /// Output features of a linear map, entries of a table, or 1 for a vector.
    pub rows: usize,
    /// Input features of a linear map, or the length of a vector.
    pub cols: usize,
}

impl Weight {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements it occupies in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len()
    }

    /// Views this weight and those that follow it without a gap as one with all their rows;
    /// vectors are joined end to end.
    ///
    /// # Panics
    /// If the weights do not follow each other or differ in width.
    pub fn joined(self, following: &[Weight]) -> Weight {
        let mut whole = self;
        for next in following {
            assert_eq!(whole.range().end, next.offset, "joined weights must be adjacent");
            if whole.rows == 1 && next.rows == 1 {
                whole.cols += next.cols;
            } else {
                assert_eq!(whole.cols, next.cols, "joined weights must have equal widths");
                whole.rows += next.rows;
            }
        }
        whole
    }

    /// The elements of this weight in `flat`.
    pub fn of<'a>(&self, flat: &'a [f32]) -> &'a [f32] {
        &flat[self.range()]
    }

    /// The elements of this weight in `flat`, to be written.
    pub fn of_mut<'a>(&self, flat: &'a mut [f32]) -> &'a mut [f32] {
        &mut flat[self.range()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_follow_each_other_without_gaps() {
        let mut layout = Layout::default();
        let q = layout.push("q", &[4, 8], Role::Matrix);
        let k = layout.push("k", &[2, 8], Role::Matrix);
        let b = layout.push("b", &[4], Role::Bias);
        let c = layout.push("c", &[2], Role::Bias);
        assert_eq!(layout.len, 32 + 16 + 4 + 2);
        assert_eq!(q.joined(&[k]), Weight { offset: 0, rows: 6, cols: 8 });
        assert_eq!(b.joined(&[c]), Weight { offset: 48, rows: 1, cols: 6 });
        assert_eq!(layout.get("k").unwrap().range(), 32..48);
        assert_eq!(layout.get("missing"), None);
    }

    #[test]
    #[should_panic(expected = "adjacent")]
    fn a_gap_cannot_be_joined() {
        let mut layout = Layout::default();
        let a = layout.push("a", &[2, 2], Role::Matrix);
        layout.push("b", &[2], Role::Bias);
        let c = layout.push("c", &[2, 2], Role::Matrix);
        a.joined(&[c]);
    }

    #[test]
    #[should_panic(expected = "pushed twice")]
    fn a_name_is_taken_once() {
        let mut layout = Layout::default();
        layout.push("a", &[2], Role::Bias);
        layout.push("a", &[2], Role::Bias);
    }
}
