//! Curves drawn in characters: points in, lines of text out; braille dots or plain ASCII.
//!
//! ```text
//!  nats
//!  4.0 ┤⢣                                  ⣀⣀ held-out
//!      │ ⢣⡀                                ⠂⠂ train
//!  2.0 ┤  ⠑⠢⢄⣀⣀⡠⠤⠤⠤⠤⠔⠒⠒⠒⠒⠊⠉⠉
//!      └┬─────────┬─────────┬──
//!       0        500      1,000  step
//! ```

pub(crate) mod axis;
mod canvas;

use axis::Axis;
use canvas::Canvas;

use crate::wrap::truncate;

/// Which characters may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// Box lines, and braille cells of 2 × 4 dots.
    Unicode,
    /// One character a point, for terminals and files that know nothing else.
    Ascii,
}

/// How a curve is drawn, so that two curves differ without colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    Solid,
    Dashed,
    /// A thin horizontal or vertical help line, behind the others.
    Faint,
}

/// One curve. Points that are not finite are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub stroke: Stroke,
    /// (x, y) in ascending x.
    pub points: Vec<(f64, f64)>,
}

/// The picture's size in characters, its labels, and the range of x.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub width: usize,
    pub height: usize,
    pub charset: Charset,
    /// Unit of y, above the axis.
    pub y_label: String,
    /// Name of x, right of its axis.
    pub x_label: String,
    /// At least this range of x is shown (a run's horizon, so that curves grow to the right).
    pub x_max: Option<f64>,
    /// A point worth marking, such as the best evaluation.
    pub mark: Option<(f64, f64)>,
}

/// One character of the picture, with the index of the series it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub glyph: char,
    pub ink: Ink,
}

/// What a character shows, so that a terminal may colour it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    Blank,
    Frame,
    Label,
    Mark,
    Series(usize),
}

const BLANK: Cell = Cell { glyph: ' ', ink: Ink::Blank };

/// Draws the curves as lines of text without trailing spaces.
pub fn plot(series: &[Series], frame: &Frame) -> Vec<String> {
    plot_cells(series, frame)
        .iter()
        .map(|row| row.iter().map(|c| c.glyph).collect::<String>().trim_end().to_owned())
        .collect()
}

/// Draws the curves: `frame.height` rows of `frame.width` cells. Too small a frame (under 20 × 5)
/// gives a line that says so instead of a picture nobody could read.
pub fn plot_cells(series: &[Series], frame: &Frame) -> Vec<Vec<Cell>> {
    let mut grid = vec![vec![BLANK; frame.width]; frame.height];
    if frame.width < 20 || frame.height < 5 {
        if let Some(row) = grid.first_mut() {
            write(row, 0, &truncate("(too small to plot)", frame.width), Ink::Label);
        }
        return grid;
    }
    let Some((x, y)) = ranges(series, frame) else {
        let text = truncate("(no evaluation yet)", frame.width);
        let column = (frame.width - text.chars().count()) / 2;
        write(&mut grid[frame.height / 2], column, &text, Ink::Label);
        return grid;
    };
    let inner = Inner::new(frame, &y);
    if inner.columns < 8 {
        return plot_cells(&[], frame);
    }
    draw_frame(&mut grid, frame, &inner, &x, &y);
    draw_curves(&mut grid, series, frame, &inner, &x, &y);
    draw_legend(&mut grid, series, frame);
    grid
}

/// Where the curves go: the first column and the size of the area inside the axes.
struct Inner {
    left: usize,
    top: usize,
    columns: usize,
    rows: usize,
}

impl Inner {
    fn new(frame: &Frame, y: &Axis) -> Inner {
        let labels = y.ticks.iter().map(|t| t.label.len()).max().unwrap_or(1);
        let left = labels + 3;
        Inner { left, top: 1, columns: frame.width.saturating_sub(left), rows: frame.height - 3 }
    }

    fn row(&self, share: f64) -> usize {
        let from_top = (1.0 - share) * (self.rows - 1) as f64;
        self.top + from_top.round() as usize
    }

    fn column(&self, share: f64) -> usize {
        self.left + (share * (self.columns - 1) as f64).round() as usize
    }
}

/// The axes' ranges over all finite points; `None` when there is none.
fn ranges(series: &[Series], frame: &Frame) -> Option<(Axis, Axis)> {
    let points = || finite(series).flat_map(|(_, points)| points);
    let x_low = points().map(|p| p.0).reduce(f64::min)?;
    let x_high = points()
        .map(|p| p.0)
        .reduce(f64::max)?
        .max(frame.x_max.filter(|x| x.abs() < 1e100).unwrap_or(x_low));
    // A run that fell from 10 to 1.5 nats in its first steps would press all that matters
    // into the bottom rows: the first tenth may leave the picture at the top.
    let settled = x_low + (x_high - x_low) * 0.1;
    let all = || points().map(|p| p.1);
    let late = || points().filter(|p| p.0 >= settled).map(|p| p.1);
    let y_low = all().reduce(f64::min)?;
    let top = all().reduce(f64::max)?;
    let y_high = match late().reduce(f64::max) {
        Some(late_top) if late().count() >= 4 => (late_top + 0.35 * (late_top - y_low)).min(top),
        _ => top,
    };
    let x = Axis::new(x_low, x_high, (frame.width / 11).clamp(2, 10));
    let y = Axis::new(y_low, y_high, ((frame.height - 3) / 2).clamp(2, 8)).padded();
    Some((x, y))
}

fn finite(series: &[Series]) -> impl Iterator<Item = (usize, Vec<(f64, f64)>)> + '_ {
    series.iter().enumerate().map(|(i, s)| {
        // Values past 1e100 are as good as infinite, and their differences overflow.
        let is_drawable = |p: &(f64, f64)| p.0.abs() < 1e100 && p.1.abs() < 1e100;
        let keep = s.points.iter().copied().filter(is_drawable);
        (i, keep.collect())
    })
}

fn draw_frame(grid: &mut [Vec<Cell>], frame: &Frame, inner: &Inner, x: &Axis, y: &Axis) {
    let [bar, tick, dash, down, corner] = match frame.charset {
        Charset::Unicode => ['│', '┤', '─', '┬', '└'],
        Charset::Ascii => ['|', '+', '-', '+', '+'],
    };
    let bottom = inner.top + inner.rows;
    let bar_column = inner.left - 1;
    write(&mut grid[0], 0, &truncate(&y.labelled(&frame.y_label), frame.width), Ink::Label);
    for row in &mut grid[inner.top..bottom] {
        row[bar_column] = Cell { glyph: bar, ink: Ink::Frame };
    }
    for t in &y.ticks {
        let row = &mut grid[inner.row(y.share(t.value))];
        write(row, bar_column - 1 - t.label.len(), &t.label, Ink::Label);
        row[bar_column] = Cell { glyph: tick, ink: Ink::Frame };
    }
    for cell in &mut grid[bottom][bar_column..] {
        *cell = Cell { glyph: dash, ink: Ink::Frame };
    }
    grid[bottom][bar_column].glyph = corner;
    // The name of x stands in the gutter, left of its first tick.
    write(&mut grid[bottom + 1], 0, &truncate(&frame.x_label, frame.width / 2), Ink::Label);
    let mut free_from = frame.x_label.chars().count().min(frame.width / 2) + 1;
    for t in &x.ticks {
        let column = inner.column(x.share(t.value));
        grid[bottom][column].glyph = down;
        let rightmost = frame.width.saturating_sub(t.label.len());
        let start = column.saturating_sub(t.label.len() / 2).min(rightmost).max(free_from);
        if start <= rightmost {
            write(&mut grid[bottom + 1], start, &t.label, Ink::Label);
            free_from = start + t.label.len() + 2;
        }
    }
}

fn draw_curves(
    grid: &mut [Vec<Cell>],
    series: &[Series],
    frame: &Frame,
    inner: &Inner,
    x: &Axis,
    y: &Axis,
) {
    let mut canvas = Canvas::new(inner.columns, inner.rows, frame.charset);
    let mut order: Vec<_> = finite(series).collect();
    // Faint lines go behind the curves; the first series ends up on top.
    order.sort_by_key(|(i, _)| (series[*i].stroke != Stroke::Faint, usize::MAX - i));
    for (i, points) in order {
        let unit: Vec<_> = points.iter().map(|p| (x.share(p.0), y.share(p.1))).collect();
        canvas.polyline(&unit, series[i].stroke, i);
    }
    canvas.copy_to(grid, inner.left, inner.top, &glyphs(series));
    if let Some((mx, my)) = frame.mark.filter(|m| m.0.is_finite() && m.1.is_finite()) {
        let glyph = if frame.charset == Charset::Unicode { '◆' } else { 'X' };
        let (sx, sy) = (x.share(mx), y.share(my));
        if (0.0..=1.0).contains(&sx) && (0.0..=1.0).contains(&sy) {
            grid[inner.row(sy)][inner.column(sx)] = Cell { glyph, ink: Ink::Mark };
        }
    }
}

/// The character of each series in ASCII.
fn glyphs(series: &[Series]) -> Vec<char> {
    let mut strong = ['*', 'o', '#', '%'].into_iter().cycle();
    let mut light = ['.', ',', ':', '\''].into_iter().cycle();
    let pick = |s: &Series| match s.stroke {
        Stroke::Solid => strong.next().unwrap_or('*'),
        Stroke::Dashed => light.next().unwrap_or('.'),
        Stroke::Faint => '-',
    };
    series.iter().map(pick).collect()
}

/// Names the curves in the top line, right-aligned, or as many of them as fit; a curve without a
/// name is left out.
fn draw_legend(grid: &mut [Vec<Cell>], series: &[Series], frame: &Frame) {
    let glyphs = glyphs(series);
    let taken = grid[0].iter().rposition(|c| c.ink != Ink::Blank).map_or(0, |p| p + 3);
    let mut right = frame.width;
    for (i, s) in series.iter().enumerate().rev().filter(|(_, s)| !s.name.is_empty()) {
        let sample = match (frame.charset, s.stroke) {
            (Charset::Ascii, _) => glyphs[i].to_string().repeat(2),
            (Charset::Unicode, Stroke::Solid) => "⠤⠤".to_owned(),
            (Charset::Unicode, Stroke::Dashed) => "⠄⠄".to_owned(),
            (Charset::Unicode, Stroke::Faint) => "┄┄".to_owned(),
        };
        let width = 3 + s.name.chars().count();
        if right < taken + width {
            return;
        }
        write(&mut grid[0], right - width, &sample, Ink::Series(i));
        write(&mut grid[0], right - width + 3, &s.name, Ink::Label);
        right = right.saturating_sub(width + 3);
    }
}

fn write(row: &mut [Cell], column: usize, text: &str, ink: Ink) {
    for (cell, glyph) in row.iter_mut().skip(column).zip(text.chars()) {
        *cell = Cell { glyph, ink };
    }
}

#[cfg(test)]
mod tests;
