//! [`Instance`] and [`ChatId`]: the two names in a look-up. Each is parsed once, where the request comes in.
//!
//! These types check the form of a name. Only Hypersender knows whether an instance or a contact exists.

use std::{fmt, sync::Arc};

use super::Refusal;

/// A WhatsApp instance of Hypersender, as it is written in the path of a request.
///
/// It has 1 to 64 characters of `A-Z a-z 0-9 _ -`. A hyphenated UUID is in lower case, so that one instance
/// has one name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Instance(Arc<str>);

const INSTANCE_CHARS_MAX: usize = 64;

impl Instance {
    /// Reads an instance name.
    ///
    /// # Errors
    ///
    /// [`Refusal::InstanceInvalid`] when the name is empty, is too long or holds another character.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if text.is_empty() || text.len() > INSTANCE_CHARS_MAX || !text.bytes().all(allowed) {
            return Err(Refusal::InstanceInvalid);
        }
        Ok(Self(if is_hyphenated_uuid(text) { text.to_ascii_lowercase().into() } else { text.into() }))
    }

    /// The canonical name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_hyphenated_uuid(text: &str) -> bool {
    let groups = [8, 4, 4, 4, 12];
    let mut parts = text.split('-');
    groups.iter().all(|&length| {
        parts.next().is_some_and(|part| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit()))
    }) && parts.next().is_none()
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({})", self.0)
    }
}

/// A contact in canonical form. The cache, the request to Hypersender and the answer to the caller all use
/// this form.
///
/// A bare phone number (5 to 15 digits) stays bare, because Hypersender may resolve it differently from the
/// same digits with `@c.us` (Brazil, Mexico, Argentina). With a domain, `@c.us` or `@lid`, it has 5 to 20
/// digits. `Debug` hides the contact, because it is personal data.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ChatId(Arc<str>);

const DIGITS_MIN: usize = 5;
/// The most digits of a phone number (ITU-T E.164).
const PHONE_DIGITS_MAX: usize = 15;
const ID_DIGITS_MAX: usize = 20;

impl ChatId {
    /// Reads a phone number or a chat id. `@s.whatsapp.net` becomes `@c.us`, and domains may be in any case.
    ///
    /// # Errors
    ///
    /// [`Refusal::ChatIdInvalid`] for every other text. The error does not hold the text, which may be
    /// personal data.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
        let text = text.strip_prefix('+').unwrap_or(text);
        let (digits, domain) = match text.split_once('@') {
            None => (text, None),
            Some((digits, domain)) => (digits, Some(canonical_domain(domain)?)),
        };
        let digits_max = if domain.is_none() { PHONE_DIGITS_MAX } else { ID_DIGITS_MAX };
        if !(DIGITS_MIN..=digits_max).contains(&digits.len())
            || !digits.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Err(Refusal::ChatIdInvalid);
        }
        Ok(Self(match domain {
            None => digits.into(),
            Some(domain) => format!("{digits}@{domain}").into(),
        }))
    }

    /// The canonical form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn canonical_domain(domain: &str) -> Result<&'static str, Refusal> {
    ["c.us", "lid"]
        .into_iter()
        .find(|known| domain.eq_ignore_ascii_case(known))
        .or_else(|| domain.eq_ignore_ascii_case("s.whatsapp.net").then_some("c.us"))
        .ok_or(Refusal::ChatIdInvalid)
}

impl fmt::Debug for ChatId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChatId(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_ids_have_one_canonical_form() {
        for (text, canonical) in [
            ("15551234567", Some("15551234567")),
            (" +15551234567\t", Some("15551234567")),
            ("15551234567@c.us", Some("15551234567@c.us")),
            ("15551234567@C.US", Some("15551234567@c.us")),
            ("15551234567@S.WhatsApp.net", Some("15551234567@c.us")),
            ("100875997589545@LID", Some("100875997589545@lid")),
            ("12345", Some("12345")),
            ("123456789012345", Some("123456789012345")),
            ("12345678901234567890@lid", Some("12345678901234567890@lid")),
            ("", None),
            ("+", None),
            ("1234", None),
            ("1234567890123456", None),
            ("123456789012345678901@lid", None),
            ("++15551234567", None),
            ("+ 15551234567", None),
            ("1555 1234567", None),
            ("1555-123-4567", None),
            ("١٢٣٤٥٦٧", None),
            ("15551234567@", None),
            ("15551234567@g.us", None),
            ("15551234567@c.us@c.us", None),
            ("15551234567@c.us ", Some("15551234567@c.us")),
            ("\u{a0}15551234567", None),
            ("abc", None),
        ] {
            let parsed = ChatId::parse(text).ok();
            assert_eq!(parsed.as_ref().map(ChatId::as_str), canonical, "{text:?}");
        }
    }

    #[test]
    fn instances_are_safe_in_a_path_and_uuids_are_lower_case() {
        let long = "a".repeat(64);
        for (text, canonical) in [
            ("9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D", Some("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d")),
            ("Shop_1-EU", Some("Shop_1-EU")),
            ("9B1DEB4D-3B7D", Some("9B1DEB4D-3B7D")),
            (long.as_str(), Some(long.as_str())),
            ("", None),
            ("a/b", None),
            ("..", None),
            ("a b", None),
            ("é", None),
            ("x%2e", None),
        ] {
            let parsed = Instance::parse(text).ok();
            assert_eq!(parsed.as_ref().map(Instance::as_str), canonical, "{text:?}");
        }
        assert!(Instance::parse(&"a".repeat(65)).is_err());
    }

    #[test]
    fn a_chat_id_hides_in_debug_output() {
        let chat = ChatId::parse("15551234567").unwrap();
        assert!(!format!("{chat:?}").contains("555"));
    }
}
