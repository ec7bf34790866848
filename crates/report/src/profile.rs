//! Where time went: the table of one step's ops, and a run's shares in one line.

use heldout_record::{OpRecord, ProfileRecord, TimingRecord};

use crate::format;

/// The table of a profiled step, the longest op first: calls, time, share of the step, and what
/// was achieved of the resource that bounds the op. At most 79 columns unless names are longer.
pub fn table(profile: &ProfileRecord) -> Vec<String> {
    let seconds = profile.seconds.max(1e-9);
    let mut cells = vec![["op", "calls", "ms", "share", "GFLOP/s", "GB/s"].map(str::to_owned)];
    cells.extend(profile.ops.iter().map(|op| row(op, seconds)));
    let ops = profile.ops.iter().fold(OpRecord::default(), |sum, op| OpRecord {
        name: "all of these".to_owned(),
        calls: sum.calls + op.calls,
        seconds: sum.seconds + op.seconds,
        flops: sum.flops + op.flops,
        // Bytes are counted of a part of the ops only: their sum says nothing.
        bytes: 0.0,
    });
    let between = OpRecord {
        name: "between them".to_owned(),
        seconds: profile.seconds - ops.seconds,
        ..OpRecord::default()
    };
    let name = "the whole step".to_owned();
    let step = OpRecord { name, calls: 0, seconds: profile.seconds, ..ops.clone() };
    let totals = [row(&ops, seconds), row(&between, seconds), row(&step, seconds)];
    let widths = widths(cells.iter().chain(&totals));
    let rule = "─".repeat(widths.iter().sum::<usize>() + GAP * (widths.len() - 1));
    let lines = |rows: &[[String; 6]]| rows.iter().map(|row| aligned(row, &widths)).collect();
    let (head, body): (Vec<String>, Vec<String>) = (lines(&cells[..1]), lines(&cells[1..]));
    [
        vec![title(profile), String::new()],
        head,
        vec![rule.clone()],
        body,
        vec![rule],
        lines(&totals),
    ]
    .concat()
}

const GAP: usize = 2;

fn title(profile: &ProfileRecord) -> String {
    let speed = profile.tokens as f64 / profile.seconds.max(1e-9);
    format!(
        "step {}: {} tokens in {} ms, {} tokens/s",
        format::count(profile.step),
        format::count(profile.tokens),
        milliseconds(profile.seconds, profile.seconds),
        format::count(speed.round() as u64),
    )
}

fn row(op: &OpRecord, step: f64) -> [String; 6] {
    let rate = |amount: f64| match amount > 0.0 && op.seconds > 0.0 {
        true => format::fixed(amount / op.seconds / 1e9, 1),
        false => String::new(),
    };
    [
        op.name.clone(),
        if op.calls > 0 { format::count(op.calls) } else { String::new() },
        milliseconds(op.seconds, step),
        format!("{}%", format::fixed(100.0 * op.seconds / step, 1)),
        rate(op.flops),
        rate(op.bytes),
    ]
}

/// With as many decimals as a step of that length deserves.
fn milliseconds(seconds: f64, step: f64) -> String {
    let decimals = match step {
        s if s < 0.1 => 3,
        s if s < 1.0 => 2,
        _ => 1,
    };
    format::fixed(1e3 * seconds, decimals)
}

fn widths<'a>(rows: impl Iterator<Item = &'a [String; 6]>) -> [usize; 6] {
    rows.fold([0; 6], |widths, row| std::array::from_fn(|i| widths[i].max(row[i].chars().count())))
}

/// Names to the left, figures to the right.
fn aligned(row: &[String; 6], widths: &[usize; 6]) -> String {
    let mut line = format!("{:1$}", row[0], widths[0]);
    for (cell, width) in row.iter().zip(widths).skip(1) {
        line.push_str(&format!("{cell:>0$}", width + GAP));
    }
    line.trim_end().to_owned()
}

/// `steps 91%, evaluation 7.9%, data 0.1%, checkpoints 0.8%, other 0.1%` of a run's time, which
/// fits a line of the summary; nothing where no time passed.
pub fn shares(timing: &TimingRecord) -> Option<String> {
    let parts = [
        ("steps", timing.step_seconds),
        ("evaluation", timing.evaluation_seconds),
        ("data", timing.data_seconds),
        ("checkpoints", timing.checkpoint_seconds),
    ];
    let other = timing.seconds - parts.iter().map(|(_, seconds)| seconds).sum::<f64>();
    let share = |(name, seconds): (&str, f64)| {
        let percent = 100.0 * seconds / timing.seconds;
        let decimals = if percent < 9.95 { 1 } else { 0 };
        format!("{name} {}%", format::fixed(percent, decimals))
    };
    let words: Vec<String> = parts.into_iter().chain([("other", other)]).map(share).collect();
    (timing.seconds > 0.0).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(name: &str, calls: u64, seconds: f64, flops: f64, bytes: f64) -> OpRecord {
        OpRecord { name: name.into(), calls, seconds, flops, bytes }
    }

    #[test]
    fn a_table() {
        let profile = ProfileRecord {
            step: 1005,
            tokens: 12_288,
            seconds: 0.5,
            path: "profile.json".into(),
            ops: vec![
                op("linear 1536×384", 6, 0.3, 6e10, 0.0),
                op("norm backward", 13, 0.15, 0.0, 3e9),
                op("wait for data", 1, 0.000_01, 0.0, 0.0),
            ],
        };
        let expected = "\
step 1,005: 12,288 tokens in 500.00 ms, 24,576 tokens/s

op               calls      ms   share  GFLOP/s  GB/s
─────────────────────────────────────────────────────
linear 1536×384      6  300.00   60.0%    200.0
norm backward       13  150.00   30.0%           20.0
wait for data        1    0.01    0.0%
─────────────────────────────────────────────────────
all of these        20  450.01   90.0%    133.3
between them             49.99   10.0%
the whole step          500.00  100.0%    120.0";
        assert_eq!(table(&profile).join("\n"), expected);
    }

    #[test]
    fn nothing_divides_by_zero() {
        let lines =
            table(&ProfileRecord { ops: vec![op("a", 1, 0.0, 1.0, 1.0)], ..Default::default() });
        assert!(
            lines.iter().all(|line| !line.contains("NaN") && !line.contains("inf")),
            "{lines:?}"
        );
        assert_eq!(shares(&TimingRecord::default()), None);
    }

    #[test]
    fn shares_add_up() {
        let timing = TimingRecord {
            seconds: 200.0,
            step_seconds: 182.1,
            evaluation_seconds: 15.8,
            data_seconds: 0.1,
            checkpoint_seconds: 1.6,
            ..Default::default()
        };
        let text = "steps 91%, evaluation 7.9%, data 0.1%, checkpoints 0.8%, other 0.2%";
        assert_eq!(shares(&timing).as_deref(), Some(text));
    }
}
