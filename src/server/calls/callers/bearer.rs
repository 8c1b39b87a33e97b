//! The bearer token in the `authorization` of a call.

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use crate::domain::Unknown;

/// The one entry of `authorization`, if there is any.
///
/// # Errors
///
/// [`Unknown::TokenMalformed`] when there are several: none of them can be preferred.
pub fn only_entry(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Unknown> {
    let mut entries = headers.get_all(AUTHORIZATION).iter();
    match (entries.next(), entries.next()) {
        (entry, None) => Ok(entry),
        _ => Err(Unknown::TokenMalformed),
    }
}

/// The bearer token in an entry (RFC 6750, 2.1). The case of the scheme does not matter. A token is visible
/// ASCII without blanks, which is wider than the RFC allows: Hypersender's tokens contain a `|`.
///
/// # Errors
///
/// [`Unknown::TokenMalformed`] when the entry has another form.
pub fn bearer(entry: &HeaderValue) -> Result<&str, Unknown> {
    let text = entry.to_str().map_err(|_| Unknown::TokenMalformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(Unknown::TokenMalformed)?;
    let token = token.trim_start_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer")
        || token.is_empty()
        || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(Unknown::TokenMalformed);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_there_once_and_in_one_form() {
        let malformed = Err(Unknown::TokenMalformed);
        for (entries, expected) in [
            (&[][..], Ok(None)),
            (&["Bearer abc"], Ok(Some("abc"))),
            (&["bearer abc"], Ok(Some("abc"))),
            (&["BEARER  12|aB-._~+/="], Ok(Some("12|aB-._~+/="))),
            (&["Bearer a,b"], Ok(Some("a,b"))),
            (&[""], malformed),
            (&["Bearer"], malformed),
            (&["Bearer "], malformed),
            (&["Bearerabc"], malformed),
            (&["Bearer\tabc"], malformed),
            (&[" Bearer abc"], malformed),
            (&["Bearer abc "], malformed),
            (&["Bearer a b"], malformed),
            (&["Bearer a, Bearer b"], malformed),
            (&["Bearer \u{e9}"], malformed),
            (&["Basic abc"], malformed),
            (&["abc"], malformed),
            (&["Bearer abc", "Bearer abc"], malformed),
            (&["Bearer abc", ""], malformed),
        ] {
            let mut headers = HeaderMap::new();
            for entry in entries {
                headers.append(AUTHORIZATION, HeaderValue::from_bytes(entry.as_bytes()).unwrap());
            }
            let found = only_entry(&headers).and_then(|entry| entry.map(bearer).transpose());
            assert_eq!(found, expected, "{entries:?}");
        }
    }
}
