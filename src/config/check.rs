//! From values as given to settings that hold, or to all of their faults.

use std::{collections::BTreeSet, ffi::OsStr, fmt};

use clap::{Command, CommandFactory};
use secrecy::SecretString;

use super::{
    Settings, Upstream, Variables,
    flags::{Cli, ServeFlags},
    given::Given,
};
use crate::{server, stack, telemetry};

const API_KEY: &str = "HYPERSENDER_WHATSAPP_API_KEY";
const API_KEY_FILE: &str = "HYPERSENDER_WHATSAPP_API_KEY_FILE";
const OWN_PREFIX: &str = "HYPERSENDER_GRPC_";

/// Everything that is wrong with the settings, each by its names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} setting{plural} at fault")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

impl Faults {
    /// The value, or a stand-in for it that is never used, since a fault is noted.
    fn take<T: Default>(&mut self, id: &str, given: Given<T>) -> T {
        self.take_any(id, Some(given)).unwrap_or_default()
    }

    /// The value, if there is one and it can be read.
    fn take_any<T>(&mut self, id: &str, given: Option<Given<T>>) -> Option<T> {
        let noted = given?.0.map_err(|fault| self.note(&names(id), &fault));
        noted.ok()
    }

    fn note(&mut self, name: &str, fault: &str) {
        self.0.push(format!("{name}: {fault}"));
    }
}

/// Flag and variable of a setting of `serve`, from its one definition.
fn names(id: &str) -> String {
    let command = Cli::command();
    let serve = command.find_subcommand("serve").expect("serve is a subcommand");
    let setting = serve.get_arguments().find(|argument| argument.get_id() == id);
    let setting = setting.expect("every setting is an argument of serve");
    let flag = setting.get_long().unwrap_or(id);
    match setting.get_env() {
        Some(variable) => format!("--{flag} ({})", variable.display()),
        None => format!("--{flag}"),
    }
}

/// The command line without the variables that are set but empty: those count as unset.
#[must_use]
pub fn without_empty_variables(command: Command, variables: &Variables) -> Command {
    let is_empty = |name: &OsStr| {
        let mut empty = variables.iter().filter(|(_, value)| value.is_empty());
        empty.any(|(variable, _)| variable == name)
    };
    command.mut_subcommands(|subcommand| {
        subcommand.mut_args(|argument| match argument.get_env() {
            Some(name) if is_empty(name) => argument.env(None::<&str>),
            _ => argument,
        })
    })
}

/// Variables that look like settings of this service and are none: a slip of the pen, as a rule.
#[must_use]
pub fn unknown_variables(variables: &Variables) -> Vec<String> {
    let command = Cli::command();
    let arguments = command.get_subcommands().flat_map(Command::get_arguments);
    let known: BTreeSet<_> = arguments.filter_map(|argument| argument.get_env()).collect();
    let names = variables.iter().map(|(name, _)| name.as_os_str());
    names
        .filter(|name| !known.contains(name))
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with(OWN_PREFIX))
        .collect()
}

/// See [`ServeFlags::check`].
pub fn serve(flags: ServeFlags, variables: &Variables) -> Result<(Settings, telemetry::Settings), Faults> {
    let mut faults = Faults::default();
    let log = telemetry::Settings {
        format: faults.take_any("log_format", flags.logs.log_format),
        filter: faults.take("log", flags.logs.log).into(),
    };
    let listen = faults.take_any("listen", Some(flags.server.listen));
    let upstream = upstream(flags.hypersender, variables, &mut faults);
    let deadline = faults.take("deadline", flags.server.deadline);
    let attempt_timeout = faults.take("attempt_timeout", flags.attempts.attempt_timeout);
    let stack = stack::Settings {
        cache: stack::CacheSettings {
            ttl: faults.take("cache_ttl", flags.cache.cache_ttl),
            absent_ttl: faults.take("cache_absent_ttl", flags.cache.cache_absent_ttl),
            entries: faults.take("cache_entries", flags.cache.cache_entries),
            ..Default::default()
        },
        flights: stack::FLIGHTS_MAX,
        retry: stack::RetrySettings { attempts: faults.take("attempts", flags.attempts.attempts) },
    };
    match (listen, upstream) {
        (Some(listen), Some(upstream)) if faults.0.is_empty() => {
            let settings = Settings {
                listen,
                upstream,
                attempt_timeout,
                stack,
                deadline,
                server: server::Settings::default(),
            };
            Ok((settings, log))
        }
        _ => Err(faults),
    }
}

fn upstream(
    flags: super::flags::HypersenderFlags,
    variables: &Variables,
    faults: &mut Faults,
) -> Option<Upstream> {
    let sandbox = faults.take("sandbox", flags.sandbox);
    let allow_http = faults.take("allow_http", flags.allow_http);
    let base_url = faults.take_any("base_url", Some(flags.base_url));
    let default_instance = faults.take_any("instance", flags.instance);
    if let Some(url) = &base_url
        && url.scheme() == "http"
        && !allow_http
        && !stack::is_loopback(url)
    {
        let fault = "the token would travel in the clear; use https, or allow it by --allow-http";
        faults.note(&names("base_url"), fault);
    }
    if sandbox {
        return Some(Upstream::Sandbox);
    }
    let token = token(variables).map_err(|(name, fault)| faults.note(name, &fault));
    Some(Upstream::Hypersender { base_url: base_url?, token: token.ok()?, default_instance })
}

/// The API key, from its variable or its file. Neither it nor the file's content stands in a fault.
fn token(variables: &Variables) -> Result<SecretString, (&'static str, String)> {
    let find = |wanted: &str| {
        let set = variables.iter().find(|(name, value)| name == wanted && !value.is_empty());
        set.map(|(_, value)| value)
    };
    let (name, text) = match (find(API_KEY), find(API_KEY_FILE)) {
        (Some(_), Some(_)) => {
            return Err((API_KEY, format!("given twice, here and by {API_KEY_FILE}")));
        }
        (None, None) => {
            let fault = format!("not set, nor is {API_KEY_FILE}; only --sandbox needs no token");
            return Err((API_KEY, fault));
        }
        (Some(value), None) => (API_KEY, value.to_string_lossy().into_owned()),
        (None, Some(path)) => match std::fs::read_to_string(path) {
            Ok(text) => (API_KEY_FILE, text),
            Err(error) => return Err((API_KEY_FILE, format!("cannot read the file ({error})"))),
        },
    };
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err((name, "a token is visible ASCII characters without blanks".to_owned()));
    }
    Ok(SecretString::from(token))
}
