//! The parsers against plain definitions, on any input.

use super::plain::read_plain;
use super::text::TextStream;
use super::*;
use proptest::prelude::*;

/// Gathers whole documents with their lines.
#[derive(Default)]
struct Gather {
    documents: Vec<(u64, String)>,
}

impl DocumentSink for Gather {
    fn begin(&mut self, line: u64) -> Result<(), DataError> {
        self.documents.push((line, String::new()));
        Ok(())
    }

    fn text(&mut self, piece: &str) -> Result<(), DataError> {
        self.documents.last_mut().expect("begun").1.push_str(piece);
        Ok(())
    }

    fn end(&mut self) -> Result<(), DataError> {
        Ok(())
    }
}

fn read(name: &str, bytes: &[u8], cut: Cut) -> Result<Vec<(u64, String)>, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let inputs = expand(&[path.display().to_string()])?;
    let mut gather = Gather::default();
    read_file(&inputs[0], cut, &Field { asked: None }, &mut gather)?;
    Ok(gather.documents)
}

/// Blocks of lines that are not blank, by the definition.
fn blocks(text: &str) -> Vec<(u64, String)> {
    let mut all: Vec<(u64, Vec<&str>)> = Vec::new();
    let mut inside = false;
    for (number, line) in text.split('\n').enumerate() {
        if line.trim().is_empty() {
            inside = false;
            continue;
        }
        if !inside {
            all.push((number as u64 + 1, Vec::new()));
        }
        inside = true;
        all.last_mut().expect("pushed").1.push(line);
    }
    let joined = |lines: Vec<&str>| lines.join("\n").trim_end_matches(['\n', '\r']).to_string();
    all.into_iter().map(|(line, lines)| (line, joined(lines))).collect()
}

#[test]
fn lines_longer_than_a_piece_are_read_in_parts() {
    let long = "é".repeat(text::PIECE) + " end";
    let all = format!("first\n{long}\n\nlast");
    let expected = vec![(1, format!("first\n{long}")), (4, "last".to_string())];
    assert_eq!(read("a.txt", all.as_bytes(), Cut::BlankLine).unwrap(), expected);
    let lines = read("a.txt", all.as_bytes(), Cut::Line).unwrap();
    assert_eq!(lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(lines[1].1, long);
    let whole = read("a.txt", all.as_bytes(), Cut::Whole).unwrap();
    assert_eq!(whole, [(1, all.clone())]);
    // Far into a long line, a bad byte still has its place.
    let mut bytes = all.into_bytes();
    bytes[6 + text::PIECE + 101] = 0xff;
    let error = read("a.txt", &bytes, Cut::Whole).unwrap_err().to_string();
    assert!(error.contains("a.txt:2: invalid UTF-8 at byte"), "{error}");
}

#[test]
fn a_record_that_never_ends_is_refused_in_bounded_memory() {
    let filler = "x".repeat(66 << 20);
    for (name, start, hint) in [
        ("a.jsonl", "{\"text\": \"", "Is it one object a line?"),
        ("a.json", "[{\"text\": \"", "Split it into records"),
        ("a.csv", "text\n\"", "A quote that is never closed"),
    ] {
        let error = read(name, format!("{start}{filler}").as_bytes(), Cut::Line).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("the record is longer than 64 MiB"), "{name}: {error}");
        assert!(error.contains(hint), "{name}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn blank_line_blocks_are_those_of_the_definition(text in "[ab \\n\\r\\t中]{0,80}") {
        let ours = read("a.txt", text.as_bytes(), Cut::BlankLine).unwrap();
        assert_eq!(ours, blocks(&text));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for name in ["a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt.gz"] {
            let _ = read(name, &bytes, Cut::BlankLine);
        }
    }

    #[test]
    fn nearly_json_and_nearly_csv_never_panic(text in "[\\[\\]{}\",:tex0\\\\ \\n]{0,60}") {
        for name in ["a.jsonl", "a.json", "a.csv", "a.tsv"] {
            let _ = read(name, text.as_bytes(), Cut::Line);
        }
    }

    #[test]
    fn records_come_back_from_every_format(texts in prop::collection::vec("\\PC{1,20}|[\"\\n,]{1,5}", 1..8)) {
        let quoted = |t: &String| format!("\"{}\"", t.replace('"', "\"\""));
        let json = |t: &String| serde_json::json!({ "text": t }).to_string();
        let lines: Vec<String> = texts.iter().map(json).collect();
        let csv: Vec<String> = texts.iter().map(quoted).collect();
        for (name, content) in [
            ("a.jsonl", lines.join("\n")),
            ("a.json", format!("[{}]", lines.join(", "))),
            ("a.csv", format!("text\n{}\n", csv.join("\n"))),
        ] {
            let found = read(name, content.as_bytes(), Cut::Line).unwrap();
            let found: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
            assert_eq!(found, texts, "{name}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_no_text() {
    let mut stream = TextStream::new({
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "\u{feff}abc").unwrap();
        open(&path).unwrap()
    });
    let mut gather = Gather::default();
    read_plain(&mut stream, Cut::Whole, &mut gather).unwrap();
    assert_eq!(gather.documents, [(1, "abc".to_string())]);
}
