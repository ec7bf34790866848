//! The rules of the English grammar, their parser, and the spelling of sentences.
//!
//! Rules are written `NAME = weight symbol symbol | weight symbol ; NAME = ...`; a symbol that is
//! the name of a rule refers to it, every other one is a word (`+` joins the words of a phrase).

use std::collections::HashMap;

use super::lexicon::{self, NAMES, TOPICS, Topic};
use super::{Alternative, Level, Rule, Sentence, Symbol};

/// The structure, once for each number: `#` stands for SG or PL, so that agreement holds at any
/// distance. An empty alternative is an optional part left out.
const BOTH_NUMBERS: &str = "
    SUBJECT# = 6 NP# | 2 NP# PP | 2 NP# that VERB# | 1 NP# that TRANS# OBJECT ;
    NP# = 5 DET# N# | 4 DET# ADJ N# | 1 DET# ADJ ADJ N# ;
    VP# = 3 VERB# TAIL | 5 TRANS# OBJECT TAIL | 2 BE# ADJ | 1 BE# ADJ and ADJ ;
    CLAUSE# = 1 SUBJECT# VP# ;
    SHORT# = 1 NP# VERB# | 1 NP# TRANS# OBJECT | 1 NP# BE# ADJ ;
";

/// The structure that does not depend on number. HERO is the paragraph's protagonist.
const STRUCTURE: &str = "
    S = 10 CLAUSE | 3 TIME , CLAUSE | 3 CLAUSE JOIN SHORT | 2 REPORT | 1 TIME , REPORT ;
    CLAUSE = 4 CLAUSESG | 3 CLAUSEPL | 4 HEROIC ;
    HEROIC = 1 HERO VPSG ;
    HERO = 1 NAME | 2 PRONOUN ;
    SHORT = 2 SHORTSG | 1 SHORTPL | 1 HERO VERBSG ;
    REPORT = 2 HERO SAYSG that SHORT | 1 NPPL SAYPL that SHORT ;
    JOIN = 3 , and | 2 , but | 2 because | 1 while ;
    OBJECT = 3 NPSG | 2 NPPL ;
    TAIL = 5 | 3 PP | 2 ADV | 1 ADV PP ;
    PP = 1 PREP PLACE ;
    PREP = 4 in | 3 near | 2 behind | 1 beyond ;
    DETSG = 5 the | 4 a | 1 every | 1 this ;
    DETPL = 5 the | 2 some | 1 many | 1 these ;
";

/// The sentence grammar of every hidden state, in the order topic, tense, protagonist.
pub(super) fn states() -> Vec<Sentence> {
    let mut states = Vec::new();
    for topic in TOPICS {
        for tense in [Tense::Present, Tense::Past] {
            for (name, pronoun) in NAMES {
                states.push(sentence(&rules(topic, tense, name, pronoun)));
            }
        }
    }
    states
}

#[derive(Clone, Copy)]
enum Tense {
    Present,
    Past,
}

fn rules(topic: &Topic, tense: Tense, name: &str, pronoun: &str) -> String {
    let mut text = STRUCTURE.to_string();
    text.push_str(&BOTH_NUMBERS.replace('#', "SG"));
    text.push_str(&BOTH_NUMBERS.replace('#', "PL"));
    let (be_sg, be_pl) = match tense {
        Tense::Present => ("is", "are"),
        Tense::Past => ("was", "were"),
    };
    text.push_str(&format!(
        "NAME = 1 {name} ; PRONOUN = 1 {pronoun} ; BESG = 1 {be_sg} ; BEPL = 1 {be_pl} ;"
    ));
    let (form_sg, form_pl) = match tense {
        Tense::Present => (1, 0),
        Tense::Past => (2, 2),
    };
    let lists: [(&str, &[&str], &[&str], usize); 9] = [
        ("NSG", topic.nouns, lexicon::SHARED_NOUNS, 0),
        ("NPL", topic.nouns, lexicon::SHARED_NOUNS, 1),
        ("VERBSG", topic.intransitive, lexicon::SHARED_INTRANSITIVE, form_sg),
        ("VERBPL", topic.intransitive, lexicon::SHARED_INTRANSITIVE, form_pl),
        ("TRANSSG", topic.transitive, lexicon::SHARED_TRANSITIVE, form_sg),
        ("TRANSPL", topic.transitive, lexicon::SHARED_TRANSITIVE, form_pl),
        ("SAYSG", lexicon::SPEECH, &[], form_sg),
        ("SAYPL", lexicon::SPEECH, &[], form_pl),
        ("ADJ", topic.adjectives, lexicon::SHARED_ADJECTIVES, 0),
    ];
    for (rule, of_topic, shared, form) in lists {
        text.push_str(&choice(rule, of_topic, shared, |entry| nth_word(entry, form)));
    }
    text.push_str(&choice("PLACE", topic.places, &[], phrase));
    text.push_str(&choice("ADV", lexicon::ADVERBS, &[], phrase));
    text.push_str(&choice("TIME", lexicon::TIMES, &[], phrase));
    text
}

fn nth_word(entry: &str, form: usize) -> String {
    entry.split(' ').nth(form).expect("the lexicon gives every form").to_string()
}

fn phrase(entry: &str) -> String {
    entry.replace(' ', "+")
}

/// A lexical rule: Zipf weights within each list, the topic's own words three times as likely.
fn choice(rule: &str, of_topic: &[&str], shared: &[&str], word: impl Fn(&str) -> String) -> String {
    let weighted = |entries: &[&str], factor: f64| -> Vec<String> {
        let norm: f64 = (1..=entries.len()).map(|rank| 1.0 / rank as f64).sum();
        let of = |(rank, entry): (usize, &&str)| {
            format!("{} {}", factor / norm / (rank + 1) as f64, word(entry))
        };
        entries.iter().enumerate().map(of).collect()
    };
    let mut alternatives = weighted(of_topic, 3.0);
    alternatives.extend(weighted(shared, 1.0));
    format!("{rule} = {} ;", alternatives.join(" | "))
}

/// Parses rules; the first one is the sentence.
///
/// # Panics
/// On a rule without `=` or an alternative without weight: the rules are constants.
pub(super) fn sentence(text: &str) -> Sentence {
    let rules: Vec<(&str, &str)> = text
        .split(';')
        .filter(|rule| !rule.trim().is_empty())
        .map(|rule| rule.split_once('=').expect("a rule is NAME = alternatives"))
        .map(|(name, body)| (name.trim(), body))
        .collect();
    let index: HashMap<&str, usize> =
        rules.iter().enumerate().map(|(at, (name, _))| (*name, at)).collect();
    assert_eq!(index.len(), rules.len(), "two rules of one name");
    let rules: Vec<Rule> = rules.iter().map(|(_, body)| rule(body, &index)).collect();
    let order = bottom_up(&rules);
    Sentence { rules, order }
}

fn rule(body: &str, index: &HashMap<&str, usize>) -> Rule {
    let parse = |alternative: &str| -> (f64, Vec<Symbol>) {
        let mut parts = alternative.split_whitespace();
        let weight = parts.next().expect("an alternative begins with its weight");
        let weight: f64 = weight.parse().expect("a weight is a number");
        (weight, parts.flat_map(|part| symbols(part, index)).collect())
    };
    let parsed: Vec<(f64, Vec<Symbol>)> = body.split('|').map(parse).collect();
    let total: f64 = parsed.iter().map(|(weight, _)| weight).sum();
    let refers = parsed.iter().flat_map(|(_, s)| s).any(|s| matches!(s, Symbol::Rule(_)));
    let optional = parsed.iter().any(|(_, symbols)| symbols.is_empty());
    let level = if refers || optional { Level::Structure } else { Level::Lexical };
    let alternatives = parsed
        .into_iter()
        .map(|(weight, symbols)| Alternative { probability: weight / total, symbols })
        .collect();
    Rule { alternatives, level }
}

fn symbols(part: &str, index: &HashMap<&str, usize>) -> Vec<Symbol> {
    match index.get(part) {
        Some(rule) => vec![Symbol::Rule(*rule)],
        None => part.split('+').map(|word| Symbol::Word(word.to_string())).collect(),
    }
}

/// Rules in an order in which each comes after those that it uses.
fn bottom_up(rules: &[Rule]) -> Vec<usize> {
    fn visit(rule: usize, rules: &[Rule], seen: &mut [bool], order: &mut Vec<usize>) {
        if std::mem::replace(&mut seen[rule], true) {
            return;
        }
        for alternative in &rules[rule].alternatives {
            super::rules_of(alternative).for_each(|next| visit(next, rules, seen, order));
        }
        order.push(rule);
    }
    let (mut seen, mut order) = (vec![false; rules.len()], Vec::new());
    (0..rules.len()).for_each(|rule| visit(rule, rules, &mut seen, &mut order));
    order
}

/// Spells a sentence: `a` becomes `an` before a vowel, commas cling, the first letter is a capital.
pub(super) fn write_sentence(words: &[&str]) -> String {
    let mut text = String::new();
    for (at, word) in words.iter().enumerate() {
        if at > 0 && *word != "," {
            text.push(' ');
        }
        let vowel_next = words.get(at + 1).is_some_and(|next| next.starts_with(VOWELS));
        match (*word, at) {
            ("a", _) => text.push_str(if vowel_next { "an" } else { "a" }),
            _ => text.push_str(word),
        }
    }
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str() + "."
}

const VOWELS: [char; 5] = ['a', 'e', 'i', 'o', 'u'];

/// Undoes [`write_sentence`] for each sentence of a paragraph.
pub(super) fn read_sentences(paragraph: &str) -> Vec<Vec<String>> {
    paragraph
        .split('.')
        .map(str::trim)
        .filter(|sentence| !sentence.is_empty())
        .map(|sentence| {
            let spaced = sentence.replace(',', " ,");
            let mut words: Vec<String> = spaced.split_whitespace().map(str::to_string).collect();
            if let Some(first) = words.first_mut()
                && !NAMES.iter().any(|(name, _)| name == first)
            {
                *first = first.to_lowercase();
            }
            restore_articles(&mut words);
            words
        })
        .collect()
}

/// `an` is read as `a` only where it is right, so that wrong text keeps probability zero.
fn restore_articles(words: &mut [String]) {
    for at in 0..words.len() {
        let vowel_next = words.get(at + 1).is_some_and(|next| next.starts_with(VOWELS));
        match (words[at].as_str(), vowel_next) {
            ("an", true) => words[at] = "a".to_string(),
            ("a", true) => words[at] = "?".to_string(),
            _ => {}
        }
    }
}
