//! The signals of a running service: SIGTERM and SIGINT stop it, SIGHUP reads files again, and SIGXFSZ does
//! nothing.

use std::{io, process};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use tracing::{info, warn};

use super::service_manager;
use crate::{
    server::{Callers, Stop, Tls, TlsFault},
    telemetry::EndTime,
};

/// A certificate, and the metric with its end.
#[derive(Clone)]
pub struct Certificate {
    tls: Tls,
    end: EndTime,
}

impl Certificate {
    /// The certificate of a service that just starts.
    pub fn new(tls: Tls, end: EndTime) -> Self {
        end.set(tls.not_after());
        Self { tls, end }
    }

    fn reload(&self) -> Result<(), TlsFault> {
        self.tls.reload()?;
        self.end.set(self.tls.not_after());
        Ok(())
    }
}

/// SIGXFSZ, which has this number on Linux, except for MIPS, and on the BSDs and macOS.
const FILE_SIZE_EXCEEDED: i32 = 25;

/// Lets the write fail that would make a file larger than the limit of the process (`ulimit -f`), which is a
/// fault of the store (rule 56). Without a handler, the signal ends the process.
pub fn survive_large_files() -> io::Result<()> {
    // The handler stays when its receiver is dropped.
    signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED)).map(drop)
}

/// Reads the callers file and the certificates again at each SIGHUP.
pub fn reload_on_hangup(callers: Option<Callers>, certificate: Option<Certificate>) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let (callers, certificate) = (callers.clone(), certificate.clone());
            service_manager::reloading();
            // `reload` blocks while it reads files, so it runs on a thread for blocking work. It logs its
            // result itself.
            let reload = move || reload(callers.as_ref(), certificate.as_ref());
            let _ = tokio::task::spawn_blocking(reload).await;
            service_manager::ready();
        }
    });
    Ok(())
}

fn reload(callers: Option<&Callers>, certificate: Option<&Certificate>) {
    match callers.map(Callers::reload) {
        None => {}
        Some(Ok(callers)) => info!(callers, "read the callers file again"),
        Some(Err(faults)) => {
            for fault in faults {
                warn!(fault, "kept the callers that were read before");
            }
        }
    }
    match certificate.map(Certificate::reload) {
        None => {}
        Some(Ok(())) => info!("read the certificates again"),
        Some(Err(fault)) => warn!(fault = fault.text, "kept the certificates that were read before"),
    }
    if callers.is_none() && certificate.is_none() {
        info!("nothing to read again");
    }
}

/// Resolves at the first SIGTERM or SIGINT. A second one ends the process at once.
pub fn stop() -> io::Result<impl Future<Output = Stop>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let first = next(&mut terminate, &mut interrupt).await;
        // The receiver is dropped once the server has stopped; then the process is ending anyway.
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
