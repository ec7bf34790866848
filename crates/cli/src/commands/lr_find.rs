//! `heldout lr-find DATA`: which learning rate, by a range test over several seeds.

use clap::Args;
use heldout_report::format;
use heldout_report::plot::{Frame, Series, Stroke};
use heldout_report::statistics::{Interval, paired_t};
use heldout_train::lr_find::{LrFind, Ramp, lr_find};
use serde_json::json;

use crate::console::{Console, Output};
use crate::facts;
use crate::failure::{DONE, Failure};
use crate::interrupt::Interrupts;
use crate::live::Live;
use crate::live::paint::{Line, Paint};
use crate::outcome::{PICTURE_ROWS, print_table, shell_word};
use crate::picture;
use crate::places;
use crate::recipe_options::RecipeOptions;

/// Options of `heldout lr-find`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  heldout lr-find my-text.txt
  heldout lr-find recipe.toml --seeds 5
  heldout lr-find my-text.txt --set optimizer.name=sgd --high 100

The rate rises from batch to batch, with the recipe's own model, optimizer, batches and
techniques; the suggestion is half the rate at which the loss is lowest, and at most a quarter
of the rate at which it breaks down. It says \"don't know\" where the seeds disagree, or the
loss never falls, or never breaks down.
Nothing is written but prepared data into the cache.")]
pub struct Options {
    #[command(flatten)]
    pub recipe: RecipeOptions,
    /// How many seeds; the interval is over them
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u64).range(1..=100))]
    pub seeds: u64,
    /// Updates of each seed while the rate rises
    #[arg(long, value_name = "N", default_value_t = 120,
          value_parser = clap::value_parser!(u64).range(20..=100_000))]
    pub ramp: u64,
    /// Where the rate starts [default: a thousandth of the recipe's]
    #[arg(long, value_name = "RATE")]
    pub low: Option<f64>,
    /// Where it ends [default: a thousand times the recipe's]
    #[arg(long, value_name = "RATE")]
    pub high: Option<f64>,
}

/// Tests, and prints the suggestion or that there is none.
pub fn run(options: Options, console: &Console) -> Result<i32, Failure> {
    let recipe = options.recipe.recipe()?;
    Interrupts::install(console, Vec::new())?;
    let live = Live::start(console, &[""], None);
    let mut preparing = |progress| live.phase(&facts::progress(&progress));
    let (seeds, ramp) = (options.seeds, options.ramp);
    let mut stepped = |seed: u64, step: u64| {
        live.phase(&format!("trying rates: seed {} of {seeds}, update {step}/{ramp}", seed + 1));
    };
    let ramp = Ramp { low: options.low, high: options.high, steps: ramp, seeds };
    let found = lr_find(&recipe, ramp, &places::cache(), &mut preparing, &mut stepped);
    live.finish();
    let found = found?;
    match console.output {
        Output::Json => {
            let mut value = serde_json::to_value(&found)
                .map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
            let interval = interval(&found).map(|interval| json!([interval.low, interval.high]));
            value["suggested_95"] = interval.unwrap_or_default();
            console.out_json(&value)?;
        }
        Output::Text => print(&found, &options.recipe, console)?,
    }
    Ok(DONE)
}

/// The 95% interval of the geometric mean over seeds; `None` for a single one.
fn interval(found: &LrFind) -> Option<Interval> {
    found.suggested?;
    let logs: Vec<f64> =
        found.curves.iter().filter_map(|curve| curve.suggested).map(f64::ln).collect();
    let test = paired_t(&logs, &vec![0.0; logs.len()])?;
    Some(Interval { low: test.interval.low.exp(), high: test.interval.high.exp() })
}

fn print(found: &LrFind, recipe: &RecipeOptions, console: &Console) -> Result<(), Failure> {
    draw(found, console)?;
    let mut rows = Vec::new();
    let mut row = |label: &str, text: String| rows.push((label.to_owned(), text));
    let tried = format!(
        "{} seeds, {} updates each from {} to {}",
        found.curves.len(),
        format::count(found.steps),
        format::rate(found.low),
        format::rate(found.high)
    );
    row("tried", format!("{}, {tried}", found.optimizer));
    let of = |pick: fn(&heldout_train::lr_find::SeedCurve) -> Option<f64>| {
        let rates: Vec<String> = found.curves.iter().filter_map(pick).map(format::rate).collect();
        if rates.is_empty() { "not found".to_owned() } else { rates.join(", ") }
    };
    row("steepest", format!("{}: where the loss falls fastest, by seed", of(|c| c.steepest)));
    row("lowest", format!("{}: where it is lowest", of(|c| c.lowest)));
    row("edge", format!("{}: where it breaks down", of(|c| c.edge)));
    match (found.suggested, interval(found)) {
        (Some(rate), Some(Interval { low, high })) => row(
            "suggested",
            format!(
                "{}, 95% over seeds: {} to {}",
                format::rate(rate),
                format::rate(low),
                format::rate(high)
            ),
        ),
        (Some(rate), None) => {
            row("suggested", format!("{}; one seed gives no interval", format::rate(rate)));
        }
        (None, _) => {
            let why = found.unknown.as_deref().unwrap_or("no seed gave a rate");
            row("suggested", format!("don't know: {why}"));
        }
    }
    row("recipe", format!("has {}", format::rate(found.recipe)));
    print_table(&rows, console)?;
    if let Some(rate) = found.suggested {
        let mut words: Vec<String> = recipe.data.iter().map(|path| shell_word(path)).collect();
        if let Some(file) = &recipe.recipe {
            words.push(format!("--recipe {}", shell_word(&file.display().to_string())));
        }
        words.extend(recipe.settings.iter().map(|s| format!("--set {}", shell_word(s))));
        let rate = format!("--set optimizer.learning-rate={rate:.2e}");
        console.out(&format!("\ntry next   heldout train {} {rate}", words.join(" ")))?;
    }
    Ok(())
}

/// The smoothed loss of each seed over the logarithm of the rate, up to a little above its start.
fn draw(found: &LrFind, console: &Console) -> Result<(), Failure> {
    let series: Vec<Series> = found
        .curves
        .iter()
        .map(|curve| {
            let lowest = curve.points.iter().map(|p| p.smoothed).fold(f64::INFINITY, f64::min);
            let ceiling = curve.first_loss + 0.25 * (curve.first_loss - lowest).max(0.0);
            let shown = curve.points.iter().filter(|p| p.smoothed <= ceiling);
            Series {
                name: format!("seed {}", curve.seed),
                stroke: Stroke::Solid,
                points: shown.map(|p| (p.rate.log10(), p.smoothed)).collect(),
            }
        })
        .collect();
    let mark = found.suggested.and_then(|rate| {
        let points = &found.curves.first()?.points;
        let near = points
            .iter()
            .min_by(|a, b| (a.rate / rate).ln().abs().total_cmp(&(b.rate / rate).ln().abs()))?;
        Some((near.rate.log10(), near.smoothed))
    });
    let frame = picture::frame(console.width, PICTURE_ROWS, console.charset);
    let frame = Frame { mark, x_label: "log10 rate".to_owned(), ..frame };
    console.out("")?;
    for line in picture::draw(&series, &frame, &Paint::Series) {
        console.out_line(&Line::trimmed(line))?;
    }
    console.out("")
}
