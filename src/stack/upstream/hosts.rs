//! [`LinkHosts`]: the hosts that links may lead to.

use std::str::FromStr;

use url::Url;

use crate::domain::{Hosts, PictureLink};

/// Hosts that links may lead to: any, or those on a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkHosts(Option<Hosts>);

impl LinkHosts {
    /// The form of the setting, for error texts.
    pub const FORM: &'static str =
        "any, or host names separated by commas such as pps.whatsapp.net,*.whatsapp.net";

    /// Whether `link` may be served.
    pub fn allow(&self, link: &PictureLink) -> bool {
        let Some(hosts) = &self.0 else { return true };
        Url::parse(link.url()).is_ok_and(|url| hosts.has_host_of(&url))
    }
}

impl FromStr for LinkHosts {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("any") {
            return Ok(Self(None));
        }
        text.parse().map(|hosts| Self(Some(hosts))).map_err(|_| Self::FORM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_only_where_the_list_allows() {
        for (hosts, url, allowed) in [
            ("any", "https://example.org/p.jpg", true),
            ("pps.whatsapp.net", "https://pps.whatsapp.net/p.jpg", true),
            ("PPS.WhatsApp.net", "https://pps.WHATSAPP.net/p.jpg", true),
            ("pps.whatsapp.net", "https://mmg.whatsapp.net/p.jpg", false),
            ("a.net, *.whatsapp.net", "https://mmg.whatsapp.net:443/p.jpg", true),
            ("*.whatsapp.net", "https://a.b.whatsapp.net/p.jpg", true),
            ("*.whatsapp.net", "https://whatsapp.net/p.jpg", false),
            ("*.whatsapp.net", "https://evilwhatsapp.net/p.jpg", false),
            ("*.whatsapp.net", "https://pps.whatsapp.net.example.org/p.jpg", false),
            ("*.whatsapp.net", "https://example.org\\.whatsapp.net/p.jpg", false),
            ("*.whatsapp.net", "https://example.org/?.whatsapp.net", false),
        ] {
            let hosts: LinkHosts = hosts.parse().unwrap();
            let link = PictureLink::parse(url, std::time::SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(hosts.allow(&link), allowed, "{url}");
        }
    }

    #[test]
    fn a_list_that_no_host_could_match_is_refused() {
        for text in ["", ",", "a..b", "*", "*.*", "https://a.net", "a.net:443", "a b"] {
            assert_eq!(text.parse::<LinkHosts>(), Err(LinkHosts::FORM), "{text:?}");
        }
    }
}
