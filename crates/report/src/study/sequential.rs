//! When an effect is settled, so that seeds can be saved without fooling oneself.
//!
//! The evidence is looked at after planned numbers of seeds. Looking often finds effects that are
//! not there, and so does looking at many techniques; both are paid for:
//!
//! - Over looks: the level α is spent little by little (Lan & DeMets 1983, with the spending
//!   function (n/N)² of Kim & DeMets 1987). A look that spends the share w multiplies its p by 1/w,
//!   and the least of these over all looks counts. By Bonferroni's inequality its chance of falling
//!   below u is at most Σ w·u ≤ u, however the looks depend on each other and whenever one stops.
//! - Over contrasts: Holm's step-down correction (1979) of these p-values. They only fall as looks
//!   are added, so what was once rejected stays rejected.
//!
//! A study may be extended when its plan is carried out. Its level is spent by then, so that more
//! seeds cost more: the looks beyond the first plan are at the numbers of seeds in [`INTERIM`] and
//! at no other, the first of them with a share of ½, the next with ¼, and so on. Which of them are
//! made may depend on everything seen so far: they and their shares were fixed before the first
//! seed, and Bonferroni's inequality takes in those that were never made. The chance of any false
//! claim in an extended study is therefore at most α·(1 + ½ + ¼ + …) < 2α; [`level_of`] says
//! it, and so does every report. What the first plan rejected stays rejected.
//!
//! The p-value of a look is that of the paired t-test, exact for normal differences. An effect is
//! also settled when two one-sided tests at the same look's level place it within the region of
//! practical equivalence (Schuirmann 1987), or when one side of it never gives a result.

use heldout_record::study::{Contrast, Extension, Finding, Look, Study, TrialEvent};

use super::trials::{Trials, seeds_done};
use crate::statistics::{estimate, paired_t, student_cdf};

/// Where looks may be; fewer differences than the first have no spread worth one, and no study has
/// more seeds than the last.
const INTERIM: [u64; 7] = [3, 5, 8, 12, 17, 23, 30];

/// After how many of `seeds` seeds to look: early ones where at least two more would be saved, and
/// always the last.
pub fn planned_looks(seeds: u64) -> Vec<u64> {
    INTERIM.into_iter().filter(|n| n + 2 <= seeds).chain([seeds]).collect()
}

/// Numbers of seeds to which a study of `seeds` can be extended.
pub fn extensions_of(seeds: u64) -> impl Iterator<Item = u64> {
    INTERIM.into_iter().filter(move |n| *n > seeds)
}

/// The study with more seeds, up to one of [`extensions_of`] its own: its first plan and its looks
/// stay as they are.
///
/// # Panics
/// If the number is none of these.
pub fn extended(study: &Study, to: u64, time: String, command_line: Vec<String>) -> Study {
    let from = study.seeds.len() as u64;
    assert!(extensions_of(from).any(|n| n == to), "{from} seeds cannot become {to}");
    let mut study = study.clone();
    let first = study.seeds.first().copied().unwrap_or(1);
    study.seeds = (first..first + to).collect();
    study.extensions.push(Extension { from, to, time, command_line });
    let new = extensions_of(from).filter(|n| *n <= to);
    study.rule.looks.extend(new);
    study
}

/// The share of the first plan's level that is spent when `seeds` have been looked at: (n/N)² up
/// to its N; then ½ more at the first look beyond, ¼ at the next, and so on.
pub fn spent_by(study: &Study, seeds: u64) -> f64 {
    let first = study.seeds_first();
    if seeds < first {
        return (seeds as f64 / first as f64).powi(2);
    }
    let beyond = extensions_of(first).filter(|n| *n <= seeds).count();
    2.0 - 0.5f64.powi(beyond as i32)
}

/// The chance of any false claim that the whole study accepts, extensions included.
pub fn level_of(study: &Study) -> f64 {
    study.rule.level * spent_by(study, study.seeds.len() as u64)
}

/// What the last look of a plan without unplanned ones spends.
pub(super) fn share_of_the_last(study: &Study) -> f64 {
    let all = study.seeds.len() as u64;
    let earlier = study.rule.looks.iter().filter(|n| **n < all).max();
    spent_by(study, all) - earlier.map_or(0.0, |n| spent_by(study, *n))
}

fn looks(events: &[TrialEvent]) -> impl Iterator<Item = &Look> {
    events.iter().filter_map(|event| match event {
        TrialEvent::Looked(look) => Some(look),
        _ => None,
    })
}

/// The planned look that the ledger is ready for and that was not made yet.
pub fn look_due(study: &Study, events: &[TrialEvent]) -> Option<u64> {
    let done = seeds_done(study, events) as u64;
    let made = looks(events).map(|look| look.seeds).max().unwrap_or(0);
    let due = study.rule.looks.iter().filter(|n| **n <= done && **n > made).max().copied();
    due.filter(|_| !is_all_settled(study, events))
}

/// Looks at the first `seeds` seeds: computes what is to be added to the ledger.
pub fn look(study: &Study, events: &[TrialEvent], seeds: u64) -> Look {
    let spent: f64 = looks(events).map(|look| look.share).sum();
    let share = (spent_by(study, seeds) - spent).max(0.0);
    let trials = Trials::new(events);
    let among = &study.seeds[..(seeds as usize).min(study.seeds.len())];
    let open: Vec<&Contrast> =
        study.contrasts.iter().filter(|c| settled_at(events, &c.name).is_none()).collect();
    let differences: Vec<Vec<f64>> =
        open.iter().map(|c| trials.differences(c, among, |t| t.loss_test)).collect();
    let p = |values: &Vec<f64>| paired_t(values, &vec![0.0; values.len()]).map(|t| t.p);
    let findings = open.iter().zip(&differences).map(|(contrast, values)| Finding {
        contrast: contrast.name.clone(),
        pairs: values.len() as u64,
        p: p(values),
        ..Finding::default()
    });
    let mut look = Look { seeds, share, findings: findings.collect() };
    let corrected = corrected_with(study, events, Some(&look));
    for ((finding, values), contrast) in look.findings.iter_mut().zip(&differences).zip(&open) {
        let place = study.contrasts.iter().position(|c| c.name == finding.contrast);
        finding.p_corrected = corrected[place.expect("it is one of the study's")];
        let (with, without) = trials.failures(contrast, among);
        finding.is_settled = finding.p_corrected <= study.rule.level
            || is_equivalent(values, study.rule.rope, study.rule.level * share)
            || with.is_hopeless()
            || without.is_hopeless();
    }
    look
}

/// Whether two one-sided t-tests, each at half of `level`, place the mean within ±`rope`.
pub(super) fn is_equivalent(values: &[f64], rope: f64, level: f64) -> bool {
    let Some(mean) = estimate(values) else { return false };
    if mean.standard_error == 0.0 {
        return mean.mean.abs() < rope;
    }
    let degrees = (mean.n - 1) as f64;
    let side = |distance: f64| student_cdf(-distance / mean.standard_error, degrees);
    side(rope - mean.mean).max(side(rope + mean.mean)) <= level / 2.0
}

/// Holm's step-down correction: p-values that hold for the whole family at once, in the order
/// given. Not-a-numbers count as 1.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let value = |i: usize| if p[i].is_nan() { 1.0 } else { p[i] };
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| value(*a).total_cmp(&value(*b)));
    let mut corrected = vec![1.0; p.len()];
    let mut least = 0.0f64;
    for (rank, place) in order.into_iter().enumerate() {
        least = least.max((p.len() - rank) as f64 * value(place)).min(1.0);
        corrected[place] = least;
    }
    corrected
}

/// Each contrast's p-value, corrected for looks and contrasts, in the study's order; 1 before the
/// first look.
pub(super) fn corrected(study: &Study, events: &[TrialEvent]) -> Vec<f64> {
    corrected_with(study, events, None)
}

fn corrected_with(study: &Study, events: &[TrialEvent], last: Option<&Look>) -> Vec<f64> {
    let mut least = vec![1.0f64; study.contrasts.len()];
    for look in looks(events).chain(last) {
        for finding in &look.findings {
            let place = study.contrasts.iter().position(|c| c.name == finding.contrast);
            if let (Some(place), Some(p), true) = (place, finding.p, look.share > 0.0) {
                least[place] = least[place].min(p / look.share);
            }
        }
    }
    holm(&least)
}

/// After how many seeds a contrast was settled, if it is.
pub(super) fn settled_at(events: &[TrialEvent], contrast: &str) -> Option<u64> {
    let is_it = |f: &Finding| f.contrast == contrast && f.is_settled;
    looks(events).find(|look| look.findings.iter().any(is_it)).map(|look| look.seeds)
}

/// Whether no contrast needs more seeds.
pub fn is_all_settled(study: &Study, events: &[TrialEvent]) -> bool {
    study.contrasts.iter().all(|c| settled_at(events, &c.name).is_some())
}

/// Whether the last look was made.
pub(super) fn is_level_spent(study: &Study, events: &[TrialEvent]) -> bool {
    looks(events).any(|look| look.seeds >= study.seeds.len() as u64)
}
