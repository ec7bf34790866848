//! Distillation (Hinton et al. 2015): (1−α)·CE + α·T²·KL(teacherᵀ ‖ modelᵀ), the teacher's
//! distribution computed live for every batch; from trained models, or from a running average of
//! the model's own weights (mean teacher, Tarvainen & Valpola 2017).

use crate::error::{Conflict, NotLive, SettingError};
use crate::live::{Live, Receipt, not_live, required};
use crate::plan::{Plan, Teachers, Teaching};
use crate::settings::{Reader, Settings, Value};
use crate::technique::{Entry, Technique};
use crate::techniques::{fixed, scheduled, searched};
use heldout_base::card::{Card, Default_, Kind, Knob, Schedulable, Search, Stage};
use std::path::Path;

/// The registry's row.
pub const ENTRY: Entry = Entry {
    card: &CARD,
    build,
    example: || Settings::table([("decay", Value::Number(0.9)), ("share", Value::Number(0.3))]),
};

/// The word for an average of the model's own weights.
const SELF: &str = "self";

const CARD: Card = Card {
    name: "distillation",
    kind: Kind::Technique,
    stage: Stage::Loss,
    purpose: "Learns a teacher's whole distribution beside the targets.",
    paper: "Hinton et al. 2015, arXiv:1503.02531; self: Tarvainen & Valpola 2017, arXiv:1703.01780",
    when_to_use: "A better model with the same tokenizer exists, or several whose mean is to be \
                  had at the cost of one.",
    when_to_avoid: "The teacher is no better on held-out text than this model would be by itself.",
    cost: "A forward pass of every teacher and its logits in each step (twice with sam), and the \
           teachers' weights in memory; self: one more set of weights.",
    knobs: &[
        Knob {
            default: Default_::Text(SELF),
            schedulable: Schedulable::No,
            ..scheduled(
                "teacher",
                "folder, or list of folders",
                "A run or a Hugging Face folder with the run's tokenizer; of several the mean \
                 probabilities; \"self\" is an average of the model's own weights.",
                (0.0, 0.0),
            )
        },
        searched(
            scheduled("share", "share of the objective", "α.", (0.0, 1.0)),
            0.5,
            Search::Uniform(0.1, 0.9),
        ),
        searched(
            fixed(
                "temperature",
                "",
                "T, which flattens both distributions; their KL counts T²-fold.",
                1.0,
                (0.05, 100.0),
            ),
            1.0,
            Search::Log(0.5, 5.0),
        ),
        fixed(
            "decay",
            "share kept per step",
            "Of the average that teaches, with teacher = \"self\".",
            0.999,
            (0.0, 0.999_999),
        ),
    ],
};

struct Distillation(Teaching);

fn build(settings: &Settings) -> Result<Box<dyn Technique>, SettingError> {
    let read = Reader::new(&CARD, settings)?;
    let folders = read.texts("teacher")?;
    let decay = read.number("decay")?;
    let by = if folders == [SELF] {
        Teachers::Average { decay }
    } else {
        for folder in &folders {
            if !Path::new(folder).exists() {
                let reason = format!("there is no folder {folder:?}");
                let remedy = "name a run or a Hugging Face folder, or write \"self\"";
                return Err(read.unusable("teacher", reason, remedy));
            }
        }
        if folders.is_empty() {
            let remedy = "name a run or a Hugging Face folder, or write distillation = \"off\"";
            return Err(read.no_effect("teacher", "the list is empty", remedy));
        }
        if read.is_given("decay") {
            let remedy = "remove it, or write teacher = \"self\"";
            return Err(read.no_effect("decay", "it belongs to an average that teaches", remedy));
        }
        Teachers::Models(folders)
    };
    let (share, temperature) = (read.schedule("share")?, read.number("temperature")?);
    Ok(Box::new(Distillation(Teaching { share, temperature, by })))
}

impl Technique for Distillation {
    fn card(&self) -> &'static Card {
        &CARD
    }

    fn contribute(&self, plan: &mut Plan) -> Result<(), Conflict> {
        plan.own_teaching(CARD.name, self.0.clone())
    }

    fn receipt(&self, live: &Live) -> Result<Receipt, NotLive> {
        let measure = *required(&CARD, live.lesson.as_ref())?;
        // bf16 rounds the logits' inputs.
        let close = (measure.found - measure.expected).abs() <= 1e-5 + 1e-2 * measure.expected;
        if !close {
            let finding = format!(
                "the loss of a made-up lesson is {}, not {}",
                measure.found, measure.expected
            );
            return Err(not_live(&CARD, finding));
        }
        let mut figures = vec![
            ("share", measure.share),
            ("temperature", measure.temperature),
            ("lesson", measure.found),
        ];
        let who = match &self.0.by {
            Teachers::Average { decay } => {
                format!("an average of the model's own weights (decay {decay}) teaches")
            }
            Teachers::Models(folders) => {
                if live.teachers.len() != folders.len() {
                    let (found, expected) = (live.teachers.len(), folders.len());
                    let finding = format!("{found} of {expected} teachers were asked");
                    return Err(not_live(&CARD, finding));
                }
                let of = |t: &crate::live::TeacherMeasure| {
                    format!(
                        "{} ({:.2} M parameters) has a loss of {:.4} on a probe batch, the model \
                         {:.4}",
                        t.name,
                        t.parameters as f64 / 1e6,
                        t.loss,
                        t.loss_model
                    )
                };
                figures.extend(live.teachers.first().map(|t| ("teacher.loss", t.loss)));
                let all: Vec<String> = live.teachers.iter().map(of).collect();
                all.join("; ")
            }
        };
        let statement = format!(
            "α = {}, T = {}: a made-up lesson costs {:.6} nats, as the formula says; {who}",
            measure.share, measure.temperature, measure.found
        );
        Ok(Receipt::new(&CARD, statement, figures))
    }
}
