//! `serve`: puts the rooms together and serves until told to stop.

use std::{
    hash::RandomState,
    io,
    net::{Ipv4Addr, SocketAddr},
    panic,
    process::{self, ExitCode},
};

use anstream::{AutoStream, ColorChoice};
use secrecy::SecretString;
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use tonic::service::{LayerExt, Routes};
use tower::{Layer, ServiceBuilder};
use tracing::{error, info, warn};
use url::Url;

use super::{
    fail_config,
    open_files::{OpenFiles, Share},
    tell,
};
use crate::{
    config::{ServeFlags, Settings, Upstream, Variables, names, unknown_variables, unused_proxy_variables},
    domain::{Credential, Instance, TokenOwner},
    grpc::{Contacts, Credentials, GET_PROFILE_PICTURE, Health, methods, reflection},
    sandbox::Sandbox,
    server::{
        self, Admin, Callers, CallersLayer, DeadlineLayer, DiscardLayer, Edge, Leaving, MessageLayer,
        ObserveLayer, OverloadLayer, Paths, Stop, Tls,
    },
    stack::{self, Clock, Proxy},
    telemetry::{self, Metrics, Traces, chain},
};

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
    // Before the runtime, which opens files itself.
    let limited = within_open_files(&mut settings);
    let runtime = limited.and_then(|()| tokio::runtime::Builder::new_multi_thread().enable_all().build());
    let served = runtime.and_then(|runtime| {
        let served = runtime.block_on(serve(settings));
        // A name that is being resolved cannot be given up; dropped, the runtime would wait for it.
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = chain(&error), "cannot serve");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> io::Result<()> {
    // Listened for from the start: a signal that comes before the port is open stops the service too.
    let stop = stop_signal()?;
    reload_on_hangup(settings.callers.clone(), settings.tls.clone())?;
    let clock = Clock::system();
    let (base_url, credentials, sandbox) = upstream(settings.upstream).await?;
    let metrics = Metrics::new(&methods());
    let traces = settings.traces.map(|traces| Traces::start(traces, &methods()));
    let traces = traces.transpose().map_err(io::Error::other)?;
    let upstream = stack::Upstream::new(base_url, settings.attempt, clock, metrics.lookups.clone())
        .map_err(io::Error::other)?;
    let (_, lookup) = stack::stack(settings.stack, clock, &metrics.lookups, upstream);

    let (health, health_service) = Health::serving().await;
    let leaving = Leaving::new();
    let open_to_all = settings.callers.is_none();
    let has_tokens = settings.callers.as_ref().is_some_and(|callers| callers.known().has_tokens());
    let tokens_in_clear =
        settings.tls.is_none() && (has_tokens || settings.token_owner == TokenOwner::Caller);
    let front = ServiceBuilder::new()
        // Whoever is not known has nothing spent on the call.
        .layer(CallersLayer::new(settings.callers, settings.token_owner))
        // The message must come in time, too.
        .layer(DeadlineLayer::new(settings.deadline))
        .layer(MessageLayer::default())
        // A call that is only announced takes no place from others.
        .layer(OverloadLayer::new(settings.in_flight));
    let mut others = Routes::new(health_service);
    if settings.reflection {
        let (current, alpha) = reflection();
        others = others.add_service(leaving.named_layer(current)).add_service(leaving.named_layer(alpha));
    }
    let service = front.service(Contacts::new(lookup, credentials));
    let calls = Edge::new(Paths { path: GET_PROFILE_PICTURE, service, others: others.prepare() });
    let calls = ObserveLayer::new(metrics.calls.clone(), traces.clone()).layer(calls);
    // Outermost, so that it holds for every answer that comes before the end of its request.
    let calls = DiscardLayer::default().layer(calls);

    let listener = listen(settings.listen, "listen")?;
    let address = listener.local_addr()?;
    let admin = admin_listener(settings.admin_listen, sandbox.is_some())?;
    let admin_address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
    // Open until the drain is over.
    let _admin = admin.map(|listener| Admin::start(listener, metrics, health.clone()));
    if let Some(address) = admin_address {
        info!(%address, "admin listening");
    }
    info!(%address, "listening");
    if open_to_all && !address.ip().is_loopback() {
        warn!(%address, "no callers file: whoever reaches this address may ask");
    }
    if tokens_in_clear && !address.ip().is_loopback() {
        warn!(%address, "no TLS: the tokens of callers travel in the clear; see {}", names("tls_cert"));
    }
    if let Some(sandbox) = &sandbox {
        greet(sandbox, address, admin_address, settings.token_owner);
    }
    server::serve(listener, settings.tls, calls, health, leaving, stop, settings.server).await;
    if let Some(traces) = traces {
        traces.stop().await;
    }
    info!("stopped");
    Ok(())
}

/// Connections that wait to be accepted. The usual 128 are filled by one burst of clients that come back, or of silent
/// peers, and whoever comes then waits a second for its next try. The system may know a lower limit.
const BACKLOG: u32 = 4096;

/// Listens on `address`, which the setting `id` names.
fn listen(address: SocketAddr, id: &str) -> io::Result<TcpListener> {
    let listening = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // As of every server that is started again on its port: connections of the last one may still be closing.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listening().map_err(|error| {
        let text = format!("cannot listen on {address}: {error}; see {}", names(id));
        io::Error::new(error.kind(), text)
    })
}

/// A service that nobody can watch must not run by mistake. With the sandbox nobody does, and whoever tries it out may have
/// a Prometheus on the same machine, with this very port: then another port will do.
fn admin_listener(wanted: Option<SocketAddr>, sandbox: bool) -> io::Result<Option<TcpListener>> {
    let Some(wanted) = wanted else { return Ok(None) };
    match listen(wanted, "admin_listen") {
        Err(error) if sandbox && error.kind() == io::ErrorKind::AddrInUse => {
            warn!(error = chain(&error), "the admin port is taken, a free one will do for the sandbox");
            listen(SocketAddr::new(wanted.ip(), 0), "admin_listen").map(Some)
        }
        bound => bound.map(Some),
    }
}

/// Where to ask and as whom; the stand-in stops when it is dropped.
async fn upstream(upstream: Upstream) -> io::Result<(Url, Credentials, Option<Sandbox>)> {
    // Tells credentials apart within this process, and in no other.
    let hasher = RandomState::new();
    let credential = |token: SecretString| Credential::new(token, &hasher);
    match upstream {
        Upstream::Hypersender { base_url, tokens, default_instance } => {
            let by_instance = tokens.by_instance.into_iter();
            let credentials = Credentials {
                by_instance: by_instance.map(|(instance, token)| (instance, credential(token))).collect(),
                any: tokens.any.map(credential),
                default_instance,
            };
            Ok((base_url, credentials, None))
        }
        Upstream::Sandbox => {
            let sandbox = Sandbox::start((Ipv4Addr::LOCALHOST, 0).into()).await?;
            let base_url = Url::parse(&sandbox.base_url()).expect("the sandbox knows its own address");
            let instance = Instance::parse(Sandbox::INSTANCE).expect("it is a UUID");
            let credentials = Credentials {
                any: Some(credential(Sandbox::TOKEN.into())),
                default_instance: Some(instance),
                ..Credentials::default()
            };
            Ok((base_url, credentials, Some(sandbox)))
        }
    }
}

fn greet(sandbox: &Sandbox, address: SocketAddr, admin: Option<SocketAddr>, token_owner: TokenOwner) {
    let token = match token_owner {
        TokenOwner::Server => String::new(),
        TokenOwner::Caller => format!("-H 'authorization: Bearer {}' ", Sandbox::TOKEN),
    };
    let upstream = sandbox.address();
    let metrics = admin.map(|admin| format!("Metrics: curl http://{admin}/metrics\n")).unwrap_or_default();
    tell(format_args!(
        "hypersender-grpc listens on {address} and asks its sandbox, not WhatsApp. Try:

  grpcurl -plaintext {token}-d '{{\"chat_id\":\"15551230001\"}}' {address} hypersender.contact.v1.ContactService/GetProfilePicture

More numbers to try: hypersender-grpc sandbox --help
What the sandbox was asked: curl http://{upstream}/_sandbox/calls
{metrics}"
    ));
}

/// Whether standard error is to have colours: by the same rules as clap's help, which are those of NO_COLOR, CLICOLOR,
/// CLICOLOR_FORCE and TERM.
fn colour() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Says where a panic happened, and not what it says: that may hold what a log must not.
fn log_panics() {
    panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map(ToString::to_string);
        error!(place, "panicked");
    }));
}

/// Keeps connections and attempts below the limit of open files, beyond which nothing could be accepted or asked.
///
/// # Errors
///
/// When the limit is too low for anything.
fn within_open_files(settings: &mut Settings) -> io::Result<()> {
    let sandbox = matches!(settings.upstream, Upstream::Sandbox);
    let (connections, attempts) =
        (&mut settings.server.connections, &mut settings.stack.concurrency.attempts);
    let wanted = Share { connections: *connections, attempts: *attempts };
    let share = OpenFiles::raise(wanted, sandbox).map_err(io::Error::other)?.share(wanted, sandbox);
    if share != wanted {
        let Share { connections, attempts } = share;
        warn!(
            connections,
            attempts, "fewer connections or attempts than set: the limit of open files is low"
        );
    }
    (*connections, *attempts) = (share.connections, share.attempts);
    Ok(())
}

/// Reads again, at each SIGHUP, what can change while the service runs.
fn reload_on_hangup(callers: Option<Callers>, tls: Option<Tls>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let (callers, tls) = (callers.clone(), tls.clone());
            // It reads files; how it went is in the log.
            let _ = tokio::task::spawn_blocking(move || reload(callers.as_ref(), tls.as_ref())).await;
        }
    });
    Ok(())
}

fn reload(callers: Option<&Callers>, tls: Option<&Tls>) {
    match callers.map(Callers::reload) {
        None => {}
        Some(Ok(callers)) => info!(callers, "read the callers file again"),
        Some(Err(faults)) => {
            for fault in faults {
                warn!(fault, "kept the callers that were read before");
            }
        }
    }
    match tls.map(Tls::reload) {
        None => {}
        Some(Ok(())) => info!("read the certificates again"),
        Some(Err(fault)) => warn!(fault = fault.text, "kept the certificates that were read before"),
    }
    if callers.is_none() && tls.is_none() {
        info!("nothing to read again");
    }
}

/// Resolves at the first SIGTERM or SIGINT. A second one ends the process at once.
fn stop_signal() -> io::Result<impl Future<Output = Stop>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let first = next(&mut terminate, &mut interrupt).await;
        // Nobody listens once the server is down; then the process is ending anyway.
        let _ = stop.send(first);
        next(&mut terminate, &mut interrupt).await;
        warn!("stopped at once by a second signal");
        process::exit(1);
    });
    Ok(async { stopped.await.unwrap_or(Stop::Prompt) })
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> Stop {
    tokio::select! {
        _ = terminate.recv() => Stop::Orderly,
        _ = interrupt.recv() => Stop::Prompt,
    }
}
