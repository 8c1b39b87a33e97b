//! The check of the settings of `serve`: it turns the values that are given into settings that fit together,
//! or returns all of their faults.

use std::{net::SocketAddr, path::PathBuf};

use super::{
    Settings, Variables, avatars,
    callers::{self, Proofs},
    faults::Faults,
    flags::{AttemptFlags, CacheFlags, LimitFlags, ServeFlags, ServerFlags},
    given::Given,
    proxy, store, traces, upstream,
    variables::variable,
};
use crate::{
    domain::TokenOwner,
    grpc::StreamSettings,
    server::{self, Tls, TlsFile, TlsSettings},
    stack, telemetry,
};

/// The settings of `serve`; see [`ServeFlags::check`].
pub fn serve(flags: &ServeFlags, variables: &Variables) -> Result<(Settings, telemetry::Settings), Faults> {
    let mut faults = Faults::default();
    let log = telemetry::Settings {
        format: faults.take(&flags.logs.log_format),
        filter: faults.take(&flags.logs.log).into(),
    };
    let token_owner = faults.take_valid(&flags.hypersender.credentials);
    let (ports, server) = server(&flags.server, token_owner, &mut faults);
    let attempt = stack::UpstreamSettings {
        attempt_timeout: faults.take(&flags.attempts.attempt_timeout),
        retry_after_max: faults.take(&flags.attempts.retry_after_max),
        link_hosts: faults.take(&flags.hypersender.link_hosts),
        proxy: proxy::with_auth(&flags.hypersender.upstream_proxy, variables, &mut faults),
    };
    let streams = StreamSettings {
        all: faults.take(&flags.server.streams),
        per_instance: faults.take(&flags.server.streams_per_instance),
    };
    let upstream = upstream::read(&flags.hypersender, token_owner, variables, &mut faults);
    let link_hosts = attempt.link_hosts.clone();
    let stack = stack(&flags.cache, &flags.attempts, &flags.limits, link_hosts, &mut faults);
    let store = store::read(&flags.store, variables, &mut faults);
    let others = avatars::Others {
        listen: ports.map(|(listen, _)| listen),
        admin_listen: ports.and_then(|(_, admin_listen)| admin_listen),
        token_owner,
        tls: server.tls.as_ref(),
    };
    let avatars = avatars::read(flags, &others, variables, &mut faults);
    let traces = traces(variables, &mut faults);
    match (ports, upstream) {
        (Some((listen, admin_listen)), Some(upstream)) => {
            let settings = Settings {
                listen,
                admin_listen,
                upstream,
                attempt,
                stack,
                store,
                streams,
                server,
                avatars,
                traces,
            };
            faults.unless_any(Some((settings, log)))
        }
        _ => faults.unless_any(None),
    }
}

/// The two ports, and the settings of the server.
fn server(
    flags: &ServerFlags,
    token_owner: Option<TokenOwner>,
    faults: &mut Faults,
) -> (Option<(SocketAddr, Option<SocketAddr>)>, server::Settings) {
    let listen = faults.take_valid(&flags.listen);
    let admin_listen = faults.take(&flags.admin_listen);
    let proofs = Proofs {
        tokens: token_owner != Some(TokenOwner::Caller),
        certificates: flags.tls_client_ca.is_given(),
    };
    let deadline = faults.take(&flags.deadline);
    let reflection = faults.take(&flags.reflection);
    let in_flight = faults.take(&flags.in_flight);
    let callers = callers(&flags.callers_file, proofs, faults);
    let age = faults.take(&flags.connection_age);
    let settings = server::Settings {
        callers,
        // If the value is missing, its fault is already noted, and this default is never used.
        token_owner: token_owner.unwrap_or_default(),
        deadline,
        in_flight,
        reflection,
        connections: faults.take(&flags.connections),
        connection_age: (!age.is_zero()).then_some(age),
        drain_wait: faults.take(&flags.drain_wait),
        drain_timeout: faults.take(&flags.drain_timeout),
        tls: tls(flags, faults),
    };
    (listen.map(|listen| (listen, admin_listen)), settings)
}

/// Encryption, from the files of certificate, key and client authorities.
fn tls(flags: &ServerFlags, faults: &mut Faults) -> Option<Tls> {
    let files = [&flags.tls_cert, &flags.tls_key, &flags.tls_client_ca];
    let [cert, key, client_ca] = files.map(|file| faults.take(file));
    match files.map(Given::is_given) {
        [false, false, false] => None,
        [true, true, with_client_ca] => {
            if client_ca.is_some() != with_client_ca {
                return None;
            }
            let tls = Tls::new(TlsSettings { cert: cert?, key: key?, client_ca });
            let noted = tls.map_err(|fault| {
                let given = match fault.file {
                    TlsFile::Cert => &flags.tls_cert,
                    TlsFile::Key => &flags.tls_key,
                    TlsFile::ClientCa => &flags.tls_client_ca,
                };
                faults.note(&given.name, fault.text);
            });
            noted.ok()
        }
        [cert, key, _] => {
            let (missing, given) = match (cert, key) {
                (true, _) => (&flags.tls_key, &flags.tls_cert),
                (false, true) => (&flags.tls_cert, &flags.tls_key),
                (false, false) => (&flags.tls_cert, &flags.tls_client_ca),
            };
            faults.require(missing, given);
            None
        }
    }
}

fn stack(
    cache: &CacheFlags,
    attempts: &AttemptFlags,
    limits: &LimitFlags,
    link_hosts: stack::LinkHosts,
    faults: &mut Faults,
) -> stack::Settings {
    stack::Settings {
        cache: stack::CacheSettings {
            ttl: faults.take(&cache.cache_ttl),
            absent_ttl: faults.take(&cache.cache_absent_ttl),
            entries: faults.take(&cache.cache_entries),
            bytes: usize::try_from(faults.take(&cache.cache_bytes).as_u64()).unwrap_or(usize::MAX),
            stale_while_revalidate: faults.take(&cache.stale_while_revalidate),
            stale_if_error: faults.take(&cache.stale_if_error),
            refresh_floor: faults.take(&cache.refresh_floor),
            link_margin: faults.take(&cache.link_margin),
            link_hosts,
        },
        flights: faults.take(&limits.flights),
        retry: stack::RetrySettings {
            attempts: faults.take(&attempts.attempts),
            budget: faults.take(&attempts.retry_budget),
        },
        breaker: stack::BreakerSettings { failures: faults.take(&limits.breaker_failures) },
        rate: stack::RateSettings {
            per_second: faults.take(&limits.rate),
            burst: faults.take(&limits.burst),
        },
        concurrency: stack::ConcurrencySettings { attempts: faults.take(&limits.upstream_concurrency) },
    }
}

/// The callers that the file names. While the service runs, the file is read again by the same rules.
fn callers(given: &Given<Option<PathBuf>>, proofs: Proofs, faults: &mut Faults) -> Option<server::Callers> {
    let file = faults.take(given)?;
    let callers = server::Callers::new(move || callers::read(&file, proofs));
    callers.map_err(|all| all.iter().for_each(|fault| faults.note(&given.name, fault))).ok()
}

fn traces(variables: &Variables, faults: &mut Faults) -> Option<telemetry::TraceSettings> {
    let read = traces::read(|name| variable(variables, name));
    read.map_err(|all| all.into_iter().for_each(|fault| faults.note_variable(fault))).ok().flatten()
}
