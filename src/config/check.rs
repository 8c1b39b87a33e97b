//! From values as given to settings that hold, or to all of their faults.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory};
use secrecy::SecretString;

use super::{
    Settings, Tokens, Upstream, Variables,
    callers::{self, Proofs},
    flags::{AttemptFlags, CacheFlags, Cli, HypersenderFlags, LimitFlags, ServeFlags, ServerFlags},
    given::{Given, variable},
    instances::{self, read_file, token_from},
    proxy, traces,
};
use crate::{
    domain::{Instance, TokenOwner},
    server::{self, Tls, TlsSettings},
    stack, telemetry,
};

const API_KEY: &str = "HYPERSENDER_WHATSAPP_API_KEY";
const API_KEY_FILE: &str = "HYPERSENDER_WHATSAPP_API_KEY_FILE";
/// What `get` reads; the service may share its environment.
const CALLER_TOKEN: &str = "HYPERSENDER_GRPC_TOKEN";
const CALLER_TOKEN_FILE: &str = "HYPERSENDER_GRPC_TOKEN_FILE";
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
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "it cannot, for the settings there are")]
pub fn names(id: &str) -> String {
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
    let known = arguments.filter_map(|argument| argument.get_env());
    let known: BTreeSet<_> = known
        .chain([CALLER_TOKEN, CALLER_TOKEN_FILE, proxy::AUTH, proxy::AUTH_FILE].map(OsStr::new))
        .collect();
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
    let listen = faults.take_any("listen", Some(flags.server.listen.clone()));
    let admin_listen = faults.take("admin_listen", flags.server.admin_listen.clone());
    let deadline = faults.take("deadline", flags.server.deadline.clone());
    let reflection = faults.take("reflection", flags.server.reflection.clone());
    let in_flight = faults.take("in_flight", flags.server.in_flight.clone());
    let token_owner = faults.take_any("credentials", Some(flags.hypersender.credentials.clone()));
    let proofs = Proofs {
        tokens: token_owner != Some(TokenOwner::Caller),
        certificates: flags.server.tls_client_ca.is_some(),
    };
    let callers_file = flags.server.callers_file.clone();
    let callers = callers_file.and_then(|file| callers(file, proofs, &mut faults));
    let (server, tls) = server(flags.server, &mut faults);
    let proxy = flags.hypersender.upstream_proxy.clone();
    let proxy = proxy::read(proxy, &names("upstream_proxy"), variables);
    let attempt = stack::UpstreamSettings {
        attempt_timeout: faults.take("attempt_timeout", flags.attempts.attempt_timeout.clone()),
        retry_after_max: faults.take("retry_after_max", flags.attempts.retry_after_max.clone()),
        link_hosts: faults.take("link_hosts", flags.hypersender.link_hosts.clone()),
        proxy: proxy.map_err(|(name, fault)| faults.note(&name, &fault)).ok().flatten(),
    };
    let upstream = upstream(flags.hypersender, token_owner, variables, &mut faults);
    let stack = stack(flags.cache, flags.attempts, flags.limits, &mut faults);
    let traces = traces(variables, &mut faults);
    match (listen, token_owner, upstream) {
        (Some(listen), Some(token_owner), Some(upstream)) if faults.0.is_empty() => {
            let settings = Settings {
                listen,
                admin_listen,
                callers,
                token_owner,
                upstream,
                attempt,
                stack,
                deadline,
                in_flight,
                reflection,
                server,
                tls,
                traces,
            };
            Ok((settings, log))
        }
        _ => Err(faults),
    }
}

fn server(flags: ServerFlags, faults: &mut Faults) -> (server::Settings, Option<Tls>) {
    let age = faults.take("connection_age", flags.connection_age);
    let settings = server::Settings {
        connections: faults.take("connections", flags.connections),
        connection_age: (!age.is_zero()).then_some(age),
        drain_wait: faults.take("drain_wait", flags.drain_wait),
        drain_timeout: faults.take("drain_timeout", flags.drain_timeout),
    };
    let tls = match (flags.tls_cert, flags.tls_key, flags.tls_client_ca) {
        (None, None, None) => None,
        (Some(cert), Some(key), client_ca) => {
            let tls = Tls::new(TlsSettings { cert, key, client_ca });
            tls.map_err(|fault| faults.note(&names(&format!("tls_{}", fault.setting)), &fault.text)).ok()
        }
        (cert, key, _) => {
            let (missing, given) = match (cert, key) {
                (Some(_), None) => ("tls_key", "tls_cert"),
                (None, Some(_)) => ("tls_cert", "tls_key"),
                _ => ("tls_cert", "tls_client_ca"),
            };
            faults.note(&names(missing), &format!("not given, though {} is", names(given)));
            None
        }
    };
    (settings, tls)
}

fn stack(
    cache: CacheFlags,
    attempts: AttemptFlags,
    limits: LimitFlags,
    faults: &mut Faults,
) -> stack::Settings {
    stack::Settings {
        cache: stack::CacheSettings {
            ttl: faults.take("cache_ttl", cache.cache_ttl),
            absent_ttl: faults.take("cache_absent_ttl", cache.cache_absent_ttl),
            entries: faults.take("cache_entries", cache.cache_entries),
            bytes: usize::try_from(faults.take("cache_bytes", cache.cache_bytes).as_u64())
                .unwrap_or(usize::MAX),
            stale_while_revalidate: faults.take("stale_while_revalidate", cache.stale_while_revalidate),
            stale_if_error: faults.take("stale_if_error", cache.stale_if_error),
            refresh_floor: faults.take("refresh_floor", cache.refresh_floor),
            link_margin: faults.take("link_margin", cache.link_margin),
        },
        flights: faults.take("flights", limits.flights),
        retry: stack::RetrySettings {
            attempts: faults.take("attempts", attempts.attempts),
            budget: faults.take("retry_budget", attempts.retry_budget),
        },
        breaker: stack::BreakerSettings {
            failures: faults.take("breaker_failures", limits.breaker_failures),
        },
        rate: stack::RateSettings {
            per_second: faults.take("rate", limits.rate),
            burst: faults.take("burst", limits.burst),
        },
        concurrency: stack::ConcurrencySettings {
            attempts: faults.take("upstream_concurrency", limits.upstream_concurrency),
        },
    }
}

/// Who may call. The file is read anew by the same rules while the service runs.
fn callers(file: PathBuf, proofs: Proofs, faults: &mut Faults) -> Option<server::Callers> {
    let callers = server::Callers::new(move || callers::read(&file, proofs));
    let name = names("callers_file");
    match callers {
        Ok(callers) => Some(callers),
        Err(all) => {
            for fault in all {
                faults.note(&name, &fault);
            }
            None
        }
    }
}

fn upstream(
    flags: HypersenderFlags,
    token_owner: Option<TokenOwner>,
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
        let allow = names("allow_http");
        let fault = format!("the token would travel in the clear; use https, or allow it by {allow}");
        faults.note(&names("base_url"), &fault);
    }
    if sandbox {
        return Some(Upstream::Sandbox);
    }
    let instances_file = flags.instances_file.as_deref();
    let tokens = match token_owner {
        Some(TokenOwner::Caller) => Some(no_tokens(variables, instances_file, faults)),
        Some(TokenOwner::Server) => tokens(variables, instances_file, default_instance.as_ref(), faults),
        // What is missing and what is too much follows from it.
        None => None,
    };
    Some(Upstream::Hypersender { base_url: base_url?, tokens: tokens?, default_instance })
}

fn traces(variables: &Variables, faults: &mut Faults) -> Option<telemetry::TraceSettings> {
    let read = traces::read(|name| Some(variable(variables, name)?.to_string_lossy().into_owned()));
    let noted = read.map_err(|all| all.into_iter().for_each(|(name, fault)| faults.note(name, fault)));
    noted.ok().flatten()
}

/// Each call brings its token, so that one given here would never be used, or worse, be used for whoever calls.
fn no_tokens(variables: &Variables, file: Option<&Path>, faults: &mut Faults) -> Tokens {
    let key = [API_KEY, API_KEY_FILE].into_iter().filter(|name| variable(variables, name).is_some());
    let given = key.map(str::to_owned).chain(file.map(|_| names("instances_file")));
    for name in given {
        let credentials = names("credentials");
        faults.note(
            &name,
            &format!("must not be set with {credentials} passthrough: each call brings its token"),
        );
    }
    Tokens::default()
}

/// With an instances file, only what it names can be asked, and the default instance with the API key.
fn tokens(
    variables: &Variables,
    file: Option<&Path>,
    default: Option<&Instance>,
    faults: &mut Faults,
) -> Option<Tokens> {
    let key = match api_key(variables) {
        Ok(key) => key,
        Err((name, fault)) => {
            faults.note(name, &fault);
            None
        }
    };
    let Some(file) = file else {
        if key.is_none() && !faults.0.iter().any(|fault| fault.starts_with(API_KEY)) {
            let fault = format!(
                "not set, nor is {API_KEY_FILE} or {}; only --sandbox needs no token",
                names("instances_file")
            );
            faults.note(API_KEY, &fault);
        }
        return Some(Tokens { any: key, by_instance: Vec::new() });
    };
    let name = names("instances_file");
    let mut by_instance = match instances::read(file) {
        Ok(tokens) => tokens,
        Err(all) => {
            for fault in all {
                faults.note(&name, &fault);
            }
            return None;
        }
    };
    let listed = |instance: &Instance| by_instance.iter().any(|(known, _)| known == instance);
    match (key, default) {
        (Some(_), Some(default)) if listed(default) => {
            let fault = format!(
                "the token of the default instance is given twice, here and by {name}; set one of them"
            );
            faults.note(API_KEY, &fault);
        }
        (Some(key), Some(default)) => by_instance.push((default.clone(), key)),
        (Some(_), None) => {
            let fault = format!("of no use: with {name} it is the token of {} alone", names("instance"));
            faults.note(API_KEY, &fault);
        }
        (None, Some(default)) if !listed(default) => {
            faults.note(
                &names("instance"),
                &format!("has no token: {name} does not name it, and {API_KEY} is not set"),
            );
        }
        (None, _) => {}
    }
    Some(Tokens { any: None, by_instance })
}

fn api_key(variables: &Variables) -> Result<Option<SecretString>, (&'static str, String)> {
    token(variables, API_KEY, API_KEY_FILE)
}

/// The token that `get` shows to the service as its caller.
///
/// # Errors
///
/// What is wrong with which variable.
pub fn caller_token(variables: &Variables) -> Result<Option<SecretString>, String> {
    token(variables, CALLER_TOKEN, CALLER_TOKEN_FILE).map_err(|(name, fault)| format!("{name}: {fault}"))
}

/// A token, from its variable or its file. Neither it nor the file's content stands in a fault.
fn token(
    variables: &Variables,
    name: &'static str,
    file_name: &'static str,
) -> Result<Option<SecretString>, (&'static str, String)> {
    let (name, token) = match (variable(variables, name), variable(variables, file_name)) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err((name, format!("given twice, here and by {file_name}; set one of them")));
        }
        (Some(value), None) => (name, token_from(&value.to_string_lossy())),
        (None, Some(path)) => (file_name, read_file(path.as_ref()).and_then(|text| token_from(&text))),
    };
    token.map(Some).map_err(|fault| (name, fault))
}
