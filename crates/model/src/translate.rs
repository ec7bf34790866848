//! The passes of an encoder-decoder: the loss of targets given their sources, and logits.

use heldout_kernels::{Activation, IGNORE, Joint, LossReport, Pass, Twins, Var};

use crate::bart::{Bart, Memory, Place};
use crate::model::Network;
use crate::noise::Noise;
use crate::{Decoder, Model, NoiseRates, Objective, Sequences, Tokens};

/// Sources and what is to be written for each.
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a> {
    /// What the encoder reads: texts that end in `config.decoder.end`, padded on the right.
    pub source: Sequences<'a>,
    /// What the decoder reads: `config.decoder.start`, then the target without its last token;
    /// padded on the right. As many sequences as the source has.
    pub target: Sequences<'a>,
    /// B·T ids, the target as far as it is to be told, [`heldout_kernels::IGNORE`] elsewhere: for
    /// each row of `target` the token that follows it, the last one being `config.decoder.end`.
    pub targets: &'a [u32],
}

impl Model {
    /// Loss of every token of the targets, given their sources and the tokens before it. Only rows
    /// with a target meet the vocabulary, so [`Pass::token_nll`] has one entry for each of them, in
    /// their order. In a training pass the gradients are set for `pass.backward()`. Twins draw
    /// their noise as the sequences 2s and 2s + 1, so the pass's key counts sequences twice.
    /// `objective.marks` are of no effect.
    ///
    /// # Panics
    /// If the model is no encoder-decoder, the objective has teachers or heads ahead, or the sizes
    /// disagree.
    pub fn seq_loss(
        &self,
        pass: &mut Pass,
        pairs: &Pairs,
        noise: &NoiseRates,
        objective: &Objective,
    ) -> LossReport {
        let Objective { spec, joint, ahead, .. } = objective;
        let Pairs { source, target, targets } = *pairs;
        assert_eq!(targets.len(), target.ids.len(), "a target or none for each token");
        assert!(joint.teaching.is_none() && *ahead == 0.0, "pairs have no such objective");
        let kept: Vec<u32> =
            (0..targets.len() as u32).filter(|row| targets[*row as usize] != IGNORE).collect();
        if kept.is_empty() {
            return LossReport::default();
        }
        let told: Vec<u32> = kept.iter().map(|row| targets[*row as usize]).collect();
        let projection = (self.bart().words, self.bart().offset);
        let Some(Twins { strength, .. }) = joint.twins else {
            let x = self.written(pass, (source, target), noise); // [N, C]
            let x = pass.rows(x, &kept); // [R, C]
            return pass.offset_cross_entropy(x, projection, &told, spec, joint);
        };
        let (sources, doubled) = (source.doubled(), target.doubled());
        let x = self.written(pass, (sources.borrow(), doubled.borrow()), noise); // [2N, C]
        // Targets lie beside their twins; the loss wants all first copies, then all second ones.
        let seq_len = target.seq_len as u32;
        let first = |row: &u32| row + row / seq_len * seq_len;
        let second = |row: &u32| first(row) + seq_len;
        let rows: Vec<u32> = kept.iter().map(first).chain(kept.iter().map(second)).collect();
        let x = pass.rows(x, &rows); // [2R, C]
        let joint = Joint { twins: Some(Twins { strength, seq_len: kept.len() }), teaching: None };
        pass.offset_cross_entropy(x, projection, &told, spec, &joint)
    }

    /// As [`Model::seq_loss`] where each sequence is source and, token for token, has its targets:
    /// the decoder reads them one place later. What techniques are measured with.
    pub(crate) fn seq_objective(
        &self,
        pass: &mut Pass,
        batch: Tokens,
        noise: &NoiseRates,
        objective: &Objective,
    ) -> LossReport {
        let Tokens { ids, targets, batch, seq_len } = batch;
        let Decoder { start, padding, .. } = self.config.decoder;
        let read = |row: &[u32]| {
            let before = row[..seq_len - 1].iter().copied();
            let before = before.map(|id| if id == IGNORE { padding } else { id });
            std::iter::once(start).chain(before).collect::<Vec<u32>>()
        };
        let read: Vec<u32> = targets.chunks(seq_len).flat_map(read).collect();
        let lengths = vec![seq_len as u32; batch];
        let whole = |ids| Sequences { ids, lengths: &lengths, segments: None, batch, seq_len };
        let pairs = Pairs { source: whole(ids), target: whole(&read), targets };
        self.seq_loss(pass, &pairs, noise, objective)
    }

    /// Logits that follow each row of `target`, in an evaluation pass: [N, V]; those of padding
    /// mean nothing.
    ///
    /// # Panics
    /// If the model is no encoder-decoder, or the sizes disagree.
    pub fn seq_logits(&self, pass: &mut Pass, source: Sequences, target: Sequences) -> Var {
        let x = self.written(pass, (source, target), &NoiseRates::default()); // [N, C]
        self.offset_logits(pass, x)
    }

    /// [R, V] of [R, C].
    pub(crate) fn offset_logits(&self, pass: &mut Pass, x: Var) -> Var {
        let Bart { words, offset, .. } = *self.bart();
        pass.linear(x, words, Some(offset), Activation::None, None)
    }

    /// The decoder's final hidden states over whole targets: [N, C].
    fn written(
        &self,
        pass: &mut Pass,
        (source, target): (Sequences, Sequences),
        noise: &NoiseRates,
    ) -> Var {
        source.assert_whole();
        target.assert_whole();
        assert_eq!(source.batch, target.batch, "a target for each source");
        let layers = self.config.layers + self.config.decoder.layers;
        let noise = Noise::of_pass(pass, noise, layers);
        let bart = self.bart();
        let memory = bart.encode(&self.config, pass, &source, noise); // [B·S, C]
        let place = Place {
            memory: Memory::States(memory),
            lengths: source.lengths,
            source_len: source.seq_len,
            cache: None,
            targets: 1,
        };
        bart.decode(&self.config, pass, (target.ids, target.seq_len), place, noise)
    }

    pub(crate) fn bart(&self) -> &Bart {
        match &self.network {
            Network::Bart(bart) => bart,
            _ => panic!("{:?} is no encoder-decoder", self.config.family),
        }
    }
}
