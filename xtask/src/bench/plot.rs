//! The scaling plot as SVG: three panels with logarithmic axes, measured points and the slopes
//! that they should follow.

use std::fmt::Write;

use super::results::Scaling;

const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 300.0;
/// Room for the axis labels: left, top, right, bottom.
const MARGIN: [f64; 4] = [62.0, 34.0, 14.0, 46.0];

/// One line of points, and the exponent of its dashed guide.
struct Curve {
    name: &'static str,
    color: &'static str,
    points: Vec<(f64, f64)>,
    guide: f64,
}

/// The whole picture.
pub fn scaling(scaling: &Scaling) -> String {
    let blue = |name, points| Curve { name, color: "#1f5fa8", points, guide: 1.0 };
    let context = &scaling.context;
    let rest = context.iter().map(|p| (p.0, p.1 - p.2)).collect();
    let attention = Curve {
        name: "attention",
        color: "#c2501a",
        points: context.iter().map(|p| (p.0, p.2)).collect(),
        guide: 2.0,
    };
    let panels = [
        ("batch", vec![blue("whole step", scaling.batch.clone())]),
        ("layers", vec![blue("whole step", scaling.depth.clone())]),
        ("context T", vec![blue("without attention", rest), attention]),
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n",
        3.0 * WIDTH
    );
    for (at, (title, curves)) in panels.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate({} 0)\">", at as f64 * WIDTH);
        panel(&mut svg, title, curves);
        svg.push_str("</g>\n");
    }
    svg + "</svg>\n"
}

/// A logarithmic axis from data to pixels.
struct Axis {
    low: f64,
    high: f64,
    pixels: (f64, f64),
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, pixels: (f64, f64)) -> Axis {
        let low = values.clone().fold(f64::INFINITY, f64::min) / 1.3;
        let high = values.fold(0.0, f64::max) * 1.3;
        Axis { low, high, pixels }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Powers of ten inside the axis.
    fn decades(&self) -> impl Iterator<Item = f64> {
        let (first, last) = (self.low.log10().ceil() as i32, self.high.log10().floor() as i32);
        (first..=last).map(|power| 10f64.powi(power))
    }
}

fn panel(svg: &mut String, title: &str, curves: &[Curve]) {
    let [left, top, right, bottom] = MARGIN;
    let points = curves.iter().flat_map(|curve| curve.points.iter().copied());
    let x = Axis::over(points.clone().map(|p| p.0), (left, WIDTH - right));
    let y = Axis::over(points.map(|p| p.1), (HEIGHT - bottom, top));
    let _ = writeln!(
        svg,
        "<rect x=\"{left}\" y=\"{top}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"none\" \
         stroke=\"#888\"/>",
        WIDTH - left - right,
        HEIGHT - top - bottom
    );
    for value in y.decades() {
        let place = y.at(value);
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {place:.1}H{:.1}\" stroke=\"#ddd\"/>\n<text x=\"{:.1}\" \
             y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - right,
            left - 5.0,
            place + 4.0,
            milliseconds(value)
        );
    }
    for &(value, _) in &curves[0].points {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
            x.at(value),
            HEIGHT - bottom + 15.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{title}</text>\n<text \
         x=\"{left}\" y=\"14\" font-weight=\"bold\">time of a step against {title}</text>",
        0.5 * (left + WIDTH - right),
        HEIGHT - bottom + 33.0
    );
    for (number, curve) in curves.iter().enumerate() {
        draw(svg, curve, &x, &y);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{}\">{}; dashed: exponent {}</text>",
            left + 8.0,
            top + 16.0 + 14.0 * number as f64,
            curve.color,
            curve.name,
            curve.guide
        );
    }
}

/// Points, the line through them, and a dashed guide through the last point.
fn draw(svg: &mut String, curve: &Curve, x: &Axis, y: &Axis) {
    let color = curve.color;
    let places: Vec<String> =
        curve.points.iter().map(|p| format!("{:.1},{:.1}", x.at(p.0), y.at(p.1))).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>",
        places.join(" ")
    );
    for p in &curve.points {
        let (cx, cy) = (x.at(p.0), y.at(p.1));
        let _ = writeln!(svg, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\" fill=\"{color}\"/>");
    }
    let (Some(&first), Some(&last)) = (curve.points.first(), curve.points.last()) else { return };
    // The guide starts where it enters the panel.
    let entry = last.0 * (y.low / last.1).powf(1.0 / curve.guide);
    let start = first.0.max(entry);
    let height = last.1 * (start / last.0).powf(curve.guide);
    let _ = writeln!(
        svg,
        "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"{color}\" stroke-dasharray=\"4 4\" \
         opacity=\"0.6\"/>",
        x.at(start),
        y.at(height),
        x.at(last.0),
        y.at(last.1)
    );
}

fn milliseconds(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.0} s"),
        s if s >= 1e-3 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.0} µs", s * 1e6),
    }
}
