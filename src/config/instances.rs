//! The instances file: a token for each instance, in TOML.
//!
//! ```toml
//! [instances."5a4db0c5-7a3e-4c1d-9f26-1b0e5d2c8f47"]
//! token_file = "/run/secrets/shop"   # or token = "..."
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::domain::Instance;

/// What this kind of file may hold; beyond it is some other file.
const BYTES_MAX: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    instances: BTreeMap<String, Given>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    token: Option<SecretString>,
    token_file: Option<PathBuf>,
}

/// The token of each instance in the file, or every fault of it. A fault tells no token; it names the file, and the line or
/// instance.
pub fn read(path: &Path) -> Result<Vec<(Instance, SecretString)>, Vec<String>> {
    parse(path).map_err(|faults| in_file(path, faults))
}

fn parse(path: &Path) -> Result<Vec<(Instance, SecretString)>, Vec<String>> {
    let text = read_file(path).map_err(|fault| vec![fault])?;
    let file: File = toml::from_str(&text).map_err(|error| vec![explain(&text, &error)])?;
    if file.instances.is_empty() {
        return Err(vec![
            "names no instance; write [instances.\"<id>\"] with token or token_file".to_owned(),
        ]);
    }
    let mut faults = Vec::new();
    let mut tokens: Vec<(Instance, SecretString)> = Vec::new();
    for (name, given) in file.instances {
        let parsed = Instance::parse(&name);
        // What is no name is not repeated: in the wrong place, it may be a token.
        let shown = parsed.as_ref().map_or("an instance".to_owned(), |_| format!("instance {name}"));
        let read = parsed.map_err(|error| error.to_string());
        let read = read.and_then(|instance| {
            if tokens.iter().any(|(known, _)| *known == instance) {
                return Err("stands there twice".to_owned());
            }
            given.token(path).map(|token| (instance, token))
        });
        match read {
            Ok(instance) => tokens.push(instance),
            Err(fault) => faults.push(format!("{shown}: {fault}")),
        }
    }
    if faults.is_empty() { Ok(tokens) } else { Err(faults) }
}

impl Given {
    fn token(self, instances_file: &Path) -> Result<SecretString, String> {
        match (self.token, self.token_file) {
            (Some(token), None) => token_from(token.expose_secret()),
            // Relative to the file that names it, wherever the service is started.
            (None, Some(file)) => {
                let path = instances_file.parent().unwrap_or(Path::new("")).join(file);
                token_from(&read_file(&path).map_err(|fault| format!("token_file: {fault}"))?)
            }
            (Some(_), Some(_)) => Err("token and token_file are both given; keep one".to_owned()),
            (None, None) => Err("neither token nor token_file is given; write one".to_owned()),
        }
    }
}

/// Faults of a file, each with its path.
pub fn in_file(path: &Path, faults: Vec<String>) -> Vec<String> {
    faults.into_iter().map(|fault| format!("{}: {fault}", path.display())).collect()
}

/// A token as it stands in a variable or file, without the blanks around it.
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

/// What was meant to be replaced by a token, or stands around it: no call would succeed with it.
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

/// A small text file that the settings name.
pub fn read_file(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read the file ({error})");
    if fs::metadata(path).map_err(cannot)?.len() > BYTES_MAX {
        return Err(format!("the file has more than {BYTES_MAX} bytes; is it the right one?"));
    }
    fs::read_to_string(path).map_err(cannot)
}

/// Where and what, without the line itself: toml's own text repeats it, and it may hold a token.
pub fn explain(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| 1 + before.matches('\n').count());
    let message = error.message();
    if let Some((unknown, allowed)) =
        message.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, expected "))
    {
        let allowed = allowed.trim_start_matches("one of ").replace('`', "");
        return format!("line {line}: unknown {}; allowed: {allowed}", field(unknown));
    }
    // The message about an unexpected value repeats that value, in quotes.
    let message = message.split(['\n', '"', '`']).next().unwrap_or_default().trim_end();
    format!("line {line}: {}", message.trim_end_matches(", expected"))
}

/// A field, by its name where that looks like one: what stands in the wrong place may be a token.
pub fn field(name: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_plain = (1..=16).contains(&name.len()) && name.bytes().all(fits);
    if is_plain { format!("field {name}") } else { "field".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a text in a token's place.
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
