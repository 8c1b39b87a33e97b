//! Variables of the environment: which are set, and which look like a misspelt setting.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    net::IpAddr,
};

use clap::{Command, CommandFactory};

use super::{Variables, command_line::Cli, faults::Fault, given::NOT_UTF8};

pub const API_KEY: &str = "HYPERSENDER_WHATSAPP_API_KEY";
pub const API_KEY_FILE: &str = "HYPERSENDER_WHATSAPP_API_KEY_FILE";
/// The token that `get` reads. The service knows the variable, because both may share an environment.
pub const CALLER_TOKEN: &str = "HYPERSENDER_GRPC_TOKEN";
pub const CALLER_TOKEN_FILE: &str = "HYPERSENDER_GRPC_TOKEN_FILE";
/// User and password of the proxy to Hypersender, as `user:password`.
pub const PROXY_AUTH: &str = "HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH";
/// The path of a file with that user and password.
pub const PROXY_AUTH_FILE: &str = "HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH_FILE";
/// The user of the store's server.
pub const STORE_USERNAME: &str = "HYPERSENDER_GRPC_STORE_USERNAME";
/// The password of the store's server.
pub const STORE_PASSWORD: &str = "HYPERSENDER_GRPC_STORE_PASSWORD";
/// The path of a file with that password.
pub const STORE_PASSWORD_FILE: &str = "HYPERSENDER_GRPC_STORE_PASSWORD_FILE";
/// The keys of the addresses of avatars.
pub const AVATARS_KEY: &str = "HYPERSENDER_GRPC_AVATARS_KEY";
/// The path of a file with those keys.
pub const AVATARS_KEY_FILE: &str = "HYPERSENDER_GRPC_AVATARS_KEY_FILE";
/// The variables that belong to no flag and begin with [`OWN_PREFIX`].
const WITHOUT_FLAG: [&str; 9] = [
    CALLER_TOKEN,
    CALLER_TOKEN_FILE,
    PROXY_AUTH,
    PROXY_AUTH_FILE,
    STORE_USERNAME,
    STORE_PASSWORD,
    STORE_PASSWORD_FILE,
    AVATARS_KEY,
    AVATARS_KEY_FILE,
];
const OWN_PREFIX: &str = "HYPERSENDER_GRPC_";

/// The value of a variable without the white space around it; `None` when it is not set, or holds nothing
/// else.
///
/// # Errors
///
/// When it is not text.
pub fn variable<'a>(variables: &'a Variables, wanted: &'static str) -> Result<Option<&'a str>, Fault> {
    let Some((_, value)) = variables.iter().find(|(name, _)| name == wanted) else { return Ok(None) };
    let text = value.to_str().ok_or_else(|| (wanted, NOT_UTF8.to_owned()))?.trim();
    Ok((!text.is_empty()).then_some(text))
}

/// Whether a variable is set, to more than white space.
pub fn is_set(variables: &Variables, name: &'static str) -> bool {
    !matches!(variable(variables, name), Ok(None))
}

/// The names of the variables that hold a secret or the path of one, and are set.
pub fn secret_variables(variables: &Variables) -> impl Iterator<Item = &'static str> {
    [API_KEY, API_KEY_FILE].into_iter().chain(WITHOUT_FLAG).filter(|name| is_set(variables, name))
}

/// The definition of the command line, without the variables that are empty or hold only white space, because
/// those count as unset.
#[must_use]
pub fn without_empty_variables(command: Command, variables: &Variables) -> Command {
    let is_blank = |value: &OsString| value.to_str().is_some_and(|text| text.trim().is_empty());
    let is_empty = |name: &OsStr| {
        let mut empty = variables.iter().filter(|(_, value)| is_blank(value));
        empty.any(|(variable, _)| variable == name)
    };
    command.mut_subcommands(|subcommand| {
        subcommand.mut_args(|argument| match argument.get_env() {
            Some(name) if is_empty(name) => argument.env(None::<&str>),
            _ => argument,
        })
    })
}

/// Variables that have the prefix of this service's settings but belong to no setting. Most of them are
/// misspelt.
#[must_use]
pub fn unknown_variables(variables: &Variables) -> Vec<String> {
    let command = Cli::command();
    let arguments = command.get_subcommands().flat_map(Command::get_arguments);
    let known = arguments.filter_map(|argument| argument.get_env());
    let known: BTreeSet<_> = known.chain(WITHOUT_FLAG.map(OsStr::new)).collect();
    let others = variables.iter().filter(|(name, _)| !known.contains(name.as_os_str()));
    others
        .map(|(name, value)| (name.to_string_lossy(), value.to_string_lossy()))
        .filter(|(name, value)| name.starts_with(OWN_PREFIX) && !is_injected(name, value))
        .map(|(name, _)| name.into_owned())
        .collect()
}

/// Whether Kubernetes, or Docker for a link, sets this variable to the address of a service. The variables of
/// a Service whose name begins with hypersender-grpc have our prefix. Their names end in `_SERVICE_HOST`,
/// `_SERVICE_PORT`, `_SERVICE_PORT_<NAME>`, `_PORT`, `_PORT_<NUMBER>_<PROTOCOL>`, or the latter with
/// `_PROTO`, `_PORT` or `_ADDR`.
fn is_injected(name: &str, value: &str) -> bool {
    let is_port = |text: &str| text.parse::<u16>().is_ok();
    let is_ip = |text: &str| text.parse::<IpAddr>().is_ok();
    let is_protocol = |text: &str| matches!(text, "tcp" | "udp" | "sctp");
    let is_url = value.split_once("://").is_some_and(|(protocol, address)| {
        let (ip, port) = address.rsplit_once(':').unwrap_or_default();
        is_protocol(protocol) && is_port(port) && is_ip(ip.trim_matches(['[', ']']))
    });
    // Whether the name ends in the number and protocol of a port, such as _PORT_50051_TCP.
    let is_of_port = |name: &str| {
        let mut words = name.rsplit('_');
        let protocol = words.next().unwrap_or_default().to_ascii_lowercase();
        is_protocol(&protocol) && words.next().is_some_and(is_port) && words.next() == Some("PORT")
    };
    if name.contains("_SERVICE_PORT_") || name.ends_with("_SERVICE_PORT") {
        return is_port(value);
    }
    match name.rsplit_once('_') {
        Some((service, "HOST")) => service.ends_with("_SERVICE") && is_ip(value),
        Some((port, "PROTO")) => is_of_port(port) && is_protocol(value),
        Some((port, "ADDR")) => is_of_port(port) && is_ip(value),
        Some((port, "PORT")) => is_url || is_of_port(port) && is_port(value),
        _ => is_of_port(name) && is_url,
    }
}
