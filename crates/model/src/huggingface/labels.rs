//! The names of a classifier's labels in config.json: `id2label`, `label2id`, `problem_type`.

use serde_json::{Map, Value, json};

use super::config::{brief, wrong_kind};
use crate::ModelError;

/// Names where nobody gave any, as transformers makes them.
pub fn numbered(labels: usize) -> Vec<String> {
    (0..labels).map(|label| format!("LABEL_{label}")).collect()
}

/// Puts names into a config.json, the label's number being its place.
pub fn write(config: &mut Value, names: &[String]) {
    let by_id: Map<String, Value> =
        names.iter().enumerate().map(|(id, name)| (id.to_string(), json!(name))).collect();
    let by_name: Map<String, Value> =
        names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
    config["id2label"] = Value::Object(by_id);
    config["label2id"] = Value::Object(by_name);
    config["problem_type"] = json!("single_label_classification");
}

/// The names that a config.json holds, in the order of their numbers.
pub fn read(config: &Map<String, Value>) -> Result<Option<Vec<String>>, ModelError> {
    let kind = config.get("problem_type").filter(|kind| !kind.is_null());
    if let Some(kind) = kind.filter(|kind| *kind != "single_label_classification") {
        let reason = "one label a text is what is computed here".into();
        let (key, found) = ("problem_type".into(), brief(kind));
        return Err(ModelError::Unsupported { key, found, reason });
    }
    let Some(names) = config.get("id2label").filter(|names| !names.is_null()) else {
        let count = config.get("num_labels").and_then(Value::as_u64);
        return Ok(count.map(|count| numbered(count as usize)));
    };
    let wrong = || wrong_kind("id2label", names, "an object of names under \"0\", \"1\", ...");
    let names = names.as_object().ok_or_else(wrong)?;
    let name = |id: usize| names.get(&id.to_string()).and_then(Value::as_str).map(String::from);
    let found: Option<Vec<String>> = (0..names.len()).map(name).collect();
    found.map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: Value, expected: Option<&[&str]>) {
        let found = read(config.as_object().unwrap()).unwrap();
        let expected = expected.map(|names| names.iter().map(|n| n.to_string()).collect());
        assert_eq!(found, expected);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let names: Vec<String> = (0..11).map(|i| format!("n{}", 20 - i)).collect();
        let mut config = json!({});
        write(&mut config, &names);
        assert_eq!(read(config.as_object().unwrap()).unwrap(), Some(names));
        check(json!({}), None);
        check(json!({"num_labels": 3}), Some(&["LABEL_0", "LABEL_1", "LABEL_2"]));
    }

    #[test]
    fn what_is_not_one_label_a_text_is_refused() {
        let fail = |config: Value| read(config.as_object().unwrap()).unwrap_err().to_string();
        let message = fail(json!({"problem_type": "multi_label_classification"}));
        assert!(message.contains("one label a text"), "{message}");
        let message = fail(json!({"id2label": {"0": "a", "2": "b"}}));
        assert!(message.contains("id2label"), "{message}");
    }
}
