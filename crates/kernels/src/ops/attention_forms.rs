//! The forms that attention brings its operands into, in units of the engine.
//!
//! *Rows* `[count, D]` pairs values along D: the left side of products over D. *Columns*
//! `[count, D]` pairs values along the rows: the right side of products over rows. *Transposed*
//! `[D, QUERIES]` is the right side of products over D. In f32 nothing is paired, and rows and
//! columns are the same plain copy.

use crate::ops::HeadShape;
use crate::ops::attention::QUERIES;
use crate::ops::tile::{self, Engine, Units};
use crate::simd::dispatch;
use crate::values::Element;

/// One sequence's rows of the fused tensor.
pub(crate) struct Heads<'a, T = f32> {
    pub qkv: &'a [T],
    pub shape: HeadShape,
}

impl<'a, T: Element> Heads<'a, T> {
    /// First column of a query head.
    pub fn query(&self, head: usize) -> usize {
        head * self.shape.head_width
    }

    /// First column of a key head.
    pub fn key(&self, kv_head: usize) -> usize {
        (self.shape.heads + kv_head) * self.shape.head_width
    }

    /// First column of a value head.
    pub fn value(&self, kv_head: usize) -> usize {
        (self.shape.heads + self.shape.kv_heads + kv_head) * self.shape.head_width
    }

    /// The head that starts at column `column` of row `row`.
    #[inline(always)]
    pub fn row(&self, column: usize, row: usize) -> &'a [T] {
        let at = row * self.shape.cols() + column;
        &self.qkv[at..at + self.shape.head_width]
    }

    /// `count` rows of a head from row `first` on.
    pub fn rows(&self, column: usize, first: usize, count: usize) -> Rows<'a, T> {
        let stride = self.shape.cols();
        let data = &self.qkv[first * stride + column..];
        Rows { data, stride, count, width: self.shape.head_width }
    }
}

/// Rows of `width` values that start `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, T = f32> {
    pub data: &'a [T],
    pub stride: usize,
    pub count: usize,
    pub width: usize,
}

impl<'a, T: Element> Rows<'a, T> {
    #[inline(always)]
    fn row(&self, index: usize) -> &'a [T] {
        &self.data[index * self.stride..index * self.stride + self.width]
    }

    /// Asks for a row that will be read soon, if there is one.
    #[inline(always)]
    fn prefetch(&self, index: usize) {
        if index < self.count {
            tile::prefetch(self.row(index));
        }
    }
}

/// Rows between the one in use and the one asked for.
const AHEAD: usize = 16;

/// Values that are copied together.
const PIECE: usize = 16;

/// Whole pieces, in line: rows are too short for a call of the library. Each is read before any
/// of it is written, or the compiler, which cannot tell the two apart, copies single values.
#[inline(always)]
fn copy_pieces<T: Element>(from: &[T], to: &mut [f32]) {
    for (from, to) in from.as_chunks::<PIECE>().0.iter().zip(to.as_chunks_mut::<PIECE>().0) {
        let from = *from;
        *to = std::array::from_fn(
            #[inline(always)]
            |i| from[i].get(),
        );
    }
}

/// to ← rows `[count, D]` of f32, `to_row(i)` being where row i goes.
pub(crate) fn store_rows<'t, T: Element>(
    engine: Engine,
    from: &[f32],
    width: usize,
    mut to_row: impl FnMut(usize) -> &'t mut [T],
) {
    let whole = width.is_multiple_of(PIECE);
    if engine.units != Units::F32 || !whole {
        for (row, from) in from.chunks_exact(width).enumerate() {
            T::store(engine.isa, from, to_row(row));
        }
        return;
    }
    dispatch(
        engine.isa,
        #[inline(always)]
        || {
            for (row, from) in from.chunks_exact(width).enumerate() {
                let to = to_row(row).as_chunks_mut::<PIECE>().0;
                for (from, to) in from.as_chunks::<PIECE>().0.iter().zip(to) {
                    let from = *from;
                    *to = std::array::from_fn(
                        #[inline(always)]
                        |i| T::of(from[i]),
                    );
                }
            }
        },
    );
}

/// `[count, along(width)]`: values paired along the row; an odd last one is paired with 0.
pub(crate) fn as_rows<T: Element>(engine: Engine, from: Rows<T>, to: &mut [f32]) {
    let units = engine.units.along(from.width);
    let rows = to[..from.count * units].chunks_exact_mut(units).enumerate();
    if engine.units == Units::F32 && from.width.is_multiple_of(PIECE) {
        return dispatch(
            engine.isa,
            #[inline(always)]
            || {
                for (index, to) in rows {
                    from.prefetch(index + AHEAD);
                    copy_pieces(from.row(index), to);
                }
            },
        );
    }
    for (index, to) in rows {
        from.prefetch(index + AHEAD);
        tile::pack_along(engine, from.row(index), to);
    }
}

/// `[along(count), width]`: each row paired with the next; an odd last one is paired with 0.
pub(crate) fn as_columns<T: Element>(engine: Engine, from: Rows<T>, to: &mut [f32]) {
    if engine.units == Units::F32 {
        return as_rows(engine, from, to);
    }
    let units = engine.units.along(from.count);
    for (index, to) in to[..units * from.width].chunks_exact_mut(from.width).enumerate() {
        from.prefetch(2 * index + AHEAD);
        from.prefetch(2 * index + 1 + AHEAD);
        let low = from.row(2 * index);
        if 2 * index + 1 < from.count {
            tile::pack_across(engine, low, from.row(2 * index + 1), to);
        } else {
            // Twice the same row, then the upper halves cleared.
            tile::pack_across(engine, low, low, to);
            to.iter_mut().for_each(|to| *to = f32::from_bits(to.to_bits() & 0xFFFF));
        }
    }
}

/// `[along(width), QUERIES]`: units paired along the row, then transposed; lanes beyond the rows
/// up to a multiple of 16 are 0. `staging` holds `[QUERIES, along(width)]`.
pub(crate) fn transposed<T: Element>(
    engine: Engine,
    from: Rows<T>,
    to: &mut [f32],
    staging: &mut [f32],
) {
    assert!(from.count <= QUERIES, "a strip holds at most {QUERIES} rows");
    let units = engine.units.along(from.width);
    let lanes = from.count.next_multiple_of(16);
    as_rows(engine, from, staging);
    staging[from.count * units..lanes * units].fill(0.0);
    transpose(engine, Rows { data: staging, stride: units, count: lanes, width: units }, to);
}

/// to `[width, QUERIES]` ← from, `from.count` being a multiple of 16.
fn transpose(engine: Engine, from: Rows<f32>, to: &mut [f32]) {
    const SIDE: usize = 16;
    let whole = from.width / SIDE * SIDE;
    for first in (0..from.count).step_by(SIDE) {
        for column in (0..whole).step_by(SIDE) {
            let block = &from.data[first * from.stride + column..];
            let to = &mut to[column * QUERIES + first..];
            super::tile::transpose16(engine.isa, block, from.stride, to, QUERIES);
        }
        for column in whole..from.width {
            for row in first..first + SIDE {
                to[column * QUERIES + row] = from.data[row * from.stride + column];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{engines, values};

    fn value(unit: f32, half: usize, engine: Engine) -> f32 {
        match (engine.units, half) {
            (Units::F32, _) => unit,
            (_, 0) => f32::from_bits(unit.to_bits() << 16),
            _ => f32::from_bits(unit.to_bits() & 0xFFFF_0000),
        }
    }

    #[test]
    fn forms_hold_the_same_values() {
        for engine in engines() {
            for (count, width) in [(1, 1), (5, 7), (16, 16), (33, 40), (64, 64), (64, 50)] {
                let data = values(count * (width + 3), 1);
                let from = Rows { data: &data, stride: width + 3, count, width };
                let (units, depth) =
                    (engine.units.along(width), if engine.units == Units::F32 { 1 } else { 2 });
                let mut rows = vec![f32::NAN; count * units];
                as_rows(engine, from, &mut rows);
                let mut columns = vec![f32::NAN; engine.units.along(count) * width];
                as_columns(engine, from, &mut columns);
                let mut turned = vec![f32::NAN; units * QUERIES];
                transposed(engine, from, &mut turned, &mut vec![f32::NAN; QUERIES * units]);
                let exact = |r: usize, d: usize| match engine.units {
                    Units::F32 => data[r * (width + 3) + d],
                    _ => half::bf16::from_f32(data[r * (width + 3) + d]).to_f32(),
                };
                for (r, d) in (0..count).flat_map(|r| (0..width).map(move |d| (r, d))) {
                    let row = value(rows[r * units + d / depth], d % depth, engine);
                    let column = value(columns[r / depth * width + d], r % depth, engine);
                    let turned = value(turned[d / depth * QUERIES + r], d % depth, engine);
                    assert_eq!([row, column, turned], [exact(r, d); 3], "{engine:?} {r} {d}");
                }
            }
        }
    }
}
