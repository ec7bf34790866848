//! What a wrong recipe is told, and that a right one survives being written and read again.

use heldout_base::schedule::{Shape, Span};
use heldout_kernels::{Activations, Isa};

use super::defaults::{CorpusFacts, Machine, NativeBf16, PairCounts, TokenFacts};
use super::*;

fn error(text: &str, settings: &[&str]) -> String {
    let read = || {
        let mut recipe = Recipe::parse(text, "recipe.toml")?;
        settings.iter().try_for_each(|s| recipe.set(s))?;
        recipe.draft()
    };
    read().err().unwrap_or_else(|| panic!("accepted: {text} {settings:?}")).to_string()
}

fn check(text: &str, expected: &str) {
    let found = error(text, &[]);
    assert_eq!(found, expected.trim_start_matches('\n').trim_end(), "\n{found}\n");
}

#[test]
fn an_unknown_key_names_the_nearest() {
    check(
        "[model]\nlayers = 4\nheds = 2\n",
        "
recipe.toml:3:1: unknown key `heds` in [model]
  |
3 | heds = 2
  | ^^^^
  = did you mean `heads`?",
    );
}

#[test]
fn an_unknown_table_names_the_nearest() {
    check(
        "[optimiser]\nname = \"adamw\"\n",
        "
recipe.toml:1:2: unknown key `optimiser` in the recipe
  |
1 | [optimiser]
  |  ^^^^^^^^^
  = did you mean `optimizer`?",
    );
}

#[test]
fn not_a_number_is_refused_with_the_range() {
    check(
        "[optimizer]\nlearning-rate = nan # oops\n",
        "
recipe.toml:2:17: `learning-rate` must be a finite number
  |
2 | learning-rate = nan # oops
  |                 ^^^
  = allowed: a number above 0, at most 100",
    );
}

#[test]
fn out_of_range_shows_the_range() {
    check(
        "[model]\nwidth = -64\n",
        "
recipe.toml:2:9: `width` is out of range
  |
2 | width = -64
  |         ^^^
  = allowed: a whole number from 2 to 1048576",
    );
}

#[test]
fn a_wrong_type_says_what_was_found() {
    check(
        "[batch]\nsize = \"twelve\"\n",
        "
recipe.toml:2:8: `size` cannot be the text \"twelve\"
  |
2 | size = \"twelve\"
  |        ^^^^^^^^
  = allowed: a whole number from 1 to 1048576, or \"full\"",
    );
}

#[test]
fn a_length_needs_a_unit() {
    check(
        "[schedule]\nhorizon = \"2000\"\n",
        "
recipe.toml:2:11: `horizon`: `2000` needs a unit
  |
2 | horizon = \"2000\"
  |           ^^^^^^
  = allowed: \"2000 steps\", \"20 epochs\", \"50M tokens\", \"10 min\"",
    );
    check(
        "[schedule]\nhorizon = 2000\n",
        "
recipe.toml:2:11: `horizon` cannot be an integer
  |
2 | horizon = 2000
  |           ^^^^
  = allowed: \"2000 steps\", \"20 epochs\", \"50M tokens\", \"10 min\"",
    );
}

#[test]
fn a_choice_names_the_nearest_word() {
    check(
        "[model]\nfamily = \"lama\"\n",
        "
recipe.toml:2:10: `family` has no choice \"lama\"
  |
2 | family = \"lama\"
  |          ^^^^^^
  = did you mean \"llama\"?
  = allowed: \"gpt2\", \"llama\", \"bert\", \"bart\", \"marian\"",
    );
}

#[test]
fn a_key_without_effect_is_an_error() {
    check(
        "[schedule]\nshape = \"constant\"\nend = 0.1\n",
        "
recipe.toml:3:1: `end` has no effect with shape \"constant\"
  |
3 | end = 0.1
  | ^^^
  = remove it, or choose a shape that has it: linear, cosine, warmup-stable-decay, polynomial, one-cycle",
    );
    check(
        "[optimizer]\nname = \"sgd\"\nbeta2 = 0.99\n",
        "
recipe.toml:3:1: `beta2` has no effect with optimizer \"sgd\"
  |
3 | beta2 = 0.99
  | ^^^^^
  = remove it, or choose one that has it: adam, adamw, lion, muon",
    );
    check(
        "[model]\nkv-heads = 2\n",
        "
recipe.toml:2:1: `kv-heads` has no effect with family \"gpt2\"
  |
2 | kv-heads = 2
  | ^^^^^^^^
  = remove it, or set family = \"llama\"",
    );
    check(
        "[data]\ntokenizer = \"char\"\nvocabulary = 500\n",
        "
recipe.toml:3:1: `vocabulary` has no effect with tokenizer \"char\"
  |
3 | vocabulary = 500
  | ^^^^^^^^^^
  = its vocabulary follows from the data or the file: remove this key",
    );
}

#[test]
fn broken_toml_is_shown_where_it_breaks() {
    let found = error("[model]\nlayers = = 4\n", &[]);
    assert!(found.starts_with("recipe.toml:2:"), "{found}");
    assert!(found.contains("not valid TOML") && found.contains("^"), "{found}");
}

#[test]
fn techniques_are_checked_like_any_other_key() {
    check(
        "[regularize]\ndroput = 0.1\n",
        "
recipe.toml:2:1: unknown key `droput` in [regularize]
  |
2 | droput = 0.1
  | ^^^^^^
  = did you mean `dropout`?",
    );
    let found = error("[regularize]\ndropout = { rate = 0.1, attenton = 0.2 }\n", &[]);
    assert!(found.contains("recipe.toml:2:25") && found.contains("`attention`"), "{found}");
    let found = error("[regularize]\ndropout = 1.5\n", &[]);
    assert!(found.contains("recipe.toml:2:11") && found.contains("out of range"), "{found}");
    let found = error("[regularize]\nearly-stopping = 5\n", &[]);
    assert!(found.contains("recipe.toml:2:18") && found.contains("5 evaluations"), "{found}");
    let text = "[regularize]\nl1 = { strength = 0.1, strenght = { peak = 0.1 } }\n";
    let found = error(text, &[]);
    assert!(found.contains("strenght"), "{found}");
}

#[test]
fn the_command_line_has_places_too() {
    let found = error("", &["model.heds=2"]);
    let expected = "command line:1:13: unknown key `heds` in [model]
  |
1 | --set model.heds=2
  |             ^^^^
  = did you mean `heads`?";
    assert_eq!(found, expected, "\n{found}\n");
    let found = error("", &["optimizer.learning-rate=nan"]);
    assert!(found.contains("command line:1:31"), "{found}");
    assert!(error("", &["layers"]).contains("expected TABLE.KEY=VALUE"));
    assert!(error("", &["schedule.horizon=20 epics"]).contains("`epics` is not a unit"));
}

#[test]
fn tabs_and_wide_characters_keep_the_caret_in_place() {
    let found = error("[data]\n\tfield = \"文本\"\n\tfeld = 3 # 错\n", &[]);
    assert!(found.contains("3 | \tfeld = 3 # 错\n  | \t^^^^\n"), "{found}");
}

#[test]
fn the_command_line_wins_over_the_file() {
    let mut recipe =
        Recipe::parse("[regularize]\ndropout = 0.1\n[model]\nlayers = 2\n", "r.toml").unwrap();
    recipe.set("model.layers=3").unwrap();
    recipe.set("regularize.dropout.attention=0.3").unwrap();
    recipe.set("schedule.horizon=20 epochs").unwrap();
    let draft = recipe.draft().unwrap();
    assert_eq!(draft.model.layers.unwrap().value, 3);
    assert_eq!(draft.schedule.horizon.unwrap().value, Amount::Epochs(20.0));
    let settings = draft.regularize[0].settings.as_ref().unwrap();
    let number = heldout_regularize::Value::Number;
    assert_eq!(settings.knobs.get("rate"), Some(&number(0.1)), "the main knob stays");
    assert_eq!(settings.knobs.get("attention"), Some(&number(0.3)));
    recipe.set("regularize.dropout=off").unwrap();
    assert!(recipe.draft().unwrap().regularize[0].settings.is_none());
}

fn machine() -> Machine {
    Machine { threads: 2, bf16: NativeBf16::Yes, isa: Isa::Avx2, memory: 8 << 30 }
}

fn resolved(text: &str, tokens: TokenFacts) -> ResolvedRecipe {
    resolved_on(machine(), text, tokens).unwrap()
}

fn resolved_on(
    machine: Machine,
    text: &str,
    tokens: TokenFacts,
) -> Result<ResolvedRecipe, RecipeError> {
    let mut recipe = Recipe::parse(text, "recipe.toml").unwrap();
    recipe.set_data(&["corpus.txt".into()]).unwrap();
    let draft = recipe.draft().unwrap();
    let corpus = CorpusFacts { bytes: tokens.tokens_train };
    let (data, origins) = data(&draft, &corpus).unwrap();
    let known = Known { data, origins, tokens, machine, from: None };
    resolve(&draft, known)
}

fn shakespeare() -> TokenFacts {
    TokenFacts {
        pairs: None,
        tokens_train: 1_003_854,
        tokens_validation: 111_540,
        vocabulary: 65,
        bytes_per_token: 1.0,
        examples: None,
        passage: None,
    }
}

#[test]
fn a_resolved_recipe_reads_back_to_itself() {
    let texts = [
        "",
        "[model]\nfamily = \"llama\"\nkv-heads = 2\nheads = 4\nwidth = 128\nqk-norm = true\n",
        "[schedule]\nhorizon = \"10 min\"\nshape = \"step\"\nevery = \"30%\"\nfactor = 0.3\n",
        "[schedule]\nshape = \"plateau\"\npatience = 2\n[optimizer]\nname = \"muon\"\n",
        "[regularize]\ndropout = { peak = 0.2, shape = \"linear\", end = 0.5, warmup = \"5%\" }\n\
         ema = 0.99\nlabel-smoothing = { amount = 0.1, to = \"wrong\" }\nshuffle = false\n",
        "[data]\nvalidation = \"last 5%\"\ntest = [\"a.txt\", \"b.txt\"]\n[batch]\nsize = \
            \"full\"\n\
         [evaluate]\nevery = \"end\"\nsamples = 0\n[run]\nhistograms = \"2 evaluations\"\n",
    ];
    for text in texts {
        let first = resolved(text, shakespeare());
        let written = to_toml(&first);
        let again = resolved(&written, shakespeare());
        assert_eq!(strip(&written), strip(&to_toml(&again)), "{text}");
        for key in again.origins.keys().filter(|key| !UNWRITTEN.contains(&key.as_str())) {
            let source = &again.origins[key].source;
            assert!(matches!(source, OriginSource::File { .. }), "{key}: {source:?}");
        }
    }
}

/// 29,000 pairs of short sentences.
fn captions() -> TokenFacts {
    let pairs = PairCounts {
        train: 29_000,
        validation: 1_014,
        length_mean: 32.0,
        longest: 64,
        end: 7_999,
        padding: 7_998,
    };
    TokenFacts { pairs: Some(pairs), vocabulary: 8_000, ..shakespeare() }
}

#[test]
fn pairs_get_an_encoder_decoder_with_their_own_ids() {
    let texts = [
        "[data]\ntask = \"seq2seq\"\n",
        "[data]\ntask = \"seq2seq\"\nsource = \"de\"\ntarget = \"en\"\nlimit = 500\n\
         [model]\nfamily = \"marian\"\nwidth = 96\nheads = 3\nhidden = 100\n\
         [evaluate]\nwritten = 20\nmetrics = \"summary\"\nmonitor = \"rouge1\"\n",
    ];
    for text in texts {
        let first = resolved(text, captions());
        let config = &first.model.config;
        assert!(config.is_seq2seq() && config.decoder.layers == config.layers);
        assert_eq!(config.decoder.hidden, config.hidden);
        assert_eq!((config.decoder.start, config.decoder.padding), (7_999, 7_998));
        let written = to_toml(&first);
        let again = resolved(&written, captions());
        assert_eq!(strip(&written), strip(&to_toml(&again)), "{text}");
        assert_eq!(first.model, again.model);
        assert_eq!(first.evaluate, again.evaluate);
    }
    let first = resolved(texts[0], captions());
    assert_eq!((first.batch.size, first.evaluate.written), (Some(64), 100));
    // 1/√256.
    assert_eq!(first.model.config.init_std, 0.063);
    let wrong = "[data]\ntask = \"seq2seq\"\n[model]\nfamily = \"gpt2\"\n";
    let error = resolved_on(machine(), wrong, captions()).unwrap_err().to_string();
    assert!(error.contains("does not read one text to write another"), "{error}");
}

#[test]
fn a_recipe_of_masked_tokens_reads_back_to_itself() {
    let facts = TokenFacts { passage: Some(20.0), vocabulary: 4096, ..shakespeare() };
    let text = "[data]\ntask = \"mlm\"\nwhole-word = true\nmask-rate = 0.3\n";
    let first = resolved(text, facts);
    assert_eq!((first.data.mask_rate, first.data.whole_word), (0.3, true));
    assert_eq!(first.model.config.family, heldout_model::Family::Bert);
    assert!(first.batch.size > Some(64), "passages are short: {:?}", first.batch);
    let written = to_toml(&first);
    assert_eq!(strip(&written), strip(&to_toml(&resolved(&written, facts))), "{written}");
}

/// Named by the command line, or without effect where no sample is asked for.
const UNWRITTEN: [&str; 2] = ["data.train", "evaluate.sample-tokens"];

/// Without the comments, which say where a value came from.
fn strip(toml: &str) -> String {
    toml.lines()
        .map(|l| l.split("  # ").next().unwrap_or("").trim_end().to_owned() + "\n")
        .collect()
}

#[test]
fn defaults_suit_the_data() {
    let tiny = TokenFacts { tokens_train: 2000, tokens_validation: 200, ..shakespeare() };
    let small = resolved("", tiny);
    assert!(small.model.context <= 50 && small.model.config.layers <= 2, "{:?}", small.model);
    let medium = resolved("", shakespeare());
    let parameters = medium.model.config.parameter_count();
    assert!((300_000..20_000_000).contains(&parameters), "{parameters}");
    assert_eq!(medium.model.context, 256);
    assert!(matches!(medium.schedule.horizon, Amount::Epochs(e) if (2.0..=40.0).contains(&e)));
    let reason = &medium.origins["model.width"];
    assert!(reason.source == OriginSource::Data && !reason.reason.is_empty());
    let names: Vec<_> = medium.regularize.iter().map(|t| t.card.name).collect();
    assert!(names.contains(&"dropout") && names.contains(&"early-stopping"), "{names:?}");
    // Plenty of text and one pass over it: nothing to overfit.
    let large = TokenFacts { tokens_train: 2_000_000_000, ..shakespeare() };
    let names: Vec<_> = resolved("", large).regularize.iter().map(|t| t.card.name).collect();
    assert!(!names.contains(&"dropout"), "{names:?}");
}

#[test]
fn a_shape_takes_its_cards_defaults_and_its_own_knobs() {
    let shape = |text: &str| resolved(text, shakespeare()).schedule.rate;
    let rate =
        shape("[schedule]\nshape = \"warmup-stable-decay\"\ndecay = 0.3\nwarmup = \"10 steps\"\n");
    assert_eq!(rate.shape, Shape::WarmupStableDecay { decay: 0.3, end: 0.0 });
    assert_eq!(rate.warmup, Span::Steps(10));
    let rate = shape("[schedule]\nend = 0.2\n");
    assert_eq!(rate.shape, Shape::Cosine { end: 0.2 });
}

#[test]
fn every_schedule_shape_can_be_asked_for() {
    for card in heldout_base::schedule::CARDS {
        let text = format!("[schedule]\nshape = \"{}\"\nwarmup = \"10 steps\"\n", card.name);
        assert_eq!(resolved(&text, shakespeare()).schedule.rate.shape.name(), card.name);
    }
}

#[test]
fn every_optimizer_can_be_asked_for() {
    for card in heldout_optim::CARDS {
        let text = format!("[optimizer]\nname = \"{}\"\n", card.name);
        let recipe = resolved(&text, shakespeare());
        assert_eq!(recipe.optimizer.knobs.len(), card.knobs.len() - 1, "{}", card.name);
    }
}

#[test]
fn activations_are_recomputed_only_where_no_batch_fits() {
    let text = |extra: &str| {
        format!(
            "[model]\nlayers = 12\nheads = 12\nwidth = 768\ncontext = 1024\n\
             [batch]\nsize = 8\n{extra}"
        )
    };
    let of = |megabytes: u64, extra: &str| {
        let machine = Machine { memory: megabytes << 20, bf16: NativeBf16::No, ..machine() };
        let recipe = resolved_on(machine, &text(extra), shakespeare()).unwrap();
        (recipe.run.memory, recipe.batch.micro, recipe.origins["run.memory"].to_string())
    };
    let (memory, micro, why) = of(32 << 10, "");
    assert_eq!((memory, micro), (Activations::Keep, 8), "{why}");
    let (memory, micro, why) = of(4 << 10, "");
    assert!(memory == Activations::Keep && (1..8).contains(&micro), "{micro}: {why}");
    let (memory, _, why) = of(2000, "");
    assert_eq!(memory, Activations::Recompute);
    assert!(why.starts_with("from the machine: activations would take about"), "{why}");
    // What the user says counts.
    assert_eq!(of(2000, "[run]\nmemory = \"keep\"\n").0, Activations::Keep);
    assert_eq!(of(32 << 10, "[run]\nmemory = \"recompute\"\n").0, Activations::Recompute);
    let (memory, micro, why) = of(4 << 10, "micro = 8\n[run]\nmemory = \"auto\"\n");
    assert_eq!((memory, micro), (Activations::Recompute, 8), "{why}");
}

#[test]
fn an_instruction_set_that_is_missing_is_refused() {
    let with =
        |name: &str| resolved_on(machine(), &format!("[run]\nisa = {name}\n"), shakespeare());
    assert_eq!(with("\"auto\"").unwrap().run.isa, None);
    assert_eq!(with("\"portable\"").unwrap().run.isa, Some(Isa::Portable));
    assert_eq!(with("\"avx2\"").unwrap().run.isa, Some(Isa::Avx2));
    let error = with("\"avx512\"").unwrap_err().to_string();
    assert!(error.contains("recipe.toml:2:7: this processor has no avx512"), "{error}");
    assert!(error.contains("allowed here: up to \"avx2\", or \"auto\""), "{error}");
}
