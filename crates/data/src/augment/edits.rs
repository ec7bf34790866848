//! The edits themselves: each a function of a text, a rate and draws.

use super::lexicon::Lexicon;
use super::words::{Word, core, in_case_of, join, sentences, words};
use heldout_base::rng::{Random, streams};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Random numbers of one example in one epoch, one after another.
pub(crate) struct Draws {
    random: Random,
    next: u64,
}

impl Draws {
    pub(crate) fn new(seed: u64, epoch: u64, index: u64) -> Self {
        // A seed for each example: its draws may be any number.
        let own = xxh3_64_with_seed(&index.to_le_bytes(), seed);
        Draws { random: Random::new(own, streams::AUGMENT, epoch), next: 0 }
    }

    fn index(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// In [0, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        let index = self.index();
        self.random.uniform(index)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let index = self.index();
        self.random.below(index, n as u64) as usize
    }

    /// A whole number whose mean is `x`: its floor or one more.
    fn times(&mut self, x: f64) -> usize {
        x as usize + usize::from(self.uniform() < x.fract())
    }
}

/// Indices of words that hold something.
fn filled(words: &[Word]) -> Vec<usize> {
    (0..words.len()).filter(|i| !words[*i].text.is_empty()).collect()
}

/// Leaves each word out with probability `rate`; if that took all, one stays.
pub(crate) fn delete(
    text: &str,
    rate: f64,
    lexicon: Option<&Lexicon>,
    draws: &mut Draws,
) -> String {
    let mut all = words(text, lexicon);
    let places = filled(&all);
    if places.is_empty() {
        return text.to_string();
    }
    let mut kept: Vec<usize> = places.iter().copied().filter(|_| draws.uniform() >= rate).collect();
    if kept.is_empty() {
        kept.push(places[draws.below(places.len())]);
    }
    if kept.len() == places.len() {
        return text.to_string();
    }
    // What starts the text now has no space before it.
    let lead = std::mem::take(&mut all[places[0]].space);
    all[kept[0]].space = lead;
    let mut index = 0..;
    all.retain(|word| {
        let at = index.next().expect("endless");
        word.text.is_empty() || kept.binary_search(&at).is_ok()
    });
    join(&all)
}

/// `rate` · words times two words change places.
pub(crate) fn swap(text: &str, rate: f64, lexicon: Option<&Lexicon>, draws: &mut Draws) -> String {
    let mut all = words(text, lexicon);
    let places = filled(&all);
    let times = draws.times(rate * places.len() as f64);
    if places.len() < 2 {
        return text.to_string();
    }
    for _ in 0..times {
        let one = draws.below(places.len());
        let other = (one + 1 + draws.below(places.len() - 1)) % places.len();
        let word = std::mem::take(&mut all[places[one]].text);
        let word = std::mem::replace(&mut all[places[other]].text, word);
        all[places[one]].text = word;
    }
    join(&all)
}

/// The words that have synonyms, with their places; function words have none that could replace
/// them.
fn replaceable(all: &[Word], lexicon: &Lexicon) -> Vec<(usize, Vec<String>)> {
    let synonyms = |word: &Word| {
        let (_, core, _) = core(&word.text);
        let known = match FUNCTION_WORDS.contains(&core.to_lowercase().as_str()) {
            true => Vec::new(),
            false => lexicon.inflected(core),
        };
        known.into_iter().map(|synonym| in_case_of(&synonym, core)).collect::<Vec<_>>()
    };
    let found = all.iter().map(synonyms).enumerate();
    found.filter(|(_, synonyms)| !synonyms.is_empty()).collect()
}

/// `rate` · words times a synonym of some word is put somewhere.
pub(crate) fn insert(
    text: &str,
    rate: f64,
    lexicon: Option<&Lexicon>,
    draws: &mut Draws,
) -> String {
    let mut all = words(text, lexicon);
    let sources = lexicon.map_or(Vec::new(), |lexicon| replaceable(&all, lexicon));
    let times = draws.times(rate * filled(&all).len() as f64);
    if sources.is_empty() {
        return text.to_string();
    }
    for _ in 0..times {
        let (_, synonyms) = &sources[draws.below(sources.len())];
        let text = synonyms[draws.below(synonyms.len())].to_lowercase();
        let at = draws.below(filled(&all).len() + 1);
        // Written without spaces where its neighbours are.
        let bare = all.iter().skip(1).all(|word| word.space.is_empty()) && all.len() > 1;
        let space = if bare { String::new() } else { " ".to_string() };
        if at == 0 {
            let lead = std::mem::replace(&mut all[0].space, space);
            all.insert(0, Word { space: lead, text });
        } else {
            all.insert(at, Word { space, text });
        }
    }
    join(&all)
}

/// `rate` · words of the words that have synonyms are replaced by one.
pub(crate) fn synonyms(
    text: &str,
    rate: f64,
    lexicon: Option<&Lexicon>,
    draws: &mut Draws,
) -> String {
    let mut all = words(text, lexicon);
    let mut sources = lexicon.map_or(Vec::new(), |lexicon| replaceable(&all, lexicon));
    let times = draws.times(rate * filled(&all).len() as f64).min(sources.len());
    for _ in 0..times {
        let (place, synonyms) = sources.swap_remove(draws.below(sources.len()));
        let (before, _, after) = core(&all[place].text);
        let chosen = &synonyms[draws.below(synonyms.len())];
        all[place].text = format!("{before}{chosen}{after}");
    }
    join(&all)
}

/// Each word becomes `mask` with probability `rate`.
pub(crate) fn mask(
    text: &str,
    rate: f64,
    lexicon: Option<&Lexicon>,
    mask: &str,
    draws: &mut Draws,
) -> String {
    let mut all = words(text, lexicon);
    for word in all.iter_mut().filter(|word| !word.text.is_empty()) {
        if draws.uniform() < rate {
            word.text = mask.to_string();
        }
    }
    join(&all)
}

/// Longest span of words; with every length from 1 as likely the mean is 3, as in T5 (Raffel et al.
/// 2020, section 3.3.4).
const SPAN_MOST: usize = 5;

/// Spans of words, `rate` · words long in all but for overlaps, become `mask`; one word stays in
/// any case.
pub(crate) fn spans(
    text: &str,
    rate: f64,
    lexicon: Option<&Lexicon>,
    mask: &str,
    draws: &mut Draws,
) -> String {
    let mut all = words(text, lexicon);
    let places = filled(&all);
    let mean = (1 + SPAN_MOST) as f64 / 2.0;
    let count = draws.times(rate * places.len() as f64 / mean);
    let mut hidden = vec![false; places.len()];
    for _ in 0..count {
        let start = draws.below(places.len());
        let end = start + 1 + draws.below(SPAN_MOST);
        hidden.iter_mut().take(end).skip(start).for_each(|hidden| *hidden = true);
    }
    if !hidden.is_empty() && hidden.iter().all(|hidden| *hidden) {
        hidden[draws.below(places.len())] = false;
    }
    let mut gone = Vec::new();
    for (at, place) in places.iter().enumerate().filter(|(at, _)| hidden[*at]) {
        if at > 0 && hidden[at - 1] {
            gone.push(*place);
        } else {
            all[*place].text = mask.to_string();
        }
    }
    let mut index = 0..;
    all.retain(|_| gone.binary_search(&index.next().expect("endless")).is_err());
    join(&all)
}

/// With probability `rate` the sentences come in a random order; what stood between them stays
/// where it was.
pub(crate) fn sentence_order(text: &str, rate: f64, draws: &mut Draws) -> String {
    let (mut all, gaps) = sentences(text);
    if draws.uniform() >= rate || all.len() < 2 {
        return text.to_string();
    }
    for last in (1..all.len()).rev() {
        all.swap(last, draws.below(last + 1));
    }
    let places = 0..all.len();
    let mut out = String::with_capacity(text.len() + 1);
    for place in places {
        out.push_str(all[place]);
        let gap = gaps[place];
        // The last sentence had nothing behind it: two must not run together.
        let runs_on = gap.is_empty() && place + 1 < all.len() && all[place].is_ascii();
        out.push_str(if runs_on { " " } else { gap });
    }
    out
}

/// English words that WordNet knows in another sense than theirs ("in": indium, "it": information
/// technology) or that carry the sense of a whole sentence ("not").
const FUNCTION_WORDS: [&str; 129] = [
    "a", "about", "above", "after", "again", "against", "all", "am", "an", "and", "any", "are",
    "as", "at", "be", "because", "been", "before", "being", "below", "between", "both", "but",
    "by", "can", "could", "d", "did", "do", "does", "doing", "don", "down", "during", "each",
    "else", "ever", "few", "for", "from", "had", "has", "have", "having", "he", "her", "here",
    "hers", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "ll", "m",
    "may", "me", "might", "more", "most", "must", "my", "n't", "neither", "never", "no", "nor",
    "not", "now", "of", "off", "on", "once", "only", "or", "other", "our", "ours", "out", "over",
    "own", "re", "s", "same", "shall", "she", "should", "so", "some", "such", "t", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "those", "through", "to",
    "too", "under", "until", "up", "ve", "very", "was", "we", "were", "what", "when", "where",
    "which", "while", "who", "will", "with", "without", "you",
];
