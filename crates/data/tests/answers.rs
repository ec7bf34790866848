//! Questions with answers: what is read, how it is split, where answers lie in windows, and what is
//! said of records that cannot be used.

use std::collections::HashSet;
use std::path::PathBuf;

use heldout_data::answers::{
    AnswerFields, AnswerSpec, Question, for_each_question, prepare_answers, read_answers,
};
use heldout_data::tokenizer::TokenizerKind;
use heldout_data::{DataError, DuplicatePolicy, TokenizerSpec, ValidationSpec};
use serde_json::{Value, json};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn lines(&self, name: &str, records: &[Value]) -> String {
        let lines: Vec<String> = records.iter().map(Value::to_string).collect();
        self.write(name, &lines.join("\n"))
    }
}

fn spec(train: &str) -> AnswerSpec {
    AnswerSpec::new(train, TokenizerSpec::Train { kind: TokenizerKind::Char, vocabulary: 0 })
}

/// Paragraph `n` with two questions, letters beyond ASCII in front of its answers.
fn paragraph(n: usize) -> Value {
    let context =
        format!("Zürich–{n} liegt schön: der Fluss {n}n führt Wasser, und Berg {n}b auch.");
    let qa = |id: &str, answer: String| {
        let start = context.find(&answer).unwrap();
        let start = context[..start].chars().count();
        json!({"id": format!("{n}{id}"), "question": format!("Was ist {id} in {n}?"),
               "answers": [{"text": answer, "answer_start": start}]})
    };
    let qas = [qa("a", format!("Fluss {n}n")), qa("b", format!("{n}b"))];
    json!({"context": context, "qas": qas})
}

fn squad(paragraphs: std::ops::Range<usize>) -> String {
    let each: Vec<Value> = paragraphs.map(paragraph).collect();
    let (one, other) = each.split_at(each.len() / 2);
    let article = |paragraphs: &[Value]| json!({"title": "t", "paragraphs": paragraphs});
    serde_json::to_string_pretty(&json!({"version": "1.1", "data": [article(one), article(other)]}))
        .unwrap()
}

fn contexts(questions: &[Question]) -> HashSet<&str> {
    questions.iter().map(|question| &*question.context).collect()
}

#[test]
fn squad_is_split_by_paragraph_and_answers_lie_where_they_should() {
    let folder = Folder::new();
    let train = folder.write("squad.json", &squad(0..20));
    let spec = AnswerSpec {
        validation: ValidationSpec::Share(0.2),
        test: Some(ValidationSpec::Share(0.1)),
        max_length: 60,
        stride: 11,
        ..spec(&train)
    };
    let prepared = prepare_answers(&spec).unwrap();
    let data = &prepared.data;
    assert_eq!((data.train.len(), data.validation.len(), data.test.len()), (28, 8, 4));
    let all = [&data.train, &data.validation, &data.test].map(|split| contexts(split));
    assert!(all[0].is_disjoint(&all[1]) && all[0].is_disjoint(&all[2]));
    assert!(all[1].is_disjoint(&all[2]));
    assert_eq!(prepared.facts.train.paragraphs, 14);
    let (mut found, mut without) = (0, 0);
    for (number, question) in data.train.iter().enumerate() {
        let windows = prepared.train.windows_of(number);
        assert!(windows.len() > 1, "the context is longer than a window");
        let mut seen = 0;
        for window in windows.clone() {
            assert!(prepared.train.windows.length(window) <= 60);
            let (first, last) = prepared.train.spans[window];
            if (first, last) == (0, 0) {
                without += 1;
                continue;
            }
            let bytes = prepared.train.bytes(window, first as usize, last as usize);
            assert_eq!(&question.context[bytes], question.answers[0].text);
            seen += 1;
        }
        found += usize::from(seen > 0);
        // Windows overlap and leave nothing out.
        let mut covered = 0;
        for window in windows {
            let context = prepared.train.context_of(window);
            let bytes = prepared.train.bytes(window, context.start, context.end - 1);
            assert!(bytes.start <= covered, "{bytes:?} after {covered}");
            covered = covered.max(bytes.end);
        }
        assert_eq!(covered, question.context.len());
    }
    assert_eq!(found, 28);
    assert!(without > 0, "not every window has the answer");
    // Neither the order of the file nor anything but the seed decides.
    let turned: Vec<Value> = (0..20).rev().map(paragraph).collect();
    let turned = json!({"data": [{"paragraphs": turned}]}).to_string();
    let turned = folder.write("turned.json", &turned);
    let again = read_answers(&AnswerSpec { train: vec![turned], ..spec.clone() }).unwrap();
    assert_eq!(contexts(&again.validation), all[1]);
    let other = read_answers(&AnswerSpec { seed: 8, ..spec.clone() }).unwrap();
    assert_ne!(contexts(&other.validation), all[1]);
    let few = read_answers(&AnswerSpec { limit: Some(7), ..spec }).unwrap();
    assert_eq!((few.train.len(), few.facts.train_available), (7, 28));
    assert_eq!(few.facts.train.paragraphs, 4, "whole paragraphs as far as they go");
}

#[test]
fn records_of_every_shape_are_read() {
    let folder = Folder::new();
    let context = "Ein Löwe und zwei Bären.";
    let with = |answers: Value| json!({"question": "Wer?", "context": context, "answers": answers});
    let records = [
        with(json!({"text": ["Löwe", "Ein Löwe"], "answer_start": [4, 0]})),
        with(json!([{"text": "Bären", "answer_start": 18}])),
        with(json!({"text": "zwei", "answer_start": 13})),
        json!({"query": "Wer?", "passage": context, "answer": "Bären", "id": 7}),
        json!({"query": "Wer?", "passage": context, "answer": "Bären", "answer_start": 18}),
        with(json!([])),
        json!({"question": "Wer?", "context": context, "is_impossible": true}),
    ];
    let file = folder.lines("a.jsonl", &records);
    let mut read = Vec::new();
    for_each_question(&[file], &AnswerFields::default(), &mut |question, record| {
        assert!(record.is_some());
        read.push(question);
        Ok(())
    })
    .unwrap();
    let text = |q: &Question| q.answers.iter().map(|a| a.text.clone()).collect::<Vec<_>>();
    let expected: [&[&str]; 7] =
        [&["Löwe", "Ein Löwe"], &["Bären"], &["zwei"], &["Bären"], &["Bären"], &[], &[]];
    assert_eq!(read.iter().map(text).collect::<Vec<_>>(), expected.map(|e| e.to_vec()));
    assert_eq!(read[0].answers[0].start, 4);
    assert_eq!(read[1].answers[0].start, context.find("Bären").unwrap());
    assert_eq!(read[3].id, "7");
    assert!(read[0].id.ends_with("a.jsonl:1"));
    let table = "question,context,answers,answer_start\nWer?,\"Ein Löwe, und so\",Löwe,4\n";
    let table = folder.write("a.csv", table);
    for_each_question(&[table], &AnswerFields::default(), &mut |question, _| {
        assert_eq!((question.answers[0].start, question.answers.len()), (4, 1));
        Ok(())
    })
    .unwrap();
}

#[test]
fn paragraphs_that_are_held_out_too_are_not_trained_on() {
    let folder = Folder::new();
    let (train, held) =
        (folder.write("t.json", &squad(0..9)), folder.write("v.json", &squad(8..12)));
    let spec = AnswerSpec { validation: ValidationSpec::Paths(vec![held]), ..spec(&train) };
    let data = read_answers(&spec).unwrap();
    assert_eq!((data.facts.leaks, data.facts.leaks_removed, data.train.len()), (1, 2, 16));
    assert!(data.facts.notices[0].contains("1 training paragraph(s)"), "{:?}", data.facts.notices);
    let left = AnswerSpec { duplicates: DuplicatePolicy::Report, ..spec.clone() };
    assert_eq!(read_answers(&left).unwrap().train.len(), 18);
    let same = AnswerSpec { train: vec![folder.write("s.json", &squad(0..12))], ..spec };
    let error = read_answers(&same).unwrap_err();
    assert!(matches!(&error, DataError::Leak(words) if words.contains("100%")), "{error}");
}

#[test]
fn what_cannot_be_used_is_named_with_its_remedy() {
    let folder = Folder::new();
    let check = |record: Value, expected: &[&str]| {
        let good = json!({"question": "q", "context": "a b", "answers": ["a"]});
        let file = folder.lines("bad.jsonl", &[good, record]);
        let error = read_answers(&spec(&file)).unwrap_err().to_string();
        for words in expected {
            assert!(error.contains(words), "{words:?} in {error}");
        }
        assert!(error.contains("bad.jsonl:2"), "{error}");
    };
    let context = "The cat sat. The dog ran.";
    let at = |text: &str, start: i64| {
        json!({"question": "Who?", "context": context,
               "answers": [{"text": text, "answer_start": start}]})
    };
    check(at("cow", 4), &["\"cow\" is not in the context", "letter for letter"]);
    check(at("dog", 4), &["at character 4", "\"cat\" stands", "first stands at 17"]);
    check(at("dog", 400), &["it first stands at 17"]);
    check(at("dog", -1), &["answer_start holds -1"]);
    check(at(" ", 3), &["an answer is empty", "\"answers\": []"]);
    let renamed = json!({"question": "Who?", "contxt": context, "answers": ["cat"]});
    check(renamed, &["no field \"context\"", "Did you mean context = \"contxt\"?"]);
    check(json!({"question": "Who?", "context": context}), &["no field \"answers\""]);
    check(json!({"question": " ", "context": context, "answers": ["cat"]}), &["question is empty"]);
    check(json!({"question": "Who?", "context": "", "answers": []}), &["context is empty"]);
    check(json!({"question": 3, "context": context, "answers": []}), &["expected text"]);
    let mut inside = serde_json::from_str::<Value>(&squad(0..4)).unwrap();
    inside["data"][1]["paragraphs"][0]["qas"][1]["answers"][0]["answer_start"] = json!(3);
    let file = folder.write("inside.json", &inside.to_string());
    let error = read_answers(&spec(&file)).unwrap_err().to_string();
    assert!(error.contains("data[1].paragraphs[0].qas[1]: the answer \"2b\""), "{error}");
    let file = folder.write("plain.txt", "text");
    assert!(read_answers(&spec(&file)).unwrap_err().to_string().contains("has no questions"));
    let file = folder.write("one.json", &squad(0..1));
    let error = read_answers(&spec(&file)).unwrap_err().to_string();
    assert!(error.contains("no paragraph may be in two splits"), "{error}");
    let hidden = json!({"question": "q", "context": context, "answers": []});
    let other = json!({"question": "q", "context": "another one", "answers": []});
    let file = folder.lines("hidden.jsonl", &[hidden, other]);
    let error = read_answers(&spec(&file)).unwrap_err().to_string();
    assert!(error.contains("nothing to learn"), "{error}");
}

#[test]
fn a_window_without_room_says_so() {
    let folder = Folder::new();
    let file = folder.write("squad.json", &squad(0..4));
    let narrow = AnswerSpec { max_length: 4, ..spec(&file) };
    let error = prepare_answers(&narrow).err().unwrap().to_string();
    assert!(error.contains("model.context") || error.contains("allow at least"), "{error}");
}
