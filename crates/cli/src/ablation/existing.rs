//! The folder of a study: made now, found as the same command left it, or extended by more seeds.

use std::path::Path;

use heldout_record::manifest::now;
use heldout_record::study::{Arm, Study, StudyDir, StudyLock};
use heldout_report::study::{extended, extensions_of};
use heldout_train::study::Designed;

use crate::failure::Failure;

/// A study that is ours for as long as this lives.
pub struct Opened {
    pub folder: StudyDir,
    pub study: Study,
    pub _lock: StudyLock,
}

/// Makes the study, or opens the one that is there if it asks the same question. `seeds` is what
/// the user said: more than the study has extend it.
pub fn open(root: &Path, designed: Designed, seeds: Option<u64>) -> Result<Opened, Failure> {
    let Designed { mut study, recipe, .. } = designed;
    if !StudyDir::is_study(root) {
        study.name =
            root.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        study.command_line = std::env::args().collect();
        let folder = StudyDir::create(root, &study, &recipe)?;
        let _lock = folder.lock()?;
        return Ok(Opened { folder, study, _lock });
    }
    let _lock = StudyDir::open(root)?.0.lock()?;
    let (folder, found) = StudyDir::open(root)?;
    let differences = differences(&found, &study);
    if differences.is_empty() {
        let study = with_seeds(found, seeds, root)?;
        return Ok(Opened { folder, study, _lock });
    }
    let mut failure =
        Failure::bad_input(format!("{} holds a study of another question", root.display()));
    for difference in differences {
        failure = failure.why(format!("  {difference}"));
    }
    Err(failure.next("choose another folder with --out, or repeat the command that began it"))
}

/// The study with as many seeds as are asked for.
fn with_seeds(found: Study, seeds: Option<u64>, root: &Path) -> Result<Study, Failure> {
    let there = found.seeds.len() as u64;
    let Some(asked) = seeds.filter(|asked| *asked != there) else { return Ok(found) };
    if asked < there {
        let place = root.display();
        return Err(Failure::bad_input(format!("--seeds {asked}: {place} has {there} seeds"))
            .why("  a study does not shrink: leaving seeds out after seeing them chooses a result")
            .next(format!(
                "leave --seeds out to go on with the {there}, or choose another folder with --out"
            )));
    }
    let possible: Vec<u64> = extensions_of(there).collect();
    if possible.contains(&asked) {
        return Ok(extended(&found, asked, now(), std::env::args().collect()));
    }
    let list = possible.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let next = possible.iter().find(|n| **n > asked).copied().unwrap_or(there);
    Err(Failure::bad_input(format!(
        "--seeds {asked}: a study of {there} seeds can be extended to {list}"
    ))
    .why("  they were fixed beforehand, so that nobody stops where it happens to look good")
    .next(format!("ask for --seeds {next}, or begin a study of {asked} seeds in another folder")))
}

/// In what two designs differ, one line each.
fn differences(found: &Study, asked: &Study) -> Vec<String> {
    let mut lines = Vec::new();
    let mut differ = |what: &str, found: String, asked: String| {
        if found != asked {
            lines.push(format!("{what}: {found} there, {asked} here"));
        }
    };
    let arms = |study: &Study| {
        let arm = |arm: &Arm| match arm.settings.as_slice() {
            [] => arm.name.clone(),
            settings => format!("{} ({})", arm.name, settings.join(" ")),
        };
        study.arms.iter().map(arm).collect::<Vec<_>>().join(", ")
    };
    let rates = |study: &Study| if study.tuning.is_some() { "tuned" } else { "shared" }.to_owned();
    differ("design", found.design.word().into(), asked.design.word().into());
    differ("arms", arms(found), arms(asked));
    differ("learning rates", rates(found), rates(asked));
    differ("rope", found.rule.rope.to_string(), asked.rule.rope.to_string());
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    differ("text (by its hash)", short(&found.content_hash), short(&asked.content_hash));
    differ("recipe (by its hash)", short(&found.recipe_hash), short(&asked.recipe_hash));
    let is_same = found.seeds.first() == asked.seeds.first() && found.contrasts == asked.contrasts;
    if lines.is_empty() && !is_same {
        lines.push("its seeds or its comparisons".to_owned());
    }
    lines
}
