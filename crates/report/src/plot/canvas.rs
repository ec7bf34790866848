//! The area inside the axes as a raster of dots: braille cells of 2 × 4, or one dot a character.

use super::{Cell, Charset, Ink, Stroke};

pub(super) struct Canvas {
    columns: usize,
    rows: usize,
    charset: Charset,
    dots: Vec<u8>,
    owner: Vec<Option<usize>>,
    faint: Vec<bool>,
}

impl Canvas {
    pub fn new(columns: usize, rows: usize, charset: Charset) -> Canvas {
        let cells = columns * rows;
        Canvas {
            columns,
            rows,
            charset,
            dots: vec![0; cells],
            owner: vec![None; cells],
            faint: vec![false; cells],
        }
    }

    /// Draws straight lines between points given as shares of the area (0,0 = bottom left).
    pub fn polyline(&mut self, points: &[(f64, f64)], stroke: Stroke, series: usize) {
        let (width, height) = self.size();
        let to_dots =
            |p: &(f64, f64)| (p.0 * (width - 1) as f64, (1.0 - p.1) * (height - 1) as f64);
        let mut travelled = 0;
        if let [only] = points {
            let (x, y) = to_dots(only);
            self.dot(x.round(), y.round(), stroke, series);
        }
        for pair in points.windows(2) {
            self.segment(to_dots(&pair[0]), to_dots(&pair[1]), stroke, series, &mut travelled);
        }
    }

    fn segment(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        stroke: Stroke,
        series: usize,
        travelled: &mut usize,
    ) {
        let Some((from, to)) = self.clip(from, to) else { return };
        let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).ceil().max(1.0) as usize;
        for i in 0..=steps {
            let t = i as f64 / steps as f64;
            if self.is_drawn(stroke, *travelled) {
                let (x, y) = (from.0 + t * (to.0 - from.0), from.1 + t * (to.1 - from.1));
                self.dot(x.round(), y.round(), stroke, series);
            }
            // Neighbouring segments share a point; it counts once.
            *travelled += usize::from(i < steps);
        }
    }

    fn is_drawn(&self, stroke: Stroke, travelled: usize) -> bool {
        match (self.charset, stroke) {
            (Charset::Unicode, Stroke::Dashed) => travelled % 4 < 2,
            (Charset::Ascii, Stroke::Faint) => travelled.is_multiple_of(2),
            _ => true,
        }
    }

    /// Cuts a segment to the area (Liang–Barsky), so that a spike far outside costs nothing.
    fn clip(&self, from: (f64, f64), to: (f64, f64)) -> Option<((f64, f64), (f64, f64))> {
        let (width, height) = self.size();
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let (mut start, mut end) = (0.0f64, 1.0f64);
        let limits = [
            (-dx, from.0),
            (dx, (width - 1) as f64 - from.0),
            (-dy, from.1),
            (dy, (height - 1) as f64 - from.1),
        ];
        for (p, q) in limits {
            if p == 0.0 && q < 0.0 {
                return None;
            }
            if p < 0.0 {
                start = start.max(q / p);
            } else if p > 0.0 {
                end = end.min(q / p);
            }
        }
        let at = |t: f64| (from.0 + t * dx, from.1 + t * dy);
        (start <= end).then(|| (at(start), at(end)))
    }

    fn size(&self) -> (usize, usize) {
        match self.charset {
            Charset::Unicode => (self.columns * 2, self.rows * 4),
            Charset::Ascii => (self.columns, self.rows),
        }
    }

    fn dot(&mut self, x: f64, y: f64, stroke: Stroke, series: usize) {
        let (width, height) = self.size();
        if !(x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64) {
            return;
        }
        let (x, y) = (x as usize, y as usize);
        // Dots 1-2-3-7 stand in the left column of a braille cell, 4-5-6-8 in the right.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        let (cell, bit) = match self.charset {
            Charset::Unicode => (y / 4 * self.columns + x / 2, BITS[y % 4][x % 2]),
            Charset::Ascii => (y * self.columns + x, 1),
        };
        let is_faint = stroke == Stroke::Faint;
        if self.faint[cell] && !is_faint {
            self.dots[cell] = 0;
        }
        self.dots[cell] |= bit;
        self.owner[cell] = Some(series);
        self.faint[cell] = is_faint;
    }

    /// Copies the drawn cells into the picture at (`left`, `top`).
    pub fn copy_to(&self, grid: &mut [Vec<Cell>], left: usize, top: usize, ascii: &[char]) {
        for row in 0..self.rows {
            for column in 0..self.columns {
                let cell = row * self.columns + column;
                let Some(series) = self.owner[cell] else { continue };
                let glyph = match self.charset {
                    Charset::Ascii => ascii[series],
                    Charset::Unicode if self.faint[cell] => '┄',
                    Charset::Unicode => {
                        char::from_u32(0x2800 + u32::from(self.dots[cell])).unwrap_or('?')
                    }
                };
                grid[top + row][left + column] = Cell { glyph, ink: Ink::Series(series) };
            }
        }
    }
}
