//! Text to words as GPT-2's byte-level pre-tokenizer cuts them, and its alphabet for bytes.
//!
//! The published pattern is
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//! (Radford et al. 2019); here it is a scanner, some twenty times as fast as the pattern.

use std::sync::LazyLock;

/// The character that stands for each byte in a byte-level vocabulary (Radford et al. 2019):
/// printable Latin-1 as itself, the others from U+0100 on, in order.
pub(crate) static BYTE_CHARACTERS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 256;
    std::array::from_fn(|byte| {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).expect("below U+0180")
    })
});

/// The byte that a character of the byte-level alphabet stands for.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    static BACK: LazyLock<[Option<u8>; 512]> = LazyLock::new(|| {
        let mut back = [None; 512];
        for (byte, c) in BYTE_CHARACTERS.iter().enumerate() {
            back[*c as usize] = Some(byte as u8);
        }
        back
    });
    BACK.get(c as usize).copied().flatten()
}

/// Bytes as text of the byte-level alphabet.
pub(crate) fn to_alphabet(bytes: &[u8]) -> String {
    bytes.iter().map(|b| BYTE_CHARACTERS[usize::from(*b)]).collect()
}

/// What a character counts as for the pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

/// Two bits for every code point: `\p{L}` 1, `\p{N}` 2, white space 3.
static CLASSES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let all: String = (0..0x11_0000).filter_map(char::from_u32).collect();
    let mut classes = vec![0u8; 0x11_0000];
    for (pattern, class) in [(r"\p{L}+", 1), (r"\p{N}+", 2), (r"\s+", 3)] {
        let pattern = regex::Regex::new(pattern).expect("a valid pattern");
        for run in pattern.find_iter(&all) {
            for c in run.as_str().chars() {
                classes[c as usize] = class;
            }
        }
    }
    classes
});

fn class(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Number,
        ' ' | '\t'..='\r' => Class::Space,
        c if c.is_ascii() => Class::Other,
        c => match CLASSES[c as usize] {
            1 => Class::Letter,
            2 => Class::Number,
            3 => Class::Space,
            _ => Class::Other,
        },
    }
}

/// The words of a text, end to end: joined they are the text.
pub(crate) struct Words<'a> {
    text: &'a str,
}

/// Cuts `text` into words.
pub(crate) fn words(text: &str) -> Words<'_> {
    Words { text }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let end = first_word(self.text)?;
        let (word, rest) = self.text.split_at(end);
        self.text = rest;
        Some(word)
    }
}

/// The length in bytes of the first word.
fn first_word(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if first == '\'' {
        for ending in ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"] {
            if text.starts_with(ending) {
                return Some(ending.len());
            }
        }
    }
    let skip = usize::from(first == ' ');
    match text[skip..].chars().next().map(class) {
        Some(kind) if kind != Class::Space => Some(skip + run(&text[skip..], kind)),
        _ => {
            let run = run(text, Class::Space);
            if run == text.len() {
                return Some(run);
            }
            // A word follows: the last white space is left for it.
            let last = text[..run].chars().next_back().expect("a run is not empty").len_utf8();
            Some(if run > last { run - last } else { run })
        }
    }
}

/// The length in bytes of the run of one class at the start.
fn run(text: &str, kind: Class) -> usize {
    text.char_indices().find(|(_, c)| class(*c) != kind).map_or(text.len(), |(at, _)| at)
}
