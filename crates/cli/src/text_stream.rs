//! Text as it comes: token ids in, whole characters out, stopped at the first stop string.
//!
//! A token may end in the middle of a character, and a tokenizer may decode a token differently
//! at the start of a text, so pieces are cut from the decoding of a short window of tokens.

/// Turns ids into text piece by piece.
pub struct TextStream<'a> {
    decode: &'a dyn Fn(&[u32]) -> String,
    ids: Vec<u32>,
    /// The window: what was decoded as context, and from where text is still owed.
    window: usize,
    owed: usize,
    stops: Vec<String>,
    /// Text that may turn out to begin a stop string.
    held: String,
    is_stopped: bool,
}

impl<'a> TextStream<'a> {
    /// A stream over a tokenizer's `decode`. `context` is the end of the prompt, not given out.
    pub fn new(
        decode: &'a dyn Fn(&[u32]) -> String,
        context: &[u32],
        stops: Vec<String>,
    ) -> TextStream<'a> {
        // A few tokens are enough for the space that some tokenizers put between two of them.
        let kept = context.len().min(5);
        let ids = context[context.len() - kept..].to_vec();
        let owed = ids.len();
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        TextStream { decode, ids, window: 0, owed, stops, held: String::new(), is_stopped: false }
    }

    /// Takes one id; gives out the text that is now certain.
    pub fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let before = (self.decode)(&self.ids[self.window..self.owed]);
        let after = (self.decode)(&self.ids[self.window..]);
        // A replacement character at the end may be the first half of a character.
        if after.ends_with('\u{FFFD}') && self.ids.len() - self.owed < 8 {
            return String::new();
        }
        let piece = new_part(&before, &after).to_owned();
        self.window = self.owed;
        self.owed = self.ids.len();
        self.release(&piece)
    }

    /// Whether a stop string has come.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// The rest, when no more ids come.
    pub fn finish(&mut self) -> String {
        let before = (self.decode)(&self.ids[self.window..self.owed]);
        let after = (self.decode)(&self.ids[self.window..]);
        let piece = new_part(&before, &after).to_owned();
        self.owed = self.ids.len();
        self.window = self.owed;
        let mut out = self.release(&piece);
        if !self.is_stopped {
            out.push_str(&std::mem::take(&mut self.held));
        }
        out
    }

    fn release(&mut self, piece: &str) -> String {
        if self.is_stopped {
            return String::new();
        }
        self.held.push_str(piece);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.is_stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }
}

/// What `after` adds to `before`; from the first difference on where it is no continuation.
fn new_part<'t>(before: &str, after: &'t str) -> &'t str {
    match after.strip_prefix(before) {
        Some(rest) => rest,
        None => {
            let same = before.chars().zip(after.chars()).take_while(|(a, b)| a == b);
            &after[same.map(|(a, _)| a.len_utf8()).sum()..]
        }
    }
}

/// Bytes at the end of `text` that are a beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices()
        .map(|(at, _)| at)
        .filter(|&length| length > 0 && length <= text.len())
        .filter(|&length| text.ends_with(&stop[..length]))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().map(|id| *id as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn run(text: &str, stops: &[&str]) -> (Vec<String>, bool) {
        let stops = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut stream = TextStream::new(&bytes, &[], stops);
        let mut pieces: Vec<String> = text.bytes().map(|b| stream.push(u32::from(b))).collect();
        pieces.push(stream.finish());
        pieces.retain(|piece| !piece.is_empty());
        (pieces, stream.is_stopped())
    }

    #[test]
    fn characters_come_whole() {
        let (pieces, _) = run("aé中🙂b", &[]);
        assert_eq!(pieces, ["a", "é", "中", "🙂", "b"]);
    }

    #[test]
    fn bytes_that_are_no_character_are_given_out_in_the_end() {
        let mut stream = TextStream::new(&bytes, &[], Vec::new());
        let mut out = stream.push(0xE4);
        out += &stream.push(0xB8);
        assert_eq!(out, "");
        assert_eq!(stream.finish(), "\u{FFFD}");
    }

    #[test]
    fn a_stop_string_ends_the_text_before_it() {
        assert_eq!(run("one STOP two", &["STOP"]).0.concat(), "one ");
        assert_eq!(run("one STO two", &["STOP"]).0.concat(), "one STO two");
        assert_eq!(run("one STO", &["STOP"]), (run("one STO", &["STOP"]).0, false));
        assert_eq!(run("a\n\nb", &["b", "\n\n"]).0.concat(), "a");
        assert!(run("ababac", &["abac"]).1);
        assert_eq!(run("ababac", &["abac"]).0.concat(), "ab");
        assert_eq!(run("中文", &["文"]).0.concat(), "中");
    }

    #[test]
    fn spaces_between_words_survive() {
        // As WordPiece decodes: words joined by spaces, none before the first.
        let words = |ids: &[u32]| {
            let names = ["the", "cat", "sat"];
            ids.iter().map(|id| names[*id as usize]).collect::<Vec<_>>().join(" ")
        };
        let mut stream = TextStream::new(&words, &[0], Vec::new());
        let out = stream.push(1) + &stream.push(2) + &stream.finish();
        assert_eq!(out, " cat sat");
    }
}
