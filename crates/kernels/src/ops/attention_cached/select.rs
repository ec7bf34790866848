//! A cache for other sequences than it was filled with: some of them, in another order, or with
//! room for more.

use super::KvLayer;

impl KvLayer {
    /// Goes on with the sequences `rows`, in that order; one may be taken more than once. The
    /// memory is exchanged with that of `spare`, whose contents do not matter.
    ///
    /// # Panics
    /// If a row is not in the cache.
    pub fn select(&mut self, rows: &[u32], spare: &mut KvLayer) {
        let same = rows.iter().enumerate().all(|(at, row)| at == *row as usize);
        if same && rows.len() == self.batch {
            return;
        }
        let worst = rows.iter().copied().max().unwrap_or(0);
        assert!((worst as usize) < self.batch.max(1), "row {worst} of {}", self.batch);
        let each = self.capacity * self.head_width;
        let used = self.len * self.head_width;
        let len = rows.len() * self.kv_heads * each;
        for (from, to) in [(&self.keys, &mut spare.keys), (&self.values, &mut spare.values)] {
            to.resize(len, 0.0);
            for (at, row) in rows.iter().enumerate() {
                for head in 0..self.kv_heads {
                    let from = &from[(*row as usize * self.kv_heads + head) * each..][..used];
                    to[(at * self.kv_heads + head) * each..][..used].copy_from_slice(from);
                }
            }
        }
        std::mem::swap(&mut self.keys, &mut spare.keys);
        std::mem::swap(&mut self.values, &mut spare.values);
        self.batch = rows.len();
    }

    /// Makes room for `capacity` positions of each sequence.
    ///
    /// # Panics
    /// If there are more already.
    pub fn grow(&mut self, capacity: usize) {
        assert!(capacity >= self.len, "{capacity} positions, {} in use", self.len);
        let rows = self.batch * self.kv_heads;
        let (each, used) = (self.capacity * self.head_width, self.len * self.head_width);
        for values in [&mut self.keys, &mut self.values] {
            let mut larger = vec![0.0; rows * capacity * self.head_width];
            for row in 0..rows {
                let to = &mut larger[row * capacity * self.head_width..][..used];
                to.copy_from_slice(&values[row * each..][..used]);
            }
            *values = larger;
        }
        self.capacity = capacity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_what_they_hold() {
        let (heads, width) = (2, 3);
        let mut layer = KvLayer::new(3, 4, heads, width);
        let value = |row: usize, head: usize, at: usize| (row * 100 + head * 10 + at) as f32;
        layer.len = 2;
        let fill = |layer: &mut KvLayer| {
            for row in 0..3 {
                for head in 0..heads {
                    for at in 0..2 * width {
                        let place = (row * heads + head) * 4 * width + at;
                        layer.keys[place] = value(row, head, at);
                        layer.values[place] = -value(row, head, at);
                    }
                }
            }
        };
        fill(&mut layer);
        let mut spare = KvLayer::new(0, 0, heads, width);
        layer.select(&[2, 0, 2, 1], &mut spare);
        layer.grow(7);
        layer.select(&[1, 0], &mut spare);
        assert_eq!((layer.len, layer.capacity, layer.batch), (2, 7, 2));
        for (at_row, row) in [0, 2].into_iter().enumerate() {
            for head in 0..heads {
                for at in 0..2 * width {
                    let place = (at_row * heads + head) * 7 * width + at;
                    assert_eq!(layer.keys[place], value(row, head, at));
                    assert_eq!(layer.values[place], -value(row, head, at));
                }
            }
        }
    }
}
