//! Plain text told apart into documents: as one, by line, by blank lines, or by end-of-text lines.

use super::DocumentSink;
use super::text::{PIECE, TextStream};
use crate::boundary::Cut;
use crate::error::DataError;

/// The line that separates documents in many published corpora.
pub(crate) const END_OF_TEXT: &str = "<|endoftext|>";

/// Feeds the documents of one plain file to `sink`; no line or document need fit in memory.
pub(crate) fn read_plain(
    stream: &mut TextStream,
    cut: Cut,
    sink: &mut dyn DocumentSink,
) -> Result<(), DataError> {
    match cut {
        Cut::Whole => whole(stream, sink),
        Cut::Line | Cut::BlankLine | Cut::EndOfText => {
            let mut blocks = Blocks { cut, sink, state: State::Outside, pending: String::new() };
            let mut fresh_line = true;
            while let Some((mut line, piece)) = stream.next()? {
                for part in piece.split_inclusive('\n') {
                    blocks.part(part, line, if fresh_line { At::Start } else { At::Middle })?;
                    fresh_line = part.ends_with('\n');
                    line += u64::from(fresh_line);
                }
            }
            blocks.close()
        }
    }
}

fn whole(stream: &mut TextStream, sink: &mut dyn DocumentSink) -> Result<(), DataError> {
    let mut open = false;
    while let Some((line, piece)) = stream.next()? {
        if !open {
            sink.begin(line)?;
            open = true;
        }
        sink.text(piece)?;
    }
    if open { sink.end() } else { Ok(()) }
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Outside,
    Inside,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    Start,
    Middle,
}

struct Blocks<'a> {
    cut: Cut,
    sink: &'a mut dyn DocumentSink,
    state: State,
    /// White space after the last text of an open document: kept only if more text follows.
    pending: String,
}

impl Blocks<'_> {
    /// One line, or part of a line longer than a piece.
    fn part(&mut self, part: &str, line: u64, at: At) -> Result<(), DataError> {
        let text = part.trim_end_matches(['\n', '\r']);
        if self.cut == Cut::EndOfText && at == At::Start && text.trim() == END_OF_TEXT {
            return self.close();
        }
        if text.trim().is_empty() {
            if self.state == State::Inside {
                self.blank(part)?;
            }
            return Ok(());
        }
        if self.state == State::Outside {
            self.sink.begin(line)?;
            self.state = State::Inside;
        } else if !self.pending.is_empty() {
            self.sink.text(&self.pending)?;
        }
        self.pending.clear();
        self.sink.text(text)?;
        self.pending.push_str(&part[text.len()..]);
        if self.cut == Cut::Line && part.ends_with('\n') {
            self.close()?;
        }
        Ok(())
    }

    /// White space inside a document: a boundary, or kept until text follows.
    fn blank(&mut self, part: &str) -> Result<(), DataError> {
        let is_blank_line = self.pending.contains('\n') && part.ends_with('\n');
        if self.cut == Cut::BlankLine && is_blank_line {
            return self.close();
        }
        self.pending.push_str(part);
        if self.cut == Cut::Line && part.ends_with('\n') {
            return self.close();
        }
        if self.pending.len() > PIECE {
            self.sink.text(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), DataError> {
        self.pending.clear();
        if self.state == State::Inside {
            self.state = State::Outside;
            self.sink.end()?;
        }
        Ok(())
    }
}
