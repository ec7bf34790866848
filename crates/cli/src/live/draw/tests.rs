//! The view of a synthetic run at several sizes, as text.

use heldout_record::{Event, SampleRecord, Started, StepRecord, StopReason, Stopped};

use super::*;

/// A run of 2,000 steps at 10 steps a second, evaluated every 100, that overfits from 700 on.
fn feed(view: &mut View, lane: usize, until: u64, harm: f64) {
    let started = Started { horizon: 2000, ..Default::default() };
    view.observe(lane, &Event::Started(started), 0.0);
    for step in (100..=until).step_by(100) {
        let (x, now) = (step as f64, step as f64 / 10.0);
        let record = StepRecord {
            step,
            epoch: x / 300.0,
            loss_train: 2.0,
            learning_rate: 3e-4,
            tokens_per_second: 12_345.0,
            ..Default::default()
        };
        view.observe(lane, &Event::Step(record), now);
        let loss_train = 0.9 + 3.0 * (-x / 500.0).exp();
        let loss_valid = 1.4 + 2.6 * (-x / 240.0).exp() + harm * (x / 2000.0).powi(2);
        let evaluation = EvaluationRecord {
            step,
            loss_train,
            loss_valid,
            loss_valid_se: 0.012,
            gap: loss_valid - loss_train,
            weights: "raw".to_owned(),
            ..Default::default()
        };
        view.observe(lane, &Event::Evaluation(evaluation), now);
        let text = "sees\nthe cat".to_owned();
        let sample = SampleRecord { step, prompt: "the king ".to_owned(), text };
        view.observe(lane, &Event::Sample(sample), now);
    }
}

fn single(until: u64) -> View {
    let mut view = View::new(&[""], None);
    feed(&mut view, 0, until, 0.6);
    view
}

fn text(view: &View, width: usize, height: usize, charset: Charset) -> String {
    let lines = draw(view, (width, height), charset, 130.0);
    assert!(lines.len() < height.max(2), "{} lines in {height} rows", lines.len());
    assert!(lines.iter().all(|line| line.width() < width.max(1)), "too wide for {width}");
    lines.iter().map(|line| line.text().trim_end().to_owned() + "\n").collect()
}

#[test]
fn one_run() {
    insta::assert_snapshot!("one_run_110", text(&single(1300), 110, 30, Charset::Unicode));
}

#[test]
fn one_run_in_ascii() {
    insta::assert_snapshot!("one_run_ascii_80", text(&single(1300), 80, 24, Charset::Ascii));
}

#[test]
fn narrow_and_low() {
    insta::assert_snapshot!("one_run_40", text(&single(1300), 40, 16, Charset::Unicode));
    insta::assert_snapshot!("one_run_28x6", text(&single(1300), 28, 6, Charset::Unicode));
}

#[test]
fn two_runs_with_a_floor() {
    let mut view = View::new(&["plain", "regularized"], Some(("true entropy".to_owned(), 1.1)));
    feed(&mut view, 0, 1300, 1.5);
    feed(&mut view, 1, 1200, 0.0);
    insta::assert_snapshot!("two_runs_110", text(&view, 110, 30, Charset::Unicode));
}

#[test]
fn before_the_first_step_and_after_the_last() {
    let mut view = View::new(&[""], None);
    view.phase = "reading text".to_owned();
    assert_eq!(text(&view, 80, 24, Charset::Unicode), "reading text\n");
    let mut view = single(0);
    assert!(text(&view, 80, 24, Charset::Unicode).contains("0%  step 0/2,000  starting"));
    feed(&mut view, 0, 900, 0.6);
    let stopped = Stopped { step: 900, reason: StopReason::EarlyStopping, ..Default::default() };
    view.observe(0, &Event::Stopped(stopped), 90.0);
    assert!(
        text(&view, 80, 24, Charset::Unicode).contains("100%  step 900/2,000  epoch 3.0  done")
    );
}

#[test]
fn no_size_breaks_it() {
    let mut view = View::new(&["plain", "regularized"], Some(("true entropy".to_owned(), 1.1)));
    feed(&mut view, 0, 1300, 1.5);
    for width in 0..130 {
        for height in [0, 1, 2, 5, 8, 13, 24, 50] {
            draw(&view, (width, height), Charset::Unicode, 1e9);
            draw(&view, (width, height), Charset::Ascii, 0.0);
        }
    }
}

#[test]
fn time_may_be_the_horizon() {
    let mut view = single(1300);
    view.limit_seconds(400.0); // The test looks one second before the last event.
    let record = StepRecord { step: 1310, seconds: 100.0, ..Default::default() };
    view.observe(0, &Event::Step(record), 131.0);
    let text = text(&view, 80, 24, Charset::Unicode);
    assert!(text.contains(" 25%  step 1,310  epoch 0.0  5 min 01 s left"), "{text}");
    assert_eq!(view.horizon(), 5300);
}
