//! How good texts are that a model wrote: BLEU and chrF of translations, ROUGE of summaries; and
//! what needs no model at all, copying the source or taking its beginning.

use heldout_data::pairs::{PairExample, PairFacts};
use heldout_measure::bleu::{Bleu, sentence_score};
use heldout_measure::chrf::Chrf;
use heldout_measure::rouge::Rouge;
use heldout_measure::tokenize::Tokenizer;
use heldout_measure::{Measured, Metric as Scored, Resampling, compare, measure, resample};
use heldout_record::{
    BesideRecord, FigureIntervalRecord, FigureRecord, MethodRecord, TextBaselineRecord,
    WritingRecord, WrittenRecord,
};

use crate::error::TrainError;
use crate::recipe::{Metric, ScoredAs};
use crate::task::Figure;

/// What written texts are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// BLEU and chrF.
    Translation,
    /// ROUGE-1, ROUGE-2 and ROUGE-L.
    Summary,
}

/// Sentences that stand for a text: news writers say the most important things first.
const LEAD: usize = 3;

/// Examples told of either kind, and how much of each text.
const EXAMPLES: usize = 5;
const TEXT_CHARACTERS: usize = 400;

impl Scoring {
    /// As the recipe says, else by the lengths of the training pairs.
    pub fn of(choice: ScoredAs, facts: &PairFacts) -> Scoring {
        match choice {
            ScoredAs::Translation => Scoring::Translation,
            ScoredAs::Summary => Scoring::Summary,
            ScoredAs::Auto if facts.is_summary() => Scoring::Summary,
            ScoredAs::Auto => Scoring::Translation,
        }
    }

    /// The figures, the one that decides first.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Scoring::Translation => &[Metric::Bleu, Metric::Chrf],
            Scoring::Summary => &[Metric::Rouge1, Metric::Rouge2, Metric::RougeL],
        }
    }

    /// What can be scored and resampled, one for each figure.
    fn scored(
        self,
        written: &[String],
        references: &[Vec<String>],
    ) -> Result<Vec<Box<dyn Scored>>, TrainError> {
        let rouge = |kind: Rouge| -> Result<Box<dyn Scored>, TrainError> {
            Ok(Box::new(kind.corpus(written, references)?))
        };
        Ok(match self {
            Scoring::Translation => vec![
                Box::new(bleu(references).corpus(written, references)?),
                Box::new(Chrf::default().corpus(written, references)?),
            ],
            Scoring::Summary => vec![rouge(Rouge::One)?, rouge(Rouge::Two)?, rouge(Rouge::L)?],
        })
    }

    /// The values alone.
    ///
    /// # Errors
    /// Nothing was written, or not as many texts as references.
    pub fn figures(
        self,
        written: &[String],
        references: &[Vec<String>],
    ) -> Result<Vec<Figure>, TrainError> {
        let scored = self.scored(written, references)?;
        let values = scored.iter().map(|scored| resample::value(scored.as_ref()));
        let figures = self.metrics().iter().zip(values);
        Ok(figures.map(|(metric, value)| Figure { metric: *metric, value }).collect())
    }

    /// How the figures are computed, in sacreBLEU's notation; ROUGE has none.
    fn signatures(self, references: &[Vec<String>]) -> Vec<String> {
        match self {
            Scoring::Translation => vec![
                format!("BLEU|{}", bleu(references).signature(references)),
                format!("chrF2|{}", Chrf::default().signature(references)),
            ],
            Scoring::Summary => Vec::new(),
        }
    }

    /// The score of one text: sentence BLEU from 0 to 100, or the F of ROUGE-L.
    fn of_one(self, written: &str, references: &[String]) -> f64 {
        match self {
            Scoring::Translation => {
                let all = [references.to_vec()];
                sentence_score(&bleu(&all).statistics(written, references)).score
            }
            Scoring::Summary => Rouge::L.score(written, references).f1,
        }
    }

    /// What copying and beginnings reach on some pairs.
    ///
    /// # Errors
    /// There are no pairs.
    pub fn baseline(
        self,
        sources: &[String],
        references: &[Vec<String>],
    ) -> Result<TextBaselineRecord, TrainError> {
        let method = |(name, written): (&str, Vec<String>)| -> Result<MethodRecord, TrainError> {
            let figure = |f: Figure| FigureRecord { name: f.metric.word().into(), value: f.value };
            let figures = self.figures(&written, references)?.into_iter().map(figure).collect();
            Ok(MethodRecord { name: name.into(), figures })
        };
        let methods = without_model(sources).into_iter().map(method).collect::<Result<_, _>>()?;
        Ok(TextBaselineRecord { methods, pairs: sources.len() as u64 })
    }

    /// Everything about texts that were written for some pairs with so many beams.
    ///
    /// # Errors
    /// Nothing was written, or not as many texts as pairs.
    pub fn judge(
        self,
        pairs: &[&PairExample],
        written: &[String],
        beams: usize,
    ) -> Result<WritingRecord, TrainError> {
        let references: Vec<Vec<String>> = pairs.iter().map(|pair| pair.targets.clone()).collect();
        let sources: Vec<String> = pairs.iter().map(|pair| pair.source.clone()).collect();
        let (resampling, scored) = (Resampling::default(), self.scored(written, &references)?);
        let mut figures = Vec::new();
        for (metric, scored) in self.metrics().iter().zip(&scored) {
            let Measured { value, interval, .. } = measure(scored.as_ref(), &resampling)?;
            let (low, high) = (interval.low, interval.high);
            figures.push(FigureIntervalRecord { name: metric.word().into(), value, low, high });
        }
        let mut beside = Vec::new();
        for (name, text) in without_model(&sources) {
            let own = self.scored(&text, &references)?;
            let compared = compare(scored[0].as_ref(), own[0].as_ref(), &resampling)?;
            beside.push(BesideRecord {
                name: name.into(),
                value: resample::value(own[0].as_ref()),
                better: compared.difference,
                low: compared.interval.low,
                high: compared.interval.high,
            });
        }
        let scores = pairs.iter().zip(written);
        let scores: Vec<f64> =
            scores.map(|(pair, written)| self.of_one(written, &pair.targets)).collect();
        let mut order: Vec<usize> = (0..pairs.len()).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let example = |at: &usize| WrittenRecord {
            line: pairs[*at].place.line,
            source: beginning(&sources[*at]),
            reference: beginning(&references[*at][0]),
            written: beginning(&written[*at]),
            score: scores[*at],
        };
        // Each side has at most half of a few texts: none is both.
        let some = EXAMPLES.min(pairs.len() / 2);
        Ok(WritingRecord {
            step: 0,
            pairs: pairs.len() as u64,
            beams: beams as u64,
            figures,
            signatures: self.signatures(&references),
            beside,
            best: order.iter().rev().take(some).map(example).collect(),
            worst: order.iter().take(some).map(example).collect(),
        })
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(TEXT_CHARACTERS).collect()
}

/// BLEU with the tokens of the references' script.
fn bleu(references: &[Vec<String>]) -> Bleu {
    let is_chinese = |c: &char| ('\u{4e00}'..='\u{9fff}').contains(c);
    let texts = || references.iter().flatten().flat_map(|text| text.chars());
    let chinese = texts().filter(is_chinese).count();
    let tokenizer = match 2 * chinese > texts().filter(|c| c.is_alphanumeric()).count() {
        true => Tokenizer::Chinese,
        false => Tokenizer::default(),
    };
    Bleu { tokenizer, ..Bleu::default() }
}

/// What can be written without a model. Where the beginnings are all there is, they are not told
/// twice.
fn without_model(sources: &[String]) -> Vec<(&'static str, Vec<String>)> {
    let leads: Vec<String> = sources.iter().map(|source| lead(source, LEAD)).collect();
    let mut all = vec![("copy the source", sources.to_vec())];
    if leads != sources {
        all.push(("lead-3", leads));
    }
    all
}

/// The first `count` sentences of a text; of one with several lines the first lines that are not
/// empty (the turns of a dialogue).
fn lead(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.len() > 1 {
        return lines[..count.min(lines.len())].join("\n");
    }
    let mut left = count;
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let next = characters.peek().map(|(_, c)| *c);
        // A full stop ends a sentence before white space; Chinese puts none there.
        let ends = match c {
            '.' | '!' | '?' => next.is_none_or(char::is_whitespace),
            '。' | '！' | '？' => true,
            _ => false,
        };
        left -= usize::from(ends);
        if left == 0 {
            return text[..at + c.len_utf8()].to_string();
        }
    }
    text.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use heldout_data::labelled::Place;

    fn pair(source: &str, target: &str, line: u64) -> PairExample {
        let (source, targets) = (source.to_string(), vec![target.to_string()]);
        PairExample { source, targets, place: Place { input: 0, line } }
    }

    #[test]
    fn a_lead_is_sentences_or_lines() {
        assert_eq!(lead("One. Two? 3.5 is three! Four.", 3), "One. Two? 3.5 is three!");
        assert_eq!(lead("One. Two", 3), "One. Two");
        assert_eq!(lead("一。二！三？四。", 3), "一。二！三？");
        assert_eq!(
            lead("#A#: Hi. You?\n\n#B#: Yes.\n#A#: So.\n#B#: No.", 3),
            "#A#: Hi. You?\n#B#: Yes.\n#A#: So."
        );
    }

    #[test]
    fn what_was_written_is_judged_beside_its_source() {
        let text = |i: usize| format!("the {i} small dogs run over the green field {}", i * 7);
        let turned = |text: &str| text.split(' ').rev().collect::<Vec<_>>().join(" ");
        let pairs: Vec<PairExample> =
            (0..20).map(|i| pair(&text(i), &turned(&text(i)), i as u64 + 1)).collect();
        let all: Vec<&PairExample> = pairs.iter().collect();
        let mut written: Vec<String> = pairs.iter().map(|pair| pair.targets[0].clone()).collect();
        written[3] = "nothing of the kind".into();
        let found = Scoring::Translation.judge(&all, &written, 4).unwrap();
        assert_eq!(found.figures[0].name, "bleu");
        assert!(found.figures[0].value > 90.0 && found.figures[0].low > 80.0, "{found:?}");
        assert!(found.beside[0].low > 0.0 && found.beside.len() == 1, "{found:?}");
        assert_eq!(found.worst[0].line, 4, "{found:?}");
        assert!((found.best[0].score - 100.0).abs() < 1e-9, "{found:?}");
        assert!(found.signatures[0].starts_with("BLEU|nrefs:1|case:mixed|eff:no|tok:13a"));
        let copied: Vec<String> = pairs.iter().map(|pair| pair.source.clone()).collect();
        let found = Scoring::Translation.judge(&all, &copied, 1).unwrap();
        assert_eq!(found.beside[0].better, 0.0);
    }

    #[test]
    fn the_kind_of_figures_follows_the_lengths() {
        let mut facts = PairFacts::default();
        (facts.train.source.characters, facts.train.target.characters) = (100.0, 49.0);
        assert_eq!(Scoring::of(ScoredAs::Auto, &facts), Scoring::Summary);
        assert_eq!(Scoring::of(ScoredAs::Translation, &facts), Scoring::Translation);
        facts.train.target.characters = 51.0;
        assert_eq!(Scoring::of(ScoredAs::Auto, &facts), Scoring::Translation);
        let (sources, references) = (vec!["a. b. c. d.".to_string()], vec![vec!["a. b".into()]]);
        let found = Scoring::Summary.baseline(&sources, &references).unwrap();
        let names: Vec<&str> = found.methods.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["copy the source", "lead-3"]);
        assert!(found.methods[1].figures[0].value > found.methods[0].figures[0].value);
    }

    #[test]
    fn chinese_is_told_apart_character_by_character() {
        let references = [vec!["我喜欢红楼梦".to_string()]];
        assert_eq!(bleu(&references).tokenizer, Tokenizer::Chinese);
        assert_eq!(bleu(&[vec!["a dog 狗".to_string()]]).tokenizer, Tokenizer::V13a);
    }
}
