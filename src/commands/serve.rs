//! `serve`: the process of the service. It reads the settings, starts the runtime, connects the parts of the
//! service, and serves until a signal stops it.

mod avatars;
mod listen;
mod open_files;
mod service_manager;
mod signals;
mod upstream;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    panic,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anstream::{AutoStream, ColorChoice};
use tokio::net::TcpListener;
use tracing::{error, info, warn};

use self::{
    avatars::{Avatars, Shared},
    listen::{listen, listen_free},
    signals::Certificate,
};
use super::{fail_config, tell};
use crate::{
    config::{
        Faults, ServeFlags, Settings, Upstream, Variables, names, store_faults, unknown_variables,
        unused_proxy_variables,
    },
    domain::TokenOwner,
    grpc::{Contacts, Health, Streams, methods},
    sandbox::Sandbox,
    server::{self, Admin, Leaving, LongCalls, Stop, Tls},
    stack::{self, Clock, Proxy, Store, StorePlace, StoreSettings},
    telemetry::{self, EndTime, Metrics, Traces, chain},
};

/// Why the service does not serve.
enum Failed {
    /// The store can never work with its settings.
    Store(Faults),
    /// The system refuses something, such as a port.
    Io(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Checks the settings and serves. The exit code says whether the service stopped as it was asked to.
pub fn run(flags: ServeFlags, variables: &Variables) -> ExitCode {
    let (mut settings, log) = match flags.check(variables) {
        Ok(settings) => settings,
        Err(faults) => return fail_config(faults),
    };
    telemetry::start(log, colour());
    log_panics();
    for variable in unknown_variables(variables) {
        warn!(variable, "no such setting");
    }
    let others = unused_proxy_variables(variables).join(" ");
    let is_direct = settings.attempt.proxy.is_none() && !matches!(settings.upstream, Upstream::Sandbox);
    if is_direct && !others.is_empty() {
        warn!(variables = others, "set for a proxy and not used; see {}", names("upstream_proxy"));
    }
    if let Upstream::Hypersender { base_url, .. } = &settings.upstream
        && settings.attempt.proxy.is_some()
        && !Proxy::is_used_for(base_url)
    {
        warn!(
            "the base URL is http on this machine, so the proxy is not used; see {}",
            names("upstream_proxy")
        );
    }
    // The limit of open files is set before the runtime starts, because the runtime opens files itself.
    let limited = open_files::keep_within(&mut settings);
    let runtime = limited.and_then(|()| tokio::runtime::Builder::new_multi_thread().enable_all().build());
    let served = runtime.map_err(Failed::Io).and_then(|runtime| {
        let served = runtime.block_on(serve(settings, variables));
        // A name resolution cannot be cancelled, and dropping the runtime would wait for it.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Store(faults)) => fail_config(faults),
        Err(Failed::Io(error)) => {
            error!(error = chain(&error), "cannot serve");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings, variables: &Variables) -> Result<(), Failed> {
    let server = settings.server;
    service_manager::keep_watchdog();
    // Signals are handled first, so that a signal that arrives before the port is open also stops the
    // service.
    signals::survive_large_files()?;
    let stop = signals::stop()?;
    let mut metrics = Metrics::new(&methods());
    let stop = announced(stop, server.drain_wait, server.drain_timeout, metrics.drain.clone());
    // The port of the avatars shares the certificates of the server.
    let certificate = server.tls.clone().map(|tls| Certificate::new(tls, metrics.with_certificate()));
    signals::reload_on_hangup(server.callers.clone(), certificate)?;
    let (base_url, credentials, sandbox) = upstream::start(settings.upstream).await?;
    let credentials = Arc::new(credentials);
    let traces = settings.traces.map(|traces| Traces::start(traces, &methods()));
    let traces = traces.transpose().map_err(io::Error::other)?;
    let clock = Clock::system();
    let upstream = stack::Upstream::new(base_url, settings.attempt, clock, metrics.lookups.clone())
        .map_err(io::Error::other)?;
    let store = open_store(settings.store, &mut metrics, variables).await?;
    let (_, lookup) = stack::stack(settings.stack, clock, &metrics.lookups, store.as_ref(), upstream);
    let streams = Streams::new(settings.streams, metrics.many.clone());
    let avatars = settings.avatars.map(|avatars| Avatars::open(avatars, sandbox.as_ref())).transpose()?;
    let avatar_address = avatars.as_ref().and_then(|avatars| avatars.avatar_address(clock));
    let contacts = Contacts::new(
        lookup.clone(),
        credentials.clone(),
        streams.clone(),
        metrics.many.clone(),
        avatar_address,
    );
    let leaving = Leaving::new();
    let long_calls = LongCalls { health: Health::serving().await, streams, leaving: leaving.clone() };

    let listener = listen(settings.listen, "listen")?;
    let admin = settings.admin_listen.map(|wanted| listen_free(wanted, "admin_listen", sandbox.is_some()));
    let admin = admin.transpose()?;
    let ports = Ports {
        grpc: listener.local_addr()?,
        admin: admin.as_ref().map(TcpListener::local_addr).transpose()?,
        avatars: avatars.as_ref().map(|avatars| (avatars.address(), avatars.page())),
    };
    let calls = metrics.calls.clone();
    let avatars = avatars.map(|avatars| {
        let shared = Shared {
            clock,
            credentials,
            callers: server.callers.clone(),
            metrics: metrics.with_avatars(),
            drain_timeout: server.drain_timeout,
            leaving,
        };
        avatars.start(lookup, shared, sandbox.as_ref())
    });
    // The admin port stays open until the drain is over.
    let _admin = admin.map(|listener| Admin::start(listener, metrics, long_calls.health.clone()));
    announce(&ports, &server, sandbox.as_ref());
    service_manager::ready();
    server::serve(listener, contacts, server, long_calls, calls, traces.clone(), stop).await;
    if let Some(avatars) = avatars {
        // It has learned of the stop, and a panic in it is logged where it happens.
        let _ = avatars.await;
    }
    if let Some(store) = store {
        store.close().await;
    }
    if let Some(traces) = traces {
        traces.stop().await;
    }
    info!("stopped");
    Ok(())
}

/// Waits for the stop, and reports the time of the drain to the service manager and the metrics.
async fn announced(stop: impl Future<Output = Stop>, wait: Duration, time: Duration, end: EndTime) -> Stop {
    let stop = stop.await;
    let drain = match stop {
        Stop::Orderly => wait + time,
        Stop::Prompt => time,
    };
    service_manager::stopping(drain);
    end.set(SystemTime::now() + drain);
    stop
}

/// Connects to the store, if there is one.
async fn open_store(
    store: Option<StoreSettings>,
    metrics: &mut Metrics,
    variables: &Variables,
) -> Result<Option<Store>, Failed> {
    let Some(store) = store else { return Ok(None) };
    warn_of_plain_store(&store);
    let opened = Store::open(store.clone(), metrics.with_store()).await;
    opened.map(Some).map_err(|unusable| Failed::Store(store_faults(&unusable, &store, variables)))
}

/// The ports that are open.
struct Ports {
    grpc: SocketAddr,
    admin: Option<SocketAddr>,
    /// The port of the avatars, and its own root as a URL.
    avatars: Option<(SocketAddr, String)>,
}

/// Logs the ports and warns of those that are exposed. With a sandbox, it prints what to try.
fn announce(ports: &Ports, server: &server::Settings, sandbox: Option<&Sandbox>) {
    if let Some(address) = ports.admin {
        info!(%address, "admin listening");
    }
    if let Some((address, _)) = ports.avatars {
        info!(%address, "avatars listening");
    }
    let address = ports.grpc;
    info!(%address, "listening");
    if !address.ip().is_loopback() {
        warn_of_exposure(address, server);
    }
    if let Some((address, _)) = ports.avatars
        && !address.ip().is_loopback()
        && server.tls.is_none()
        && server.callers.as_ref().is_some_and(|callers| callers.known().has_tokens())
    {
        warn!(
            %address,
            "no TLS: the tokens of callers travel in the clear to the port of the avatars; see {}",
            names("tls_cert")
        );
    }
    if let Some(sandbox) = sandbox {
        greet(sandbox, ports, server);
    }
}

/// Warns of a port that other machines can reach without authentication, or with tokens in plain text.
fn warn_of_exposure(address: SocketAddr, server: &server::Settings) {
    let has_tokens = server.callers.as_ref().is_some_and(|callers| callers.known().has_tokens());
    if server.callers.is_none() && !server.tls.as_ref().is_some_and(Tls::requires_client_certificates) {
        warn!(%address, "no callers file: everyone who reaches this address may call");
    }
    if server.tls.is_none() && (has_tokens || server.token_owner == TokenOwner::Caller) {
        warn!(%address, "no TLS: the tokens of callers travel in the clear; see {}", names("tls_cert"));
    }
}

/// Warns of a store whose password would cross a network in plain text.
fn warn_of_plain_store(store: &StoreSettings) {
    match &store.place {
        StorePlace::Server(server) if !server.tls && !server.is_this_machine() => {
            if server.password.is_some() {
                warn!("no TLS: the password of the store travels in the clear; see {}", names("store"));
            } else {
                warn!(
                    "no TLS and no password: everyone who reaches the store can change its turns; see {}",
                    names("store")
                );
            }
        }
        StorePlace::Server(_) | StorePlace::File { .. } => {}
    }
}

/// Prints what a person can try with the sandbox. What only that person knows is in capitals.
fn greet(sandbox: &Sandbox, ports: &Ports, server: &server::Settings) {
    let has_tokens = server.callers.as_ref().is_some_and(|callers| callers.known().has_tokens());
    let token = match server.token_owner {
        TokenOwner::Caller => format!("-H 'authorization: Bearer {}' ", Sandbox::TOKEN),
        TokenOwner::Server if has_tokens => "-H 'authorization: Bearer TOKEN' ".to_owned(),
        TokenOwner::Server => String::new(),
    };
    let transport = match &server.tls {
        None => "-plaintext",
        Some(tls) if tls.requires_client_certificates() => "-insecure -cert CERT.pem -key KEY.pem",
        Some(_) => "-insecure",
    };
    let address = reachable(ports.grpc);
    let upstream = sandbox.address();
    let page = ports.avatars.as_ref().map(|(_, page)| format!("Open {page} in a browser, or try:"));
    let invitation = page.unwrap_or_else(|| "Try:".to_owned());
    let metrics = ports
        .admin
        .map(reachable)
        .map(|admin| format!("Metrics: curl http://{admin}/metrics\n"))
        .unwrap_or_default();
    tell(format_args!(
        "hypersender-grpc listens on {} and asks its sandbox, not WhatsApp. {invitation}

  grpcurl {transport} {token}-d '{{\"chat_id\":\"15551230001\"}}' {address} hypersender.contact.v1.ContactService/GetProfilePicture

More numbers to try: hypersender-grpc sandbox --help
Look-ups that reached the sandbox: curl http://{upstream}/_sandbox/calls
{metrics}",
        ports.grpc
    ));
}

/// The address as a client on this machine dials it: one that stands for all addresses becomes loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Whether the log on standard error has colours. The rules are those of clap's help: NO_COLOR, CLICOLOR,
/// CLICOLOR_FORCE and TERM.
fn colour() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Logs where a panic happened, but not its message, which may contain a token, a number or a link.
fn log_panics() {
    panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map(ToString::to_string);
        error!(place, "panicked");
    }));
}
