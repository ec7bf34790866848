//! A forest plot as SVG: effects with their intervals around zero, one a row.

use maud::{Markup, html};

use super::chart::px;
use crate::plot::axis::Axis;
use crate::wrap::truncate;

const ROW: f64 = 46.0;
const WIDTH: f64 = 760.0;
const LABELS: f64 = 165.0;
const FIGURES: f64 = 190.0;
const TOP: f64 = 26.0;

/// A forest plot.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    /// Unique in the page.
    pub id: String,
    pub title: String,
    pub description: String,
    pub x_label: String,
    /// Words at the left and at the right of zero.
    pub sides: [String; 2],
    pub rows: Vec<ForestRow>,
}

/// One effect.
#[derive(Clone, Debug, Default)]
pub struct ForestRow {
    pub name: String,
    /// Which of the page's colours; `None` for what cannot be told from noise.
    pub slot: Option<usize>,
    /// At the right: the figures.
    pub figures: String,
    /// Below them: what they mean.
    pub words: String,
    pub bars: Vec<Bar>,
}

/// One interval of an effect.
#[derive(Clone, Debug)]
pub struct Bar {
    pub name: String,
    pub style: BarStyle,
    pub mean: f64,
    pub low: f64,
    pub high: f64,
}

/// What a bar looks like: told apart by shape, not by colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarStyle {
    /// The one that the verdict is about: a thick bar with a full dot.
    Main,
    /// The same by another method: a thin bar between ticks, without a dot.
    Ticks,
    /// For comparison: a thin bar with an open dot.
    Open,
}

impl Forest {
    /// The plot, or a line that says that there is nothing to draw.
    pub fn draw(&self) -> Markup {
        let values = || {
            let bars = self.rows.iter().flat_map(|row| &row.bars);
            bars.flat_map(|bar| [bar.mean, bar.low, bar.high]).filter(|v| v.is_finite())
        };
        if values().next().is_none() {
            return html! { p.none { "No effect could be measured yet." } };
        }
        let (low, high) = values().fold((0.0, 0.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
        let axis = Axis::new(low, high, 6).padded();
        let height = TOP + ROW * self.rows.len() as f64 + 44.0;
        let bottom = height - 44.0;
        let x = |value: f64| LABELS + axis.share(value) * (WIDTH - LABELS - FIGURES);
        html! {
            div.scroll tabindex="0" role="group" aria-label=(self.title) {
                svg.chart.wide viewBox=(format!("0 0 {WIDTH} {height}")) role="img"
                    aria-labelledby=(format!("{0}-t {0}-d", self.id)) {
                    title id=(format!("{}-t", self.id)) { (self.title) }
                    desc id=(format!("{}-d", self.id)) { (self.description) }
                    @for tick in &axis.ticks {
                        @let at = px(x(tick.value));
                        line.grid x1=(at) x2=(at) y1=(TOP) y2=(bottom) {}
                        text.tick x=(at) y=(bottom + 16.0) text-anchor="middle" { (tick.label) }
                    }
                    line.zero x1=(px(x(0.0))) x2=(px(x(0.0))) y1=(TOP - 6.0) y2=(bottom) {}
                    text.label x=(px(x(0.0) - 8.0)) y="14" text-anchor="end" { (self.sides[0]) }
                    text.label x=(px(x(0.0) + 8.0)) y="14" { (self.sides[1]) }
                    text.label x=(px(x(0.0))) y=(bottom + 36.0) text-anchor="middle" {
                        (self.x_label)
                    }
                    @for (i, row) in self.rows.iter().enumerate() {
                        (draw_row(row, TOP + ROW * (i as f64 + 0.5), &x))
                    }
                }
            }
        }
    }
}

fn draw_row(row: &ForestRow, middle: f64, x: &dyn Fn(f64) -> f64) -> Markup {
    let class = row.slot.map_or("quiet".to_owned(), |slot| format!("s{}", slot % 8));
    let step = 10.0;
    let first = middle - step * (row.bars.len().saturating_sub(1)) as f64 / 2.0;
    html! {
        text.strong x="0" y=(px(middle)) dy="0.35em" { (truncate(&row.name, 24)) }
        text x=(WIDTH - FIGURES + 14.0) y=(px(middle - 4.0)) { (row.figures) }
        text.label x=(WIDTH - FIGURES + 14.0) y=(px(middle + 12.0)) { (row.words) }
        @for (i, bar) in row.bars.iter().enumerate() {
            g class=(class) {
                title { (bar_words(bar)) }
                (draw_bar(bar, first + step * i as f64, x))
            }
        }
    }
}

fn draw_bar(bar: &Bar, y: f64, x: &dyn Fn(f64) -> f64) -> Markup {
    let has_interval = bar.low.is_finite() && bar.high.is_finite();
    let (low, high) = (px(x(bar.low)), px(x(bar.high)));
    let line = if bar.style == BarStyle::Main { "thick" } else { "thinbar" };
    let at = px(y);
    html! {
        @if has_interval {
            line class=(line) x1=(low) x2=(high) y1=(at) y2=(at) {}
            @if bar.style == BarStyle::Ticks {
                line.thinbar x1=(low) x2=(low) y1=(px(y - 3.5)) y2=(px(y + 3.5)) {}
                line.thinbar x1=(high) x2=(high) y1=(px(y - 3.5)) y2=(px(y + 3.5)) {}
            }
        }
        @if bar.mean.is_finite() {
            @match bar.style {
                BarStyle::Main => circle.full cx=(px(x(bar.mean))) cy=(at) r="4.5" {},
                BarStyle::Open => circle.open cx=(px(x(bar.mean))) cy=(at) r="3.5" {},
                BarStyle::Ticks => {},
            }
        }
    }
}

fn bar_words(bar: &Bar) -> String {
    let interval = |value: f64| crate::format::fixed(value, 3);
    let mean = interval(bar.mean);
    format!("{}: {mean} ({} to {})", bar.name, interval(bar.low), interval(bar.high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_lie_around_zero_and_holes_are_left_out() {
        let bar = |mean, low, high| Bar {
            name: "test".to_owned(),
            style: BarStyle::Main,
            mean,
            low,
            high,
        };
        let row = |bar: Bar| ForestRow { bars: vec![bar], ..ForestRow::default() };
        let rows = vec![row(bar(0.2, 0.1, 0.3)), row(bar(0.1, f64::NAN, f64::NAN))];
        let drawn = Forest { rows, ..Forest::default() }.draw().into_string();
        assert_eq!(drawn.matches("<circle").count(), 2, "{drawn}");
        assert_eq!(drawn.matches("class=\"thick\"").count(), 1, "{drawn}");
        assert!(!drawn.contains("\"NaN"), "{drawn}");
        let empty = Forest::default().draw().into_string();
        assert!(empty.contains("No effect could be measured yet"));
    }
}
