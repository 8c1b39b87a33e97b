//! Parsers for the values of single settings. Each takes the text as it was given; its error is the fault.

use std::{net::SocketAddr, str::FromStr};

use tracing_subscriber::{EnvFilter, filter::ParseError};
use url::{Host, Url};

use crate::{
    avatars::Mode,
    domain::{Instance, TokenOwner},
    telemetry::Format,
};

/// The text of a log filter that can be read. An `EnvFilter` itself cannot be cloned, and clap clones values.
#[derive(Clone, Debug, Default)]
pub struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        EnvFilter::try_new(text).map(|_| Self(text.to_owned()))
    }
}

impl From<LogFilter> for EnvFilter {
    fn from(filter: LogFilter) -> Self {
        Self::new(filter.0)
    }
}

/// Reads `--admin-listen`. An empty flag means off, as `off` does; an empty variable counts as unset.
pub fn read_admin_listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.is_empty() || text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let address = text.parse().map(Some);
    address.map_err(|_| format!("{text:?} is neither an IP address and port such as 127.0.0.1:9090 nor off"))
}

/// The port of the avatars as it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AvatarsListen {
    /// No port is opened.
    Off,
    /// The address to listen on.
    At(SocketAddr),
}

/// Reads `--avatars-listen`. An empty flag means off, as `off` does; an empty variable counts as unset.
pub fn read_avatars_listen(text: &str) -> Result<AvatarsListen, String> {
    if text.is_empty() || text.eq_ignore_ascii_case("off") {
        return Ok(AvatarsListen::Off);
    }
    let address = text.parse().map(AvatarsListen::At);
    address.map_err(|_| format!("{text:?} is neither an IP address and port such as 127.0.0.1:8080 nor off"))
}

/// Reads `--avatars-mode`.
pub fn read_mode(text: &str) -> Result<Mode, String> {
    match text {
        "bytes" => Ok(Mode::Bytes),
        "redirect" => Ok(Mode::Redirect),
        _ => Err(format!("{text:?} is neither bytes nor redirect")),
    }
}

/// Reads the address of a sandbox.
pub fn read_loopback(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback());
    address.ok_or_else(|| {
        format!("{text:?} is not a loopback address and port such as 127.0.0.1:50080; the sandbox serves this machine alone")
    })
}

/// Reads the name in a certificate.
pub fn read_domain(text: &str) -> Result<String, String> {
    let name = Host::parse(text).map(|_| text.to_owned());
    name.map_err(|_| format!("{text:?} is not a name such as contacts.internal"))
}

/// Reads the beginning of the names in a store. A brace would begin or end the hash tag of a cluster, and
/// `*`, `?` and `[` have a meaning in the patterns of the server's permissions.
pub fn read_prefix(text: &str) -> Result<String, String> {
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || "_-.:/".contains(letter);
    if (1..=64).contains(&text.len()) && text.chars().all(is_allowed) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not 1 to 64 characters of A-Z a-z 0-9 _ - . : /"))
}

/// Reads the id of an instance.
pub fn read_instance(text: &str) -> Result<Instance, String> {
    Instance::parse(text).map_err(|error| error.to_string())
}

/// Reads `--credentials`. The fault does not repeat the text: the name of the flag may lead a user to give
/// the token itself.
pub fn read_token_owner(text: &str) -> Result<TokenOwner, String> {
    match text {
        "own" => Ok(TokenOwner::Server),
        "passthrough" => Ok(TokenOwner::Caller),
        _ => Err("neither own nor passthrough".to_owned()),
    }
}

/// The form in which answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Indented JSON; an array where several contacts are asked for.
    Json,
    /// One line of JSON for each contact.
    Ndjson,
    /// A table for a person, without links.
    Table,
}

/// Reads the form of answers.
pub fn read_output(text: &str) -> Result<Output, String> {
    match text {
        "json" => Ok(Output::Json),
        "ndjson" => Ok(Output::Ndjson),
        "table" => Ok(Output::Table),
        _ => Err(format!("{text:?} is neither json, ndjson nor table")),
    }
}

/// Reads the format of log lines.
pub fn read_format(text: &str) -> Result<Format, String> {
    match text {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err(format!("{text:?} is neither text nor json")),
    }
}

/// Reads a base URL: of the REST API, or of the avatars. The fault does not repeat the text, because a URL
/// may hold a password.
pub fn read_base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("not an absolute URL such as https://host/path ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("not a URL that begins with https:// or http://".to_owned());
    }
    let named = !url.username().is_empty() || url.password().is_some();
    if named || url.query().is_some() || url.fragment().is_some() {
        return Err("must hold neither user, query nor fragment".to_owned());
    }
    Ok(url)
}
