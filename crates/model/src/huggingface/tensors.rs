//! Which tensor of a Hugging Face file is which part of the flat parameter vector.

use std::collections::HashSet;

use heldout_base::nearest::nearest;
use heldout_kernels::{Parameter, Role};

use crate::extra::is_extra;
use crate::{Family, Head, Model, ModelConfig, ModelError, Tied};

/// How a tensor lies in the file, relative to our `[out, in]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    AsIs,
    /// GPT-2's `Conv1D` keeps its matrices as `[in, out]`.
    Transposed,
}

/// One tensor of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlan {
    /// Name in the file.
    pub name: String,
    /// Shape in the file; `[cols, rows]` of ours where transposed.
    pub shape: Vec<usize>,
    /// First element in the flat parameter vector.
    pub offset: usize,
    pub orientation: Orientation,
}

/// Shape and values of a tensor as a file holds them.
pub type FileTensor = (Vec<usize>, Vec<f32>);

/// All tensors of an export, in the order of the flat vector. A tied head is not written, as in
/// transformers' own files.
pub fn tensors(model: &Model) -> Vec<TensorPlan> {
    let exported = model.layout().parameters.iter().filter(|p| !is_extra(&p.name));
    exported.map(|parameter| plan(&model.config, parameter)).collect()
}

fn plan(config: &ModelConfig, parameter: &Parameter) -> TensorPlan {
    let mut shape = parameter.shape.clone();
    let is_conv1d = config.family == Family::Gpt2 && parameter.role == Role::Matrix;
    let orientation = if is_conv1d { Orientation::Transposed } else { Orientation::AsIs };
    if is_conv1d {
        shape.reverse();
    }
    // A model without a head is the part that the others name.
    let name = match config.head {
        Head::Features => without_prefix(&parameter.name).unwrap_or(&parameter.name),
        _ => &parameter.name,
    };
    TensorPlan { name: name.into(), shape, offset: parameter.offset, orientation }
}

/// Fills a flat parameter vector from a weight file.
///
/// `read` returns shape and values of a tensor, None where the file has no such name. Names are
/// looked up as transformers writes them, then without the `transformer.`, `model.` or `bert.` in
/// front, as the headless models of the hub have them.
pub fn import(
    model: &Model,
    read: &mut dyn FnMut(&str) -> Option<FileTensor>,
) -> Result<Vec<f32>, ModelError> {
    import_into(model, vec![0.0; model.layout().len], tensors(model), read)
}

/// Weights from a file that may be of the same body under another head.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    pub weights: Vec<f32>,
    /// Tensors of the head that the file has not, or of another shape: drawn anew.
    pub fresh: Vec<String>,
}

/// As [`import`], where a head that the file lacks, or has for another number of labels, keeps
/// its values from `fresh`, the weights of a new model. A causal language model's head is never
/// missing.
pub fn import_body(
    model: &Model,
    fresh: Vec<f32>,
    read: &mut dyn FnMut(&str) -> Option<FileTensor>,
) -> Result<Imported, ModelError> {
    if model.config.head.is_language_model() && !model.is_encoder() {
        return Ok(Imported { weights: import(model, read)?, fresh: Vec::new() });
    }
    let (mut plans, mut drawn) = (Vec::new(), Vec::new());
    for plan in tensors(model) {
        let mut found = || names(model, &plan.name).iter().find_map(|name| read(name));
        let is_there =
            !is_above_body(&plan.name) || found().is_some_and(|(shape, _)| shape == plan.shape);
        match is_there {
            true => plans.push(plan),
            false => drawn.push(plan.name),
        }
    }
    Ok(Imported { weights: import_into(model, fresh, plans, read)?, fresh: drawn })
}

/// Whether a tensor projects onto labels or the ends of spans, and so is of no use for other ones.
pub fn is_of_head(name: &str) -> bool {
    let starts = ["score.", "classifier.", "qa_outputs."];
    let shared = name.starts_with("classifier.dense."); // RoBERTa's layer in front
    !shared && starts.iter().any(|start| name.starts_with(start))
}

/// Whether a tensor is above the body that all tasks share: drawn anew where a file lacks it, and
/// passed over where the model lacks it.
fn is_above_body(name: &str) -> bool {
    let starts = ["classifier.", "pre_classifier.", "cls.", "lm_head.", "vocab_", "pooler."];
    let name = without_prefix(name).unwrap_or(name);
    is_of_head(name) || starts.iter().any(|start| name.starts_with(start))
}

/// What an encoder-decoder adds to its logits: a buffer in PyTorch.
const OFFSET: &str = "final_logits_bias";
/// The token table of an encoder-decoder.
const SHARED: &str = "model.shared.weight";

/// What a tensor may be called in a file: as transformers writes it, without the model's name in
/// front, with it, and with the names that norms had in the first checkpoints of BERT.
fn names(model: &Model, name: &str) -> Vec<String> {
    let mut names = vec![name.to_string()];
    names.extend(without_prefix(name).map(String::from));
    if name == SHARED {
        names.extend(
            ["model.encoder.embed_tokens.weight", "encoder.embed_tokens.weight"].map(String::from),
        );
    }
    if model.is_encoder() {
        let variant = model.config.encoder.variant.name();
        names.push(format!("{variant}.{name}"));
        for at in 0..names.len() {
            for (now, once) in [("LayerNorm.weight", "gamma"), ("LayerNorm.bias", "beta")] {
                if let Some(start) = names[at].strip_suffix(now) {
                    names.push(format!("{start}LayerNorm.{once}"));
                }
            }
        }
    }
    names
}

fn import_into(
    model: &Model,
    mut flat: Vec<f32>,
    plans: Vec<TensorPlan>,
    read: &mut dyn FnMut(&str) -> Option<FileTensor>,
) -> Result<Vec<f32>, ModelError> {
    for plan in plans {
        let found = names(model, &plan.name).iter().find_map(|name| read(name));
        let Some((shape, values)) = found else {
            if plan.name == OFFSET {
                continue; // files without it mean zeros
            }
            return Err(missing(model, &plan));
        };
        if shape != plan.shape || values.len() != shape.iter().product::<usize>() {
            let hint = shape_hint(&plan, &shape).into();
            let (name, expected) = (plan.name, plan.shape);
            return Err(ModelError::WrongShape { name, expected, found: shape, hint });
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let value = values[index];
            return Err(ModelError::NonFiniteTensor { name: plan.name, index, value });
        }
        let out = &mut flat[plan.offset..plan.offset + values.len()];
        match plan.orientation {
            Orientation::AsIs => out.copy_from_slice(&values),
            Orientation::Transposed => transpose(&values, plan.shape[0], plan.shape[1], out),
        }
    }
    Ok(flat)
}

/// Whether every tensor of a file has a place in the model; the error names the first without.
///
/// Buffers that older versions of transformers saved (causal masks, rotary frequencies) and the
/// copy of a tied head are passed over.
pub fn check_names<'a>(
    model: &Model,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<(), ModelError> {
    let planned: Vec<String> = tensors(model).into_iter().map(|plan| plan.name).collect();
    let known: HashSet<String> = planned.iter().flat_map(|name| self::names(model, name)).collect();
    for name in names {
        if known.contains(name) || is_harmless(model, name) {
            continue;
        }
        let hint = match nearest(name, planned.iter().map(String::as_str)) {
            Some(near) => format!("the nearest it knows is {near:?}; {UNEXPECTED_HINT}"),
            None => UNEXPECTED_HINT.into(),
        };
        return Err(ModelError::UnexpectedTensor { name: name.into(), hint });
    }
    Ok(())
}

const UNEXPECTED_HINT: &str = "does config.json belong to these weights (same number of layers, \
                               same biases, tie_word_embeddings)?";

fn is_harmless(model: &Model, name: &str) -> bool {
    let is_buffer = [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"]
        .iter()
        .any(|end| name.ends_with(end));
    // A tied head's copy, or the head that another one replaces.
    let is_unused = model.config.tied == Tied::Yes || model.config.head != Head::LanguageModel;
    let is_encoders = name.ends_with("embeddings.position_ids") || is_above_body(name);
    // Other names of the one token table, and positions that are computed.
    let is_seq2seqs = name.ends_with("embed_tokens.weight")
        || (model.config.family == Family::Marian && name.ends_with("embed_positions.weight"));
    is_buffer
        || (name == "lm_head.weight" && is_unused)
        || (model.is_encoder() && is_encoders)
        || (model.config.is_seq2seq() && is_seq2seqs)
}

fn without_prefix(name: &str) -> Option<&str> {
    let prefixes = ["transformer.", "model.", "bert.", "roberta.", "distilbert."];
    prefixes.iter().find_map(|prefix| name.strip_prefix(prefix))
}

fn missing(model: &Model, plan: &TensorPlan) -> ModelError {
    let hint = if plan.name == "lm_head.weight" {
        "config.json says tie_word_embeddings = false; if the model is tied, set it to true".into()
    } else {
        format!(
            "does config.json belong to these weights? It describes {} layers of width {}",
            model.config.layers, model.config.width
        )
    };
    ModelError::MissingTensor { name: plan.name.clone(), shape: plan.shape.clone(), hint }
}

fn shape_hint(plan: &TensorPlan, found: &[usize]) -> &'static str {
    let reversed: Vec<usize> = plan.shape.iter().rev().copied().collect();
    if plan.shape.len() == 2 && found == reversed.as_slice() {
        match plan.orientation {
            Orientation::Transposed => "GPT-2 files keep this matrix as [in, out]: transpose it",
            Orientation::AsIs => "this family keeps its matrices as [out, in]: transpose it",
        }
    } else {
        "does config.json belong to these weights?"
    }
}

/// `values` is [rows, cols]; `out` becomes [cols, rows].
fn transpose(values: &[f32], rows: usize, cols: usize, out: &mut [f32]) {
    for row in 0..rows {
        for col in 0..cols {
            out[col * rows + row] = values[row * cols + col];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QkNorm;

    type NamedTensor = (String, Vec<usize>, Vec<f32>);

    fn models() -> Vec<Model> {
        let llama = ModelConfig::llama(61, 16, 2, 4, 2, 32);
        let configs = [
            ModelConfig::gpt2(61, 16, 2, 4, 32),
            llama.clone(),
            ModelConfig { tied: Tied::No, qk_norm: QkNorm::Yes, head_width: 16, ..llama },
        ];
        configs.map(|config| Model::new(config).unwrap()).into()
    }

    /// What a file would hold after an export of `flat`.
    fn exported(model: &Model, flat: &[f32]) -> Vec<NamedTensor> {
        tensors(model)
            .into_iter()
            .map(|plan| {
                let len = plan.shape.iter().product::<usize>();
                let mut values = flat[plan.offset..plan.offset + len].to_vec();
                if plan.orientation == Orientation::Transposed {
                    transpose(&values.clone(), plan.shape[1], plan.shape[0], &mut values);
                }
                (plan.name, plan.shape, values)
            })
            .collect()
    }

    fn read_from(file: &[NamedTensor]) -> impl FnMut(&str) -> Option<FileTensor> {
        |name| {
            let (_, shape, values) = file.iter().find(|entry| entry.0 == name)?;
            Some((shape.clone(), values.clone()))
        }
    }

    #[test]
    fn an_export_is_imported_bit_for_bit() {
        for model in models() {
            let flat = model.initialize(5);
            let mut file = exported(&model, &flat);
            check_names(&model, file.iter().map(|entry| entry.0.as_str())).unwrap();
            assert_eq!(import(&model, &mut read_from(&file)).unwrap(), flat);
            // As a headless model has it.
            for entry in &mut file {
                entry.0 = without_prefix(&entry.0).unwrap_or(&entry.0).to_string();
            }
            check_names(&model, file.iter().map(|entry| entry.0.as_str())).unwrap();
            assert_eq!(import(&model, &mut read_from(&file)).unwrap(), flat);
        }
    }

    #[test]
    fn every_parameter_is_exported_once() {
        for model in models() {
            let mut next = 0;
            for plan in tensors(&model) {
                assert_eq!(plan.offset, next, "{}", plan.name);
                next += plan.shape.iter().product::<usize>();
            }
            assert_eq!(next, model.config.parameter_count());
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let [gpt2, _, untied] = models().try_into().ok().unwrap();
        let flat = gpt2.initialize(5);
        let check = |edit: &dyn Fn(&mut Vec<NamedTensor>), expected: &str| {
            let mut file = exported(&gpt2, &flat);
            edit(&mut file);
            let message = import(&gpt2, &mut read_from(&file)).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(&|file| drop(file.remove(4)), "no tensor \"transformer.h.0.attn.c_attn.weight\"");
        check(&|file| file[4].1.reverse(), "[in, out]: transpose it");
        check(
            &|file| file[0].1 = vec![60, 32],
            "has shape [60, 32], the configuration expects [61",
        );
        check(&|file| file[3].2[2] = f32::NAN, "holds NaN at element 2");

        let file = exported(&untied, &untied.initialize(1));
        let without_head = &file[..file.len() - 1];
        let message = import(&untied, &mut read_from(without_head)).unwrap_err().to_string();
        assert!(message.contains("if the model is tied, set it to true"), "{message}");
    }

    #[test]
    fn names_without_a_place_are_reported_and_old_buffers_are_not() {
        let [gpt2, llama, untied] = models().try_into().ok().unwrap();
        check_names(&gpt2, ["h.0.attn.bias", "h.1.attn.masked_bias", "lm_head.weight"]).unwrap();
        check_names(&llama, ["model.layers.0.self_attn.rotary_emb.inv_freq"]).unwrap();
        check_names(&untied, ["lm_head.weight"]).unwrap();
        let error = check_names(&gpt2, ["transformer.h.2.ln_1.weight"]).unwrap_err().to_string();
        assert!(error.contains("same number of layers"), "{error}");
        let error = check_names(&llama, ["model.layers.0.self_attn.q_proj.bias"]).unwrap_err();
        assert!(error.to_string().contains("same biases"), "{error}");
    }
}
