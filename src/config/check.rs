//! From values as given to settings that hold, or to all of their faults.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    Settings, Tokens, Upstream, Variables, authorities,
    callers::{self, Proofs},
    faults::{Faults, names},
    flags::{AttemptFlags, CacheFlags, HypersenderFlags, LimitFlags, ServeFlags, ServerFlags},
    given::Given,
    instances, proxy, traces,
    variables::{API_KEY, API_KEY_FILE, api_key, is_set, variable},
};
use crate::{
    domain::{Instance, TokenOwner},
    server::{self, Tls, TlsSettings},
    stack, telemetry,
};

/// See [`ServeFlags::check`].
pub fn serve(flags: ServeFlags, variables: &Variables) -> Result<(Settings, telemetry::Settings), Faults> {
    let mut faults = Faults::of("serve");
    let log = telemetry::Settings {
        format: faults.take_any("log_format", flags.logs.log_format),
        filter: faults.take("log", flags.logs.log).into(),
    };
    let token_owner = faults.take_any("credentials", Some(flags.hypersender.credentials.clone()));
    let (ports, server) = server(flags.server, token_owner, &mut faults);
    let proxy = faults.take_any("upstream_proxy", flags.hypersender.upstream_proxy.clone());
    let attempt = stack::UpstreamSettings {
        attempt_timeout: faults.take("attempt_timeout", flags.attempts.attempt_timeout.clone()),
        retry_after_max: faults.take("retry_after_max", flags.attempts.retry_after_max.clone()),
        link_hosts: faults.take("link_hosts", flags.hypersender.link_hosts.clone()),
        proxy: proxy::with_auth(proxy, flags.hypersender.upstream_proxy.is_some(), variables, &mut faults),
    };
    let upstream = upstream(flags.hypersender, token_owner, variables, &mut faults);
    let stack = stack(flags.cache, flags.attempts, flags.limits, &mut faults);
    let traces = traces(variables, &mut faults);
    match (ports, upstream) {
        (Some((listen, admin_listen)), Some(upstream)) => {
            let settings = Settings { listen, admin_listen, upstream, attempt, stack, server, traces };
            faults.unless_any(Some((settings, log)))
        }
        _ => faults.unless_any(None),
    }
}

/// The two ports, and the settings of the server.
fn server(
    flags: ServerFlags,
    token_owner: Option<TokenOwner>,
    faults: &mut Faults,
) -> (Option<(SocketAddr, Option<SocketAddr>)>, server::Settings) {
    let listen = faults.take_any("listen", Some(flags.listen));
    let admin_listen = faults.take("admin_listen", flags.admin_listen);
    let deadline = faults.take("deadline", flags.deadline);
    let reflection = faults.take("reflection", flags.reflection);
    let in_flight = faults.take("in_flight", flags.in_flight);
    let proofs = Proofs {
        tokens: token_owner != Some(TokenOwner::Caller),
        certificates: flags.tls_client_ca.is_some(),
    };
    let callers_file = faults.take_any("callers_file", flags.callers_file);
    let callers = callers_file.and_then(|file| callers(file, proofs, faults));
    let age = faults.take("connection_age", flags.connection_age);
    let files =
        [("tls_cert", flags.tls_cert), ("tls_key", flags.tls_key), ("tls_client_ca", flags.tls_client_ca)];
    let settings = server::Settings {
        callers,
        // Without it, its fault is noted.
        token_owner: token_owner.unwrap_or_default(),
        deadline,
        in_flight,
        reflection,
        connections: faults.take("connections", flags.connections),
        connection_age: (!age.is_zero()).then_some(age),
        drain_wait: faults.take("drain_wait", flags.drain_wait),
        drain_timeout: faults.take("drain_timeout", flags.drain_timeout),
        tls: tls(files, faults),
    };
    (listen.map(|listen| (listen, admin_listen)), settings)
}

/// Encryption, from the files of certificate, key and client authorities.
fn tls(files: [(&str, Option<Given<PathBuf>>); 3], faults: &mut Faults) -> Option<Tls> {
    let given = files.each_ref().map(|(_, path)| path.is_some());
    let [cert, key, client_ca] = files.map(|(id, path)| faults.take_any(id, path));
    match given {
        [false, false, false] => None,
        [true, true, _] => {
            if client_ca.is_some() != given[2] {
                return None;
            }
            let tls = Tls::new(TlsSettings { cert: cert?, key: key?, client_ca });
            tls.map_err(|fault| faults.note(&names(&format!("tls_{}", fault.setting)), &fault.text)).ok()
        }
        [cert, key, _] => {
            let (missing, given) = match (cert, key) {
                (true, _) => ("tls_key", "tls_cert"),
                (false, true) => ("tls_cert", "tls_key"),
                (false, false) => ("tls_cert", "tls_client_ca"),
            };
            faults.require(missing, given);
            None
        }
    }
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
    if let Some(url) = &base_url
        && url.scheme() == "https"
        && let Some(fault) = authorities::missing()
    {
        faults.note_of("base_url", &fault);
    }
    let instances_file = match flags.instances_file {
        Some(path) => Some(faults.take_any("instances_file", Some(path))?),
        None => None,
    };
    let instances_file = instances_file.as_deref();
    let tokens = match token_owner {
        Some(TokenOwner::Caller) => Some(no_tokens(variables, instances_file, faults)),
        Some(TokenOwner::Server) => tokens(variables, instances_file, default_instance.as_ref(), faults),
        // What is missing and what is too much follows from it.
        None => None,
    };
    Some(Upstream::Hypersender { base_url: base_url?, tokens: tokens?, default_instance })
}

fn traces(variables: &Variables, faults: &mut Faults) -> Option<telemetry::TraceSettings> {
    let read = traces::read(|name| variable(variables, name));
    let noted = read.map_err(|all| all.into_iter().for_each(|(name, fault)| faults.note(name, &fault)));
    noted.ok().flatten()
}

/// Each call brings its token, so that one given here would never be used, or worse, be used for whoever calls.
fn no_tokens(variables: &Variables, file: Option<&Path>, faults: &mut Faults) -> Tokens {
    let key = [API_KEY, API_KEY_FILE].into_iter().filter(|name| is_set(variables, name));
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
        if key.is_none() && !faults.is_noted(API_KEY) {
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
