//! Arms and contrasts of every design, without training.

use super::*;

fn factor(name: &str, standing: FactorStanding) -> Factor {
    Factor { name: name.into(), standing, on: format!("regularize.{name}=0.5") }
}

fn three() -> [Factor; 3] {
    use FactorStanding::{InRecipe, NotInRecipe};
    [factor("a", InRecipe), factor("b", InRecipe), factor("c", NotInRecipe)]
}

/// What a contrast comes to for these losses of the arms.
fn value(contrast: &Contrast, arms: &[Arm], loss: &dyn Fn(&[String]) -> f64) -> f64 {
    let of = |term: &Term| {
        let arm = arms.iter().find(|arm| arm.name == term.arm).expect("one of the arms");
        term.weight * loss(&arm.on)
    };
    contrast.terms.iter().map(of).sum()
}

/// Each technique lowers the loss by its own amount, and a and b by 0.5 more together.
fn loss(on: &[String]) -> f64 {
    let has = |name: &str| on.iter().any(|n| n == name);
    let gain = |name: &str, amount: f64| if has(name) { amount } else { 0.0 };
    let together = if has("a") && has("b") { 0.5 } else { 0.0 };
    10.0 - gain("a", 1.0) - gain("b", 2.0) - gain("c", 4.0) - together
}

#[test]
fn leaving_out_and_adding_change_one_technique_each() {
    let (arms, contrasts) = leave_one_out(&three());
    let settings: Vec<_> = arms.iter().map(|a| (a.name.as_str(), a.settings.join(" "))).collect();
    assert_eq!(
        settings,
        [
            ("reference", String::new()),
            ("no-a", "regularize.a=false".into()),
            ("no-b", "regularize.b=false".into()),
            ("with-c", "regularize.c=0.5".into()),
        ]
    );
    assert_eq!(arms[0].on, ["a", "b"]);
    assert_eq!(arms[3].on, ["a", "b", "c"]);
    let values: Vec<f64> = contrasts.iter().map(|c| value(c, &arms, &loss)).collect();
    assert_eq!(values, [1.5, 2.5, 4.0]);
}

#[test]
fn adding_one_in_starts_from_none() {
    let (arms, contrasts) = add_one_in(&three());
    assert_eq!(arms[0].settings, ["regularize.a=false", "regularize.b=false"]);
    assert_eq!(arms[1].settings, ["regularize.b=false"]);
    assert_eq!(arms[3].settings.len(), 3);
    let values: Vec<f64> = contrasts.iter().map(|c| value(c, &arms, &loss)).collect();
    assert_eq!(values, [1.0, 2.0, 4.0]);
}

#[test]
fn a_factorial_tells_main_effects_from_interactions() {
    let (arms, contrasts) = factorial(&three()).expect("three are few enough");
    assert_eq!((arms.len(), contrasts.len()), (8, 6));
    assert_eq!((arms[0].name.as_str(), arms[0].settings.len()), ("reference", 0));
    assert!(arms.iter().any(|arm| arm.name == "none" && arm.on.is_empty()));
    assert!(arms.iter().any(|arm| arm.name == "a+b+c"));
    let values: Vec<(&str, f64)> =
        contrasts.iter().map(|c| (c.name.as_str(), value(c, &arms, &loss))).collect();
    // A gain of 0.5 together counts half in each main effect.
    let expected =
        [("a", 1.25), ("b", 2.25), ("c", 4.0), ("a × b", 0.5), ("a × c", 0.0), ("b × c", 0.0)];
    assert_eq!(values, expected);
    let one = factorial(&three()[..1]).expect_err("one has no combinations").to_string();
    assert!(one.contains("2 to 5"), "{one}");
}

#[test]
fn usual_values_are_found_for_every_technique() {
    for entry in heldout_regularize::CATALOGUE {
        let added = Added { name: entry.name().into(), value: None };
        let value = added_value(&added).unwrap_or_else(|e| panic!("{}: {e}", entry.name()));
        let mut recipe = Recipe::empty();
        recipe.set(&format!("regularize.{}={value}", entry.name())).expect("a setting");
        let draft = recipe.draft().unwrap_or_else(|e| panic!("{}={value}: {e}", entry.name()));
        assert!(draft.regularize[0].settings.is_some(), "{}={value}", entry.name());
    }
}

#[test]
fn a_recipe_is_known_by_its_values() {
    let one = "[run]\nseed = 1                              # a.toml:3\nmicro = 4\n";
    let two = "[run]\nseed = 1                              # command line\nmicro = 8\n";
    assert_eq!(hash_of_values(one), hash_of_values(two));
    assert_ne!(hash_of_values(one), hash_of_values(&one.replace("= 1", "= 2")));
}
