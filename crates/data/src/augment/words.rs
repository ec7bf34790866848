//! Texts as words with the white space before each, and as sentences.

use super::lexicon::Lexicon;

/// A word with what stands between it and the word before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub space: String,
    pub text: String,
}

/// Scripts that are written without spaces.
fn unspaced(c: char) -> bool {
    matches!(c as u32,
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x9fff
        | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff)
}

/// What stands between spaces; where a script has none, the longest words that the lexicon knows,
/// else single characters. [`join`] gives the text back.
pub(crate) fn words(text: &str, lexicon: Option<&Lexicon>) -> Vec<Word> {
    let mut all: Vec<Word> = Vec::new();
    let mut space = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            space.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let length = match unspaced(c) {
            true => lexicon.and_then(|l| l.longest_prefix(rest)).unwrap_or(c.len_utf8()),
            false => rest.find(|c: char| c.is_whitespace() || unspaced(c)).unwrap_or(rest.len()),
        };
        all.push(Word { space: std::mem::take(&mut space), text: rest[..length].to_string() });
        rest = &rest[length..];
    }
    if !space.is_empty() {
        // White space at the end belongs to no word: an empty one carries it.
        all.push(Word { space, text: String::new() });
    }
    all
}

/// The text of words.
pub(crate) fn join(words: &[Word]) -> String {
    words.iter().flat_map(|word| [word.space.as_str(), word.text.as_str()]).collect()
}

/// A word without the punctuation around it: what stands before, the core, what stands after.
pub(crate) fn core(word: &str) -> (&str, &str, &str) {
    let inside = |c: char| c.is_alphanumeric();
    let Some(start) = word.find(inside) else { return (word, "", "") };
    let last = word.rfind(inside).expect("one was found from the other side");
    let end = last + word[last..].chars().next().map_or(0, char::len_utf8);
    (&word[..start], &word[start..end], &word[end..])
}

/// `word` written as `like` is: capitals stay capitals.
pub(crate) fn in_case_of(word: &str, like: &str) -> String {
    let letters = || like.chars().filter(|c| c.is_alphabetic());
    if letters().count() > 1 && letters().all(char::is_uppercase) {
        return word.to_uppercase();
    }
    if like.chars().next().is_some_and(char::is_uppercase) {
        let mut rest = word.chars();
        return rest
            .next()
            .map_or(String::new(), |first| first.to_uppercase().chain(rest).collect());
    }
    word.to_string()
}

/// Sentences and what stands between them: cut after `.`, `!` or `?` before white space, after the
/// full stops of Chinese and Japanese, and at line ends. `gaps[i]` follows `sentences[i]`.
pub(crate) fn sentences(text: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut sentences, mut gaps) = (Vec::new(), Vec::new());
    let mut start = 0;
    let mut places = text.char_indices().peekable();
    while let Some((at, c)) = places.next() {
        let next = places.peek().map(|(_, next)| *next);
        let ends = match c {
            '.' | '!' | '?' | '…' => next.is_none_or(char::is_whitespace),
            // A closing quote or bracket belongs to the sentence.
            '。' | '！' | '？' => next.is_none_or(|next| !"”’」』）)!?！？。".contains(next)),
            '"' | '”' | '’' | '」' | '』' | '）' | ')' => {
                let before = text[start..at].chars().next_back();
                before.is_some_and(|before| ".!?。！？".contains(before))
                    && next.is_none_or(|next| next.is_whitespace() || unspaced(next))
            }
            _ => next == Some('\n') && c != '\n',
        };
        if !ends {
            continue;
        }
        let end = at + c.len_utf8();
        while places.peek().is_some_and(|(_, c)| c.is_whitespace()) {
            places.next();
        }
        let resume = places.peek().map_or(text.len(), |(at, _)| *at);
        if start < end {
            sentences.push(&text[start..end]);
            gaps.push(&text[end..resume]);
        }
        start = resume;
    }
    if start < text.len() {
        sentences.push(&text[start..]);
        gaps.push("");
    }
    (sentences, gaps)
}
