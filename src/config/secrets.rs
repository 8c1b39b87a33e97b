//! Secrets: tokens, and the user and password of a proxy, from a variable or from a file. No fault repeats
//! one of them.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::{
    Variables,
    faults::Fault,
    files,
    variables::{
        API_KEY, API_KEY_FILE, CALLER_TOKEN, CALLER_TOKEN_FILE, PROXY_AUTH, PROXY_AUTH_FILE, variable,
    },
};

/// The token for requests to Hypersender.
///
/// # Errors
///
/// When it is not a valid token, cannot be read, or is given twice. The other functions of this file that
/// read a secret fail for the same reasons.
pub fn api_key(variables: &Variables) -> Result<Option<SecretString>, Fault> {
    token(variables, API_KEY, API_KEY_FILE)
}

/// The token that `get` sends to the service.
pub fn caller_token(variables: &Variables) -> Result<Option<SecretString>, Fault> {
    token(variables, CALLER_TOKEN, CALLER_TOKEN_FILE)
}

/// The user and password of the proxy as `user:password`, and the variable that gives them.
pub fn proxy_auth(variables: &Variables) -> Result<Option<(&'static str, SecretString)>, Fault> {
    let found = text(variables, PROXY_AUTH, PROXY_AUTH_FILE)?;
    // White space may be part of a password; the line break at the end of a file is not.
    let without_break = |text: SecretString| text.expose_secret().trim_end_matches(['\r', '\n']).into();
    Ok(found.map(|(name, text)| (name, without_break(text))))
}

/// A token, from the variable `name` or from the file that the variable `file_name` names.
fn token(
    variables: &Variables,
    name: &'static str,
    file_name: &'static str,
) -> Result<Option<SecretString>, Fault> {
    let Some((name, text)) = text(variables, name, file_name)? else { return Ok(None) };
    token_from(text.expose_secret()).map(Some).map_err(|fault| (name, fault))
}

/// The text of a secret, and the variable that gives it.
fn text(
    variables: &Variables,
    name: &'static str,
    file_name: &'static str,
) -> Result<Option<(&'static str, SecretString)>, Fault> {
    match (variable(variables, name)?, variable(variables, file_name)?) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err((name, format!("given twice, here and by {file_name}; set one of them"))),
        (Some(value), None) => Ok(Some((name, value.into()))),
        (None, Some(path)) => match files::read(Path::new(path)) {
            Ok(text) => Ok(Some((file_name, text.into()))),
            Err(fault) => Err((file_name, fault)),
        },
    }
}

/// The token in the text of a variable, field or file. White space around it is not part of it.
///
/// # Errors
///
/// When the text is not a valid token.
pub fn token_from(text: &str) -> Result<SecretString, String> {
    let token = text.trim();
    if token.is_empty() {
        return Err("holds no token".to_owned());
    }
    if let Some(slip) = slip(token) {
        return Err(slip.to_owned());
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is visible ASCII characters without blanks".to_owned());
    }
    Ok(SecretString::from(token))
}

/// A common mistake in the place of a token, such as a placeholder or quotes: every call with it would fail.
fn slip(token: &str) -> Option<&'static str> {
    const QUOTES: [char; 3] = ['"', '\'', '`'];
    const PLACEHOLDER: &str = "a placeholder; write the token itself in its place";
    let first = token.split_ascii_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let lower = token.to_ascii_lowercase();
    let within = |[open, close]: [&str; 2]| token.starts_with(open) && token.ends_with(close);
    let repeats_one = |c: char| token.len() > 1 && token.chars().all(|other| other == c);
    let words = ["changeme", "change-me", "change_me", "null", "none", "undefined"];
    if token.starts_with(QUOTES) || token.ends_with(QUOTES) {
        Some("in quotes, which are not part of a token; docker's --env-file, for one, keeps them")
    } else if token.starts_with('$') || token.contains("${") || token.contains("$(") || within(["%", "%"]) {
        Some("the name of a variable that was not replaced by its value")
    } else if matches!(first.as_str(), "bearer" | "bearer:" | "authorization:") {
        Some("begins with Bearer; write the token alone")
    } else if lower.starts_with("hypersender_") && token.contains('=') {
        Some("begins with the name of a variable; write the token alone")
    } else if [["<", ">"], ["{{", "}}"], ["[", "]"]].into_iter().any(within)
        || ['.', '*', 'x', 'X', '…'].into_iter().any(repeats_one)
        || ["your-", "your_"].into_iter().any(|begin| lower.starts_with(begin))
        || words.contains(&lower.as_str())
    {
        Some(PLACEHOLDER)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fault of a text in the place of a token.
    fn fault(text: &str) -> Option<String> {
        token_from(text).err()
    }

    #[test]
    fn what_stands_in_a_tokens_place_and_is_none_is_a_fault() {
        for (word, texts) in [
            ("quotes", &["\"1|abc\"", "'1|abc'", "`1|abc`", "\"1|abc", "1|abc'", "\"\"", "\" 1|abc \""][..]),
            ("variable", &["$KEY", "${KEY}", "$(cat key)", "1|${KEY}", "$(KEY)", "%KEY%"]),
            ("Bearer", &["Bearer 1|abc", "bearer  1|abc", "Bearer", "Authorization: Bearer 1|abc"]),
            ("name of a variable", &["HYPERSENDER_WHATSAPP_API_KEY=1|abc", "hypersender_grpc_token=x"]),
            ("placeholder", &["<your-token>", "<no value>", "{{ key }}", "{{key}}", "[token]", "...", "…"]),
            ("placeholder", &["xxx", "XXXX", "***", "your-token", "YOUR_API_KEY", "changeme", "null"]),
        ] {
            for text in texts {
                let told = fault(text).unwrap_or_else(|| panic!("{text} is taken for a token"));
                assert!(told.contains(word), "{text}: {told}");
            }
        }
    }

    #[test]
    fn a_token_may_hold_what_only_looks_like_a_slip() {
        for token in
            ["1|abc", "12|Yx$x", "a=b", "x", "100%", "bearer1", "yours", "nullable", "a<b>", "p{{q}}"]
        {
            assert_eq!(fault(token), None, "{token}");
        }
    }
}
