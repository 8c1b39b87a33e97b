//! [`Listing`]: the settings of `serve` as text, each with where it comes from, and without secrets.

use std::{borrow::Cow, ffi::OsStr, fmt};

use clap::{Arg, ArgMatches, Command, parser::ValueSource};

use super::{Variables, variables::secret_variables};

/// The settings that a command line and the environment give, one on each line: as a flag that a shell takes,
/// then where it comes from. Of the variables that hold secrets, it has the names alone.
#[derive(Debug)]
pub struct Listing(Vec<String>);

impl Listing {
    /// The settings of the subcommand `command`, to which `matches` belong.
    #[must_use]
    pub fn new(command: &Command, matches: &ArgMatches, variables: &Variables) -> Self {
        let settings = command.get_arguments().filter(|setting| setting.get_env().is_some());
        let settings = settings.filter_map(|setting| {
            let source = matches.value_source(setting.get_id().as_str())?;
            let value = matches.get_raw(setting.get_id().as_str())?.next()?;
            Some(line(setting, value, source))
        });
        let secrets = secret_variables(variables).map(|name| format!("# {name} is set"));
        Self(settings.chain(secrets).collect())
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

fn line(setting: &Arg, value: &OsStr, source: ValueSource) -> String {
    let flag = setting.get_long().unwrap_or_else(|| setting.get_id().as_str());
    let value = value.to_string_lossy();
    let value = value.trim();
    if value.is_empty() {
        return format!("# --{flag} is not set");
    }
    // --help hides the values of the variables that may have a password in a URL.
    let shown = if setting.is_hide_env_values_set() { without_user(value) } else { value.into() };
    let from = match (source, setting.get_env()) {
        (ValueSource::EnvVariable, Some(variable)) => variable.to_string_lossy(),
        (ValueSource::DefaultValue, _) => "default".into(),
        _ => "command line".into(),
    };
    format!("--{flag}={}  # {from}", quoted(&shown))
}

/// The text of a URL without its user and password.
fn without_user(url: &str) -> Cow<'_, str> {
    match url.split_once("://") {
        // A password may contain an @ by mistake, so that the last one counts.
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, place)) => format!("{scheme}://***@{place}").into(),
            None => url.into(),
        },
        None => url.into(),
    }
}

/// The text as one word of a shell.
fn quoted(text: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:,@+=[]%".contains(letter);
    if text.chars().all(is_plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_user() {
        for (url, shown) in [
            ("none", "none"),
            ("file:/var/lib/store", "file:/var/lib/store"),
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://someone:secret@127.0.0.1:6379", "redis://***@127.0.0.1:6379"),
            ("redis://:secret@a:1,b:2?cluster=true", "redis://***@a:1,b:2?cluster=true"),
            ("redis://:sec@ret@a:1", "redis://***@a:1"),
        ] {
            assert_eq!(without_user(url), shown, "{url}");
        }
    }

    #[test]
    fn a_value_is_one_word_of_a_shell() {
        for (value, word) in [
            ("[::1]:50051", "[::1]:50051"),
            ("1h 30m", "'1h 30m'"),
            ("*.whatsapp.net", "'*.whatsapp.net'"),
            ("it's", r"'it'\''s'"),
            ("", ""),
        ] {
            assert_eq!(quoted(value), word, "{value}");
        }
    }
}
