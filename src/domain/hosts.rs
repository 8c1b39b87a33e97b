//! [`Hosts`]: a list of host names that links may lead to.

use std::str::FromStr;

use url::Url;

/// Host names in lower case, such as `pps.whatsapp.net`, and patterns such as `*.whatsapp.net`, which stand
/// for every name below a domain but not for the domain itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

/// A text of the list is neither a host name nor such a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostsInvalid;

impl Hosts {
    /// Whether the host of `url`, which the library has parsed, is on the list. A hostile link can look as if
    /// it led to a different host.
    #[must_use]
    pub fn has_host_of(&self, url: &Url) -> bool {
        url.host_str().is_some_and(|host| self.0.iter().any(|pattern| matches(pattern, host)))
    }

    /// Adds a host name or pattern.
    ///
    /// # Errors
    ///
    /// [`HostsInvalid`] when no host could match `pattern`.
    pub fn add(&mut self, pattern: &str) -> Result<(), HostsInvalid> {
        let pattern = pattern.trim().to_ascii_lowercase();
        let host = pattern.strip_prefix("*.").unwrap_or(&pattern);
        let label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !host.split('.').all(label) {
            return Err(HostsInvalid);
        }
        self.0.push(pattern);
        Ok(())
    }
}

impl FromStr for Hosts {
    type Err = HostsInvalid;

    /// Reads a list that is separated by commas.
    fn from_str(text: &str) -> Result<Self, HostsInvalid> {
        let mut hosts = Self::default();
        text.split(',').try_for_each(|pattern| hosts.add(pattern))?;
        Ok(hosts)
    }
}

/// The pattern `*.` stands for one or more labels.
fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(domain) => {
            let below = host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
            below.is_some_and(|labels| !labels.is_empty())
        }
        None => pattern == host,
    }
}
