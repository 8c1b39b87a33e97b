//! [`Query`]: the parameters of an address.
//!
//! Not here: the contact, which is in the path. Unknown parameters are ignored, because services for links
//! and statistics add their own.

use thiserror::Error;

use super::image::Size;
use crate::domain::percent_decoded;

/// Maximum number of bytes of a query.
const BYTES_MAX: usize = 2048;
/// Maximum number of bytes of a name, in UTF-8.
const NAME_BYTES_MAX: usize = 512;

/// The parameters of an address.
#[derive(Clone, PartialEq, Eq)]
pub struct Query {
    /// The size of the image.
    pub size: Size,
    /// The answer when there is no picture.
    pub fallback: Fallback,
}

/// The answer when there is no picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// An image of a person without features.
    Silhouette,
    /// An image with the first letters of this name, which is personal data.
    Initials(Name),
    /// A status, and no image.
    Status,
}

/// A name from an address. `Debug` hides it, because it is personal data.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(pub String);

/// The parameter that is not valid. The text never holds its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadQuery {
    /// The query is too long.
    #[error("the query has more than 2048 bytes")]
    TooLong,
    /// `size`.
    #[error("size must be given at most once, as a whole number of pixels from 16 to 640")]
    Size,
    /// `default`.
    #[error("default must be given at most once, as silhouette, initials or 404")]
    Default,
    /// `name`.
    #[error("name must be given at most once, as percent-encoded UTF-8 of at most 512 bytes")]
    Name,
}

impl Query {
    /// The parameters of an address without any.
    pub const DEFAULT: Self = Self { size: Size::S640, fallback: Fallback::Silhouette };

    /// Reads the query of an address: `size`, `default` and `name`, each at most once.
    ///
    /// # Errors
    ///
    /// The first parameter that is not valid.
    pub fn parse(text: Option<&str>) -> Result<Self, BadQuery> {
        let text = text.unwrap_or_default();
        if text.len() > BYTES_MAX {
            return Err(BadQuery::TooLong);
        }
        let (mut size, mut default, mut name) = (None, None, None);
        for pair in text.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "size" => once(&mut size, read_size(value), BadQuery::Size)?,
                "default" => once(&mut default, decode_value(value), BadQuery::Default)?,
                "name" => once(&mut name, read_name(value), BadQuery::Name)?,
                _ => {}
            }
        }
        let fallback = match default.as_deref() {
            None | Some("silhouette") => Fallback::Silhouette,
            Some("initials") => Fallback::Initials(name.unwrap_or_else(|| Name(String::new()))),
            Some("404") => Fallback::Status,
            Some(_) => return Err(BadQuery::Default),
        };
        Ok(Self { size: size.unwrap_or(Size::S640), fallback })
    }
}

/// Notes the value of a parameter, which must be there and must not have been given before.
fn once<T>(slot: &mut Option<T>, value: Option<T>, bad: BadQuery) -> Result<(), BadQuery> {
    let value = value.ok_or(bad)?;
    if slot.replace(value).is_some() { Err(bad) } else { Ok(()) }
}

fn read_size(value: &str) -> Option<Size> {
    let value = decode_value(value)?;
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let pixels = digits.then(|| value.parse().ok()).flatten()?;
    Size::covering(pixels)
}

fn read_name(value: &str) -> Option<Name> {
    let name = decode_value(value)?;
    (name.len() <= NAME_BYTES_MAX).then_some(Name(name))
}

/// The value of a parameter. Forms write a blank as `+`.
fn decode_value(value: &str) -> Option<String> {
    if value.contains('+') { percent_decoded(&value.replace('+', " ")) } else { percent_decoded(value) }
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query").field("size", &self.size).field("fallback", &self.fallback).finish()
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Name(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn initials(name: &str) -> Fallback {
        Fallback::Initials(Name(name.to_owned()))
    }

    fn check(text: &str, expected: Result<(Size, Fallback), BadQuery>) {
        let expected = expected.map(|(size, fallback)| Query { size, fallback });
        assert_eq!(Query::parse(Some(text)), expected, "{text:?}");
    }

    #[test]
    fn a_size_is_rounded_up() {
        for (text, expected) in [
            ("", Ok(Size::S640)),
            ("size=16", Ok(Size::S48)),
            ("size=48", Ok(Size::S48)),
            ("size=49", Ok(Size::S96)),
            ("size=%39%36", Ok(Size::S96)),
            ("size=0192", Ok(Size::S192)),
            ("size=193", Ok(Size::S640)),
            ("size=640", Ok(Size::S640)),
            ("size=15", Err(BadQuery::Size)),
            ("size=641", Err(BadQuery::Size)),
            ("size=65600", Err(BadQuery::Size)),
            ("size=", Err(BadQuery::Size)),
            ("size", Err(BadQuery::Size)),
            ("size=+96", Err(BadQuery::Size)),
            ("size=-96", Err(BadQuery::Size)),
            ("size=96.0", Err(BadQuery::Size)),
            ("size=96px", Err(BadQuery::Size)),
            ("size=\u{669}\u{666}", Err(BadQuery::Size)),
            ("size=96&size=96", Err(BadQuery::Size)),
        ] {
            check(text, expected.map(|size| (size, Fallback::Silhouette)));
        }
        assert_eq!(Query::parse(None), Ok(Query::DEFAULT));
    }

    #[test]
    fn a_default_is_one_of_three() {
        let long = "%C3%A9".repeat(256);
        let too_long = format!("name={}", "a".repeat(513));
        for (text, expected) in [
            ("default=silhouette", Ok(Fallback::Silhouette)),
            ("default=404", Ok(Fallback::Status)),
            ("default=initials", Ok(initials(""))),
            ("default=initials&name=", Ok(initials(""))),
            ("name=Ada+Lovelace&default=initials", Ok(initials("Ada Lovelace"))),
            ("default=initials&name=J%C3%BCrgen%20%2B", Ok(initials("J\u{fc}rgen +"))),
            ("default=initials&name=a=b", Ok(initials("a=b"))),
            (&format!("default=initials&name={long}"), Ok(initials(&"\u{e9}".repeat(256)))),
            // A name that is not used is ignored, but not when it is malformed.
            ("name=Ada", Ok(Fallback::Silhouette)),
            ("utm_source=x&size2=1&=&&default=404", Ok(Fallback::Status)),
            ("Default=404", Ok(Fallback::Silhouette)),
            ("default=", Err(BadQuery::Default)),
            ("default=identicon", Err(BadQuery::Default)),
            ("default=404&default=404", Err(BadQuery::Default)),
            ("name=%", Err(BadQuery::Name)),
            ("name=%4", Err(BadQuery::Name)),
            ("name=%zz", Err(BadQuery::Name)),
            ("name=%+4", Err(BadQuery::Name)),
            ("name=%C3", Err(BadQuery::Name)),
            ("name=%ED%A0%80", Err(BadQuery::Name)),
            ("name=a&name=a", Err(BadQuery::Name)),
            (&too_long, Err(BadQuery::Name)),
            (&"x".repeat(2049), Err(BadQuery::TooLong)),
        ] {
            check(text, expected.map(|fallback| (Size::S640, fallback)));
        }
    }

    #[test]
    fn a_name_reaches_no_debug_output() {
        let query = Query::parse(Some("default=initials&name=Lovelace")).unwrap();
        assert!(!format!("{query:?}").contains("Lovelace"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,300}") {
            let _ = Query::parse(Some(&text));
        }
    }
}
