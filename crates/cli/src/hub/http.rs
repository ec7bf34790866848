//! Requests to the hub: redirects followed one by one, since the hub says in the first answer what
//! a file is and where its bytes lie, and the token must not follow to another host.

use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use super::Hub;

/// An answer after all redirects.
pub struct Answer {
    pub status: u16,
    /// Of the first answer that tells what the file is, else of the last.
    pub tag: Option<String>,
    /// Bytes of the whole file, where known.
    pub bytes: Option<u64>,
    pub body: Body,
}

/// What is wanted of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// What it is.
    Head,
    /// Its bytes from this one on.
    From(u64),
}

const REDIRECTS_MOST: usize = 8;

impl Hub {
    /// A client that gives every status back, and gives up on a host that says nothing.
    pub(super) fn agent() -> Agent {
        Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .user_agent(concat!("heldout/", env!("CARGO_PKG_VERSION")))
            .build()
            .into()
    }

    /// Asks for a URL, wherever that leads.
    ///
    /// # Errors
    /// No connection, or a chain of redirects without an end, in words.
    pub(super) fn ask(&self, agent: &Agent, url: &str, want: Want) -> Result<Answer, String> {
        let mut url = url.to_owned();
        let (mut tag, mut bytes) = (None, None);
        for _ in 0..=REDIRECTS_MOST {
            let response = self.once(agent, &url, want).map_err(|e| words(&url, &e))?;
            let status = response.status().as_u16();
            let headers = response.headers();
            tag = tag.or_else(|| plain_tag(header(headers, "x-linked-etag")?));
            bytes = bytes.or_else(|| header(headers, "x-linked-size")?.parse().ok());
            let target = header(headers, "location").filter(|_| (300..400).contains(&status));
            let Some(target) = target else {
                tag = tag.or_else(|| plain_tag(header(headers, "etag")?));
                let whole = status == 200;
                let own = || header(headers, "content-length")?.parse().ok();
                bytes = bytes.or_else(|| own().filter(|_| whole));
                return Ok(Answer { status, tag, bytes, body: response.into_body() });
            };
            // Where the bytes lie does not matter to somebody who asks what they are.
            if want == Want::Head && tag.is_some() && bytes.is_some() {
                return Ok(Answer { status: 200, tag, bytes, body: response.into_body() });
            }
            url = join(&url, target);
        }
        Err(format!("{url}: redirected more than {REDIRECTS_MOST} times"))
    }

    fn once(&self, agent: &Agent, url: &str, want: Want) -> Result<Response<Body>, ureq::Error> {
        let mut request = match want {
            Want::Head => agent.head(url),
            Want::From(_) => agent.get(url),
        };
        // Compressed on the way, a file would have another length than announced.
        request = request.header("accept-encoding", "identity");
        if let Some(token) = self.token.as_ref().filter(|_| host(url) == host(&self.endpoint)) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Want::From(first @ 1..) = want {
            request = request.header("range", format!("bytes={first}-"));
        }
        request.call()
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An entity tag without its quotes and the mark of a weak one; only what can be a file's name.
fn plain_tag(tag: &str) -> Option<String> {
    let tag = tag.trim().trim_start_matches("W/").trim_matches('"');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (!tag.is_empty() && tag.len() <= 128 && tag.chars().all(is_plain)).then(|| tag.to_owned())
}

/// Scheme, host and port.
fn host(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    url[start..].find('/').map_or(url, |end| &url[..start + end])
}

/// Where a redirect leads.
fn join(from: &str, target: &str) -> String {
    match target {
        _ if target.contains("://") => target.to_owned(),
        _ if target.starts_with('/') => format!("{}{target}", host(from)),
        _ => format!("{}/{target}", from.rsplit_once('/').map_or(from, |(folder, _)| folder)),
    }
}

fn words(url: &str, error: &ureq::Error) -> String {
    format!("{} cannot be reached ({error})", host(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_targets_are_read_with_suspicion() {
        assert_eq!(plain_tag("W/\"ab-12\"").as_deref(), Some("ab-12"));
        for odd in ["\"../x\"", "\"\"", "a/b", "\"a b\""] {
            assert_eq!(plain_tag(odd), None, "{odd}");
        }
        let from = "https://h.co:8/a/b?x=1";
        assert_eq!(host(from), "https://h.co:8");
        assert_eq!(join(from, "/c"), "https://h.co:8/c");
        assert_eq!(join(from, "http://other/c"), "http://other/c");
        assert_eq!(join(from, "c"), "https://h.co:8/a/c");
    }
}
