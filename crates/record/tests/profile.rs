//! profile.json: a trace that viewers open, and sums that add up.

use std::time::Duration;

use heldout_record::profile::{SpanKind, StepProfile, TraceSpan};
use serde_json::Value;

fn span(
    name: &str,
    kind: SpanKind,
    start: u64,
    duration: u64,
    flops: f64,
    bytes: f64,
) -> TraceSpan {
    let [start, duration] = [start, duration].map(Duration::from_nanos);
    TraceSpan { name: name.into(), kind, start, duration, flops, bytes }
}

/// 10 µs, of which 7 are in ops.
fn profile() -> StepProfile {
    StepProfile {
        step: 5,
        tokens: 96,
        duration: Duration::from_nanos(10_000),
        device: "a \"device\"".into(),
        spans: vec![
            span("linear", SpanKind::Op, 2000, 1500, 3e6, 0.0),
            span("norm", SpanKind::Op, 3500, 1000, 0.0, 4000.0),
            span("linear", SpanKind::Op, 5000, 2501, 5e6, 0.0),
            span("forward and backward", SpanKind::Frame, 2000, 6000, 0.0, 0.0),
            span("wait for data", SpanKind::Op, 1, 1999, 0.0, 0.0),
        ],
    }
}

#[test]
fn ops_are_summed_and_sorted_by_time() {
    let record = profile().record("profile.json");
    let rows: Vec<(&str, u64, f64, f64, f64)> = record
        .ops
        .iter()
        .map(|op| (op.name.as_str(), op.calls, (op.seconds * 1e9).round(), op.flops, op.bytes))
        .collect();
    assert_eq!(
        rows,
        [
            ("linear", 2, 4001.0, 8e6, 0.0),
            ("wait for data", 1, 1999.0, 0.0, 0.0),
            ("norm", 1, 1000.0, 0.0, 4000.0),
        ]
    );
    assert_eq!((record.step, record.tokens, record.seconds), (5, 96, 1e-5));
}

#[test]
fn the_trace_is_what_viewers_read() {
    let folder = tempfile::tempdir().expect("scratch");
    let path = folder.path().join("profile.json");
    profile().write(&path).expect("written");
    let text = std::fs::read_to_string(&path).expect("read");
    let trace: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(trace["otherData"]["device"], "a \"device\"");
    let events = trace["traceEvents"].as_array().expect("a list");
    let complete: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
    assert_eq!(events.len() - complete.len(), 2, "names of process and thread");
    let names: Vec<&str> = complete.iter().filter_map(|event| event["name"].as_str()).collect();
    // Outer ones first: the step holds all, and the frame begins with its first op.
    assert_eq!(
        names,
        ["step 5", "wait for data", "forward and backward", "linear", "norm", "linear"]
    );
    let norm = complete[4];
    assert_eq!((norm["ts"].as_f64(), norm["dur"].as_f64()), (Some(3.5), Some(1.0)));
    assert_eq!(norm["args"], serde_json::json!({"bytes": 4000.0, "gbs": 4.0}));
    assert_eq!(complete[3]["args"]["gflops"].as_f64(), Some(2000.0));
    assert!(complete.iter().all(|event| event["pid"] == 1 && event["tid"] == 1));
}
