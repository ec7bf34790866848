//! Questions to windows of token ids, each with the span of its answer and where its tokens come
//! from.
//!
//! A window is the question, the special tokens, and as much of the context as fits; a longer
//! context is cut into windows that overlap. In a window without the answer, and where there is
//! none, the span is the first token alone (Devlin et al. 2019, section 4.2 and 4.3).

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::read::Question;
use crate::error::DataError;
use crate::labelled::{EncodedExamples, EncodedText, Encoder};
use crate::tokenizer::{Framed, Framer, Origin};

/// Encodes questions with their contexts. Cloning shares the tokenizer.
#[derive(Clone)]
pub struct QuestionEncoder {
    encoder: Encoder,
    framer: Arc<Framer>,
    stride: usize,
}

/// A question with a piece of its context.
#[derive(Clone, Debug, PartialEq)]
pub struct QuestionWindow {
    pub text: EncodedText,
    /// First and last token of the answer; (0, 0) where the window has none.
    pub span: (u32, u32),
    /// The position of the first token of the context.
    pub first: u32,
    /// Bytes of the context, one range a token of it.
    pub origins: Vec<Range<u32>>,
}

/// The windows of a split, question after question.
#[derive(Clone, Debug, Default)]
pub struct EncodedQuestions {
    /// The windows' ids; every label is 0.
    pub windows: Arc<EncodedExamples>,
    /// [W] first and last token of the answer.
    pub spans: Vec<(u32, u32)>,
    /// [W] which question of the split a window belongs to.
    pub questions: Vec<u32>,
    /// Where each question's windows start, and the end.
    starts: Vec<usize>,
    /// [W] position of the first token of the context.
    first: Vec<u32>,
    /// [W] bytes of the context, one range a token of it.
    origins: Vec<Vec<Range<u32>>>,
    /// Questions with an answer that no token is a part of.
    pub lost: u64,
}

impl QuestionEncoder {
    /// An encoder of windows of at most the encoder's longest length, each of which starts
    /// `stride` tokens after the one before (or less, so that none is left out).
    ///
    /// # Errors
    /// A tokenizer without special tokens between a question and a context.
    pub fn new(encoder: Encoder, stride: usize) -> Result<Self, DataError> {
        let framer = Arc::new(Framer::new(encoder.tokenizer())?);
        Ok(QuestionEncoder { encoder, framer, stride: stride.max(1) })
    }

    /// The tokenizer with the special tokens around it.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Tokens by which a window starts after the one before.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The windows of one question, at least one.
    ///
    /// # Errors
    /// A character that the vocabulary lacks, when there is no unknown token; a context of which
    /// the tokenizer leaves nothing; no room for it.
    pub fn encode(&self, question: &Question) -> Result<Vec<QuestionWindow>, DataError> {
        let mut framed = self.framer.encode(&question.question, Some(&question.context))?;
        let whole = framed.ids.len();
        let most = self.encoder.max_length();
        cut_question(&mut framed, most / 2);
        let is_context =
            |origin: &Option<Origin>| origin.as_ref().is_some_and(|origin| origin.part == 1);
        let Some(first) = framed.origins.iter().position(is_context) else {
            return Err(DataError::Tokenizer(format!(
                "question {:?}: the tokenizer leaves nothing of the context. Does the tokenizer \
                 know this language?",
                question.id
            )));
        };
        let count = framed.origins.iter().filter(|origin| is_context(origin)).count();
        let around = framed.ids.len() - count;
        let room = most.saturating_sub(around);
        if room == 0 {
            return Err(DataError::Tokenizer(format!(
                "windows of {most} tokens have no room for a context beside the question and the \
                 special tokens ({around}): allow more (model.context)"
            )));
        }
        let bytes: Vec<Range<u32>> = framed.origins[first..first + count]
            .iter()
            .map(|origin| {
                let bytes = &origin.as_ref().expect("all of these are the context's").bytes;
                bytes.start as u32..bytes.end as u32
            })
            .collect();
        let answer = question.answers.first().and_then(|answer| {
            let (start, end) = (answer.start as u32, (answer.start + answer.text.len()) as u32);
            tokens_of(&bytes, start..end)
        });
        let mut windows = Vec::new();
        let mut begin = 0;
        loop {
            let end = (begin + room).min(count);
            windows.push(window(
                &framed,
                (first, count),
                begin..end,
                whole,
                answer.as_ref(),
                &bytes,
            ));
            if end == count {
                return Ok(windows);
            }
            begin += self.stride.min(room);
        }
    }

    /// The windows of a split.
    ///
    /// # Errors
    /// As [`QuestionEncoder::encode`], with the place of the first such question in front.
    pub fn encode_all(&self, questions: &[Question]) -> Result<EncodedQuestions, DataError> {
        let each: Vec<Vec<QuestionWindow>> = questions
            .par_iter()
            .with_min_len(8)
            .map(|question| self.encode(question))
            .collect::<Result<_, _>>()?;
        let mut all = EncodedQuestions { starts: vec![0], ..EncodedQuestions::default() };
        let mut texts = Vec::new();
        for ((index, windows), question) in (0..).zip(each).zip(questions) {
            let found = windows.iter().any(|window| window.span != (0, 0));
            all.lost += u64::from(!found && !question.answers.is_empty());
            for window in windows {
                let QuestionWindow { text, span, first, origins } = window;
                texts.push((text, 0));
                all.spans.push(span);
                all.questions.push(index);
                all.first.push(first);
                all.origins.push(origins);
            }
            all.starts.push(all.spans.len());
        }
        all.windows = Arc::new(EncodedExamples::collect(texts));
        Ok(all)
    }
}

/// Takes the end of a question off that is longer than `most` tokens.
fn cut_question(framed: &mut Framed, most: usize) {
    let mut seen = 0;
    let keep: Vec<bool> = framed
        .origins
        .iter()
        .map(|origin| {
            let is_question = origin.as_ref().is_some_and(|origin| origin.part == 0);
            seen += usize::from(is_question);
            !is_question || seen <= most
        })
        .collect();
    let mut kept = keep.iter().copied();
    framed.ids.retain(|_| kept.next() == Some(true));
    kept = keep.iter().copied();
    framed.segments.retain(|_| kept.next() == Some(true));
    kept = keep.iter().copied();
    framed.origins.retain(|_| kept.next() == Some(true));
}

/// The tokens of the context that a stretch of its bytes lies in.
fn tokens_of(tokens: &[Range<u32>], bytes: Range<u32>) -> Option<Range<usize>> {
    let overlaps = |token: &&Range<u32>| token.start < bytes.end && bytes.start < token.end;
    let first = tokens.iter().position(|token| overlaps(&token))?;
    let count = tokens[first..].iter().take_while(overlaps).count();
    Some(first..first + count)
}

/// The window with the tokens `piece` of the context, which has `count` from position `first` on.
fn window(
    framed: &Framed,
    (first, count): (usize, usize),
    piece: Range<usize>,
    length_whole: usize,
    answer: Option<&Range<usize>>,
    bytes: &[Range<u32>],
) -> QuestionWindow {
    fn cut<T: Copy>(all: &[T], at: &[Range<usize>; 3]) -> Vec<T> {
        at.iter().flat_map(|range| all[range.clone()].iter().copied()).collect()
    }
    let parts = [0..first, first + piece.start..first + piece.end, first + count..framed.ids.len()];
    let segments: Vec<u32> = cut(&framed.segments, &parts);
    let text = EncodedText {
        ids: cut(&framed.ids, &parts),
        segments: segments.into_iter().map(|segment| segment as u8).collect(),
        length_whole,
    };
    let within = answer.filter(|a| piece.start <= a.start && a.end <= piece.end);
    let span = within.map_or((0, 0), |a| {
        let at = |token: usize| (first + token - piece.start) as u32;
        (at(a.start), at(a.end - 1))
    });
    QuestionWindow { text, span, first: first as u32, origins: bytes[piece].to_vec() }
}

impl EncodedQuestions {
    /// Number of questions.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The windows of a question.
    pub fn windows_of(&self, question: usize) -> Range<usize> {
        self.starts[question]..self.starts[question + 1]
    }

    /// The positions of a window that are its context's.
    pub fn context_of(&self, window: usize) -> Range<usize> {
        let first = self.first[window] as usize;
        first..first + self.origins[window].len()
    }

    /// The bytes of the context from one position of a window to another, both included and both
    /// its context's.
    pub fn bytes(&self, window: usize, first: usize, last: usize) -> Range<usize> {
        let (origins, begin) = (&self.origins[window], self.first[window] as usize);
        origins[first - begin].start as usize..origins[last - begin].end as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_of_bytes_is_found_in_tokens() {
        let tokens = [0..2, 2..5, 6..9, 9..9, 10..12];
        assert_eq!(tokens_of(&tokens, 2..5), Some(1..2));
        assert_eq!(tokens_of(&tokens, 3..7), Some(1..3));
        assert_eq!(tokens_of(&tokens, 5..6), None);
        assert_eq!(tokens_of(&tokens, 0..12), Some(0..5));
    }
}
