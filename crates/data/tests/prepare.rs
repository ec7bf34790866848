//! Whole preparations of small corpora, good and bad, through the public interface.

use heldout_data::tokenizer::TokenizerKind;
use heldout_data::{
    Boundary, DataError, DuplicatePolicy, PrepareSpec, Prepared, Progress, TokenStore,
    TokenizerSpec, ValidationSpec, documents, prepare,
};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with files, prepared with bytes as tokens unless changed.
struct Case {
    folder: TempDir,
    spec: PrepareSpec,
}

impl Case {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), content).unwrap();
        let path = folder.path().join(name).display().to_string();
        let tokenizer = TokenizerSpec::Train { kind: TokenizerKind::Byte, vocabulary: 0 };
        Case { spec: PrepareSpec::new(&path, tokenizer), folder }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn run(&self) -> Result<Prepared, DataError> {
        prepare(&self.spec, &self.cache(), &mut |_| {})
    }

    fn good(&self) -> Prepared {
        self.run().unwrap()
    }

    /// The error's text with the folder taken out.
    fn error(&self) -> String {
        let folder = format!("{}/", self.folder.path().display());
        self.run().unwrap_err().to_string().replace(&folder, "")
    }
}

fn text(data: &Prepared, store: &TokenStore) -> String {
    data.tokenizer.decode(&store.tokens(0..store.len()))
}

fn stories(n: usize) -> Vec<String> {
    let names = ["Ann", "Bob", "Cleo", "Dan", "Eve", "Finn", "Gus"];
    let things = ["boat", "lamp", "stone", "apple", "drum", "kite", "map", "ring", "cup"];
    (0..n)
        .map(|i| {
            let (name, thing) = (names[i % 7], things[i % 9]);
            format!("{name} number {i} had a {thing}. It was {i} years old, and {name} liked it.")
        })
        .collect()
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort();
    all
}

fn split_documents(text: &str) -> Vec<String> {
    let parts = text.split("<|endoftext|>").filter(|t| !t.is_empty());
    parts.map(str::to_string).collect()
}

#[test]
fn blank_lines_separate_documents_and_nothing_is_lost() {
    let all = stories(63);
    let mut case = Case::new("a.txt", all.join("\n \n\n") + "\n");
    case.spec.boundary = Boundary::BlankLine;
    let data = case.good();
    assert_eq!(data.facts.documents, 63);
    assert_eq!((data.facts.documents_train, data.facts.documents_validation), (57, 6));
    let mut seen = split_documents(&text(&data, &data.train));
    assert_eq!(seen.len() as u64, data.train.documents());
    seen.extend(split_documents(&text(&data, &data.validation)));
    assert_eq!(sorted(seen), sorted(all.clone()));
    // Every document ends with the separator, and starts where the store says.
    let eos = data.tokenizer.eos().unwrap();
    for i in 0..data.train.documents() {
        let ids = data.train.tokens(data.train.document_start(i)..data.train.document_start(i + 1));
        assert_eq!(ids.iter().position(|id| *id == eos), Some(ids.len() - 1));
    }
    let bytes: usize = all.iter().map(String::len).sum();
    assert_eq!((data.facts.bytes_train + data.facts.bytes_validation) as usize, bytes);
    assert_eq!(data.facts.tokens_train, data.facts.bytes_train + 57);
}

#[test]
fn the_split_depends_on_content_and_seed_and_not_on_order() {
    let all = stories(200);
    let reversed: Vec<String> = all.iter().rev().cloned().collect();
    let held_out = |documents: &[String], seed: u64| {
        let mut case = Case::new("a.txt", documents.join("\n\n"));
        (case.spec.boundary, case.spec.seed) = (Boundary::BlankLine, seed);
        let data = case.good();
        sorted(split_documents(&text(&data, &data.validation)))
    };
    assert_eq!(held_out(&all, 1), held_out(&reversed, 1));
    assert_ne!(held_out(&all, 1), held_out(&all, 2));
    assert_eq!(held_out(&all, 1).len(), 20);
}

#[test]
fn a_tail_is_the_last_documents_and_a_test_split_comes_after_it() {
    let all = stories(40);
    let mut case = Case::new("a.txt", all.join("\n"));
    case.spec.boundary = Boundary::Record;
    case.spec.validation = ValidationSpec::Tail(0.25);
    case.spec.test = Some(ValidationSpec::Tail(0.1));
    let data = case.good();
    assert_eq!(split_documents(&text(&data, &data.train)), all[..26]);
    assert_eq!(split_documents(&text(&data, &data.validation)), all[26..36]);
    assert_eq!(split_documents(&text(&data, data.test.as_ref().unwrap())), all[36..]);
}

#[test]
fn one_text_is_cut_by_characters_and_has_no_separator() {
    let whole = "Größe ändert sich: naïve 中文 text. ".repeat(50) + "The end of it all.";
    let mut case = Case::new("a.txt", &whole);
    case.spec.test = Some(ValidationSpec::Tail(0.1));
    case.spec.validation = ValidationSpec::Tail(0.2);
    let data = case.good();
    let n = whole.chars().count();
    let (a, b) = ((n as f64 * (1.0 - 0.2 - 0.1)) as usize, (n as f64 * 0.9) as usize);
    let part =
        |from: usize, to: usize| whole.chars().skip(from).take(to - from).collect::<String>();
    assert_eq!(text(&data, &data.train), part(0, a));
    assert_eq!(text(&data, &data.validation), part(a, b));
    assert_eq!(text(&data, data.test.as_ref().unwrap()), part(b, n));
    assert_eq!(data.tokenizer.eos(), None);
    assert!(data.facts.boundary.contains("one contiguous text"), "{}", data.facts.boundary);
}

#[test]
fn held_out_characters_unseen_in_training_are_unknown_and_counted() {
    let mut case = Case::new("a.txt", "abcabc ".repeat(20) + "abXcYX");
    case.spec.tokenizer = TokenizerSpec::Train { kind: TokenizerKind::Char, vocabulary: 0 };
    case.spec.validation = ValidationSpec::Tail(0.05);
    let data = case.good();
    assert_eq!((data.tokenizer.vocabulary_size(), data.facts.unknown_validation), (5, 3));
    assert!(data.facts.notices.iter().any(|n| n.starts_with("3 held-out characters do not occur")));
    let kept = "b<|unknown|>c<|unknown|><|unknown|>";
    assert!(text(&data, &data.validation).ends_with(kept));
}

#[test]
fn all_formats_give_the_same_documents() {
    let all: Vec<String> = stories(30).into_iter().map(|s| s + "\nSaid \"so\", ok? é\t!").collect();
    let json = |s: &String| serde_json::json!({"id": 1, "body": s, "meta": {"x": [1, 2]}});
    let lines: Vec<String> = all.iter().map(|s| json(s).to_string()).collect();
    let array = serde_json::to_string_pretty(&all.iter().map(json).collect::<Vec<_>>()).unwrap();
    let quoted: Vec<String> =
        all.iter().map(|s| format!("1,\"{}\"", s.replace('"', "\"\""))).collect();
    let csv = format!("\u{feff}id,body\r\n{}\r\n", quoted.join("\r\n"));
    let zipped = |text: &str| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut out, text.as_bytes()).unwrap();
        out.finish().unwrap()
    };
    let lines = lines.join("\n");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a.jsonl", lines.clone().into_bytes()),
        ("a.ndjson", (lines.clone() + "\n\n").into_bytes()),
        ("a.json", array.clone().into_bytes()),
        ("b.json", lines.clone().into_bytes()),
        ("a.csv", csv.clone().into_bytes()),
        ("a.jsonl.gz", zipped(&lines)),
        ("a.csv.gz", zipped(&csv)),
        ("a.json.zst", zstd::encode_all(array.as_bytes(), 1).unwrap()),
    ];
    for (name, content) in cases {
        let mut case = Case::new(name, content);
        case.spec.field = Some("body".into());
        let data = case.good();
        let mut seen = split_documents(&text(&data, &data.train));
        seen.extend(split_documents(&text(&data, &data.validation)));
        assert_eq!(sorted(seen), sorted(all.clone()), "{name}");
    }
    let tsv = "id\ttext\n1\tsay \"hi\n2\tand, \"bye\"\n3\tx\n4\ty y\n";
    let data = Case::new("a.tsv", tsv).good();
    assert_eq!(data.facts.documents, 4);
    let nested = "{\"a\": {\"b\": \"one\"}}\n{\"a\": {\"b\": \"two\"}}\n{\"a\": {\"b\": \"six\"}}";
    let mut case = Case::new("n.jsonl", nested);
    case.spec.field = Some("a.b".into());
    assert_eq!(case.good().facts.documents, 3);
}

#[test]
fn folders_and_patterns_are_read_in_order_of_path() {
    let all = stories(25);
    let mut case = Case::new("ignored.bin", "x");
    for (i, story) in all.iter().enumerate() {
        case.file(&format!("corpus/sub{}/{i:02}.txt", i % 2), story);
    }
    case.file("corpus/.hidden.txt", "hidden");
    case.file("corpus/notes.pdf", "x");
    let root = case.folder.path().join("corpus").display().to_string();
    case.spec.train = vec![root.clone()];
    let data = case.good();
    assert_eq!(data.facts.boundary, "each of 25 files is a document");
    assert_eq!(data.facts.documents, 25);
    assert!(data.facts.inputs.windows(2).all(|w| w[0].path < w[1].path));
    case.spec.train = vec![format!("{root}/**/*1.txt")];
    case.spec.boundary = Boundary::File;
    assert_eq!(case.good().facts.documents, 3);
    case.spec.train = vec![format!("{root}/*.xyz")];
    assert!(case.error().starts_with("no file matches the pattern corpus/*.xyz: check"));
    fs::create_dir(case.folder.path().join("none")).unwrap();
    case.spec.train = vec![case.folder.path().join("none").display().to_string()];
    assert!(case.error().starts_with("no text files in the folder none: the folder is empty."));
    case.file("py/a.py", "x");
    case.spec.train = vec![case.folder.path().join("py").display().to_string()];
    assert!(case.error().contains("it holds 1 × .py. Folders are searched for .txt"));
}

#[test]
fn the_boundary_is_chosen_as_documented() {
    let reason = |files: &[(&str, String)]| {
        let mut case = Case::new("x", "x");
        case.spec.train = files.iter().map(|(name, text)| case.file(name, text)).collect();
        case.good().facts.boundary
    };
    let prose = stories(30).join("\n\n");
    assert_eq!(reason(&[("a.txt", prose.clone())]), "one contiguous text (one text file)");
    let parts = stories(60);
    let two = [("a.txt", parts[..30].join("\n\n")), ("b.txt", parts[30..].join("\n\n"))];
    assert_eq!(reason(&two), "blank lines, in 2 files");
    let marked = parts.join("\n<|endoftext|>\n");
    assert_eq!(reason(&[("a.txt", marked)]), "lines with <|endoftext|>, found in the text");
    let two = [("a.txt", parts[..30].join("\n")), ("b.txt", parts[30..].join("\n"))];
    assert_eq!(reason(&two), "one contiguous text (few files, few blank lines)");
}

#[test]
fn files_of_a_contiguous_corpus_are_kept_apart() {
    let mut case = Case::new("a.txt", "first text here");
    case.spec.train.push(case.file("b.txt", "second text follows, and it ends"));
    case.spec.boundary = Boundary::Contiguous;
    case.spec.validation = ValidationSpec::Share(0.2);
    let data = case.good();
    let joined = "first text here<|endoftext|>second text follows, and it ends";
    assert_eq!(text(&data, &data.train) + &text(&data, &data.validation), joined);
    assert_eq!(data.train.documents(), 2);
    let eos = data.tokenizer.eos().unwrap();
    let all = data.validation.tokens(0..data.validation.len());
    assert!(!all.contains(&eos));
}

#[test]
fn bad_input_is_named_with_its_place_and_the_next_step() {
    let check = |name: &str, content: &[u8], expected: &str| {
        let error = Case::new(name, content).error();
        assert!(error.contains(expected), "{name}: {error}\nexpected {expected}");
    };
    check("a.txt", b"", "a.txt: the file is empty (0 characters of text). Give a file with text");
    check("a.txt", b" \n\t\n", "a.txt: the file is empty");
    check("a.txt", b"ab\ncd\0ef", "a.txt: not a text file (a NUL byte at byte 5, line 2)");
    check("a.txt", b"\xff\xfea\0b\0", "it looks like UTF-16, convert it: iconv -f UTF-16");
    check(
        "a.txt",
        b"one\ntwo\nna\xefve\n",
        "a.txt:3: invalid UTF-8 at byte 10 (found byte 0xef). Convert the file first, for example: \
         iconv",
    );
    check("a.txt", b"cut off \xe4\xb8", "a.txt:1: invalid UTF-8 at byte 8");
    check(
        "a.jsonl",
        b"{\"text\": \"x\"}\n\n{\"txt\": \"y\", \"id\": 1}\n",
        "a.jsonl:3: the record has no field \"text\"; it has \"txt\", \"id\". Did you mean \"txt\"",
    );
    check(
        "a.jsonl",
        b"{\"text\": \"x\"}\n{\"text\": 3}",
        "a.jsonl:2: the field \"text\" holds a number",
    );
    check("a.jsonl", b"{\"text\": \"x\"}\n{\"text\": \"y\"", "a.jsonl:2: not valid JSON (EOF");
    check("a.jsonl", b"[1]\n", "a.jsonl:1: the record is a list, not an object");
    check("a.json", b"[{\"text\": \"x\"},\n{\"txt\": 1}]", "a.json:2: the record has no field");
    check("a.json", b"[{\"text\": \"x\"},\n", "a.json:2: not valid JSON");
    check("a.json", b"{\"data\": [], \"version\": 1}", "it has \"data\", \"version\"");
    check(
        "a.csv",
        b"id,body\n1,x\n",
        "a.csv:1: the record has no field \"text\"; it has \"id\", \"body\"",
    );
    check("a.csv", b"id,text\n1,x\n2,y,z\n", "a.csv:3: 3 fields, but the header names 2");
    check("a.csv", b"id,text\n1,x\n2,\xff\n", "a.csv:3: invalid UTF-8");
    check("a.txt.gz", b"not gzip at all", "the compressed file is damaged or cut short after 0");
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, stories(300).join("\n").as_bytes()).unwrap();
    let gz = gz.finish().unwrap();
    check("a.txt.gz", &gz[..gz.len() / 2], "Fetch it again, or test it with `gzip -t`");
    let zst = zstd::encode_all(stories(300).join("\n").as_bytes(), 1).unwrap();
    check("a.txt.zst", &zst[..zst.len() / 2], "or test it with `zstd -t`");
}

#[test]
fn missing_files_and_impossible_splits_are_errors() {
    let mut case = Case::new("corpus.txt", "some text that is long enough");
    case.spec.train = vec![case.folder.path().join("corpsu.txt").display().to_string()];
    assert_eq!(case.error(), "no such file or folder: corpsu.txt. Did you mean corpus.txt?");
    let mut case = Case::new("a.jsonl", "{\"text\": \"only one\"}");
    let error = case.error();
    assert!(
        error.starts_with(
            "cannot split the data: 1 document(s) (each record is a document) are too"
        )
    );
    case.spec.validation = ValidationSpec::Share(1.5);
    assert!(case.error().contains("a share of 1.5 cannot be held out"));
    case.spec.validation = ValidationSpec::Share(0.6);
    case.spec.test = Some(ValidationSpec::Share(0.5));
    assert!(case.error().contains("leave nothing to train on"));
    case.spec.test = Some(ValidationSpec::Tail(0.1));
    assert!(case.error().contains("must both be a share or both be a tail"));
    let mut case = Case::new("a.txt", stories(9).join("\n"));
    let kind = TokenizerKind::Bpe;
    case.spec.tokenizer = TokenizerSpec::Train { kind, vocabulary: 1_000_000_000_000 };
    assert!(case.error().contains("a vocabulary of 1000000000000 is above the limit of 4194304"));
    case.spec.tokenizer = TokenizerSpec::File(PathBuf::from("nowhere/tokenizer.json"));
    assert!(case.error().contains("nowhere/tokenizer.json"), "{}", case.error());
    case.spec.tokenizer = TokenizerSpec::File(PathBuf::from(case.file("t.json", "{\"a\": 1}")));
    assert!(case.error().starts_with("t.json: not a tokenizer.json that can be used"));
}

#[test]
fn validation_inside_training_is_refused_or_removed_and_reported() {
    let all = stories(40);
    let mut case = Case::new("train.txt", all.join("\n\n"));
    case.spec.boundary = Boundary::BlankLine;
    // The same file under another name.
    case.spec.validation = ValidationSpec::Paths(vec![case.file("v.txt", all.join("\n\n"))]);
    assert!(
        case.error().starts_with(
            "the validation file v.txt has the same content as the train file train.txt"
        )
    );
    // A part of it: those documents leave training, loudly.
    let part = case.file("part.txt", all[10..15].join("\n\n"));
    case.spec.validation = ValidationSpec::Paths(vec![part]);
    let data = case.good();
    assert_eq!((data.facts.leaked_documents, data.facts.leaked_removed), (5, 5));
    assert_eq!(data.facts.documents_train, 35);
    assert!(data.facts.notices.iter().any(|n| n.starts_with("5 training document(s) occur")));
    assert!(!text(&data, &data.train).contains(&all[12]));
    for (i, example) in data.facts.examples.iter().enumerate() {
        let (train, held_out) =
            (format!("train.txt:{}", 21 + 2 * i), format!("part.txt:{}", 1 + 2 * i));
        assert!(example.one.to_string().ends_with(&train), "{example:?}");
        assert!(example.other.to_string().ends_with(&held_out), "{example:?}");
    }
    assert_eq!(data.facts.examples.len(), 5);
    // Reported only.
    case.spec.duplicates = DuplicatePolicy::Report;
    let data = case.good();
    assert_eq!((data.facts.leaked_documents, data.facts.leaked_removed), (5, 0));
    assert_eq!(data.facts.documents_train, 40);
    // All of training is in validation.
    case.spec.duplicates = DuplicatePolicy::RemoveLeaks;
    case.spec.validation =
        ValidationSpec::Paths(vec![case.file("more.txt", all.join("\n\n") + "\n\nOne more.")]);
    assert!(case.error().starts_with("nothing is left to train on"), "{}", case.error());
    // One long text inside another.
    case.spec.boundary = Boundary::Contiguous;
    case.spec.validation =
        ValidationSpec::Paths(vec![case.file("inside.txt", &all.join("\n\n")[300..2000])]);
    let error = case.error();
    assert!(
        error.starts_with("100% of the validation text stands word for word in the training"),
        "{error}"
    );
}

#[test]
fn exact_and_near_duplicates_are_counted_and_removed_by_policy() {
    let long = |i: usize| {
        let words: Vec<String> =
            (0..60).map(|j| format!("w{}", (i * 7919 + j * j * 31) % 997)).collect();
        words.join(" ")
    };
    let mut all: Vec<String> = (0..20).map(long).collect();
    all.push(long(3).replace(' ', "  ")); // equal but for white space
    all.push(long(4).to_uppercase() + "!"); // equal words
    all.push(long(5).replacen("w", "x", 1)); // one word changed
    let mut case = Case::new("a.txt", all.join("\n"));
    (case.spec.boundary, case.spec.validation) = (Boundary::Record, ValidationSpec::Tail(0.04));
    case.spec.duplicates = DuplicatePolicy::RemoveAll;
    let data = case.good();
    let facts = &data.facts;
    // The last document is held out: what it resembles is a leak.
    assert_eq!((facts.exact_duplicates, facts.near_duplicates), (1, 1), "{facts:?}");
    assert_eq!((facts.leaked_documents, facts.leaked_removed, facts.duplicates_removed), (1, 1, 2));
    assert_eq!(facts.documents_train, 19);
    let near: Vec<_> = facts.examples.iter().filter(|e| e.kind == "near").collect();
    assert_eq!(near.len(), 2);
    assert!(near.iter().all(|e| e.similarity >= 0.8));
    case.spec.duplicates = DuplicatePolicy::RemoveLeaks;
    assert_eq!(case.good().facts.documents_train, 21);
}

#[test]
fn shared_passages_of_a_contiguous_text_are_reported() {
    let passage = "It was a bright cold day in the month of spring, and all the clocks of the \
        town were striking an hour that nobody had expected; so the people looked up, and \
        wondered, and went on with whatever they had been doing before the bells had begun to ring \
        over the roofs.";
    let filler = |from: usize| {
        (from..from + 300).map(|i| format!("line {} of {}\n", i * i, i + 7)).collect::<String>()
    };
    let whole =
        filler(0) + passage + "\n" + &filler(1000) + &filler(3000) + passage + &filler(5000)[..100];
    let mut case = Case::new("a.txt", &whole);
    case.spec.validation = ValidationSpec::Tail(0.1);
    let data = case.good();
    let facts = &data.facts;
    assert_eq!(facts.shared_passages, 1);
    // The ends of the lines before it agree as well ("...06").
    assert!(
        (passage.len()..passage.len() + 10).contains(&(facts.shared_passage_bytes as usize)),
        "{facts:?}"
    );
    assert_eq!((facts.examples[0].kind.as_str(), facts.examples[0].one.line), ("passage", 300));
    assert_eq!(facts.examples[0].other.line, 901);
    assert!(facts.examples[0].excerpt.contains("bright cold day"), "{:?}", facts.examples[0]);
    assert!(facts.notices.iter().any(|n| n.contains("share 1 passage(s) word for word")));
}

#[test]
fn a_second_preparation_comes_from_the_cache_and_damage_is_repaired() {
    let mut case = Case::new("a.txt", stories(50).join("\n\n"));
    case.spec.boundary = Boundary::BlankLine;
    let cached = |case: &Case| {
        let mut cached = None;
        let data = prepare(&case.spec, &case.cache(), &mut |p| {
            if let Progress::Ready { cached: from } = p {
                cached = Some(from);
            }
        });
        (cached.unwrap(), data.unwrap())
    };
    let (from_cache, first) = cached(&case);
    assert!(!from_cache);
    let (from_cache, second) = cached(&case);
    assert!(from_cache);
    assert_eq!(first.facts, second.facts);
    assert_eq!(first.tokenizer.to_json(), second.tokenizer.to_json());
    let entry = case.cache().join(&first.facts.cache_key);
    let expected = text(&first, &first.train);
    // Nothing but the entry stays behind.
    let names: Vec<_> =
        fs::read_dir(case.cache()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1);
    type Hurt<'a> = (&'a str, &'a dyn Fn(&Path));
    let damage: [Hurt; 5] = [
        ("train.tokens", &|path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 3]).unwrap();
        }),
        ("validation.tokens", &|path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[100] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("tokenizer.json", &|path| fs::write(path, "{}").unwrap()),
        ("facts.json", &|path| fs::remove_file(path).unwrap()),
        ("train.tokens", &|path| fs::write(path, "HELD").unwrap()),
    ];
    for (name, hurt) in damage {
        hurt(&entry.join(name));
        let (from_cache, data) = cached(&case);
        assert!(!from_cache, "{name}");
        let notice = data.facts.notices.last().unwrap();
        assert!(
            notice.contains("was damaged and is built again") && notice.contains(name),
            "{notice}"
        );
        assert_eq!(text(&data, &data.train), expected);
        assert!(cached(&case).0);
    }
    // Another setting or another content is another entry; another name is not.
    case.spec.seed += 1;
    assert!(!cached(&case).0);
    case.spec.train = vec![case.file("renamed.txt", stories(50).join("\n\n"))];
    let (from_cache, data) = cached(&case);
    assert!(from_cache);
    assert!(data.facts.inputs[0].path.ends_with("renamed.txt"));
    fs::write(case.folder.path().join("renamed.txt"), stories(51).join("\n\n")).unwrap();
    assert!(!cached(&case).0);
}

#[test]
fn a_file_that_changes_or_vanishes_meanwhile_is_an_error() {
    let case = Case::new("a.txt", stories(50).join("\n"));
    let path = PathBuf::from(&case.spec.train[0]);
    for gone in [false, true] {
        let result = prepare(&case.spec, &case.cache(), &mut |progress| {
            if let Progress::Reading { done: 0, .. } = progress {
                if gone { fs::remove_file(&path) } else { fs::write(&path, "other") }.unwrap();
            }
        });
        let error = result.unwrap_err().to_string();
        let expected =
            if gone { "cannot open" } else { "a.txt: the file changed while it was being read" };
        assert!(error.contains(expected), "{error}");
        // Nothing half-made stays in the cache.
        assert_eq!(fs::read_dir(case.cache()).unwrap().count(), 0);
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let case = Case::new("a.txt", stories(50).join("\n"));
    let blocked = case.folder.path().join("a.txt").join("cache");
    let error = prepare(&case.spec, &blocked, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("a.txt/cache"), "{error}");
}

#[test]
fn a_tokenizer_file_is_used_with_its_own_end_of_text() {
    let mut case = Case::new("a.txt", stories(50).join("\n"));
    case.spec.boundary = Boundary::Record;
    case.spec.tokenizer = TokenizerSpec::Train { kind: TokenizerKind::Bpe, vocabulary: 300 };
    let data = case.good();
    let json = data.tokenizer.to_json().replace("<|endoftext|>", "<stop>");
    let path = case.file("tok/tokenizer.json", &json);
    case.file("tok/tokenizer_config.json", "{\"eos_token\": {\"content\": \"<stop>\"}}");
    case.spec.tokenizer = TokenizerSpec::File(path.into());
    let again = case.good();
    assert_eq!(again.tokenizer.eos(), data.tokenizer.eos());
    assert_eq!(again.train.tokens(0..again.train.len()), data.train.tokens(0..data.train.len()));
    assert_eq!(again.facts.tokenizer, "file");
    // The end-of-text token is kept by the cache.
    assert_eq!(case.good().tokenizer.eos(), data.tokenizer.eos());
}

#[test]
fn documents_can_be_read_without_preparing() {
    let case = Case::new("a.txt", "one\n\n two \n three\n\n\n\nfour");
    let mut seen = Vec::new();
    documents(&case.spec.train, None, Boundary::BlankLine, &mut |d| {
        seen.push((d.line, d.part, d.text));
        Ok(())
    })
    .unwrap();
    let expected = [(1, 0, "one"), (3, 0, " two \n three"), (8, 0, "four")];
    assert_eq!(seen, expected.map(|(line, part, text)| (line, part, text.to_string())));
    let long = "word ".repeat(4 << 20);
    let case = Case::new("a.txt", &long);
    let mut joined = String::new();
    let mut parts = Vec::new();
    documents(&case.spec.train, None, Boundary::Auto, &mut |d| {
        parts.push(d.part);
        joined += &d.text;
        Ok(())
    })
    .unwrap();
    assert!(joined == long && parts == [0, 1, 2], "{parts:?}");
}
