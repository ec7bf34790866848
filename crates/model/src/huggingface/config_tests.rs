//! Round trips through config.json, and what is refused.

use proptest::prelude::*;

use super::*;

fn small_gpt2() -> Value {
    config_json(&ModelConfig::gpt2(61, 16, 2, 4, 32), SpecialTokens::default())
}

fn small_llama() -> Value {
    config_json(&ModelConfig::llama(61, 16, 2, 4, 2, 32), SpecialTokens::default())
}

fn error_with(mut json: Value, key: &str, value: Value) -> String {
    json[key] = value;
    parse_config(&json).unwrap_err().to_string()
}

#[test]
fn every_shape_survives_the_round_trip() {
    let gpt2 = ModelConfig::gpt2(61, 16, 2, 4, 32);
    let llama = ModelConfig::llama(61, 16, 2, 4, 2, 32);
    let configs = [
        gpt2.clone(),
        ModelConfig { activation: Activation::GeluErf, hidden: 80, tied: Tied::No, ..gpt2.clone() },
        ModelConfig { activation: Activation::Relu, norm_epsilon: 1e-6, ..gpt2 },
        llama.clone(),
        ModelConfig { tied: Tied::No, rope_theta: 500_000.0, init_std: 0.01, ..llama.clone() },
        ModelConfig { qk_norm: QkNorm::Yes, head_width: 16, ..llama },
    ];
    for config in configs {
        let json = config_json(&config, SpecialTokens { eos: Some(3), ..Default::default() });
        let text = serde_json::to_string_pretty(&json).unwrap();
        let back = parse_config(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(back, config, "{text}");
        assert_eq!(json["eos_token_id"], 3);
        assert_eq!(json["bos_token_id"], Value::Null);
    }
}

#[test]
fn qk_norm_is_exported_as_qwen3() {
    let config = ModelConfig { qk_norm: QkNorm::Yes, ..ModelConfig::llama(61, 16, 2, 4, 2, 32) };
    let json = config_json(&config, SpecialTokens::default());
    assert_eq!(json["architectures"][0], "Qwen3ForCausalLM");
    assert_eq!(json["model_type"], "qwen3");
}

#[test]
fn numbers_are_written_as_they_were_meant() {
    assert_eq!(small_gpt2()["layer_norm_epsilon"].to_string(), "0.00001");
    assert_eq!(small_llama()["rope_theta"].to_string(), "10000.0");
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    let yarn = json!({"rope_type": "yarn", "factor": 4.0});
    let cases = [
        (small_gpt2(), "scale_attn_by_inverse_layer_idx", json!(true)),
        (small_gpt2(), "scale_attn_weights", json!(false)),
        (small_gpt2(), "add_cross_attention", json!(true)),
        (small_gpt2(), "activation_function", json!("mish")),
        (small_gpt2(), "quantization_config", json!({"bits": 4})),
        (small_gpt2(), "model_type", json!("gpt_neox")),
        (small_llama(), "rope_scaling", yarn.clone()),
        (small_llama(), "rope_parameters", yarn),
        (small_llama(), "rope_parameters", json!({"type": "linear", "factor": 2.0})),
        (small_llama(), "attention_bias", json!(true)),
        (small_llama(), "mlp_bias", json!(true)),
        (small_llama(), "sliding_window", json!(4096)),
        (small_llama(), "use_sliding_window", json!(true)),
        (small_llama(), "layer_types", json!(["full_attention", "sliding_attention"])),
        (small_llama(), "hidden_act", json!("gelu")),
        (small_llama(), "partial_rotary_factor", json!(0.5)),
    ];
    for (json, key, value) in cases {
        let message = error_with(json, key, value);
        assert!(message.contains(key), "{key}: {message}");
        assert!(message.contains("not supported"), "{key}: {message}");
    }
}

#[test]
fn keys_that_mean_nothing_here_are_passed_over_as_in_transformers() {
    let mut json = small_llama();
    json["my_note"] = json!("trained on a Tuesday");
    json["pretraining_tp"] = json!(1);
    parse_config(&json).unwrap();
}

#[test]
fn missing_and_malformed_keys_are_named() {
    let mut json = small_gpt2();
    json.as_object_mut().unwrap().remove("n_embd");
    let message = parse_config(&json).unwrap_err().to_string();
    assert_eq!(message, "config.json has no \"n_embd\": add it (the width of the model)");
    let message = error_with(small_gpt2(), "n_head", json!("four"));
    assert_eq!(message, "config.json: n_head = \"four\", expected a whole number");
    assert!(error_with(small_gpt2(), "n_head", json!(-1)).contains("whole number"));
    assert!(error_with(small_gpt2(), "n_head", json!(5)).contains("choose width 30 or 35"));
    assert!(error_with(small_llama(), "rope_theta", json!("big")).contains("expected a number"));
    assert!(parse_config(&json!([1])).unwrap_err().to_string().contains("an object"));
    assert!(parse_config(&json!({})).unwrap_err().to_string().contains("model_type"));
}

#[test]
fn defaults_are_those_of_transformers() {
    let json = json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": 10, "hidden_size": 16,
        "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": 8, "num_key_value_heads": null,
    });
    let config = parse_config(&json).unwrap();
    assert_eq!((config.kv_heads, config.head_width, config.tied), (2, 8, Tied::No));
    assert_eq!((config.norm_epsilon, config.rope_theta), (1e-6, 10_000.0));
    let json = json!({
        "model_type": "gpt2", "vocab_size": 10, "n_ctx": 8, "n_embd": 16, "n_layer": 1, "n_head": 2,
    });
    let config = parse_config(&json).unwrap();
    assert_eq!((config.hidden, config.tied, config.context), (64, Tied::Yes, 8));
}

proptest! {
    /// No value under any key makes the parser panic.
    #[test]
    fn strange_values_never_panic(index in 0usize..30, text in ".{0,8}", number in any::<f64>()) {
        for base in [small_gpt2(), small_llama()] {
            let keys: Vec<String> = base.as_object().unwrap().keys().cloned().collect();
            let key = &keys[index % keys.len()];
            for value in [json!(text), json!(number), json!([number]), json!({"rope_type": text})] {
                let mut json = base.clone();
                json[key] = value;
                let _ = parse_config(&json);
            }
        }
    }
}

#[test]
fn what_encoders_here_do_not_compute_is_refused_by_name() {
    let bert = |variant| {
        let config = ModelConfig::bert(variant, 61, 16, 2, 4, 32);
        config_json(&config, SpecialTokens::default())
    };
    let cases = [
        (Variant::Bert, "is_decoder", json!(true), "whole sequence"),
        (Variant::Bert, "position_embedding_type", json!("relative_key"), "learned table"),
        (Variant::Bert, "tie_word_embeddings", json!(false), "token table"),
        (Variant::Roberta, "architectures", json!(["RobertaForTokenClassification"]), "ForMasked"),
        (Variant::Roberta, "type_vocab_size", json!(0), "RoBERTa segments"),
        (Variant::Distilbert, "activation", json!("mish"), "gelu_new"),
        (Variant::Distilbert, "dim", Value::Null, "no \"dim\""),
    ];
    for (variant, key, value, expected) in cases {
        let message = error_with(bert(variant), key, value);
        assert!(message.contains(expected), "{key}: {message}");
    }
    // Without the name of a class there is no head; the class's name tells the family.
    let mut json = bert(Variant::Roberta);
    json["architectures"] = Value::Null;
    assert_eq!(parse_config(&json).unwrap().head, Head::Features);
    let mut json = bert(Variant::Distilbert);
    json["model_type"] = Value::Null;
    assert_eq!(parse_config(&json).unwrap().encoder.variant, Variant::Distilbert);
}
