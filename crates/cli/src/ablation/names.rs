//! `--drop` and `--add`: lists of techniques, some with a value.

use heldout_train::study::Added;

/// The names in `--drop a,b --drop c`.
pub fn dropped(lists: &[String]) -> Vec<String> {
    lists.iter().flat_map(|list| split(list)).collect()
}

/// The techniques in `--add a,b=0.2 --add 'c={ x = 1, y = 2 }'`.
pub fn added(lists: &[String]) -> Vec<Added> {
    let one = |text: String| match text.split_once('=') {
        Some((name, value)) => {
            Added { name: name.trim().to_owned(), value: Some(value.trim().to_owned()) }
        }
        None => Added { name: text, value: None },
    };
    lists.iter().flat_map(|list| split(list)).map(one).collect()
}

/// Splits at commas that are in no table, list or text.
fn split(list: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth, mut is_quoted) = (Vec::new(), String::new(), 0i32, false);
    for c in list.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            '{' | '[' if !is_quoted => depth += 1,
            '}' | ']' if !is_quoted => depth -= 1,
            _ => {}
        }
        if c == ',' && depth <= 0 && !is_quoted {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(c);
        }
    }
    parts.push(part);
    parts.into_iter().map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_separate_names_but_not_values() {
        let lists = ["dropout, weight-decay".to_owned(), "ema".to_owned()];
        assert_eq!(dropped(&lists), ["dropout", "weight-decay", "ema"]);
        let lists = ["ema,dropout=0.2,label-smoothing={ amount = 0.1, to = \"a,b\" }".to_owned()];
        let found: Vec<_> =
            added(&lists).into_iter().map(|a| (a.name, a.value.unwrap_or_default())).collect();
        let expected = [
            ("ema", ""),
            ("dropout", "0.2"),
            ("label-smoothing", "{ amount = 0.1, to = \"a,b\" }"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
