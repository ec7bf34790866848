//! Plots as coloured lines.

use heldout_report::plot::{Charset, Frame, Ink, Series, plot_cells};

use crate::live::paint::{Line, Paint};

/// A frame for losses over steps.
pub fn frame(width: usize, height: usize, charset: Charset) -> Frame {
    Frame {
        width,
        height,
        charset,
        y_label: "nats/token".to_owned(),
        x_label: "step".to_owned(),
        x_max: None,
        mark: None,
    }
}

/// Draws the curves; `paint` gives each series its colour.
pub fn draw(series: &[Series], frame: &Frame, paint: &dyn Fn(usize) -> Paint) -> Vec<Line> {
    let painted = |ink| match ink {
        Ink::Blank | Ink::Label => Paint::Plain,
        Ink::Frame => Paint::Faint,
        Ink::Mark => Paint::Good,
        Ink::Series(i) => paint(i),
    };
    let line = |row: Vec<heldout_report::plot::Cell>| {
        let mut line = Line::default();
        for cell in row {
            let paint = painted(cell.ink);
            match line.0.last_mut() {
                Some((text, last)) if *last == paint => text.push(cell.glyph),
                _ => line.push(cell.glyph, paint),
            }
        }
        line
    };
    plot_cells(series, frame).into_iter().map(line).collect()
}
