//! Shared by the tests: finding a Python that has what a comparison needs.

use std::path::Path;
use std::process::Command;

/// Runs `script` with `argument` under a Python that can import `module`: the one in the
/// environment variable HELDOUT_PYTHON, or `python3`. Without one, says so and returns nothing.
pub fn python(module: &str, script: &str, argument: &Path) -> Option<String> {
    let program = std::env::var("HELDOUT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = Command::new(&program).args(["-c", &format!("import {module}")]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        println!("skipped: {program} has no {module}; set HELDOUT_PYTHON to one that has");
        return None;
    }
    let output = Command::new(&program).arg("-c").arg(script).arg(argument).output();
    let output = output.expect("the probe ran a moment ago");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "python failed: {errors}");
    Some(String::from_utf8(output.stdout).expect("our scripts print text"))
}
