//! [`PictureHosts`]: the hosts that images may be fetched from.

use std::str::FromStr;

use url::{Host, Origin, Url};

use crate::domain::Hosts;

/// Host names that are reached by https, and origins that are reached as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureHosts {
    hosts: Hosts,
    origins: Vec<Origin>,
}

/// How a link may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Not at all.
    No,
    /// Its host is on the list: by https, and only from a public address.
    Listed,
    /// The operator has named its origin: from whatever address that has.
    Named,
}

impl PictureHosts {
    /// The form of the setting, for error texts.
    pub const FORM: &'static str =
        "host names and origins separated by commas such as *.whatsapp.net,http://127.0.0.1:50080";
    /// The default: the hosts of WhatsApp's pictures.
    pub const DEFAULT: &'static str = "*.whatsapp.net";

    /// How `url` may be fetched.
    #[must_use]
    pub fn permission(&self, url: &Url) -> Permission {
        if !url.username().is_empty() || url.password().is_some() {
            return Permission::No;
        }
        if self.origins.contains(&url.origin()) {
            return Permission::Named;
        }
        // The resolver is not asked for an IP address, so none is on the list.
        let is_name = matches!(url.host(), Some(Host::Domain(_)));
        let is_usual = url.scheme() == "https" && url.port().is_none();
        if is_usual && is_name && self.hosts.has_host_of(url) { Permission::Listed } else { Permission::No }
    }

    /// Whether there are hosts that are reached by https and from public addresses.
    #[must_use]
    pub fn has_listed(&self) -> bool {
        self.hosts != Hosts::default()
    }

    /// Whether an origin is reached by https.
    #[must_use]
    pub fn has_https_origin(&self) -> bool {
        self.origins.iter().any(|origin| matches!(origin, Origin::Tuple(scheme, ..) if scheme == "https"))
    }
}

impl Default for PictureHosts {
    fn default() -> Self {
        Self::DEFAULT.parse().expect("the default has the form")
    }
}

impl FromStr for PictureHosts {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut hosts = Self { hosts: Hosts::default(), origins: Vec::new() };
        for item in text.split(',').map(str::trim) {
            if item.contains("://") {
                hosts.origins.push(origin(item).ok_or(Self::FORM)?);
            } else if item.eq_ignore_ascii_case("any")
                || item.parse::<std::net::IpAddr>().is_ok()
                || hosts.hosts.add(item).is_err()
            {
                return Err(Self::FORM);
            }
        }
        Ok(hosts)
    }
}

/// Reads scheme, host and port, and nothing else.
fn origin(text: &str) -> Option<Origin> {
    let url = Url::parse(text).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https");
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    (is_web && is_bare && is_anonymous).then(|| url.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_fetched_from_allowed_places_alone() {
        let hosts = "*.whatsapp.net, http://127.0.0.1:50080,https://images.example.com";
        let hosts: PictureHosts = hosts.parse().unwrap();
        for (link, expected) in [
            ("https://pps.whatsapp.net/p.jpg?x=1", Permission::Listed),
            ("https://PPS.WhatsApp.NET:443/p.jpg", Permission::Listed),
            ("https://a.b.whatsapp.net/", Permission::Listed),
            // Full-width letters and an ideographic full stop are the same name to every resolver.
            ("https://ｐps。whatsapp.net/", Permission::Listed),
            ("http://127.0.0.1:50080/v/p.jpg", Permission::Named),
            ("http://0x7f.1:50080/v/p.jpg", Permission::Named),
            ("https://images.example.com/p.jpg", Permission::Named),
            ("http://pps.whatsapp.net/", Permission::No),
            ("https://whatsapp.net/", Permission::No),
            ("https://whatsapp.net.evil/", Permission::No),
            ("https://pps.whatsapp.net.evil.example/", Permission::No),
            ("https://evilwhatsapp.net/", Permission::No),
            ("https://pps.whatsapp.net./", Permission::No),
            ("https://pps.whatsapp.net@evil.example/", Permission::No),
            ("https://user@pps.whatsapp.net/", Permission::No),
            ("https://:secret@pps.whatsapp.net/", Permission::No),
            ("https://evil.example\\.whatsapp.net/", Permission::No),
            ("https://evil.example/#.whatsapp.net", Permission::No),
            ("https://evil.example/?.whatsapp.net", Permission::No),
            ("https://pps.whatsapp.net:8443/", Permission::No),
            ("https://pps.whatsapp.net:80/", Permission::No),
            // A Cyrillic letter makes another name (punycode).
            ("https://pps.whatsаpp.net/", Permission::No),
            ("https://pps.xn--whatspp-3fg.net/", Permission::No),
            ("https://127.0.0.1:50080/", Permission::No),
            ("http://127.0.0.1:50081/", Permission::No),
            ("http://127.0.0.1/", Permission::No),
            ("http://localhost:50080/", Permission::No),
            ("http://user@127.0.0.1:50080/", Permission::No),
            ("http://images.example.com/p.jpg", Permission::No),
            ("https://images.example.com:8443/p.jpg", Permission::No),
            ("https://169.254.169.254/latest/meta-data", Permission::No),
            ("https://0x7f.0.0.1/", Permission::No),
            ("https://2130706433/", Permission::No),
            ("https://[::ffff:127.0.0.1]:6666/", Permission::No),
            ("https://7f000001.nip.io/", Permission::No),
            ("https://[::1]/", Permission::No),
            ("ftp://pps.whatsapp.net/", Permission::No),
            ("file:///etc/passwd", Permission::No),
            ("data:image/png;base64,AAAA", Permission::No),
        ] {
            assert_eq!(hosts.permission(&Url::parse(link).unwrap()), expected, "{link}");
        }
    }

    #[test]
    fn a_list_names_hosts_and_origins() {
        for text in [
            "*.whatsapp.net",
            "a.net",
            "A.net , *.b.net",
            "http://127.0.0.1:1",
            "https://a.net/",
            "http://[::1]:80",
        ] {
            assert!(text.parse::<PictureHosts>().is_ok(), "{text}");
        }
        for text in [
            "",
            "any",
            "a.net,",
            "*",
            "*.*",
            "a.net:443",
            "127.0.0.1",
            "::1",
            "https://a.net/x",
            "https://u@a.net",
            "ftp://a.net",
            "https://*.a.net/?",
        ] {
            assert_eq!(text.parse::<PictureHosts>(), Err(PictureHosts::FORM), "{text:?}");
        }
    }
}
