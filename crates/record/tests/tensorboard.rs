//! Event files: framing checked here, content checked by TensorBoard itself where it is.

use heldout_record::{EvaluationRecord, Event, Receipt, StepRecord, TensorBoard};
use std::fs;
use std::path::Path;

mod support;

fn fill(folder: &Path) {
    let mut board = TensorBoard::create(folder).expect("created");
    for step in 1..=5u64 {
        let record = StepRecord { step, objective: 4.0 / step as f64, ..Default::default() };
        board.event(&Event::Step(record)).expect("written");
    }
    drop(board);
    let mut board = TensorBoard::resume(folder, 3).expect("resumed");
    let record = StepRecord { step: 4, objective: 0.5, ..Default::default() };
    board.event(&Event::Step(record)).expect("written");
    let record = EvaluationRecord { step: 4, loss_valid: 2.25, ..Default::default() };
    board.event(&Event::Evaluation(record.clone())).expect("written");
    let averaged = EvaluationRecord { weights: "ema".into(), loss_valid: f64::NAN, ..record };
    board.event(&Event::Evaluation(averaged)).expect("written");
    board.text("recipe", 0, "```toml\n[run]\nseed = 1\n```").expect("written");
    let receipt = Receipt {
        technique: "dropout".into(),
        statement: "10.1% of units dropped".into(),
        ..Default::default()
    };
    board.event(&Event::Receipt(receipt)).expect("written");
    let values: Vec<f32> = (-500..=1500).map(|i| i as f32 / 1000.0).collect();
    board.histogram("weights", 4, &values).expect("written");
    board.histogram("odd", 4, &[f32::NAN, f32::INFINITY, 0.0, f32::MAX, -1e-40]).expect("written");
    board.histogram("empty", 4, &[]).expect("written");
    board.flush().expect("flushed");
}

/// The payloads of a TFRecord file, lengths and checksums verified bit by bit.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).expect("read");
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("8 bytes")) as usize;
        let sum = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("4 bytes"));
        assert_eq!(sum(8), masked(&rest[..8]));
        assert_eq!(sum(12 + length), masked(&rest[12..12 + length]));
        found.push(rest[12..12 + length].to_vec());
        rest = &rest[16 + length..];
    }
    found
}

/// Masked CRC-32C by the definition, a bit at a time.
fn masked(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[test]
fn framing_follows_the_format() {
    let folder = tempfile::tempdir().expect("scratch");
    fill(&folder.path().join("tensorboard"));
    let mut files: Vec<_> = fs::read_dir(folder.path().join("tensorboard"))
        .expect("made")
        .map(|entry| entry.expect("listed").path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 2);
    let name = files[0].file_name().expect("named").to_string_lossy();
    assert!(name.starts_with("events.out.tfevents."), "{name}");
    let first = records(&files[0]);
    assert_eq!(first.len(), 1 + 5 * 7);
    assert!(first[0].ends_with(b"brain.Event:2"));
}

const SCRIPT: &str = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import tensorboard.util.tensor_util as util

found = EventAccumulator(sys.argv[1], size_guidance={"tensors": 0, "histograms": 0})
found.Reload()
tags = found.Tags()
text = lambda tag: [util.make_ndarray(e.tensor_proto).item().decode() for e in found.Tensors(tag)]
plugin = lambda tag: found.SummaryMetadata(tag).plugin_data.plugin_name
h = found.Histograms("weights")[0].histogram_value
odd = found.Histograms("odd")[0].histogram_value
print(json.dumps({
    "scalars": sorted(tags["scalars"]),
    "objective": [[e.step, e.value] for e in found.Scalars("train/objective")],
    "valid": [[e.step, e.value] for e in found.Scalars("evaluation/loss_valid")],
    "nan": str(found.Scalars("evaluation_ema/loss_valid")[0].value),
    "recipe": text("recipe"), "receipt": text("receipts/dropout"), "plugin": plugin("recipe"),
    "histogram": [h.min, h.max, h.num, h.sum, h.sum_squares],
    "buckets": [list(h.bucket_limit), list(h.bucket)],
    "odd": [odd.num, sum(odd.bucket)],
}))
"#;

#[test]
fn tensorboard_reads_it() {
    let folder = tempfile::tempdir().expect("scratch");
    fill(folder.path());
    let Some(text) = support::python("tensorboard", SCRIPT, folder.path()) else { return };
    let found: serde_json::Value = serde_json::from_str(&text).expect("one line of JSON");
    // Steps 4 and 5 of the first file are void: the run went on from step 3.
    let third = f64::from((4.0f64 / 3.0) as f32);
    let expected = serde_json::json!([[1, 4.0], [2, 2.0], [3, third], [4, 0.5]]);
    assert_eq!(found["objective"], expected);
    assert_eq!(found["valid"], serde_json::json!([[4, 2.25]]));
    assert_eq!(found["nan"], "nan");
    assert_eq!(found["recipe"][0], "```toml\n[run]\nseed = 1\n```");
    assert_eq!(found["receipt"][0], "10.1% of units dropped");
    assert_eq!(found["plugin"], "text");
    assert_eq!(found["odd"], serde_json::json!([3.0, 3.0]));
    let number = |at: usize| found["histogram"][at].as_f64().expect("a number");
    assert_eq!((number(0), number(1), number(2)), (-0.5, 1.5, 2001.0));
    assert!((number(3) - 1000.5).abs() < 1e-3, "{}", number(3));
    let list = |at: usize| -> Vec<f64> {
        let all = found["buckets"][at].as_array().expect("a list");
        all.iter().map(|v| v.as_f64().expect("a number")).collect()
    };
    let (limits, counts) = (list(0), list(1));
    assert!(limits.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(counts.iter().sum::<f64>(), 2001.0);
    // Below zero lie 500 of the values, 1 is in the bucket around it.
    let below: f64 = limits.iter().zip(&counts).filter(|(l, _)| **l < 0.0).map(|(_, c)| c).sum();
    assert_eq!(below, 500.0);
}
