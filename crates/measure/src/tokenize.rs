//! sacreBLEU's tokenizations, so that scores can be compared with published ones (Post 2018, "A
//! call for clarity in reporting BLEU scores").

/// Whether letters' case counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Case {
    #[default]
    Mixed,
    /// Both sides are turned to lower case.
    Lower,
}

impl Case {
    pub(crate) fn apply(self, text: &str) -> String {
        match self {
            Case::Mixed => text.to_string(),
            Case::Lower => text.to_lowercase(),
        }
    }

    /// As signatures call it.
    pub fn name(self) -> &'static str {
        match self {
            Case::Mixed => "mixed",
            Case::Lower => "lc",
        }
    }
}

/// How a text becomes tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tokenizer {
    /// That of mteval-v13a, for languages that put spaces between words.
    #[default]
    V13a,
    /// Chinese characters one by one, the rest as `13a` does.
    Chinese,
    /// Every character.
    Character,
}

impl Tokenizer {
    /// As signatures call it.
    pub fn name(self) -> &'static str {
        match self {
            Tokenizer::V13a => "13a",
            Tokenizer::Chinese => "zh",
            Tokenizer::Character => "char",
        }
    }

    /// The tokens of a text.
    pub fn tokens(self, text: &str) -> Vec<String> {
        let text = text.trim_end_matches(is_space);
        let spaced: String = match self {
            Tokenizer::V13a => separate(&unescape(text)),
            Tokenizer::Chinese => {
                let text = text.trim_start_matches(is_space);
                separate(&around(&text.chars().collect::<Vec<_>>(), is_chinese))
            }
            Tokenizer::Character => {
                return text.chars().filter(|c| !is_space(*c)).map(String::from).collect();
            }
        };
        words(&spaced).map(str::to_string).collect()
    }
}

/// Python's whitespace: Unicode's, and the four separators of ASCII.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// The parts between whitespace, as Python's `split` finds them.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// What mteval-v13a does before it separates: markup out, lines joined, entities resolved.
fn unescape(text: &str) -> Vec<char> {
    let mut text = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if text.contains('&') {
        // In this order: "&amp;lt;" is "<" there.
        for (entity, sign) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
            text = text.replace(entity, sign);
        }
    }
    // Padded, so that the rules for pairs see something before the first and after the last sign.
    format!(" {text} ").chars().collect()
}

/// The four substitutions of mteval-v13a for western languages, one after the other: signs stand
/// alone, periods and commas too unless between digits, and a dash after a digit.
fn separate(text: &[char]) -> String {
    let separator = |c: char| c == '.' || c == ',';
    let text = around(text, is_symbol);
    let text = pairs(&text, |a, b| !a.is_ascii_digit() && separator(b), |a, b| [a, ' ', b, ' ']);
    let text = pairs(&text, |a, b| separator(a) && !b.is_ascii_digit(), |a, b| [' ', a, ' ', b]);
    let text = pairs(&text, |a, b| a.is_ascii_digit() && b == '-', |a, b| [a, ' ', b, ' ']);
    text.into_iter().collect()
}

/// ASCII's punctuation but for the apostrophe, comma, dash and period; and the space.
fn is_symbol(c: char) -> bool {
    matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/')
}

/// Puts spaces around the characters that `alone` picks.
fn around(text: &[char], alone: fn(char) -> bool) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() * 2);
    for c in text {
        match alone(*c) {
            true => out.extend([' ', *c, ' ']),
            false => out.push(*c),
        }
    }
    out
}

/// Replaces neighbours where `is` holds, from the left, never using a character twice: what a
/// regular expression's substitution does.
fn pairs(
    text: &[char],
    is: impl Fn(char, char) -> bool,
    put: impl Fn(char, char) -> [char; 4],
) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len() * 2);
    let mut at = 0;
    while at < text.len() {
        match text.get(at + 1) {
            Some(next) if is(text[at], *next) => {
                out.extend(put(text[at], *next));
                at += 2;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    out
}

/// What sacreBLEU's `zh` takes for Chinese. Its two ranges beyond the first plane are written so
/// that they mean U+2001 to U+2A6D and U+2F81 to U+2FA1 instead: general punctuation, arrows and
/// signs stand alone, and ideographs of extension B do not. Kept, so that scores are the same.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4db5}'
        | '\u{4e00}'..='\u{9fbb}'
        | '\u{f900}'..='\u{fa2d}'
        | '\u{fa30}'..='\u{fa6a}'
        | '\u{fa70}'..='\u{fad9}'
        | '\u{2001}'..='\u{2a6d}'
        | '\u{ff00}'..='\u{ffef}'
        | '\u{2e80}'..='\u{2fdf}'
        | '\u{2ff0}'..='\u{303f}'
        | '\u{3100}'..='\u{312f}'
        | '\u{31a0}'..='\u{31bf}'
        | '\u{31c0}'..='\u{31ef}'
        | '\u{3200}'..='\u{33ff}'
        | '\u{fe10}'..='\u{fe1f}'
        | '\u{fe30}'..='\u{fe4f}')
}
