//! `bench/RESULTS.md` from the results: tables, verdicts against the floors, and what each entry
//! was measured on.

use std::fmt::Write;
use std::ops::{RangeBounds, RangeInclusive};

use super::THREADS;
use super::results::{
    Cell, FinetuneCell, GenerationCell, LargeCell, Peaks, Provenance, Results, Scaling, Side,
};
use super::statistics::{Spread, exponent, fit};
use super::workload::{
    FINETUNE_FLOOR, FINETUNE_MEMORY_CEILING, Floors, GENERATION_FLOORS, LARGE_CEILING_MEBIBYTES,
    MEMORY_CEILING, WORKLOADS, floors_of,
};

/// How straight a line must be to count as linear, as share of the variance explained.
const LINEAR_R_SQUARED: f64 = 0.99;
/// Exponents of T that count as quadratic.
const QUADRATIC: RangeInclusive<f64> = 1.8..=2.1;

/// The whole page.
pub fn markdown(results: &Results) -> String {
    let mut sources = Sources::default();
    let mut page = String::from(HEAD) + &shapes() + "\n";
    if let Some(peaks) = &results.peak {
        let _ =
            writeln!(page, "\n## The machine {}\n\n{}", sources.of(&peaks.at), self::peaks(peaks));
    }
    if !results.training.is_empty() {
        page.push_str(&training(&cells(results), &mut sources));
    }
    if !results.generation.is_empty() {
        page.push_str(&generation(results, &mut sources));
    }
    if !results.finetune.is_empty() {
        page.push_str(&finetune(results, &mut sources));
    }
    if let Some(scaling) = &results.scaling {
        let source = sources.of(&scaling.at);
        let _ = writeln!(page, "\n## Growth of a step {source}\n\n{}", self::scaling(scaling));
        page.push_str("\n![Time of a step against batch, layers and context](scaling.svg)\n");
    }
    if !results.large.is_empty() {
        page.push_str("\n## A 350M Llama, two steps at batch 1 × 1,024\n\n");
        for (precision, cell) in &results.large {
            let source = sources.of(&cell.at);
            let _ = writeln!(page, "- {} {source}", large_line(precision, cell));
        }
    }
    page.push_str(&sources.list());
    page
}

const HEAD: &str = "# Benchmark results

Drawn by `cargo xtask bench` from `results.json`; do not edit. One training step is forward,
backward, clipping by the global norm and AdamW, on random tokens. Ours and PyTorch's processes
take turns in interleaved rounds, two threads; warm-up and compilation do not count. Speeds are
medians over the rounds of each turn's median step; a ratio is the median [least, greatest] of the
rounds' ratios to PyTorch's faster mode (by median) of the same precision, `bf16` being autocast
there. Peak memory is the process's largest resident set, against PyTorch's leaner mode. The share
of the peak is tokens/s × FLOP a token (each weight of a product, and causal attention, counted
three times two) over the multiply-adds that the machine did from registers beside those turns.
W1, W2, W3 are GPT-2 shapes, nano is nanoGPT's for processors (layers × width, T, batch,
vocabulary):
";

/// The cells in the order of the workloads.
fn cells(results: &Results) -> Vec<&Cell> {
    let mut cells: Vec<&Cell> = results.training.values().collect();
    let place = |cell: &Cell| WORKLOADS.iter().position(|w| w.name == cell.workload);
    let key = |cell: &&Cell| (place(cell), cell.precision == "bf16", cell.dropout.clone());
    cells.sort_by_key(key);
    cells
}

fn training(cells: &[&Cell], sources: &mut Sources) -> String {
    let mut page = String::from("\n## Training: tokens a second\n\n");
    page.push_str("| workload | precision | dropout | Heldout | PyTorch eager | torch.compile | ");
    page.push_str("ratio to the faster | floor | verdict | measured |\n");
    page.push_str("|---|---|---|---:|---:|---:|---:|---:|---|---|\n");
    for cell in cells {
        let ratio = cell.best_peer().and_then(|(_, peer)| peer.ratio_of(&cell.ours));
        let floor = floors(cell).speed;
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            cell.workload,
            cell.precision,
            cell.dropout,
            speed(&cell.ours),
            speed(&cell.eager),
            speed(&cell.compiled),
            times(ratio),
            limit("≥", floor, "×"),
            at_least(ratio.map(|ratio| ratio.median), floor),
            sources.of(&cell.at)
        );
    }
    page.push_str("\n## Training: peak, memory, threads\n\n");
    page.push_str("| workload | precision | dropout | GFLOP/s | measured peak | share | floor | ");
    page.push_str("verdict | MiB, ours | MiB, PyTorch | ratio | ceiling | verdict | ");
    page.push_str("1 → 2 threads | floor | verdict |\n");
    page.push_str("|---|---|---|---:|---:|---:|---:|---|---:|---:|---:|---:|---|---:|---:|---|\n");
    for cell in cells {
        let Floors { peak, threads, .. } = floors(cell);
        let share = cell.peak_share();
        let memory = cell.leanest_peer().map(|theirs| cell.ours.memory() / theirs);
        let gain = cell.thread_gain();
        let _ = writeln!(
            page,
            "| {} | {} | {} | {:.0} | {:.0} | {} | {} | {} | {:.0} | {} | {} | {} | {} | {} | {} \
             | {} |",
            cell.workload,
            cell.precision,
            cell.dropout,
            cell.ours.speed() * cell.flop_per_token / 1e9,
            cell.peak_gflops,
            share.map_or("–".into(), |share| format!("{:.0}%", 100.0 * share)),
            limit("≥", 100.0 * peak, "%"),
            at_least(share, peak),
            cell.ours.memory(),
            cell.leanest_peer().map_or("–".into(), |theirs| format!("{theirs:.0}")),
            memory.map_or("–".into(), |memory| format!("{memory:.2} ×")),
            limit("≤", MEMORY_CEILING, "×"),
            at_most(memory, MEMORY_CEILING),
            times(gain),
            limit("≥", threads, "×"),
            at_least(gain.map(|gain| gain.median), threads),
        );
    }
    page
}

fn shapes() -> String {
    let shape = |w: &super::workload::Workload| {
        let super::workload::Workload { name, layers, width, context, batch, vocabulary, .. } = w;
        let flop = w.flop_per_token() / 1e6;
        format!(
            "{name} {layers} × {width}, T {context}, B {batch}, V {vocabulary}, {flop:.0} MFLOP a \
             token"
        )
    };
    WORKLOADS.iter().map(shape).collect::<Vec<_>>().join(";\n") + "."
}

fn generation(results: &Results, sources: &mut Sources) -> String {
    let mut page = String::from(
        "\n## Generation\n\nThe W3 shape with random weights, batch 1, a prompt of 16 tokens and \
         128 new ones, greedy, against\n`transformers` with its key-value cache (bf16: weights in \
         bf16); decoding alone, from the first new token to\nthe last.\n\n\
         | precision | Heldout tok/s | transformers tok/s | ratio | floor | verdict | MiB, ours | \
         MiB, theirs | measured |\n|---|---:|---:|---:|---:|---|---:|---:|---|\n",
    );
    for (precision, cell) in &results.generation {
        let ratio = cell.theirs.ratio_of(&cell.ours);
        let floor = generation_floor(precision);
        let _ = writeln!(
            page,
            "| {precision} | {} | {} | {} | {} | {} | {:.0} | {} | {} |",
            speed(&cell.ours),
            speed(&cell.theirs),
            times(ratio),
            limit("≥", floor, "×"),
            at_least(ratio.map(|ratio| ratio.median), floor),
            cell.ours.memory(),
            if ratio.is_some() { format!("{:.0}", cell.theirs.memory()) } else { "–".into() },
            sources.of(&cell.at)
        );
    }
    page
}

fn finetune(results: &Results, sources: &mut Sources) -> String {
    let mut page = String::from(
        "\n## Fine-tuning\n\nA BERT classifier of MiniLM's shape (6 × 384, 12 heads, vocabulary \
         30522, random weights), batches of 32\ntexts of 8 to 126 tokens, dropout 0.1, against \
         the Hugging Face Trainer, padded as it comes or with texts\nof like length in a batch; \
         whole programs, texts a second after three updates of warm-up.\n\n\
         | precision | Heldout texts/s | Trainer, padded | Trainer, grouped | ratio to the faster \
         | floor | verdict | MiB, ours | MiB, theirs | ratio | ceiling | verdict | measured |\n\
         |---|---:|---:|---:|---:|---:|---|---:|---:|---:|---:|---|---|\n",
    );
    for (precision, cell) in &results.finetune {
        let ratio = cell.best_peer().ratio_of(&cell.ours);
        let memory = cell.memory_ratio();
        let _ = writeln!(
            page,
            "| {precision} | {} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {memory:.2} × | {} | {} \
             | {} |",
            speed(&cell.ours),
            speed(&cell.padded),
            speed(&cell.grouped),
            times(ratio),
            limit("≥", FINETUNE_FLOOR, "×"),
            at_least(ratio.map(|ratio| ratio.median), FINETUNE_FLOOR),
            cell.ours.memory(),
            cell.padded.memory().min(cell.grouped.memory()),
            limit("≤", FINETUNE_MEMORY_CEILING, "×"),
            at_most(Some(memory), FINETUNE_MEMORY_CEILING),
            sources.of(&cell.at)
        );
    }
    page
}

fn generation_floor(precision: &str) -> f64 {
    GENERATION_FLOORS.iter().find(|(name, _)| *name == precision).map_or(0.0, |(_, floor)| *floor)
}

/// One cell for the terminal.
pub fn line(cell: &Cell) -> String {
    let ratio = cell.best_peer().and_then(|(_, peer)| peer.ratio_of(&cell.ours));
    let name = cell.best_peer().map_or("", |(name, _)| name);
    let memory = cell.leanest_peer().map(|theirs| cell.ours.memory() / theirs);
    format!(
        "{:5} {:4} dropout {:3} | {:>7} tok/s | eager {} | compile {} | {} {name} {} | {} of peak \
         | memory {} | 1 → 2 threads {}",
        cell.workload,
        cell.precision,
        cell.dropout,
        speed(&cell.ours),
        speed(&cell.eager),
        speed(&cell.compiled),
        times(ratio),
        at_least(ratio.map(|ratio| ratio.median), floors(cell).speed),
        cell.peak_share().map_or("–".into(), |share| format!("{:.0}%", 100.0 * share)),
        memory.map_or("–".into(), |memory| format!("{memory:.2} ×")),
        times(cell.thread_gain()),
    )
}

/// One precision of generation, for the terminal.
pub fn generation_line(precision: &str, cell: &GenerationCell) -> String {
    let ratio = cell.theirs.ratio_of(&cell.ours);
    let verdict = at_least(ratio.map(|ratio| ratio.median), generation_floor(precision));
    let (ours, theirs) = (speed(&cell.ours), speed(&cell.theirs));
    format!(
        "generation {precision}: {ours} tok/s | transformers {theirs} | {} {verdict}",
        times(ratio)
    )
}

/// One precision of fine-tuning, for the terminal.
pub fn finetune_line(precision: &str, cell: &FinetuneCell) -> String {
    let ratio = cell.best_peer().ratio_of(&cell.ours);
    let verdict = at_least(ratio.map(|ratio| ratio.median), FINETUNE_FLOOR);
    format!(
        "finetune {precision}: {} texts/s | Trainer padded {}, grouped {} | {} {verdict} | memory \
         {:.2} × {}",
        speed(&cell.ours),
        speed(&cell.padded),
        speed(&cell.grouped),
        times(ratio),
        cell.memory_ratio(),
        at_most(Some(cell.memory_ratio()), FINETUNE_MEMORY_CEILING)
    )
}

/// The large model's steps in words.
pub fn large_line(precision: &str, cell: &LargeCell) -> String {
    let losses: Vec<String> = cell.losses.iter().map(|loss| format!("{loss:.3}")).collect();
    format!(
        "{precision}: {}; losses {}; {:.1} s a step; peak memory {:.2} GiB (≤ {} GiB: {})",
        cell.model,
        losses.join(", "),
        cell.step_seconds,
        cell.peak_mebibytes / 1024.0,
        LARGE_CEILING_MEBIBYTES / 1024.0,
        at_most(Some(cell.peak_mebibytes), LARGE_CEILING_MEBIBYTES)
    )
}

/// The peaks as a table.
pub fn peaks(peaks: &Peaks) -> String {
    let mut table = String::from("| multiply-adds from registers, GFLOP/s | 1 thread | ");
    let _ = writeln!(table, "{THREADS} threads |\n|---|---:|---:|");
    for (name, [one, two]) in [
        ("f32, 256 bit", peaks.f32_256),
        ("f32, 512 bit", peaks.f32_512),
        ("bf16 (`vdpbf16ps`, 512 bit)", peaks.bf16),
    ] {
        if one > 0.0 {
            let _ = writeln!(table, "| {name} | {one:.0} | {two:.0} |");
        }
    }
    table.trim_end().to_string()
}

/// What the growth of a step comes to: tables and verdicts.
pub fn scaling(scaling: &Scaling) -> String {
    let mut text = format!("{}.\n\n", scaling.shape);
    for (name, points) in [("batch", &scaling.batch), ("layers", &scaling.depth)] {
        let line = fit(points);
        let verdict = verdict(line.r_squared, LINEAR_R_SQUARED..);
        let _ = writeln!(
            text,
            "- against {name}: {:.2} ms + {:.2} ms each, R² {:.4} (linear: {verdict})",
            1e3 * line.intercept,
            1e3 * line.slope,
            line.r_squared
        );
    }
    let attention: Vec<(f64, f64)> = scaling.context.iter().map(|p| (p.0, p.2)).collect();
    let rest: Vec<(f64, f64)> = scaling.context.iter().map(|p| (p.0, p.1 - p.2)).collect();
    let power = exponent(&attention);
    let _ = writeln!(
        text,
        "- against T: attention grows with T to the power of {power:.2} (quadratic: {}), the rest \
         of the step with {:.2}\n",
        verdict(power, QUADRATIC),
        exponent(&rest)
    );
    text.push_str(
        "| T | step, ms | attention, ms | attention, doubling T |\n|---:|---:|---:|---:|\n",
    );
    let mut before = None;
    for &(t, step, attention) in &scaling.context {
        let growth = before.map_or("–".to_string(), |b: f64| format!("{:.2} ×", attention / b));
        let _ = writeln!(text, "| {t} | {:.2} | {:.2} | {growth} |", 1e3 * step, 1e3 * attention);
        before = Some(attention);
    }
    for (name, points) in [("batch", &scaling.batch), ("layers", &scaling.depth)] {
        let _ = write!(text, "\n{name}: ");
        let all: Vec<String> =
            points.iter().map(|(x, y)| format!("{x} {:.2} ms", 1e3 * y)).collect();
        let _ = writeln!(text, "{}", all.join(", "));
    }
    text.trim_end().to_string()
}

fn floors(cell: &Cell) -> Floors {
    floors_of(&cell.workload, &cell.precision, &cell.dropout)
}

/// Median tokens a second, or why there are none.
fn speed(side: &Side) -> String {
    match (side.turns.is_empty(), side.note.as_str()) {
        (true, "") => "–".to_string(),
        (true, note) => note.replace('|', "/"),
        (false, _) if side.speed() < 1000.0 => format!("{:.1}", side.speed()),
        (false, _) => format!("{:.0}", side.speed()),
    }
}

fn times(spread: Option<Spread>) -> String {
    let write = |s: Spread| format!("{:.2} × [{:.2}, {:.2}]", s.median, s.low, s.high);
    spread.map_or("–".to_string(), write)
}

fn limit(sign: &str, value: f64, unit: &str) -> String {
    if value > 0.0 { format!("{sign} {value} {unit}") } else { "–".to_string() }
}

/// The verdict on what must not be less; none where nothing is asked or known.
fn at_least(found: Option<f64>, floor: f64) -> &'static str {
    found.filter(|_| floor > 0.0).map_or("–", |found| verdict(found, floor..))
}

fn at_most(found: Option<f64>, ceiling: f64) -> &'static str {
    found.map_or("–", |found| verdict(found, ..=ceiling))
}

fn verdict(found: f64, asked: impl RangeBounds<f64>) -> &'static str {
    if asked.contains(&found) { "pass" } else { "**fail**" }
}

/// The numbered list of what entries were measured on.
#[derive(Default)]
struct Sources(Vec<String>);

impl Sources {
    /// `[n]`, the number of this provenance in the list.
    fn of(&mut self, at: &Provenance) -> String {
        let day = at.date.split(' ').next().unwrap_or_default();
        let rounds = match at.seconds > 0.0 {
            true => format!("; {} round(s) of {} s a turn", at.rounds, at.seconds),
            false => String::new(),
        };
        let peer = if at.peer.is_empty() { String::new() } else { format!("; {}", at.peer) };
        let text = format!(
            "{day}, commit {}; {}, {} cores, {}; {}{peer}{rounds}",
            at.commit, at.processor, at.cores, at.isa, at.rustc
        );
        let place = self.0.iter().position(|known| *known == text).unwrap_or_else(|| {
            self.0.push(text);
            self.0.len() - 1
        });
        format!("[{}]", place + 1)
    }

    fn list(&self) -> String {
        let mut text = String::from("\n## Measured\n\n");
        for (number, source) in self.0.iter().enumerate() {
            let _ = writeln!(text, "{}. [{}] {source}", number + 1, number + 1);
        }
        text.push_str("\nA `+` after a commit: its source had changes that were not committed.\n");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_need_a_floor_and_a_measurement() {
        assert_eq!(at_least(Some(1.6), 1.5), "pass");
        assert_eq!(at_least(Some(1.4), 1.5), "**fail**");
        assert_eq!(at_least(Some(1.4), 0.0), "–");
        assert_eq!(at_least(None, 1.5), "–");
        assert_eq!(at_most(Some(0.8), 0.75), "**fail**");
        assert_eq!(speed(&Side::absent("timed out after 300 s")), "timed out after 300 s");
    }

    #[test]
    fn growth_is_judged() {
        let scaling = Scaling {
            at: Provenance::default(),
            shape: "toy".into(),
            batch: vec![(1.0, 2.0), (2.0, 3.0), (4.0, 5.0)],
            depth: vec![(1.0, 2.0), (2.0, 8.0), (4.0, 3.0)],
            context: vec![(128.0, 3.0, 1.0), (256.0, 8.0, 4.0), (512.0, 24.0, 16.0)],
        };
        let text = super::scaling(&scaling);
        assert!(text.contains("against batch: 1000.00 ms + 1000.00 ms each"), "{text}");
        assert!(text.contains("R² 1.0000 (linear: pass)"), "{text}");
        assert!(text.contains("(linear: **fail**)"), "{text}");
        assert!(text.contains("power of 2.00 (quadratic: pass)"), "{text}");
        let results = Results { scaling: Some(scaling), ..Results::default() };
        assert!(markdown(&results).contains("](scaling.svg)"));
    }
}
