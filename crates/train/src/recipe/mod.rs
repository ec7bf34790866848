//! Recipes: TOML that says what differs from the defaults, and the resolved form that says all.
//!
//! The way of a recipe: [`Recipe::parse`] reads the file, [`Recipe::set`] lays command-line
//! settings on top, [`Recipe::draft`] checks every name, type and range, [`data`] settles how the
//! text is read, and [`resolve`] fills in the rest from what the data turned out to be.
//! [`to_toml`] writes the result so that it runs again as it is.

pub mod amount;
mod choices;
pub mod defaults;
pub mod draft;
mod error;
pub mod keys;
mod regularization;
mod resolve;
mod resolved;
mod section;
mod shapes;
mod sizes;
mod techniques;
mod tree;
mod write;

use std::path::Path;
use std::sync::Arc;

pub use amount::{Amount, Unit};
pub use draft::Draft;
pub use error::{Place, RecipeError, Source};
pub use resolve::{Known, data, longest_example, longest_side, resolve};
pub use resolved::*;
pub use section::Set;
pub use sizes::family_of_labels;
pub use write::to_toml;

/// A recipe as far as somebody wrote it: a file, command-line settings, or both.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    root: tree::Table,
}

impl Recipe {
    /// A recipe that leaves everything to the defaults.
    pub fn empty() -> Recipe {
        Recipe::default()
    }

    /// Reads TOML text; `name` is what errors call it. Checks the syntax only: what it asks for is
    /// checked by [`Recipe::draft`], when the command line has had its say.
    pub fn parse(text: &str, name: &str) -> Result<Recipe, RecipeError> {
        let source = Arc::new(Source { name: name.into(), text: text.into() });
        Ok(Recipe { root: tree::parse(&source)? })
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Recipe, RecipeError> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| {
            RecipeError::general(format!("cannot read the recipe {name}: {error}"))
                .note("check the path")
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
                .iter()
                .filter(|&&b| b == b'\n')
                .count();
            RecipeError::general(format!("{name}:{line}: the recipe is not UTF-8 text"))
                .note("save it as UTF-8")
        })?;
        Recipe::parse(&text, &name)
    }

    /// Lays one command-line setting, `table.key=value`, over what is there.
    pub fn set(&mut self, setting: &str) -> Result<(), RecipeError> {
        tree::merge(&mut self.root, tree::parse_setting(setting)?);
        Ok(())
    }

    /// Lays data files named on the command line over what is there.
    pub fn set_data(&mut self, paths: &[String]) -> Result<(), RecipeError> {
        let list: Vec<_> = paths.iter().map(|p| techniques::toml_text(p)).collect();
        self.set(&format!("data.train=[{}]", list.join(", ")))
    }

    /// Whether somebody wrote this key, or any key of this table.
    pub fn names(&self, key: &str) -> bool {
        let (table, name) = key.split_once('.').unwrap_or((key, ""));
        let Some(tree::Value::Table(table)) = self.root.get(table).map(|e| &e.node.value) else {
            return false;
        };
        if name.is_empty() { !table.entries.is_empty() } else { table.get(name).is_some() }
    }

    /// Checks every name, type, range and effect.
    pub fn draft(&self) -> Result<Draft, RecipeError> {
        draft::read(&self.root)
    }
}

#[cfg(test)]
mod tests;
