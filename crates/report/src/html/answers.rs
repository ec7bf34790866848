//! What a model answers, and which answers are most wrong.

use heldout_record::{AnswersRecord, IntervalRecord};
use maud::{Markup, html};

use super::table::{Column, cell, table};
use crate::format;

/// Tables of the figures and of the worst answers.
pub fn answers(found: &AnswersRecord) -> Markup {
    let (text, number) = (Column::Text, Column::Number);
    let figure = |name: &str, of: &IntervalRecord| {
        let [value, low, high] = [of.value, of.low, of.high].map(|v| format::fixed(v, 4));
        vec![cell(name), cell(value), cell(format!("{low} to {high}"))]
    };
    let figures = [figure("exact match", &found.exact_match), figure("F1", &found.f1)];
    let said = |words: &str| match words {
        "" => cell("(no answer)"),
        words => cell(words),
    };
    let wrong = found.most_wrong.iter().map(|wrong| {
        vec![
            cell(&wrong.question),
            said(&wrong.answer),
            said(&wrong.said),
            cell(format::fixed(wrong.f1, 2)),
            cell(format::fixed(wrong.score, 2)),
            cell(&wrong.id),
        ]
    });
    let head = [("", text), ("held-out questions", number), ("95% interval", text)];
    let head_wrong = [
        ("question", text),
        ("right", text),
        ("said", text),
        ("F1", number),
        ("how surely", number),
        ("id", text),
    ];
    html! {
        (table(
            &format!("The result on all {} held-out questions", format::count(found.questions)),
            &head,
            figures.into_iter(),
        ))
        @if !found.most_wrong.is_empty() {
            (table("Held-out questions that the result is most wrong about", &head_wrong, wrong))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_record::WrongAnswerRecord;

    #[test]
    fn figures_and_mistakes_are_told() {
        let found = AnswersRecord {
            step: 7,
            questions: 290,
            exact_match: IntervalRecord { value: 0.5, low: 0.44, high: 0.5612 },
            f1: IntervalRecord { value: 0.62, low: 0.57, high: 0.67 },
            most_wrong: vec![WrongAnswerRecord {
                id: "56be".into(),
                line: 1,
                question: "Who <b>won</b>?".into(),
                answer: String::new(),
                said: "Ulm".into(),
                f1: 0.0,
                score: 0.913,
            }],
        };
        let page = answers(&found).into_string();
        for words in ["0.4400 to 0.5612", "Who &lt;b&gt;won", "(no answer)", "0.91", "all 290"] {
            assert!(page.contains(words), "{words} in {page}");
        }
    }
}
