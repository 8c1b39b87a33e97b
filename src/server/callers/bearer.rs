//! The token in `authorization`.

use http::{HeaderMap, header::AUTHORIZATION};

use crate::domain::Unknown;

/// The bearer token of a call (RFC 6750, 2.1), if it carries `authorization` at all. The scheme is in any case; a token is
/// visible ASCII without blanks, which is wider than the RFC: Hypersender's hold a `|`.
///
/// # Errors
///
/// [`Unknown::TokenMalformed`] when it stands there twice (none of them is the right one) or in another form.
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Unknown> {
    let mut entries = headers.get_all(AUTHORIZATION).iter();
    let (first, second) = (entries.next(), entries.next());
    let Some(entry) = first else {
        return Ok(None);
    };
    let text = entry.to_str().ok().filter(|_| second.is_none()).ok_or(Unknown::TokenMalformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(Unknown::TokenMalformed)?;
    let token = token.trim_start_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer")
        || token.is_empty()
        || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(Unknown::TokenMalformed);
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

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
            assert_eq!(bearer(&headers), expected, "{entries:?}");
        }
    }
}
