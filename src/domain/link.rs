//! [`PictureLink`]: where a picture can be downloaded, until when, and which picture it is.
//!
//! The link is a secret, because everyone who has it can fetch the picture. `Debug` hides it and there is no
//! `Display`.

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
    /// In Unix seconds; [`UNSAID`] when the link carries no expiry.
    expiry: u64,
    /// The range of `url` that holds WhatsApp's name of the picture. It is found once, because every answer
    /// carries it. It is empty for other links: they are few, and their hash is not worth the memory.
    name: (u32, u32),
}

/// The text is not a link that a caller may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkInvalid;

const UNSAID: u64 = u64::MAX;

impl PictureLink {
    /// A link counts as dead this long before its expiry. The caller needs the time to receive and download
    /// it.
    pub const DEAD_MARGIN: Duration = Duration::from_secs(60);

    /// Reads a link that Hypersender gave at `now`, by the wall clock. The text is kept byte by byte, because
    /// the signature covers it.
    ///
    /// # Errors
    ///
    /// [`LinkInvalid`] when the text is not an absolute http(s) URL with a host, or names a user.
    pub fn parse(text: &str, now: SystemTime) -> Result<Self, LinkInvalid> {
        let url = Url::parse(text).map_err(|_| LinkInvalid)?;
        // `Url` accepts a link without the slashes, too.
        let rest = text.get(url.scheme().len()..);
        let web =
            matches!(url.scheme(), "http" | "https") && rest.is_some_and(|rest| rest.starts_with("://"));
        let user = !url.username().is_empty() || url.password().is_some();
        // `Url` drops blanks and line breaks silently. The caller's parser may not.
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

    /// The link itself. It is a secret.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The link itself, moved out. It is a secret.
    #[must_use]
    pub fn into_url(self) -> String {
        self.url.into()
    }

    /// When the link stops working, as its signer wrote into it: WhatsApp's `oe`, `Expires` and so on. `None`
    /// when the link carries no expiry, or one that cannot be read.
    #[must_use]
    pub fn expires_at(&self) -> Option<SystemTime> {
        (self.expiry != UNSAID).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(self.expiry))
    }

    /// Whether the link must not be served any more at `now`: it has expired, or expires within
    /// [`Self::DEAD_MARGIN`].
    #[must_use]
    pub fn is_dead(&self, now: SystemTime) -> bool {
        self.expires_at().is_some_and(|expiry| expiry <= now + Self::DEAD_MARGIN)
    }

    /// A text that is the same for all links to one picture and differs between pictures. For WhatsApp's
    /// links it is the name of the file, for others a hash in hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> Cow<'_, str> {
        let (start, end) = self.name;
        if start < end {
            return self.url[start as usize..end as usize].into();
        }
        // `parse` has read the same text before, so it cannot fail here.
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
