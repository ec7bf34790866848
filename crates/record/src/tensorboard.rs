//! TensorBoard event files: TFRecord framing around a handful of protocol buffer messages.

mod messages;

use crate::error::RecordError;
use crate::events::{EvaluationRecord, Event, Started, StepRecord};
use crate::manifest;
use heldout_base::durable::{Naming, parent, sync_folder};
use messages as m;
use prost::Message;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A growing event file.
pub struct TensorBoard {
    out: BufWriter<File>,
    path: PathBuf,
}

impl TensorBoard {
    /// A new event file in `folder`, which is made if need be.
    pub fn create(folder: &Path) -> Result<Self, RecordError> {
        fs::create_dir_all(folder).naming("create", folder)?;
        let now = since_epoch();
        let name = format!(
            "events.out.tfevents.{:010}.{:09}.{}.{}",
            now.as_secs(),
            now.subsec_nanos(),
            host(),
            std::process::id()
        );
        let path = folder.join(name);
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        let out = BufWriter::new(file.naming("create", &path)?);
        sync_folder(parent(&path))?;
        let mut board = Self { out, path };
        board.write(0, m::What::FileVersion("brain.Event:2".to_owned()))?;
        board.flush()?;
        Ok(board)
    }

    /// A new event file that goes on from a checkpoint: TensorBoard forgets what older files
    /// hold for the steps after `step`, which are going to be written again.
    pub fn resume(folder: &Path, step: u64) -> Result<Self, RecordError> {
        let mut board = Self::create(folder)?;
        let start = m::SessionLog { status: m::SESSION_START };
        board.write(step + 1, m::What::SessionLog(start))?;
        board.flush()?;
        Ok(board)
    }

    /// A number at a step.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<(), RecordError> {
        let content = m::Content::SimpleValue(value as f32);
        self.value(step, m::Value { tag: tag.to_owned(), metadata: None, content: Some(content) })
    }

    /// A text (Markdown) at a step.
    pub fn text(&mut self, tag: &str, step: u64, text: &str) -> Result<(), RecordError> {
        let tensor = m::Tensor {
            dtype: m::TYPE_STRING,
            shape: Some(m::TensorShape { dimensions: vec![m::Dimension { size: 1 }] }),
            strings: vec![text.as_bytes().to_vec()],
        };
        let plugin = m::PluginData { name: "text".to_owned(), content: Vec::new() };
        self.value(
            step,
            m::Value {
                tag: tag.to_owned(),
                metadata: Some(m::Metadata { plugin: Some(plugin), ..Default::default() }),
                content: Some(m::Content::Tensor(tensor)),
            },
        )
    }

    /// The distribution of many values at a step: buckets that grow by a tenth each way from
    /// ±10⁻¹². Values that are not finite are left out.
    pub fn histogram(&mut self, tag: &str, step: u64, values: &[f32]) -> Result<(), RecordError> {
        let content = m::Content::Histogram(histogram_of(values));
        self.value(step, m::Value { tag: tag.to_owned(), metadata: None, content: Some(content) })
    }

    /// Everything in an event that TensorBoard can show.
    pub fn event(&mut self, event: &Event) -> Result<(), RecordError> {
        match event {
            Event::Step(record) => self.step(record)?,
            Event::Evaluation(record) => self.evaluation(record)?,
            Event::Started(s) => self.text("run", s.resumed_at.unwrap_or(0), &started(s))?,
            Event::Receipt(receipt) => {
                let tag = format!("receipts/{}", receipt.technique);
                self.text(&tag, 0, &receipt.statement)?;
            }
            Event::Baseline(b) => {
                let text = format!(
                    "{}-gram, {}: {:.4} ± {:.4} nats per token",
                    b.order, b.smoothing, b.loss_valid, b.loss_valid_se
                );
                self.text("baseline", 0, &text)?;
            }
            Event::LabelBaseline(b) => {
                let text = format!(
                    "always {:?}: accuracy {:.4}; bag of words: accuracy {:.4}, macro F1 {:.4}, \
                     {:.4} nats",
                    b.label, b.majority.accuracy, b.bag.accuracy, b.bag.f1, b.bag.loss
                );
                self.text("baseline", 0, &text)?;
            }
            Event::AnswerBaseline(b) => {
                let text = format!(
                    "{}: exact match {:.4}, F1 {:.4}",
                    b.name, b.rule.exact_match, b.rule.f1
                );
                self.text("baseline", 0, &text)?;
            }
            Event::TextBaseline(b) => {
                let figure = |f: &crate::FigureRecord| format!("{} {:.4}", f.name, f.value);
                let method = |m: &crate::MethodRecord| {
                    let figures: Vec<String> = m.figures.iter().map(figure).collect();
                    format!("{}: {}", m.name, figures.join(", "))
                };
                let text: Vec<String> = b.methods.iter().map(method).collect();
                self.text("baseline", 0, &text.join("; "))?;
            }
            Event::Writing(w) => {
                for figure in &w.figures {
                    self.scalar(&format!("result/{}", figure.name), w.step, figure.value)?;
                }
            }
            Event::Guard(record) => {
                self.text("guard", record.step, &format!("{}: {}", record.cause, record.action))?;
            }
            Event::Sample(record) => {
                let text = format!("**{}**{}", record.prompt, record.text);
                self.text("samples", record.step, &text)?;
            }
            Event::Notice(notice) => {
                self.text("notices", notice.step.unwrap_or(0), &notice.text)?;
            }
            Event::Stopped(stopped) => self.text("stopped", stopped.step, &stopped.detail)?,
            Event::Checkpoint(_) | Event::Profile(_) | Event::Timing(_) | Event::Confusion(_) => {}
            Event::Answers(_) => {}
        }
        self.flush()
    }

    fn step(&mut self, record: &StepRecord) -> Result<(), RecordError> {
        for (tag, value) in [
            ("train/objective", record.objective),
            ("train/loss", record.loss_train),
            ("train/learning_rate", record.learning_rate),
            ("train/gradient_norm", record.gradient_norm),
            ("train/gradient_norm_clipped", record.gradient_norm_clipped),
            ("train/tokens_per_second", record.tokens_per_second),
            ("train/epoch", record.epoch),
        ] {
            self.scalar(tag, record.step, value)?;
        }
        Ok(())
    }

    /// Averaged weights get tags of their own, as both may be evaluated at one step.
    fn evaluation(&mut self, record: &EvaluationRecord) -> Result<(), RecordError> {
        let group = match record.weights.as_str() {
            "raw" | "" => "evaluation".to_owned(),
            other => format!("evaluation_{other}"),
        };
        for (tag, value) in [
            ("loss_train", record.loss_train),
            ("loss_valid", record.loss_valid),
            ("gap", record.gap),
            ("perplexity", record.perplexity),
            ("bits_per_byte", record.bits_per_byte),
        ] {
            self.scalar(&format!("{group}/{tag}"), record.step, value)?;
        }
        for metric in &record.metrics {
            let (train, valid) = (format!("{group}/{}_train", metric.name), &metric.name);
            self.scalar(&train, record.step, metric.train)?;
            self.scalar(&format!("{group}/{valid}"), record.step, metric.valid)?;
        }
        Ok(())
    }

    /// Hands everything over to the operating system, so that a reader sees it.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        Ok(self.out.flush().naming("write", &self.path)?)
    }

    fn value(&mut self, step: u64, value: m::Value) -> Result<(), RecordError> {
        self.write(step, m::What::Summary(m::Summary { values: vec![value] }))
    }

    fn write(&mut self, step: u64, what: m::What) -> Result<(), RecordError> {
        let wall_time = since_epoch().as_secs_f64();
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        let event = m::Event { wall_time, step, what: Some(what) };
        Ok(self.out.write_all(&frame(&event.encode_to_vec())).naming("write", &self.path)?)
    }
}

fn since_epoch() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The host name with nothing that a file name could not hold.
fn host() -> String {
    let name = manifest::host_name();
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// One TFRecord: length, its checksum, the bytes, their checksum.
fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(bytes.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc(&length).to_le_bytes());
    record.extend_from_slice(bytes);
    record.extend_from_slice(&masked_crc(bytes).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted as the TFRecord format wants it.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// The distribution of `values` in buckets that grow by a tenth each way from ±10⁻¹², with one
/// bucket around zero. Values that are not finite are left out.
fn histogram_of(values: &[f32]) -> m::Histogram {
    let limits = positive_limits();
    // Index 0 is around zero; k > 0 holds limits[k-1] ≤ |v| < limits[k].
    let mut above = vec![0u64; limits.len() + 1];
    let mut below = vec![0u64; limits.len() + 1];
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut count, mut sum, mut sum_squares) = (0u64, 0f64, 0f64);
    for value in values.iter().filter(|value| value.is_finite()) {
        let value = f64::from(*value);
        let side = if value < 0.0 { &mut below } else { &mut above };
        side[bucket_of(value.abs(), &limits)] += 1;
        (min, max) = (min.min(value), max.max(value));
        count += 1;
        sum += value;
        sum_squares += value * value;
    }
    if count == 0 {
        return m::Histogram::default();
    }
    let mut histogram =
        m::Histogram { min, max, count: count as f64, sum, sum_squares, ..Default::default() };
    // The limit of a bucket is its right end.
    let negative = (1..below.len()).rev().map(|k| (-limits[k - 1], below[k]));
    let around_zero = std::iter::once((limits[0], above[0] + below[0]));
    let end = |k: usize| limits.get(k).copied().unwrap_or(f64::MAX);
    let positive = (1..above.len()).map(|k| (end(k), above[k]));
    let all: Vec<(f64, u64)> = negative.chain(around_zero).chain(positive).collect();
    let filled = |&(_, count): &(f64, u64)| count > 0;
    let first = all.iter().position(filled).unwrap_or(0);
    let last = all.iter().rposition(filled).unwrap_or(0);
    // An empty bucket on the left gives the first one its left end.
    for &(limit, count) in &all[first.saturating_sub(1)..=last] {
        histogram.bucket_limits.push(limit);
        histogram.buckets.push(count as f64);
    }
    histogram
}

const LEAST: f64 = 1e-12;
const GROWTH: f64 = 1.1;

/// 10⁻¹², each a tenth above the one before, past the largest f32.
fn positive_limits() -> Vec<f64> {
    let mut limits = vec![LEAST];
    while limits[limits.len() - 1] <= f64::from(f32::MAX) {
        limits.push(limits[limits.len() - 1] * GROWTH);
    }
    limits
}

/// The number of limits that are not above `size`.
fn bucket_of(size: f64, limits: &[f64]) -> usize {
    limits.partition_point(|limit| *limit <= size)
}
/// The run in one line.
fn started(s: &Started) -> String {
    format!(
        "**{}**: {}, {} parameters; {} training tokens, {} held out; {} on {}",
        s.run, s.model, s.parameters, s.tokens_train, s.tokens_valid, s.precision, s.device
    )
}
