//! [`PictureLink`]: where a picture can be downloaded, until when, and which picture it is.
//!
//! The link is a secret: whoever holds it can fetch the picture, so `Debug` hides it and there is no `Display`.

mod expiry;
mod fingerprint;
mod signed;

use std::{
    borrow::Cow,
    fmt,
    ops::Range,
    time::{Duration, SystemTime},
};

use url::Url;

/// A signed, temporary link to a profile picture: an absolute http(s) URL with a host and without user info.
#[derive(Clone, PartialEq, Eq)]
pub struct PictureLink {
    url: Box<str>,
    /// Unix seconds; [`UNSAID`] when the link does not say.
    expiry: u64,
    /// Where in `url` the name of WhatsApp's picture is. Found once, since every answer carries it. Empty for
    /// other links: they are few, and their hash is worth no memory.
    name: (u32, u32),
}

/// The text is no link that could be handed to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkInvalid;

const UNSAID: u64 = u64::MAX;

impl PictureLink {
    /// How long before its expiry a link counts as dead: it must survive the way to the caller and the download.
    pub const DEAD_MARGIN: Duration = Duration::from_secs(60);

    /// Reads a link as Hypersender gave it at `now`, by the wall clock; the text is kept to the byte, since
    /// the signature covers it.
    ///
    /// # Errors
    ///
    /// [`LinkInvalid`] when it is no absolute http(s) URL with a host, or names a user.
    pub fn parse(text: &str, now: SystemTime) -> Result<Self, LinkInvalid> {
        let url = Url::parse(text).map_err(|_| LinkInvalid)?;
        // The parser would also take a link without the slashes.
        let rest = text.get(url.scheme().len()..);
        let web =
            matches!(url.scheme(), "http" | "https") && rest.is_some_and(|rest| rest.starts_with("://"));
        let user = !url.username().is_empty() || url.password().is_some();
        // The parser would drop blanks and line breaks without a word; the caller's would perhaps not.
        let blank = text.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control());
        if !web || !url.has_host() || user || blank {
            return Err(LinkInvalid);
        }
        let Range { start, end } = fingerprint::whatsapp_name(text, &url).unwrap_or(0..0);
        let place = |index| u32::try_from(index).map_err(|_| LinkInvalid);
        Ok(Self {
            url: text.into(),
            expiry: expiry::expiry(&url, now).unwrap_or(UNSAID),
            name: (place(start)?, place(end)?),
        })
    }

    /// The link itself. Secret.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The link itself, given away. Secret.
    #[must_use]
    pub fn into_url(self) -> String {
        self.url.into()
    }

    /// When the link stops working, as its signer wrote into it: WhatsApp's `oe`, `Expires` and so on. `None`
    /// when it does not say, or in a way that cannot be read.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        (self.expiry != UNSAID).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(self.expiry))
    }

    /// Whether the link is past its use at `now`: it expires within [`Self::DEAD_MARGIN`], or has expired.
    #[must_use]
    pub fn is_dead(&self, now: SystemTime) -> bool {
        self.expires_at().is_some_and(|expiry| expiry <= now + Self::DEAD_MARGIN)
    }

    /// What stays the same while the picture stays the same, and differs between pictures: the name of the
    /// file for WhatsApp's own links, for others a hash in hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> Cow<'_, str> {
        let (start, end) = self.name;
        if start < end {
            return self.url[start as usize..end as usize].into();
        }
        // It has been read before.
        Url::parse(&self.url).map(|url| fingerprint::hash(&url)).unwrap_or_default().into()
    }
}

impl fmt::Debug for PictureLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PictureLink(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENTED: &str = "https://pps.whatsapp.net/v/t61.24694-24/374498176_337577482181161_7091117586184162691_n.jpg?ccb=11-4&oh=01_Q5Aa3gEERUGD4fegyplSv2MnHmt_UIA9JnpjREhSJMNVWZC-RA&oe=6970FAAA&_nc_sid=5e03e0&_nc_cat=104";

    fn parse(text: &str) -> Result<PictureLink, LinkInvalid> {
        PictureLink::parse(text, humantime::parse_rfc3339("2026-01-12T00:00:00Z").unwrap())
    }

    #[test]
    fn the_documented_link_tells_its_expiry_and_fingerprint() {
        let link = parse(DOCUMENTED).unwrap();
        let expiry = humantime::parse_rfc3339("2026-01-21T16:11:22Z").unwrap();
        assert_eq!(link.expires_at(), Some(expiry));
        assert_eq!(link.fingerprint(), "374498176_337577482181161_7091117586184162691_n.jpg");
        assert_eq!(link.url(), DOCUMENTED);
        assert_eq!(format!("{link:?}"), "PictureLink(..)");
    }

    #[test]
    fn a_link_is_dead_from_a_minute_before_its_expiry() {
        let link = parse("https://h/p.jpg?oe=64").unwrap();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!link.is_dead(at(39)));
        assert!(link.is_dead(at(40)));
        assert!(link.is_dead(at(101)));
        assert!(!parse("https://h/p.jpg").unwrap().is_dead(at(u32::MAX.into())));
    }

    #[test]
    fn only_absolute_web_links_without_user_info_are_links() {
        for text in [
            "",
            "null",
            "/v/t61/p.jpg",
            "//pps.whatsapp.net/p.jpg",
            "ftp://h/p.jpg",
            "data:image/png;base64,AAAA",
            "javascript:alert(1)",
            "https://",
            "https:h/p.jpg",
            "https:/h/p.jpg?x=://",
            "https://user@h/p.jpg",
            "https://user:word@h/p.jpg",
            " https://h/p.jpg",
            "https://h/p.jpg\n",
            "https://h/p\n.jpg",
            "https://h/p .jpg",
        ] {
            assert_eq!(parse(text), Err(LinkInvalid), "{text:?}");
        }
    }
}
