//! What every form of a report says of a run in names and texts: its data, a look at its model.

use heldout_record::examination::Reproduced;

use super::RunPart;
use crate::format;

/// Sizes of the splits, duplicates, leaks.
pub(crate) fn data_facts(run: &RunPart) -> Vec<(&'static str, String)> {
    let Some(started) = &run.started else { return Vec::new() };
    let mut rows = vec![
        ("training tokens", format::count(started.tokens_train)),
        ("held-out tokens", format::count(started.tokens_valid)),
        ("vocabulary", format::count(started.vocabulary)),
        ("bytes per held-out token", format::fixed(started.bytes_per_token, 2)),
    ];
    let Some(data) = &started.data else { return rows };
    let of = |documents: u64, bytes: u64| {
        let plural = if documents == 1 { "document" } else { "documents" };
        format!("{} {plural}, {}", format::count(documents), format::bytes(bytes))
    };
    let found = |count: u64, removed: u64| match (count, removed) {
        (0, _) => "none found".to_owned(),
        (n, 0) => format::count(n),
        (n, removed) => format!("{}, {} taken out", format::count(n), format::count(removed)),
    };
    rows.push(("training text", of(data.documents_train, data.bytes_train)));
    rows.push(("held-out text", of(data.documents_valid, data.bytes_valid)));
    let copies = data.exact_duplicates + data.near_duplicates;
    rows.push(("copies of documents", found(copies, data.duplicates_removed)));
    rows.push((
        "held-out documents in training",
        found(data.leaked_documents, data.leaked_removed),
    ));
    let shared = match data.shared_passages {
        0 => "none found".to_owned(),
        n => format!("{}, {}", format::count(n), format::bytes(data.shared_passage_bytes)),
    };
    rows.push(("passages in both splits", shared));
    rows.push(("for example", data.example.clone()));
    if data.unknown_valid > 0 {
        rows.push(("unknown held-out tokens", format::count(data.unknown_valid)));
    }
    rows
}

/// Calibration and memorisation, where somebody looked.
pub(crate) fn examined(run: &RunPart) -> Vec<(&'static str, String)> {
    let Some(examination) = &run.diagnosis.examination else { return Vec::new() };
    let mut rows = vec![("weights", examination.weights.clone())];
    if let Some(calibration) = &examination.calibration {
        let share = |value| format!("{:.1}%", 100.0 * value);
        rows.push(("calibration error", share(calibration.error)));
        let [sure, right] = [calibration.confidence, calibration.accuracy].map(share);
        rows.push(("confidence", format!("{sure} on average, right {right} of the time")));
        rows.push(("best temperature", format::fixed(calibration.temperature, 2)));
    }
    if let Some(memorized) = &examination.memorization {
        let share = |part: &Reproduced| {
            format!("{} of {}", format::count(part.verbatim), format::count(part.windows))
        };
        let text = format!(
            "{} training windows continued word for word ({} tokens), {} held-out ones",
            share(&memorized.train),
            memorized.continuation,
            share(&memorized.valid)
        );
        rows.push(("memorised", text));
        rows.push(("for example", memorized.example.clone()));
    }
    rows
}
