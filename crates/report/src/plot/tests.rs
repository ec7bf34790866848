//! Pictures of typical runs, and that no input breaks the drawing.

use proptest::prelude::*;

use super::*;

fn frame(width: usize, height: usize, charset: Charset) -> Frame {
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

/// A run that overfits: train falls, held-out turns at 400.
fn overfitting() -> Vec<Series> {
    let steps = (0..=20).map(|i| f64::from(i) * 50.0);
    let train = |x: f64| 0.9 + 3.0 * (-x / 250.0).exp();
    let valid = |x: f64| 1.4 + 2.6 * (-x / 120.0).exp() + (x / 1000.0).powi(2) * 0.6;
    vec![
        Series {
            name: "held-out".to_owned(),
            stroke: Stroke::Solid,
            points: steps.clone().map(|x| (x, valid(x))).collect(),
        },
        Series {
            name: "train".to_owned(),
            stroke: Stroke::Dashed,
            points: steps.map(|x| (x, train(x))).collect(),
        },
    ]
}

fn check(lines: &[String], expected: &str) {
    let expected: Vec<&str> = expected.trim_matches('\n').lines().collect();
    assert_eq!(lines, expected, "\n{}\n", lines.join("\n"));
}

#[test]
fn braille() {
    let mut frame = frame(60, 12, Charset::Unicode);
    frame.mark = Some((400.0, 1.59));
    check(
        &plot(&overfitting(), &frame),
        r"
 nats/token                           ⠤⠤ held-out   ⠄⠄ train
   │ ⢳⢀
   │  ⠱⡁⡀
 3 ┤   ⠑⡌ ⢄
   │    ⠈⠢⡀ ⠢
   │      ⠈⠒⢄⡈⠂⠠⡀
 2 ┤         ⠈⠒⠤⣀⣈⠂⠠                            ⢀⣀⣀⣀⣀⠤⠤⠤⠤⠒⠒⠒
   │              ⠉⠙⠒⠛⠒⠶⠤⠤◆⡤⠤⠤⠤⠤⠤⠤⠤⠤⠔⠒⠒⠒⠒⠒⠒⠊⠉⠉⠉⠉⠁
   │                        ⠈⠁⠐⠂⠤ ⠤ ⣀ ⡀
 1 ┤                                   ⠈⠁⠈⠁⠈⠁⠑ ⠒ ⠒⠐⠂⠐⠂⠐⠂⠠ ⠤
   └┬──────────┬──────────┬──────────┬──────────┬──────────┬
step 0        200        400        600        800     1,000
",
    );
}

#[test]
fn ascii() {
    check(
        &plot(&overfitting(), &frame(44, 10, Charset::Ascii)),
        r"
 nats/token           ** held-out   .. train
   | *
 3 + **.
   |   **..
   |     **...
 2 +       *********************************
   |                ...........
 1 +                           .............
   ++-------------------+------------------+
step 0                 500             1,000
",
    );
}

#[test]
fn a_reference_line_stays_behind() {
    let mut series = overfitting();
    let floor = vec![(0.0, 1.2), (1000.0, 1.2)];
    series.push(Series { name: "true entropy".into(), stroke: Stroke::Faint, points: floor });
    check(
        &plot(&series, &frame(60, 9, Charset::Unicode)),
        r"
 nats/token         ⠤⠤ held-out   ⠄⠄ train   ┄┄ true entropy
   │ ⠱⡀⡀
 3 ┤  ⠈⠦⡐⠄⢀
   │    ⠈⠒⠤⣁⠐⠄⣀
 2 ┤        ⠉⠒⠤⢄⣑⣀⠤⢀⡀                           ⣀⣀⣀⣀⣀⣀⣀⠤⠤⠤⠤⠤
   │              ⠉⠉⠉⠙⠓⠒⠒⠲⠒⠶⠒⣒⠒⣒⠒⠒⠒⠒⠒⠒⠒⠊⠉⠉⠉⠉⠉⠉⠉⠉
 1 ┤┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄⠈⠁⠈⠁⠈⠁⠒┄⠒┄⠒┄⠂⠐⠂⠠⠄⠠⠄⠤┄⠤┄⠤⠠⠄⠠⠄
   └┬──────────┬──────────┬──────────┬──────────┬──────────┬
step 0        200        400        600        800     1,000
",
    );
}

#[test]
fn nothing_to_plot_says_so() {
    let lines = plot(&[], &frame(30, 5, Charset::Unicode));
    assert_eq!(lines[2].trim(), "(no evaluation yet)");
    let lines = plot(&overfitting(), &frame(12, 3, Charset::Unicode));
    assert_eq!(lines[0], "(too small …");
}

#[test]
fn a_single_point_and_a_flat_line_are_drawn() {
    for points in [vec![(5.0, 2.0)], vec![(0.0, 2.0), (9.0, 2.0)]] {
        let series = [Series { name: "a".into(), stroke: Stroke::Solid, points }];
        let cells = plot_cells(&series, &frame(40, 8, Charset::Unicode));
        let drawn = cells[1..].iter().flatten().filter(|c| c.ink == Ink::Series(0)).count();
        assert!(drawn >= 1);
    }
}

proptest! {
    #[test]
    fn any_input_fits_its_frame(
        width in 0usize..120,
        height in 0usize..40,
        is_ascii in any::<bool>(),
        points in proptest::collection::vec((any::<f64>(), any::<f64>()), 0..30),
        x_max in proptest::option::of(any::<f64>()),
    ) {
        let charset = if is_ascii { Charset::Ascii } else { Charset::Unicode };
        let mut frame = frame(width, height, charset);
        frame.x_max = x_max;
        frame.mark = points.first().copied();
        let series = [
            Series { name: "a".into(), stroke: Stroke::Solid, points: points.clone() },
            Series { name: "b".into(), stroke: Stroke::Dashed, points },
        ];
        let cells = plot_cells(&series, &frame);
        prop_assert_eq!(cells.len(), height);
        prop_assert!(cells.iter().all(|row| row.len() == width));
        if is_ascii {
            prop_assert!(plot(&series, &frame).iter().all(|l| l.is_ascii() || l.contains('…')));
        }
    }
}
