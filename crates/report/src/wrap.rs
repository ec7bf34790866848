//! Text cut into lines of a given width, for help cards and summaries.

/// Cuts `text` at spaces into lines of at most `width` characters, the first starting with
/// `first` and the others with `rest`. A word longer than a line stays whole: a path or an
/// address must survive copying. Width is counted in characters (our own texts are Latin).
pub fn wrap(text: &str, width: usize, first: &str, rest: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in text.split_whitespace() {
        let length = line.chars().count() + usize::from(!is_empty) + word.chars().count();
        if !is_empty && length > width {
            lines.push(std::mem::replace(&mut line, rest.to_owned()));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    if !is_empty || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Cuts a line at spaces into lines of at most `width` characters, keeping the spacing inside;
/// all but the first start with `rest`. A word longer than a line stays whole.
pub fn fold(text: &str, width: usize, rest: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = text.to_owned();
    let mut indent = 0;
    while line.chars().count() > width {
        let spaces = line.char_indices().enumerate().filter(|(_, (_, c))| *c == ' ');
        // The last space that fits, else the first one beyond, always behind the indent.
        let behind = spaces.map(|(column, (at, _))| (column, at)).filter(|(_, at)| *at > indent);
        let (fitting, beyond): (Vec<_>, Vec<_>) = behind.partition(|(column, _)| *column <= width);
        let is_word_before = |at: &usize| !line[indent..*at].trim().is_empty();
        let found = fitting.last().filter(|(_, at)| is_word_before(at)).or(beyond.first());
        let Some((_, at)) = found.copied() else { break };
        let tail = format!("{rest}{}", line[at..].trim_start());
        line.truncate(at);
        lines.push(line.trim_end().to_owned());
        line = tail;
        indent = rest.len();
    }
    lines.push(line);
    lines
}

/// Cuts a line to `width` characters; what is left out is marked by an ellipsis.
pub fn truncate(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        out.push('…');
    }
    out
}

/// Lays rows out in columns two spaces apart; every column but the last is padded. Rows may have
/// different lengths. No trailing spaces.
pub fn columns(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|c| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0))
        .collect();
    rows.iter()
        .map(|row| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
            }
            line.trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_spaces_and_keeps_long_words() {
        assert_eq!(wrap("a bb ccc dddd", 8, "- ", "  "), ["- a bb", "  ccc", "  dddd"]);
        assert_eq!(wrap("a/very/long/path b", 5, "", ""), ["a/very/long/path", "b"]);
        assert_eq!(wrap("", 5, "x ", ""), ["x "]);
        assert_eq!(wrap("a  b\nc", 80, "", ""), ["a b c"]);
    }

    #[test]
    fn folds_long_lines_and_keeps_their_spacing() {
        assert_eq!(fold("model    a b c d", 12, "  "), ["model    a b", "  c d"]);
        assert_eq!(fold("short", 12, "  "), ["short"]);
        assert_eq!(fold("averyveryverylongword b", 8, "  "), ["averyveryverylongword", "  b"]);
        assert_eq!(fold("averyveryverylongword", 8, "  "), ["averyveryverylongword"]);
        assert_eq!(fold("a bbbbbbbbbbbb cc", 6, "  "), ["a", "  bbbbbbbbbbbb", "  cc"]);
        assert_eq!(fold("é é é é é", 3, ""), ["é é", "é é", "é"]);
    }

    #[test]
    fn truncates_with_an_ellipsis() {
        assert_eq!(truncate("abcdef", 6), "abcdef");
        assert_eq!(truncate("abcdefg", 6), "abcde…");
        assert_eq!(truncate("abc", 0), "");
    }

    #[test]
    fn aligns_columns() {
        let rows = [vec!["a".into(), "b".into()], vec!["ccc".into(), "d".into()], vec![]];
        assert_eq!(columns(&rows), ["a    b", "ccc  d", ""]);
    }
}
