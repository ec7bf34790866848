//! Two runs against the truth: how much each overfitted, in nats, and what is left to learn.

use heldout_report::format;
use heldout_report::summary::RunSummary;
use serde_json::{Value, json};

use super::NAMES;

/// The figures of one run beside the true entropy; nats per token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    pub best: f64,
    pub best_step: u64,
    pub best_error: f64,
    pub last: f64,
    pub last_step: u64,
    pub train_last: f64,
}

/// Both runs and the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Exact −ln p of the held-out text, per token.
    pub entropy: f64,
    pub plain: Figures,
    pub regularized: Figures,
}

impl Figures {
    /// The figures of a run; `None` if it was never evaluated.
    pub fn of(summary: &RunSummary) -> Option<Figures> {
        let (best, last) = (summary.best()?, summary.last()?);
        Some(Figures {
            best: best.loss_valid,
            best_step: best.step,
            best_error: best.loss_valid_se,
            last: last.loss_valid,
            last_step: last.step,
            train_last: last.loss_train,
        })
    }

    /// Nats lost after the best evaluation by training on.
    pub fn overfitted(&self) -> f64 {
        self.last - self.best
    }
}

impl Comparison {
    /// The table: a heading, then a row per figure, a column per run.
    pub fn table(&self) -> Vec<Vec<String>> {
        let both = [&self.plain, &self.regularized];
        let row = |label: &str, value: &dyn Fn(&Figures) -> String| {
            let cells = both.map(|figures| format!("{:>11}", value(figures)));
            std::iter::once(label.to_owned()).chain(cells).collect::<Vec<String>>()
        };
        let heading = NAMES.map(|name| format!("{name:>11}"));
        let mut rows = vec![std::iter::once(String::new()).chain(heading).collect()];
        rows.push(row("training loss, last", &|f| format::nats(f.train_last)));
        rows.push(row("held-out loss, last", &|f| format::nats(f.last)));
        rows.push(row("held-out loss, best", &|f| format::nats(f.best)));
        rows.push(row("  at step", &|f| format::count(f.best_step)));
        rows.push(row("true entropy", &|_| format::nats(self.entropy)));
        rows.push(row("excess over it, last", &|f| format::nats(f.last - self.entropy)));
        rows.push(row("excess over it, best", &|f| format::nats(f.best - self.entropy)));
        rows.push(row("overfitted by", &|f| format::nats(f.overfitted())));
        rows
    }

    /// What it means, in sentences made from the figures.
    pub fn story(&self) -> Vec<String> {
        let Comparison { entropy, plain, regularized } = self;
        let mut story = vec![format!(
            "No model can beat {} nats per token on this text: that is its true entropy, computed \
             from the grammar that wrote it.",
            format::nats(*entropy)
        )];
        story.push(plain_story(plain, *entropy));
        let gain = plain.best - regularized.best;
        let error = plain.best_error.hypot(regularized.best_error);
        story.push(if gain > 0.0 {
            format!(
                "The regularized model of the same size reached {}: {} nats better than the \
                 plain one at its best, {} better than where the plain one ended.",
                format::nats(regularized.best),
                format::nats(gain),
                format::nats(plain.last - regularized.best)
            )
        } else {
            format!(
                "The regularized model reached {}: not better than the plain one at its best \
                 ({} ± {} nats). Regularization did not pay in this run.",
                format::nats(regularized.best),
                format::nats(gain),
                format::nats(error)
            )
        });
        story
    }

    /// The figures for programs.
    pub fn as_json(&self) -> Value {
        let figures = |f: &Figures| {
            json!({
                "best": f.best,
                "best_step": f.best_step,
                "best_standard_error": f.best_error,
                "last": f.last,
                "last_step": f.last_step,
                "train_last": f.train_last,
                "excess_best": f.best - self.entropy,
                "excess_last": f.last - self.entropy,
                "overfitted": f.overfitted(),
            })
        };
        json!({
            "true_entropy": self.entropy,
            "plain": figures(&self.plain),
            "regularized": figures(&self.regularized),
        })
    }
}

fn plain_story(plain: &Figures, entropy: f64) -> String {
    if plain.overfitted() <= 0.0 {
        return format!(
            "The plain model was still improving when it ended at {} nats: no overfitting yet.",
            format::nats(plain.last)
        );
    }
    let heart = if plain.train_last < entropy {
        let below = format::nats(plain.train_last);
        format!(
            " Its training loss fell to {below}, below the true entropy: it knows its text by \
             heart."
        )
    } else {
        String::new()
    };
    format!(
        "The plain model was best at step {} with {}, then overfitted: by step {} its held-out \
         loss had risen by {} nats.{heart}",
        format::count(plain.best_step),
        format::nats(plain.best),
        format::count(plain.last_step),
        format::nats(plain.overfitted())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(best: f64, last: f64, train_last: f64) -> Figures {
        Figures { best, best_step: 400, best_error: 0.02, last, last_step: 1300, train_last }
    }

    #[test]
    fn the_story_follows_the_figures() {
        let usual = Comparison {
            entropy: 2.1,
            plain: figures(2.7, 3.4, 1.3),
            regularized: figures(2.4, 2.41, 2.2),
        };
        let story = usual.story().join("\n");
        assert!(story.contains("cannot beat") || story.contains("can beat 2.100"), "{story}");
        assert!(story.contains("best at step 400 with 2.700"), "{story}");
        assert!(story.contains("risen by 0.700 nats"), "{story}");
        assert!(story.contains("by heart"), "{story}");
        assert!(
            story.contains("0.300 nats better than the plain one at its best, 1.000"),
            "{story}"
        );
        let worse = Comparison { regularized: figures(2.8, 2.9, 2.5), ..usual };
        assert!(worse.story()[2].contains("did not pay"));
        let young = Comparison { plain: figures(2.7, 2.7, 2.6), ..usual };
        assert!(young.story()[1].contains("no overfitting yet"));
    }

    #[test]
    fn the_table_lines_up() {
        let comparison = Comparison {
            entropy: 2.1,
            plain: figures(2.7, 3.4, 1.3),
            regularized: figures(2.4, 2.41, 2.2),
        };
        let lines = heldout_report::wrap::columns(&comparison.table());
        assert_eq!(lines[0], "                            plain  regularized");
        assert_eq!(lines[7], "excess over it, best        0.600        0.300");
    }
}
