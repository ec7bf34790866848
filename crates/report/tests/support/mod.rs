//! Made runs and a made study on disk, as `train` and `ablate` leave them: curves that fall, turn
//! and rise again, with seeded noise.
#![allow(dead_code)] // Every test file uses its own part of this.

use std::fs;
use std::path::Path;

use heldout_base::rng::{Random, streams};
use heldout_record::manifest::DataFile;
use heldout_record::study::*;
use heldout_record::{
    BaselineRecord, EvaluationRecord, Event, GuardRecord, Manifest, MetricsLog, Notice, Receipt,
    RunDir, SampleRecord, Started, StepRecord, StopReason, Stopped,
};
use heldout_report::statistics::{Bootstrap, bootstrap, estimate, paired_t};

/// Text that would be markup, were it not escaped; a model may well write it.
pub const HOSTILE: &str = "</script></title><script>document.title='taken'</script>\
                           <img src=x onerror=\"document.title='taken'\">&amp; `a|b` ]]> \"'";

/// What makes one made run different from another.
#[derive(Clone, Debug)]
pub struct Made {
    pub seed: u64,
    /// The best held-out loss without noise.
    pub best: f64,
    /// How fast it rises after its best, in nats over the rest of the run.
    pub rise: f64,
    pub steps: u64,
    pub dropout: f64,
}

impl Default for Made {
    fn default() -> Made {
        Made { seed: 1, best: 1.62, rise: 0.5, steps: 2000, dropout: 0.0 }
    }
}

fn noise(seed: u64, index: u64, size: f64) -> f64 {
    let random = Random::new(seed, streams::TEST, 1);
    (random.uniform(2 * index) + random.uniform(2 * index + 1) - 1.0) * size
}

impl Made {
    /// Held-out and training loss at a step.
    fn losses(&self, step: u64) -> (f64, f64) {
        let share = step as f64 / self.steps as f64;
        let fall = 2.6 * (-share * 14.0).exp();
        let late = (share - 0.35).max(0.0) / 0.65;
        let valid = self.best + fall + self.rise * late.powf(1.4) + noise(self.seed, step, 0.012);
        let gap = 0.02 + (0.25 + 1.3 * self.rise) * share.powf(0.8);
        (valid, valid - gap + noise(self.seed, step + 1, 0.008))
    }

    fn evaluation(&self, step: u64) -> EvaluationRecord {
        let (valid, train) = self.losses(step);
        EvaluationRecord {
            step,
            tokens: step * 2048,
            epoch: step as f64 / 90.0,
            loss_train: train,
            loss_train_se: 0.008,
            loss_valid: valid,
            loss_valid_se: 0.014,
            gap: valid - train,
            gap_se: 0.016,
            perplexity: valid.exp(),
            bits_per_byte: valid / std::f64::consts::LN_2,
            weights: "raw".into(),
            best: false,
            seconds: 0.2,
            ..EvaluationRecord::default()
        }
    }

    fn step(&self, step: u64) -> StepRecord {
        let share = step as f64 / self.steps as f64;
        let (_, train) = self.losses(step);
        let objective = train + 0.1 + noise(self.seed, 5000 + step, 0.15);
        StepRecord {
            step,
            tokens: step * 2048,
            epoch: step as f64 / 90.0,
            objective,
            loss_train: objective,
            learning_rate: 2e-3 * (share * 20.0).min(1.0) * (1.0 - share * 0.9),
            gradient_norm: 0.6 + 3.0 * (-share * 30.0).exp() + noise(self.seed, 9000 + step, 0.2),
            gradient_norm_clipped: 0.6,
            tokens_per_second: 51_000.0,
            seconds: step as f64 * 0.04,
        }
    }
}

/// Everything a run tells, in order.
pub fn events(made: &Made) -> Vec<Event> {
    let mut events = vec![
        Event::Started(Started {
            run: "made".into(),
            model: "llama, 4 layers, 4 heads, 128 wide, context 128".into(),
            parameters: 812_288,
            tokens_train: 180_000,
            tokens_valid: 20_000,
            vocabulary: 65,
            horizon: made.steps,
            precision: "bf16".into(),
            device: "cpu, 2 threads".into(),
            bytes_per_token: 1.0,
            ..Started::default()
        }),
        Event::Notice(Notice { step: None, text: "one contiguous text, as asked".into() }),
        Event::Receipt(Receipt {
            technique: "weight-decay".into(),
            statement: "802816 of 812288 parameters in 28 tensors".into(),
            ..Receipt::default()
        }),
        Event::Baseline(BaselineRecord {
            smoothing: "modified Kneser-Ney".into(),
            order: 6,
            loss_valid: 1.94,
            loss_valid_se: 0.02,
            perplexity: 6.96,
            bits_per_byte: 2.8,
            ..BaselineRecord::default()
        }),
    ];
    for step in 1..=made.steps {
        if step % 5 == 0 {
            events.push(Event::Step(made.step(step)));
        }
        if step % (made.steps / 40) == 0 {
            events.push(Event::Evaluation(made.evaluation(step)));
        }
    }
    let guard = GuardRecord {
        step: 700,
        cause: "the loss is 7.1 standard deviations above its mean".into(),
        action: "the step was skipped".into(),
        loss: 4.2,
        gradient_norm: 31.0,
        z: Some(7.1),
    };
    events.push(Event::Guard(guard));
    for step in [made.steps / 2, made.steps] {
        let (prompt, text) = ("KING ".to_owned(), format!("LEAR: {HOSTILE}\nand so on"));
        events.push(Event::Sample(SampleRecord { step, prompt, text }));
    }
    events.push(Event::Stopped(Stopped {
        step: made.steps,
        reason: StopReason::Horizon,
        detail: "the horizon of 2000 steps is reached".into(),
        seconds: made.steps as f64 * 0.04,
        ..Stopped::default()
    }));
    events
}

/// A run folder.
pub fn run(root: &Path, made: &Made) -> RunDir {
    let run = RunDir::create(root).expect("a new folder");
    let mut log = MetricsLog::create(&run.metrics()).expect("a new log");
    events(made).iter().for_each(|event| log.append(event).expect("written"));
    let mut manifest = Manifest::new(vec!["heldout".into(), "train".into()], made.seed);
    manifest.plan = vec!["decay: w ← w − η·λ·w, λ = 0.1 (weight-decay)".into()];
    let hash = "sha256:8db075590184578142c745421b656b26d1ccd150490a8cecdbc2972ef0a98772";
    manifest.data = vec![DataFile {
        role: "content".into(),
        path: "tale.txt".into(),
        bytes: 200_000,
        hash: hash.into(),
    }];
    manifest.write(&run.manifest()).expect("written");
    fs::write(run.recipe(), recipe(made)).expect("written");
    run
}

fn recipe(made: &Made) -> String {
    let dropout = if made.dropout > 0.0 { made.dropout.to_string() } else { "false".into() };
    format!(
        "[data]\ntrain = [\"tale.txt\"]  # command line\ntokenizer = \"char\"\n\n[regularize]\n\
         dropout = {dropout}  # command line\nweight-decay = 0.1  # default: a mild one\n\n[run]\n\
         seed = {}\n",
        made.seed
    )
}

/// The techniques of the made study, and what each is worth.
const WORTH: [(&str, f64); 5] = [
    ("dropout", 0.118),
    ("weight-decay", 0.034),
    ("label-smoothing", 0.003),
    ("ema", 0.052),
    ("layer-drop", -0.041),
];

/// A finished leave-one-out study of six arms and five seeds, with all its runs.
pub fn study(root: &Path) -> StudyDir {
    let seeds: Vec<u64> = (1..=5).collect();
    let mut arms = vec![Arm { name: "reference".into(), ..Arm::default() }];
    arms.extend(WORTH.iter().map(|(name, _)| Arm {
        name: format!("no-{name}"),
        settings: vec![format!("regularize.{name}=false")],
        ..Arm::default()
    }));
    let study = Study {
        format: FORMAT,
        name: "shakespeare-regularizers".into(),
        created: "2026-11-22T20:00:00Z".into(),
        command_line: vec!["heldout".into(), "ablate".into(), "recipe.toml".into()],
        version: "0.1.0".into(),
        status: StudyStatus::Done,
        arms: arms.clone(),
        contrasts: WORTH.iter().map(|(name, _)| contrast(name)).collect(),
        seeds: seeds.clone(),
        rule: Rule { level: 0.05, rope: 0.005, looks: vec![3, 5] },
        recipe_hash: "00".repeat(32),
        content_hash: "11".repeat(32),
        split: "the end of the text: 10% for validation, 10% for the test".into(),
        notes: vec!["All arms read the same batches in the same order.".into()],
        ..Study::default()
    };
    let folder = StudyDir::create(root, &study, &recipe(&Made::default())).expect("a new study");
    let mut trials = Vec::new();
    let (mut ledger, _) = Ledger::open(&folder.trials()).expect("a new ledger");
    for arm in &arms {
        for &seed in &seeds {
            let trial = trial(&folder, &arm.name, seed);
            ledger.append(&TrialEvent::Finished(trial.clone())).expect("written");
            trials.push(trial);
        }
    }
    folder.write_result(&result(&study, &trials)).expect("written");
    folder
}

fn contrast(name: &str) -> Contrast {
    Contrast {
        name: name.into(),
        kind: ContrastKind::Dropped,
        techniques: vec![name.into()],
        terms: vec![
            Term { arm: format!("no-{name}"), weight: 1.0 },
            Term { arm: "reference".into(), weight: -1.0 },
        ],
    }
}

fn trial(folder: &StudyDir, arm: &str, seed: u64) -> TrialResult {
    let worth = WORTH.iter().find(|(name, _)| arm == format!("no-{name}")).map_or(0.0, |w| w.1);
    // The seed's luck is shared by all arms; what is left differs.
    let own = noise(arm.len() as u64 * 100 + seed, 3, 0.012);
    let best = 1.48 + worth + noise(seed, 77, 0.03) + own;
    let made = Made { seed, best, rise: 0.12 + 2.0 * worth.max(0.0), steps: 1200, dropout: 0.2 };
    let name = format!("{arm}-seed{seed}");
    run(&folder.run(&name).root, &made);
    TrialResult {
        trial: name.clone(),
        arm: arm.into(),
        seed,
        rate_factor: 1.0,
        loss_valid: best,
        loss_valid_se: 0.014,
        loss_test: best + 0.015 + noise(seed + 40, arm.len() as u64, 0.01),
        loss_test_se: 0.014,
        loss_train: best - 0.2 - worth,
        gap: 0.2 + worth,
        best_step: 420,
        steps: 1200,
        seconds: 48.0 + noise(seed, 5, 2.0) - if arm == "no-dropout" { 6.0 } else { 0.0 },
        reason: StopReason::Horizon,
        run: format!("runs/{name}"),
        ..TrialResult::default()
    }
}

fn result(study: &Study, trials: &[TrialResult]) -> StudyResult {
    let of = |arm: &str, value: fn(&TrialResult) -> f64| -> Vec<f64> {
        trials.iter().filter(|t| t.arm == arm).map(value).collect()
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let arms = study.arms.iter().map(|arm| {
        let test = of(&arm.name, |t| t.loss_test);
        ArmSummary {
            name: arm.name.clone(),
            finished: 5,
            rate_factor: 1.0,
            loss_valid: mean(&of(&arm.name, |t| t.loss_valid)),
            loss_test: mean(&test),
            loss_test_sd: estimate(&test).expect("five seeds").standard_error * 5f64.sqrt(),
            loss_train: mean(&of(&arm.name, |t| t.loss_train)),
            gap: mean(&of(&arm.name, |t| t.gap)),
            seconds: mean(&of(&arm.name, |t| t.seconds)),
            ..ArmSummary::default()
        }
    });
    StudyResult {
        study: study.name.clone(),
        standing: Standing::Complete,
        seeds_planned: 5,
        seeds_done: 5,
        trials_finished: trials.len() as u64,
        arms: arms.collect(),
        effects: study.contrasts.iter().map(|contrast| effect(contrast, &of)).collect(),
        noise: Some(NoiseFloor { seed_sd: 0.017, paired_sd: 0.008, detectable: 0.019 }),
        notes: vec![
            "weights were chosen on the validation split; every verdict is about the test split"
                .into(),
            "all arms read the same batches in the same order".into(),
        ],
        next: "take layer-drop out of the recipe (--set regularize.layer-drop=false)".into(),
        ..StudyResult::default()
    }
}

type Values<'a> = dyn Fn(&str, fn(&TrialResult) -> f64) -> Vec<f64> + 'a;

fn effect(contrast: &Contrast, of: &Values<'_>) -> EffectRecord {
    let paired = |value: fn(&TrialResult) -> f64| {
        let (without, with) = (of(&contrast.terms[0].arm, value), of("reference", value));
        let test = paired_t(&without, &with).expect("five pairs");
        let estimate = EffectEstimate {
            mean: test.difference,
            low: test.interval.low,
            high: test.interval.high,
        };
        let differences: Vec<f64> = without.iter().zip(&with).map(|(a, b)| a - b).collect();
        (estimate, test.p, differences)
    };
    let (test, p, differences) = paired(|t| t.loss_test);
    let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let interval = bootstrap(&differences, &average, Bootstrap::Bca, 0.95, 2000, 1);
    let interval = interval.expect("five values");
    let p_corrected = (5.0 * p).min(1.0);
    let verdict = match (p_corrected < 0.05, test.mean > 0.0) {
        (false, _) => Verdict::NoEffect,
        (true, true) => Verdict::Helps,
        (true, false) => Verdict::Hurts,
    };
    EffectRecord {
        name: contrast.name.clone(),
        kind: contrast.kind,
        techniques: contrast.techniques.clone(),
        pairs: 5,
        test,
        valid: paired(|t| t.loss_valid).0,
        gap: paired(|t| t.gap).0,
        bootstrap_low: interval.low,
        bootstrap_high: interval.high,
        p,
        p_corrected,
        seconds_ratio: 1.04,
        seconds: 1.9,
        verdict,
        sentence: match verdict {
            Verdict::Helps => format!("without it the loss rises by {:.3}", test.mean),
            Verdict::Hurts => format!("without it the loss falls by {:.3}", -test.mean),
            _ => {
                format!("if there is an effect, it lies within {:.3} to {:.3}", test.low, test.high)
            }
        },
        ..EffectRecord::default()
    }
}
