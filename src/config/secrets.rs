//! Secrets: tokens, and the users and passwords of a proxy and of the store, from a variable or from a file.
//! No fault repeats one of them.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::{
    Variables,
    faults::Fault,
    files,
    variables::{
        API_KEY, API_KEY_FILE, AVATARS_KEY, AVATARS_KEY_FILE, CALLER_TOKEN, CALLER_TOKEN_FILE, PROXY_AUTH,
        PROXY_AUTH_FILE, STORE_PASSWORD, STORE_PASSWORD_FILE, STORE_USERNAME, variable,
    },
};

const QUOTES: [char; 3] = ['"', '\'', '`'];
const NOT_REPLACED: &str = "the name of a variable that was not replaced by its value";

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
    secret(variables, PROXY_AUTH, PROXY_AUTH_FILE, user_and_password_from)
}

/// The password of the store's server, and the variable that gives it.
pub fn store_password(variables: &Variables) -> Result<Option<(&'static str, SecretString)>, Fault> {
    secret(variables, STORE_PASSWORD, STORE_PASSWORD_FILE, password_from)
}

/// The text with the keys of the avatars, and the variable that gives it.
pub fn avatars_keys(variables: &Variables) -> Result<Option<(&'static str, SecretString)>, Fault> {
    text(variables, AVATARS_KEY, AVATARS_KEY_FILE)
}

/// The user of the store's server.
pub fn store_username(variables: &Variables) -> Result<Option<String>, Fault> {
    let user = variable(variables, STORE_USERNAME)?.map(user_from).transpose();
    user.map_err(|fault| (STORE_USERNAME, fault))
}

/// A token, from the variable `name` or from the file that the variable `file_name` names.
fn token(
    variables: &Variables,
    name: &'static str,
    file_name: &'static str,
) -> Result<Option<SecretString>, Fault> {
    Ok(secret(variables, name, file_name, token_from)?.map(|(_, token)| token))
}

/// The secret that `parse` finds in the text of a variable or file, and the variable that gives it.
fn secret(
    variables: &Variables,
    name: &'static str,
    file_name: &'static str,
    parse: fn(&str) -> Result<SecretString, String>,
) -> Result<Option<(&'static str, SecretString)>, Fault> {
    let Some((name, text)) = text(variables, name, file_name)? else { return Ok(None) };
    let secret = parse(text.expose_secret()).map_err(|fault| (name, fault))?;
    Ok(Some((name, secret)))
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
    if let Some(slip) = slip(token, "token") {
        return Err(slip);
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is visible ASCII characters without blanks".to_owned());
    }
    Ok(SecretString::from(token))
}

/// The user and password of a proxy in the text of a variable or file. White space may be part of a password;
/// the line break at the end of a file is not. Whether the text has the form `user:password` is for
/// [`Proxy`](crate::stack::Proxy) to check.
fn user_and_password_from(text: &str) -> Result<SecretString, String> {
    const NOUN: &str = "user or password";
    let both = text.trim_end_matches(['\r', '\n']);
    let (user, password) = both.split_once(':').unwrap_or((both, ""));
    // A password may hold quotes and dollar signs; it is refused only where it is a placeholder as a whole.
    let slip = placeholder(both.trim(), NOUN)
        .or_else(|| slip(user.trim(), NOUN))
        .or_else(|| placeholder(password.trim(), NOUN));
    slip.map_or_else(|| Ok(SecretString::from(both)), Err)
}

/// The user in a text.
///
/// # Errors
///
/// When the text cannot be a user.
pub fn user_from(text: &str) -> Result<String, String> {
    const NOUN: &str = "user";
    match slip(text, NOUN) {
        Some(slip) => Err(slip),
        None if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) => {
            Err(format!("a {NOUN} has neither blanks nor control characters"))
        }
        None => Ok(text.to_owned()),
    }
}

/// The password in the text of a variable, URL or file. White space may be part of it; the line break at the
/// end of a file is not.
///
/// # Errors
///
/// When the text cannot be a password.
pub fn password_from(text: &str) -> Result<SecretString, String> {
    const NOUN: &str = "password";
    let password = text.trim_end_matches(['\r', '\n']);
    // A password may hold quotes and dollar signs; it is refused only where it is a placeholder as a whole.
    let slip = begins_with_another(password, NOUN).or_else(|| placeholder(password.trim(), NOUN));
    match slip {
        Some(slip) => Err(slip),
        None if password.trim().is_empty() => Err(format!("holds no {NOUN}")),
        None if password.contains(char::is_control) => {
            Err(format!("a {NOUN} has neither line breaks nor other control characters"))
        }
        None => Ok(SecretString::from(password)),
    }
}

/// A common mistake in the place of a secret: the text is a placeholder, or has something around it. Every
/// call with it would fail. `noun` says what the secret is.
pub fn slip(text: &str, noun: &str) -> Option<String> {
    let first = text.split_ascii_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if let Some(begins) = begins_with_another(text, noun) {
        Some(begins)
    } else if text.starts_with(QUOTES) || text.ends_with(QUOTES) {
        Some(in_quotes(noun))
    } else if text.starts_with('$') || text.contains("${") || text.contains("$(") {
        Some(NOT_REPLACED.to_owned())
    } else if matches!(first.as_str(), "bearer" | "bearer:" | "authorization:") {
        Some(format!("begins with Bearer; write the {noun} alone"))
    } else {
        placeholder(text, noun)
    }
}

/// A text that begins with something that is never part of a secret.
fn begins_with_another(text: &str, noun: &str) -> Option<String> {
    if text.starts_with('\u{feff}') {
        Some("begins with a byte order mark (BOM); remove it".to_owned())
    } else if text.to_ascii_lowercase().starts_with("hypersender_") && text.contains('=') {
        Some(format!("begins with the name of a variable; write the {noun} alone"))
    } else {
        None
    }
}

/// A text that as a whole is no secret: one in quotes, the name of a variable, or a placeholder of a page.
fn placeholder(text: &str, noun: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let within = |[open, close]: [&str; 2]| text.starts_with(open) && text.ends_with(close);
    let is_quoted = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    let repeats_one = |c: char| text.len() > 1 && text.chars().all(|other| other == c);
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    let is_variable = text.strip_prefix('$').is_some_and(|name| !name.is_empty() && is_name(name));
    let words = ["changeme", "change-me", "change_me", "null", "none", "undefined"];
    if QUOTES.into_iter().any(is_quoted) {
        Some(in_quotes(noun))
    } else if is_variable || [["${", "}"], ["$(", ")"], ["%", "%"]].into_iter().any(within) {
        Some(NOT_REPLACED.to_owned())
    } else if [["<", ">"], ["{{", "}}"], ["[", "]"]].into_iter().any(within)
        || ['.', '*', 'x', 'X', '…'].into_iter().any(repeats_one)
        || ["your-", "your_"].into_iter().any(|begin| lower.starts_with(begin))
        || words.contains(&lower.as_str())
    {
        Some(format!("a placeholder; write the {noun} itself in its place"))
    } else {
        None
    }
}

fn in_quotes(noun: &str) -> String {
    format!("in quotes, which are not part of a {noun}; docker's --env-file, for one, keeps them")
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
            ("byte order mark", &["\u{feff}1|abc", "\u{feff}"]),
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

    #[test]
    fn what_stands_in_the_place_of_a_user_or_password_and_is_none_is_a_fault() {
        for (word, texts) in [
            ("quotes", &["\"u:p\"", "'u:p'", "'u:p", "\"u\":\"p\"", "u:'p'", "\"u:p\"\r\n", "`u:p`"][..]),
            ("variable", &["$USER:$PASS", "${PU}:${PP}", "u:$PASS", "u:${PP}", "u:$(cat p)", "%PU%:%PP%"]),
            (
                "placeholder",
                &["<user>:<password>", "changeme:changeme", "u:changeme", "u:<password>", "u:***"],
            ),
            ("placeholder", &["{{ auth }}", "your-user:your-password", "null:null", "u:null"]),
            ("name of a variable", &["HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH=u:p"]),
            ("byte order mark", &["\u{feff}u:p", "\u{feff}u:p\n"]),
        ] {
            for text in texts {
                let fault = user_and_password_from(text).err();
                let told = fault.unwrap_or_else(|| panic!("{text} is taken for a user and password"));
                assert!(told.contains(word), "{text}: {told}");
            }
        }
    }

    #[test]
    fn what_stands_in_the_place_of_a_password_alone_and_is_none_is_a_fault() {
        for (word, texts) in [
            ("quotes", &["\"p\"", "'p'", "'p'\n"][..]),
            ("variable", &["$PASS", "${PASS}", "$(cat p)", "%PASS%"]),
            ("placeholder", &["<password>", "changeme", "***", "your-password", "{{ password }}"]),
            ("name of a variable", &["HYPERSENDER_GRPC_STORE_PASSWORD=p"]),
            ("byte order mark", &["\u{feff}p"]),
            ("no password", &["", " ", "\r\n"]),
            ("line breaks", &["one\ntwo\n", "a\tb"]),
        ] {
            for text in texts {
                let fault = password_from(text).err();
                let told = fault.unwrap_or_else(|| panic!("{text:?} is taken for a password"));
                assert!(told.contains(word), "{text:?}: {told}");
            }
        }
        for password in ["pa'", "\"", "$ecret", "a${b", " p ", "u:p", "bearer"] {
            let read = password_from(&format!("{password}\r\n"));
            assert_eq!(read.unwrap().expose_secret(), password);
        }
    }

    #[test]
    fn a_password_may_hold_what_only_looks_like_a_slip() {
        for text in ["u:pa'", "u:\"", "u:$ecret", "u:a${b", "u:bearer", "u: p ", "u:<", "u:x", "u:", "u:a:b%"]
        {
            let read = user_and_password_from(&format!("{text}\r\n"));
            assert_eq!(read.unwrap().expose_secret(), text);
        }
    }
}
