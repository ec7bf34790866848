//! Line charts with bands, and points with error bars, as SVG for a page.
//!
//! Colours, strokes and fonts are classes of the page's style sheet, so that a chart follows light,
//! dark and paper. Curves differ in their dashes and carry their names, not in colour alone.

use std::fmt::Write;

use maud::{Markup, html};

use crate::plot::axis::Axis;

const CHARACTER: f64 = 7.0;
const LINE: f64 = 15.0;
/// Longer names of curves are cut.
const NAME_LENGTH: usize = 22;
/// Grey.
const LEVEL_SLOT: usize = 5;

/// A chart.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// Unique in the page.
    pub id: String,
    /// What a screen reader says first.
    pub title: String,
    /// What there is to see, in a sentence.
    pub description: String,
    pub x_label: String,
    pub y_label: String,
    pub size: Size,
    pub curves: Vec<Curve>,
    /// A point worth marking, with its words.
    pub mark: Option<(f64, f64, String)>,
    /// A height worth marking, with its words; drawn where it lies near the curves.
    pub level: Option<(f64, String)>,
    /// Where x has few values: their places and names instead of round numbers.
    pub x_ticks: Vec<(f64, String)>,
}

/// How much room a chart gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// The width of the page.
    #[default]
    Wide,
    /// Two beside each other.
    Half,
    /// Three beside each other.
    Small,
}

/// One curve.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    pub name: String,
    /// Which of the page's colours.
    pub slot: usize,
    /// Which of the page's dashes: 0 is solid.
    pub dash: usize,
    pub kind: CurveKind,
    /// In ascending x; what is not finite makes a hole.
    pub points: Vec<Point>,
}

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CurveKind {
    /// A line, its errors as a band.
    #[default]
    Line,
    /// A dot for each point, its error as a bar, joined by a thin line.
    Dots,
}

/// A value with its interval; an interval that is not finite is not drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    pub low: f64,
    pub high: f64,
}

impl Point {
    /// `y ± 1.96·standard_error`.
    pub fn with_error(x: f64, y: f64, standard_error: f64) -> Point {
        let half = 1.96 * standard_error;
        Point { x, y, low: y - half, high: y + half }
    }

    /// A value without an interval.
    pub fn bare(x: f64, y: f64) -> Point {
        Point { x, y, low: f64::NAN, high: f64::NAN }
    }
}

impl Size {
    fn pixels(self) -> (f64, f64) {
        match self {
            Size::Wide => (760.0, 320.0),
            Size::Half => (400.0, 240.0),
            Size::Small => (340.0, 190.0),
        }
    }
}

/// The range of `y` that is shown, and whether the start lies above it.
struct Range {
    low: f64,
    high: f64,
    is_start_cut: bool,
}

/// The area inside the axes, in pixels.
struct Area<'a> {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    x: &'a Axis,
    y: &'a Axis,
}

impl Area<'_> {
    fn x(&self, value: f64) -> f64 {
        self.left + self.x.share(value) * self.width
    }

    fn y(&self, value: f64) -> f64 {
        self.top + (1.0 - self.y.share(value)) * self.height
    }

    fn right(&self) -> f64 {
        self.left + self.width
    }

    fn bottom(&self) -> f64 {
        self.top + self.height
    }
}

impl Chart {
    /// The chart, or a line that says that there is nothing to draw.
    pub fn draw(&self) -> Markup {
        let Some(range) = self.range() else {
            return html! { p.none { "Nothing to draw yet: " (self.title) "." } };
        };
        let xs = self.points().map(|p| p.x);
        let (low, high) =
            xs.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
        let (width, height) = self.size.pixels();
        let wanted = if self.size == Size::Wide { 8 } else { 4 };
        let x = Axis::new(low, high, wanted);
        let x = if self.x_ticks.is_empty() { x } else { x.padded() };
        let y = Axis::new(range.low, range.high, if height > 250.0 { 6 } else { 5 }).padded();
        let y_width = y.ticks.iter().map(|t| t.label.chars().count()).max().unwrap_or(1) as f64;
        let left = y_width * CHARACTER + 12.0;
        let right = self.label_width() + 20.0;
        let top = 22.0;
        let area = Area {
            left,
            top,
            width: width - left - right,
            height: height - top - 40.0,
            x: &x,
            y: &y,
        };
        html! {
            div.scroll tabindex="0" role="group" aria-label=(self.title) {
                svg class=(self.class()) viewBox=(format!("0 0 {width} {height}"))
                    role="img" aria-labelledby=(format!("{0}-t {0}-d", self.id)) {
                    title id=(format!("{}-t", self.id)) { (self.title) }
                    desc id=(format!("{}-d", self.id)) { (self.description) }
                    (self.axes(&area))
                    clipPath id=(format!("{}-c", self.id)) {
                        rect x=(px(area.left)) y=(px(area.top - 1.0)) width=(px(area.width + 1.0))
                            height=(px(area.height + 2.0)) {}
                    }
                    g clip-path=(format!("url(#{}-c)", self.id)) {
                        @for curve in &self.curves { (band(curve, &area)) }
                        @for curve in &self.curves { (line(curve, &area)) }
                    }
                    @if let Some((y, _)) = self.level(&area) {
                        line.level x1=(px(area.left)) x2=(px(area.right())) y1=(px(y)) y2=(px(y)) {}
                    }
                    (self.marked(&area))
                    @for curve in &self.curves { (hover(curve, &area)) }
                    (self.names(&area))
                    @if range.is_start_cut {
                        text.note x=(px(area.right() - 4.0)) y=(px(area.top + 10.0))
                            text-anchor="end" { "↑ the first values lie above" }
                    }
                }
            }
        }
    }

    fn class(&self) -> String {
        let size = match self.size {
            Size::Wide => "wide",
            Size::Half => "half",
            Size::Small => "small",
        };
        // Many bands over each other must not hide the curves.
        let many = if self.curves.len() > 3 { " many" } else { "" };
        format!("chart {size}{many}")
    }

    fn points(&self) -> impl Iterator<Item = &Point> {
        let points = self.curves.iter().flat_map(|curve| &curve.points);
        points.filter(|p| p.x.is_finite() && p.y.is_finite())
    }

    /// All of y, unless the first twentieth of the run would take most of the room: a loss falls
    /// from its start within a few steps, and what matters happens below.
    fn range(&self) -> Option<Range> {
        let last = self.points().map(|p| p.x).fold(f64::NEG_INFINITY, f64::max);
        let first = self.points().map(|p| p.x).fold(f64::INFINITY, f64::min);
        let extremes = |from: f64| {
            let values = self.points().filter(|p| p.x >= from).flat_map(|p| [p.y, p.low, p.high]);
            values
                .filter(|v| v.is_finite())
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
        };
        let (low, high) = extremes(f64::NEG_INFINITY);
        if low > high {
            return None;
        }
        let (late_low, late_high) = extremes(first + 0.05 * (last - first));
        // A level is let in when it costs less than a third of the room.
        let near = 0.5 * (late_high - late_low);
        let level = self.level.as_ref().map(|(level, _)| *level);
        let level = level.filter(|at| *at > late_low - near && *at < late_high + near);
        let (low, high) = level.map_or((low, high), |at| (low.min(at), high.max(at)));
        let (late_low, late_high) =
            level.map_or((late_low, late_high), |at| (late_low.min(at), late_high.max(at)));
        let is_line = self.curves.iter().all(|curve| curve.kind == CurveKind::Line);
        let is_start_cut = is_line
            && late_high > late_low
            && high - low > 1.5 * (late_high - late_low)
            && high > late_high + 0.25 * (late_high - late_low)
            && late_low <= low;
        Some(if is_start_cut {
            Range { low, high: late_high, is_start_cut }
        } else {
            Range { low, high, is_start_cut }
        })
    }

    fn label_width(&self) -> f64 {
        if self.curves.len() < 2 {
            return 0.0;
        }
        let names = self.curves.iter().map(|curve| curve.name.as_str());
        let names = names.chain(self.level.as_ref().map(|(_, words)| words.as_str()));
        let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
        longest.min(NAME_LENGTH) as f64 * CHARACTER + 8.0
    }

    fn axes(&self, area: &Area<'_>) -> Markup {
        let (left, right, bottom) = (px(area.left), px(area.right()), px(area.bottom()));
        let x_ticks: Vec<(f64, String)> = if self.x_ticks.is_empty() {
            area.x.ticks.iter().map(|t| (t.value, t.label.clone())).collect()
        } else {
            self.x_ticks.clone()
        };
        html! {
            @for tick in &area.y.ticks {
                @let y = px(area.y(tick.value));
                line.grid x1=(left) x2=(right) y1=(y) y2=(y) {}
                text.tick x=(px(area.left - 6.0)) y=(y) dy="0.35em" text-anchor="end" {
                    (tick.label)
                }
            }
            line.axis x1=(left) x2=(right) y1=(bottom) y2=(bottom) {}
            @for (value, label) in &x_ticks {
                @let x = px(area.x(*value));
                line.axis x1=(x) x2=(x) y1=(bottom) y2=(px(area.bottom() + 4.0)) {}
                text.tick x=(x) y=(px(area.bottom() + 17.0)) text-anchor="middle" { (label) }
            }
            text.label x="2" y="12" { (self.y_label) }
            text.label x=(right) y=(px(area.bottom() + 34.0)) text-anchor="end" { (self.x_label) }
        }
    }

    /// The level, where it lies inside the range.
    fn level(&self, area: &Area<'_>) -> Option<(f64, &str)> {
        let (value, words) = self.level.as_ref()?;
        (0.0..=1.0).contains(&area.y.share(*value)).then(|| (area.y(*value), words.as_str()))
    }

    fn marked(&self, area: &Area<'_>) -> Markup {
        let Some((x, y, words)) = &self.mark else { return html! {} };
        let (at_x, at_y) = (area.x(*x), area.y(*y));
        // The words stand above the area, beside the axis' own label and inside the picture.
        let half = words.chars().count() as f64 * CHARACTER / 2.0;
        let after_label = self.y_label.chars().count() as f64 * CHARACTER + 16.0 + half;
        let words_x = at_x.max(after_label).min(area.right() - half * 0.6);
        html! {
            line.best x1=(px(at_x)) x2=(px(at_x)) y1=(px(area.top - 4.0)) y2=(px(area.bottom())) {}
            circle.best cx=(px(at_x)) cy=(px(at_y)) r="4.5" {}
            text.label x=(px(words_x)) y="12" text-anchor="middle" { (words) }
        }
    }

    /// Names at the right ends, pushed apart where they would overlap.
    fn names(&self, area: &Area<'_>) -> Markup {
        if self.curves.len() < 2 {
            return html! {};
        }
        let end = |curve: &Curve| {
            let last = curve.points.iter().rev().find(|p| p.y.is_finite())?;
            Some(area.y(last.y).clamp(area.top + 4.0, area.bottom()))
        };
        let named = |curve| Some((end(curve)?, (curve.name.as_str(), curve.slot)));
        let mut places: Vec<_> = self.curves.iter().filter_map(named).collect();
        places.extend(self.level(area).map(|(y, words)| (y, (words, LEVEL_SLOT))));
        places.sort_by(|a, b| a.0.total_cmp(&b.0));
        spread(&mut places, area.top + 4.0, area.bottom());
        html! {
            @for (y, (name, slot)) in &places {
                text class=(format!("name s{}", slot % 8)) x=(px(area.right() + 8.0))
                    y=(px(*y)) dy="0.35em" { (crate::wrap::truncate(name, NAME_LENGTH)) }
            }
        }
    }
}

/// Moves labels apart by a line's height, down first and up again at the lower end.
fn spread<T>(places: &mut [(f64, T)], top: f64, bottom: f64) {
    let step = LINE.min((bottom - top) / places.len().max(1) as f64);
    for i in 1..places.len() {
        places[i].0 = places[i].0.max(places[i - 1].0 + step);
    }
    if let Some(last) = places.last_mut() {
        last.0 = last.0.min(bottom);
    }
    for i in (1..places.len()).rev() {
        places[i - 1].0 = places[i - 1].0.min(places[i].0 - step);
    }
}

fn band(curve: &Curve, area: &Area<'_>) -> Markup {
    let has_interval = |p: &Point| p.x.is_finite() && p.low.is_finite() && p.high.is_finite();
    if curve.kind == CurveKind::Dots {
        return html! {
            g class=(format!("bar s{}", curve.slot % 8)) {
                @for p in curve.points.iter().filter(|p| has_interval(p)) {
                    @let x = px(area.x(p.x));
                    line x1=(x) x2=(x) y1=(px(area.y(p.low))) y2=(px(area.y(p.high))) {}
                }
            }
        };
    }
    html! {
        @for part in curve.points.split(|p| !has_interval(p)).filter(|part| part.len() > 1) {
            @let up = part.iter().map(|p| (area.x(p.x), area.y(p.high)));
            @let back = part.iter().rev().map(|p| (area.x(p.x), area.y(p.low)));
            path class=(format!("band s{}", curve.slot % 8)) d=(path(up.chain(back)) + "Z") {}
        }
    }
}

fn line(curve: &Curve, area: &Area<'_>) -> Markup {
    let is_drawn = |p: &Point| p.x.is_finite() && p.y.is_finite();
    let thin = if curve.kind == CurveKind::Dots { " thin" } else { "" };
    let class = format!("line s{} d{}{thin}", curve.slot % 8, curve.dash % 4);
    html! {
        @for part in curve.points.split(|p| !is_drawn(p)).filter(|part| !part.is_empty()) {
            path class=(class) d=(path(part.iter().map(|p| (area.x(p.x), area.y(p.y))))) {}
        }
    }
}

/// Dots: seen on [`CurveKind::Dots`] and where they are few, felt by the pointer everywhere.
fn hover(curve: &Curve, area: &Area<'_>) -> Markup {
    let is_seen = curve.kind == CurveKind::Dots;
    let (class, radius) = if is_seen { ("dot", "4") } else { ("touch", "7") };
    let shown = curve.points.iter().filter(|p| {
        p.x.is_finite() && p.y.is_finite() && (-0.01..=1.01).contains(&area.y.share(p.y))
    });
    let words = |p: &Point| {
        let interval = if p.low.is_finite() && p.high > p.low {
            format!(" ({} to {})", short(p.low), short(p.high))
        } else {
            String::new()
        };
        format!("{} at {}: {}{interval}", curve.name, short_x(p.x), short(p.y))
    };
    html! {
        g class=(format!("{class} s{}", curve.slot % 8)) {
            @for p in shown {
                circle cx=(px(area.x(p.x))) cy=(px(area.y(p.y))) r=(radius) {
                    title { (words(p)) }
                }
            }
        }
    }
}

fn short(value: f64) -> String {
    let small = value != 0.0 && value.abs() < 0.01;
    if small { crate::format::rate(value) } else { crate::format::fixed(value, 3) }
}

fn short_x(value: f64) -> String {
    let is_whole = value.fract() == 0.0 && value >= 0.0;
    if is_whole { crate::format::count(value as u64) } else { crate::format::rate(value) }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (i, (x, y)) in points.enumerate() {
        let letter = if i == 0 { 'M' } else { 'L' };
        // A value far outside must not become a number that no browser reads.
        let y = y.clamp(-1e5, 1e5);
        let _ = write!(path, "{letter}{} {}", px(x), px(y));
    }
    path
}

/// A tenth of a pixel is as fine as anything shows.
pub(super) fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)]) -> Chart {
        let points = points.iter().map(|&(x, y)| Point::with_error(x, y, 0.01)).collect();
        let curve = Curve { name: "held-out".to_owned(), points, ..Curve::default() };
        Chart { id: "a".to_owned(), curves: vec![curve], ..Chart::default() }
    }

    #[test]
    fn a_hole_parts_the_line_and_the_band() {
        let nan = f64::NAN;
        let points = [(0.0, 1.0), (1.0, 1.1), (2.0, nan), (3.0, 1.2), (4.0, f64::INFINITY)];
        let drawn = chart(&points).draw().into_string();
        assert_eq!(drawn.matches("class=\"line s0 d0\"").count(), 2, "{drawn}");
        assert_eq!(drawn.matches("class=\"band s0\"").count(), 1, "{drawn}");
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
    }

    #[test]
    fn nothing_to_draw_is_said() {
        assert!(chart(&[]).draw().into_string().contains("Nothing to draw yet"));
        assert!(chart(&[(1.0, f64::NAN)]).draw().into_string().contains("Nothing to draw yet"));
    }

    #[test]
    fn a_steep_start_leaves_the_room_to_the_rest() {
        let mut points = vec![(0.0, 8.0)];
        points.extend((1..=40).map(|i| (f64::from(i), 2.0 - 0.01 * f64::from(i))));
        assert!(chart(&points).range().expect("there are points").is_start_cut);
        let flat: Vec<_> = (0..40).map(|i| (f64::from(i), f64::from(i % 5))).collect();
        assert!(!chart(&flat).range().expect("there are points").is_start_cut);
    }

    #[test]
    fn names_do_not_overlap() {
        let mut places = [(10.0, ()), (11.0, ()), (12.0, ()), (99.0, ()), (100.0, ())];
        spread(&mut places, 0.0, 100.0);
        assert!(places.windows(2).all(|pair| pair[1].0 - pair[0].0 >= LINE - 1e-9), "{places:?}");
        assert!(places[0].0 >= 0.0 && places[4].0 <= 100.0);
    }
}
