//! [`percent_decoded`]: the text behind percent-encoding (RFC 3986, section 2.1).

/// The text without its percent-encoding; `None` where that is broken or is not UTF-8.
#[must_use]
pub fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        let is_hex = code.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(code, 16).ok().filter(|_| is_hex)?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_broken_code_is_no_text() {
        for text in
            ["%", "%4", "a%4", "%zz", "%+4", "%-1", "% 4", "%4%34", "%\u{e9}", "%C3", "%ED%A0%80", "%FF"]
        {
            assert_eq!(percent_decoded(text), None, "{text}");
        }
        for (text, expected) in
            [("", ""), ("a+b", "a+b"), ("%25", "%"), ("\u{e9}%C3%A9", "\u{e9}\u{e9}"), ("%00", "\0")]
        {
            assert_eq!(percent_decoded(text).as_deref(), Some(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let encoded = bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
            prop_assert_eq!(percent_decoded(&encoded), String::from_utf8(bytes).ok());
        }
    }
}
