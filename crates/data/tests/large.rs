//! Memory and speed on files larger than anyone wants in a usual test run:
//! `TMPDIR=/big/disk cargo test --release -p heldout-data --test large -- --ignored --nocapture`.
//! One test at a time in a fresh process each, since the peak of memory is a process's own.

use heldout_data::tokenizer::TokenizerKind;
use heldout_data::{Boundary, PrepareSpec, Progress, TokenizerSpec, ValidationSpec, prepare};
use std::io::{BufWriter, Write};
use std::time::Instant;

const MIB: u64 = 1 << 20;

/// Peak resident memory of this process, in MiB (Linux).
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Zipf-like words; `ending(i)` comes after word i.
fn generate(path: &std::path::Path, bytes: u64, ending: impl Fn(u64) -> &'static str) {
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let syllables = ["ka", "lo", "mi", "tor", "en", "sha", "ru", "vel", "an", "dis", "o", "pre"];
    let words: Vec<String> = (0..50_000u64)
        .map(|i| (0..1 + i % 4).map(|_| syllables[random() as usize % 12]).collect())
        .collect();
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path).unwrap());
    let (mut written, mut count) = (0, 0);
    while written < bytes {
        let uniform = (random() >> 11) as f64 / (1u64 << 53) as f64;
        let word = &words[(50_000f64.powf(uniform) - 1.0) as usize];
        out.write_all(word.as_bytes()).unwrap();
        out.write_all(ending(count).as_bytes()).unwrap();
        written += (word.len() + ending(count).len()) as u64;
        count += 1;
    }
    out.flush().unwrap();
}

fn paragraphs(i: u64) -> &'static str {
    match i {
        i if i % 97 == 96 => ".\n\n",
        i if i % 13 == 12 => ".\n",
        _ => " ",
    }
}

fn measure(spec: &PrepareSpec, cache: &std::path::Path, size: u64) {
    let start = Instant::now();
    let mut stage = std::mem::discriminant(&Progress::TrainingTokenizer);
    let data = prepare(spec, cache, &mut |progress| {
        if std::mem::discriminant(&progress) != stage {
            stage = std::mem::discriminant(&progress);
            println!("{:7.1} s {progress:?} {:?} MiB", start.elapsed().as_secs_f64(), peak_mib());
        }
    })
    .unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!("{:?}", heldout_data::DataFacts { examples: Vec::new(), ..data.facts });
    println!(
        "{} MiB in {seconds:.0} s = {:.1} MB/s, peak {:?} MiB",
        size / MIB,
        size as f64 / 1e6 / seconds,
        peak_mib()
    );
    if let Some(peak) = peak_mib() {
        assert!(peak <= 1024, "{peak} MiB");
    }
}

fn run(kind: TokenizerKind, boundary: Boundary, size: u64, ending: fn(u64) -> &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.txt");
    generate(&path, size, ending);
    let tokenizer = TokenizerSpec::Train { kind, vocabulary: 8192 };
    let mut spec = PrepareSpec::new(&path.display().to_string(), tokenizer);
    (spec.boundary, spec.validation) = (boundary, ValidationSpec::Share(0.05));
    measure(&spec, &folder.path().join("cache"), size);
}

#[test]
#[ignore = "writes 8 GB of scratch files and takes minutes"]
fn two_gigabytes_of_documents_by_bpe_within_one_gib() {
    run(TokenizerKind::Bpe, Boundary::BlankLine, 2 << 30, paragraphs);
}

#[test]
#[ignore = "writes 8 GB of scratch files and takes minutes"]
fn two_gigabytes_contiguous_by_characters_within_one_gib() {
    run(TokenizerKind::Char, Boundary::Contiguous, 2 << 30, paragraphs);
}

#[test]
#[ignore = "writes 8 GB of scratch files and takes minutes"]
fn two_gigabytes_of_short_lines_by_bytes_within_one_gib() {
    let lines = |i: u64| if i % 7 == 6 { "\n" } else { " " };
    run(TokenizerKind::Byte, Boundary::Record, 2 << 30, lines);
}

#[test]
#[ignore = "writes 4 GB of scratch files and takes minutes"]
fn one_line_of_one_gigabyte_without_a_space_by_bpe() {
    run(TokenizerKind::Bpe, Boundary::Auto, 1 << 30, |_| "");
}
