//! Models by their name on the Hugging Face hub, fetched into the cache that `transformers` and
//! `huggingface_hub` use, so that nothing is downloaded twice and either finds what the other has.
//!
//! Layout of the cache: `models--ORG--NAME/blobs/ETAG` holds the bytes, `snapshots/COMMIT/FILE`
//! links to them, `refs/REVISION` says which commit a branch or tag is.

mod cache;
mod fetch;
mod http;

use std::path::{Path, PathBuf};

use crate::console::Console;
use crate::failure::Failure;

/// Where models come from and where they go.
pub struct Hub {
    /// `https://huggingface.co`, or a mirror, without a slash at its end.
    endpoint: String,
    /// The folder with `models--ORG--NAME` in it.
    cache: PathBuf,
    /// Sent to the endpoint's own host alone.
    token: Option<String>,
    network: Network,
}

/// Whether anything may be asked of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    Allowed,
    Offline,
}

/// A model's name on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `org/name`.
    repository: String,
    /// A branch, tag or commit.
    revision: String,
}

impl Name {
    /// What a path that is not there may mean: `org/name` or `org/name@revision`, unless a folder
    /// `org` says that a path was meant.
    pub fn of(path: &Path) -> Option<Name> {
        let text = path.to_str()?;
        let (repository, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (organisation, name) = repository.split_once('/')?;
        let is_plain = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.')
        };
        let is_revision = !revision.is_empty() && revision.split('/').all(is_plain);
        let is_path = path.exists() || Path::new(organisation).exists();
        (is_plain(organisation) && is_plain(name) && is_revision && !is_path)
            .then(|| Name { repository: repository.to_owned(), revision: revision.to_owned() })
    }
}

impl Hub {
    /// As the environment says, with the names that `huggingface_hub` reads: HF_ENDPOINT,
    /// HF_HUB_CACHE, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE.
    pub fn from_environment() -> Hub {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let home = variable("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let user = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let user = user.or_else(|| Some(Path::new(&variable("HOME")?).join(".cache")));
            user.unwrap_or_else(|| PathBuf::from(".cache")).join("huggingface")
        });
        let cache = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE"));
        let is_on = |name| {
            let value = variable(name).map(|value| value.to_ascii_uppercase());
            matches!(value.as_deref(), Some("1" | "ON" | "YES" | "TRUE"))
        };
        let offline = is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE");
        let endpoint = variable("HF_ENDPOINT");
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".to_owned());
        Hub {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: cache.map_or_else(|| home.join("hub"), PathBuf::from),
            token: variable("HF_TOKEN").map(|token| token.trim().to_owned()),
            network: if offline { Network::Offline } else { Network::Allowed },
        }
    }

    /// The folder of a model, fetched if it is not there yet.
    ///
    /// # Errors
    /// A model that is not there or not open to this user; no network and nothing in the cache; a
    /// download that breaks off again and again, or whose bytes are not those announced.
    pub fn fetch(&self, name: &Name, console: &Console) -> Result<PathBuf, Failure> {
        if self.network == Network::Offline {
            return self.cached(name).ok_or_else(|| self.not_cached(name, "HF_HUB_OFFLINE is set"));
        }
        match self.download(name, console) {
            Err(fetch::Trouble::Unreachable(why)) => match self.cached(name) {
                Some(folder) => {
                    let repository = &name.repository;
                    console.note(&format!("{repository}: {why}; what the cache has is used"));
                    Ok(folder)
                }
                None => Err(self.not_cached(name, &why)),
            },
            Err(fetch::Trouble::Other(failure)) => Err(*failure),
            Ok(folder) => Ok(folder),
        }
    }

    fn not_cached(&self, name: &Name, why: &str) -> Failure {
        let Name { repository, revision } = name;
        Failure::bad_input(format!("{repository} ({revision}) is not in the cache, and {why}"))
            .why(format!("  cache: {}", self.cache.display()))
            .next("fetch it once with the network, or give a folder with the model in it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        let of = |text: &str| Name::of(Path::new(text)).map(|n| (n.repository, n.revision));
        let name =
            |repository: &str, revision: &str| Some((repository.to_owned(), revision.to_owned()));
        assert_eq!(of("org/name-1.0"), name("org/name-1.0", "main"));
        assert_eq!(of("org/name@v2"), name("org/name", "v2"));
        // The crate's own folder: a path was meant.
        for path in ["src/nothing", "./org/name", "../x", "a/b/c", "name", "/a/b", "org/", "a/b@.."]
        {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
