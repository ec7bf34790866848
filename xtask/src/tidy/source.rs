//! Rules about one file: its sentence, its length, its functions, what it prints and reads.

use anyhow::Context;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Finding;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_WIDTH_MAX: usize = 100;

/// Folders in which printing, the environment and exiting are at home.
const PRINTERS: [&str; 2] = ["crates/cli/", "xtask/"];
/// Where `unsafe` is at home: the kernels, and the one file that maps token shards.
const UNSAFE_HOMES: [&str; 2] = ["crates/kernels/", "crates/data/src/map.rs"];

/// Holds one file, given by its path in the workspace, against the rules.
pub fn check(name: &str, text: &str) -> anyhow::Result<Vec<Finding>> {
    let mut findings = lines(name, text);
    let file = syn::parse_file(text).with_context(|| format!("{name} does not parse"))?;
    let in_tests = in_test_file(name);
    let mut walk = Walk { name, text, in_tests, function: String::new(), findings: Vec::new() };
    walk.visit_file(&file);
    findings.append(&mut walk.findings);
    Ok(findings)
}

fn in_test_file(name: &str) -> bool {
    !name.contains("/src/") || name.ends_with("tests.rs")
}

fn finding(place: String, rule: &'static str, detail: impl Into<String>) -> Finding {
    Finding { place, rule, detail: detail.into() }
}

fn lines(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(finding(name.into(), "file-sentence", "no `//!` sentence on top"));
    }
    let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    if code > FILE_LINES_MAX {
        let detail = format!("{code} lines before its tests, at most {FILE_LINES_MAX}");
        findings.push(finding(name.into(), "file-length", detail));
    }
    // Beyond, in tests, rustfmt alone judges: expected output stands as it is printed.
    let code = if in_test_file(name) { 0 } else { code };
    for (number, line) in text.lines().enumerate().take(code) {
        if line.chars().count() > LINE_WIDTH_MAX {
            let place = format!("{name}:{}", number + 1);
            findings.push(finding(place, "line-length", format!("over {LINE_WIDTH_MAX} columns")));
        }
    }
    findings
}

struct Walk<'a> {
    name: &'a str,
    text: &'a str,
    in_tests: bool,
    function: String,
    findings: Vec<Finding>,
}

impl Walk<'_> {
    fn is_home(&self, homes: &[&str]) -> bool {
        homes.iter().any(|home| self.name.starts_with(home))
    }

    fn report(&mut self, rule: &'static str, detail: impl Into<String>) {
        let place = match self.function.as_str() {
            "" => self.name.to_string(),
            function => format!("{}:{function}", self.name),
        };
        self.findings.push(finding(place, rule, detail));
    }

    fn function(&mut self, signature: &syn::Signature, span: proc_macro2::Span) {
        self.function = signature.ident.to_string();
        // Attributes and doc comments belong to the item's span, not to the function's length.
        let length = span.end().line + 1 - signature.fn_token.span.start().line;
        if length > FUNCTION_LINES_MAX {
            let detail = format!("{length} lines, at most {FUNCTION_LINES_MAX}");
            self.report("function-length", detail);
        }
        for input in &signature.inputs {
            if let syn::FnArg::Typed(typed) = input
                && let syn::Type::Path(path) = &*typed.ty
                && path.path.is_ident("bool")
                && !self.in_tests
            {
                self.report("bool-parameter", "a `bool` parameter: an enum or two functions");
            }
        }
    }

    fn unsafe_at(&mut self, span: proc_macro2::Span) {
        if !self.is_home(&UNSAFE_HOMES) {
            self.report("unsafe", "`unsafe` outside the kernels");
        }
        let line = span.start().line;
        // An attribute may stand between the comment and the word.
        let above: Vec<&str> = self.text.lines().take(line + 2).collect();
        let near = |line: &&str| line.contains("SAFETY:") || line.contains("# Safety");
        let said = above.iter().rev().take(14).any(near)
            || above.iter().any(|line| line.contains("SAFETY throughout:"));
        if !said {
            self.report("safety-comment", format!("line {line}: `unsafe` without `// SAFETY:`"));
        }
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let before = self.in_tests;
        self.in_tests |= item.attrs.iter().any(is_cfg_test);
        visit::visit_item_mod(self, item);
        self.in_tests = before;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let outer = self.function.clone();
        self.function(&item.sig, item.span());
        visit::visit_item_fn(self, item);
        self.function = outer;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        let outer = self.function.clone();
        self.function(&item.sig, item.span());
        visit::visit_impl_item_fn(self, item);
        self.function = outer;
    }

    fn visit_expr_unsafe(&mut self, item: &'ast syn::ExprUnsafe) {
        self.unsafe_at(item.span());
        visit::visit_expr_unsafe(self, item);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let prints = ["println", "eprintln", "print", "eprint", "dbg"];
        let name = item.path.segments.last().map(|segment| segment.ident.to_string());
        let printing = name.is_some_and(|name| prints.contains(&name.as_str()));
        if printing && !self.in_tests && !self.is_home(&PRINTERS) {
            self.report("printing", "only the cli prints");
        }
        visit::visit_macro(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        let joined = words.join("::");
        // `env::consts` are constants of the build, not the environment.
        let reads = (joined.starts_with("std::env") || joined.starts_with("env::"))
            && !joined.contains("consts")
            && !joined.ends_with("temp_dir");
        let exits = joined.ends_with("process::exit") || joined.ends_with("process::abort");
        if (reads || exits) && !self.in_tests && !self.is_home(&PRINTERS) {
            self.report("environment", format!("`{joined}`: only the cli does that"));
        }
        visit::visit_path(self, path);
    }
}

fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
}
