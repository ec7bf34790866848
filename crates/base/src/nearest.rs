//! The known name nearest to a mistyped one, for "did you mean" in error messages.

/// The member of `among` that `word` most likely meant, or `None` when nothing is near.
///
/// Case and the difference between `-`, `_` and space do not count. A name is near when it is
/// at most one edit per three letters away (at least one edit, optimal string alignment
/// distance), or when one of the two begins with the other and at least three letters agree.
/// The first of equally near names wins.
pub fn nearest<'a>(word: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = plain(word);
    if wanted.is_empty() {
        return None;
    }
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in among {
        let name = plain(candidate);
        let distance = strsim::osa_distance(&wanted, &name);
        let letters = wanted.chars().count().max(name.chars().count());
        let shares_start = wanted.len().min(name.len()) >= 3
            && (name.starts_with(&wanted) || wanted.starts_with(&name));
        if distance > (letters / 3).max(1) && !shares_start {
            continue;
        }
        if best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Lower case, with every word separator as `-`.
fn plain(word: &str) -> String {
    word.trim()
        .chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c == '_' || c == ' ' { '-' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_what_was_meant() {
        let names = ["dropout", "label-smoothing", "weight-decay", "ema", "adamw", "l1", "l2"];
        let check = |word: &str, expected: Option<&str>| {
            assert_eq!(nearest(word, names), expected, "for {word:?}");
        };
        check("droput", Some("dropout"));
        check("dorpout", Some("dropout"));
        check("Weight_Decay", Some("weight-decay"));
        check("labelsmoothing", Some("label-smoothing"));
        check("label", Some("label-smoothing"));
        check("adam", Some("adamw"));
        check("l3", Some("l1"));
        check("zebra-crossing", None);
        check("", None);
        check("früh", None);
    }

    #[test]
    fn nothing_to_choose_from() {
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}
