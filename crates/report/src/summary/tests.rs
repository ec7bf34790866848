//! Verdicts and tables of typical runs.

use heldout_record::{GuardRecord, StepRecord, TimingRecord};

use super::*;

fn evaluation(step: u64, train: f64, valid: f64) -> Event {
    Event::Evaluation(EvaluationRecord {
        step,
        epoch: step as f64 / 100.0,
        loss_train: train,
        loss_train_se: 0.004,
        loss_valid: valid,
        loss_valid_se: 0.01,
        gap: valid - train,
        gap_se: 0.011,
        perplexity: valid.exp(),
        bits_per_byte: valid / std::f64::consts::LN_2 / 1.5,
        weights: "raw".to_owned(),
        ..Default::default()
    })
}

fn stopped(reason: StopReason, step: u64, detail: &str) -> Event {
    Event::Stopped(Stopped { reason, step, detail: detail.to_owned(), ..Default::default() })
}

fn check_verdict(events: &[Event], expected: &str) {
    assert_eq!(RunSummary::from_events(events).verdict().sentence(), expected);
}

#[test]
fn verdicts() {
    check_verdict(&[], "nothing was evaluated yet");
    check_verdict(
        &[evaluation(100, 2.0, 2.1), evaluation(200, 1.5, 1.8), evaluation(1300, 0.9, 2.15)],
        "overfitting since step 200: held-out loss rose 0.350 nats above its best, \
         the gap went from 0.300 to 1.250",
    );
    check_verdict(
        &[evaluation(100, 2.0, 2.1), evaluation(200, 1.5, 1.8)],
        "no overfitting: the last evaluation (step 200) was the best; a longer run may do better",
    );
    check_verdict(
        &[evaluation(100, 2.0, 1.8), evaluation(200, 1.5, 1.805)],
        "no overfitting to speak of: level since step 100 (the end is 0.005 nats above the best, \
         within its error)",
    );
    check_verdict(
        &[evaluation(100, 2.0, 1.8), stopped(StopReason::Diverged, 120, "the loss became NaN")],
        "diverged: the loss became NaN",
    );
}

#[test]
fn a_loss_that_is_not_a_number_is_never_the_best() {
    let events = [evaluation(100, 2.0, 1.8), evaluation(200, 1.0, f64::NAN)];
    let summary = RunSummary::from_events(&events);
    assert_eq!(summary.best().map(|e| e.step), Some(100));
    assert!(matches!(summary.verdict(), Verdict::Overfitting { since_step: 100, .. }));
}

#[test]
fn only_the_weights_that_won_are_judged() {
    let averaged = |step, valid| match evaluation(step, 1.0, valid) {
        Event::Evaluation(e) => {
            Event::Evaluation(EvaluationRecord { weights: "ema".to_owned(), ..e })
        }
        other => other,
    };
    let events = [
        evaluation(100, 1.0, 2.0),
        averaged(100, 1.9),
        evaluation(200, 1.0, 2.1),
        averaged(200, 1.8),
    ];
    let summary = RunSummary::from_events(&events);
    let losses: Vec<f64> = summary.evaluations.iter().map(|e| e.loss_valid).collect();
    assert_eq!(losses, [1.9, 1.8]);
}

#[test]
fn the_table_of_a_run() {
    let step = |step, speed| {
        Event::Step(StepRecord {
            step,
            tokens_per_second: speed,
            seconds: 95.0,
            ..Default::default()
        })
    };
    let events = [
        Event::Started(Started {
            model: "gpt2, 4 layers".to_owned(),
            tokens_train: 1_003_854,
            tokens_valid: 111_540,
            ..Default::default()
        }),
        step(1, 100.0),
        step(2, 20_000.0),
        step(1300, 20_100.0),
        evaluation(200, 1.5, 1.8),
        Event::Guard(GuardRecord {
            step: 700,
            cause: "loss 9.1, z = 12".to_owned(),
            action: "update skipped".to_owned(),
            ..Default::default()
        }),
        evaluation(1300, 0.9, 2.15),
        Event::Timing(TimingRecord {
            seconds: 95.0,
            step_seconds: 76.0,
            evaluation_seconds: 9.5,
            checkpoint_seconds: 0.95,
            ..Default::default()
        }),
        stopped(StopReason::EarlyStopping, 1300, "no improvement for 5 evaluations"),
    ];
    let rows: Vec<Vec<String>> = RunSummary::from_events(&events)
        .table()
        .into_iter()
        .map(|(label, text)| vec![label, text])
        .collect();
    let expected = "\
model     gpt2, 4 layers
data      1,003,854 training tokens, 111,540 held out
best      step 200 (epoch 2.0)
held-out  1.800 ± 0.010 nats/token
train     1.500 ± 0.004 nats/token
gap       0.300 ± 0.011 nats/token, like for like
          perplexity 6.05, 1.731 bits/byte
speed     20,000 tokens/s over 1,300 steps, 1 min 35 s
time      steps 80%, evaluation 10%, data 0.0%, checkpoints 1.0%, other 9.0%
guard     acted once, last at step 700: loss 9.1, z = 12, update skipped
ended     at step 1,300: no improvement for 5 evaluations
verdict   overfitting since step 200: held-out loss rose 0.350 nats above its best, \
the gap went from 0.300 to 1.250";
    assert_eq!(crate::wrap::columns(&rows).join("\n"), expected);
}

#[test]
fn perplexities_are_readable() {
    assert_eq!(
        [6.0496, 99.994, 12_345.6, 5e12, f64::INFINITY].map(perplexity),
        ["6.05", "99.99", "12,346", "5.0e12", "infinite"]
    );
}
