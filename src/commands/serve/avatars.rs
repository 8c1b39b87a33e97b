//! The avatars: their port, their addresses for gRPC, and the parts that answer browsers.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use aws_lc_rs::rand;
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

use super::listen::listen_free;
use crate::{
    avatars::{
        self, AddressKey, Addresses, Fetcher, Mode, Parts, Pictures, PortSettings, SandboxNumber, Settings,
    },
    config,
    domain::Instance,
    grpc::{AvatarAddress, Credentials},
    sandbox::Sandbox,
    server::{Callers, Leaving, Tls},
    stack::{Clock, LookupService, Stack},
    telemetry::AvatarMetrics,
};

/// The avatars with an open port that is not served yet.
pub struct Avatars {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    connections: usize,
    settings: Settings,
    addresses: Addresses,
    fetcher: Option<Fetcher>,
}

/// The parts that the avatars share with the rest of the service.
pub struct Shared {
    pub clock: Clock,
    pub credentials: Arc<Credentials>,
    pub callers: Option<Callers>,
    pub metrics: Arc<AvatarMetrics>,
    pub drain_timeout: Duration,
    pub leaving: Leaving,
}

impl Avatars {
    /// Opens the port. With a sandbox, a root and a key that are not set are made, and images are downloaded
    /// from the sandbox alone.
    ///
    /// # Errors
    ///
    /// When the port cannot be opened, or nothing can be downloaded on this machine.
    pub fn open(wanted: config::Avatars, sandbox: Option<&Sandbox>) -> io::Result<Self> {
        let config::Avatars { listen, tls, connections, mut settings } = wanted;
        let listener = listen_free(listen, "avatars_listen", sandbox.is_some())?;
        let address = listener.local_addr()?;
        if let Some(sandbox) = sandbox {
            let own = Url::parse(&own_root(address, tls.is_some())).expect("an address makes a URL");
            settings.root.get_or_insert(own);
            if settings.keys.is_empty() {
                settings.keys.push(random_key()?);
            }
            let origin = format!("http://{}", sandbox.address());
            settings.picture_hosts = origin.parse().expect("an address makes an origin");
        }
        let fetcher = match settings.mode {
            Mode::Bytes => Some(Fetcher::new(settings.picture_hosts.clone()).map_err(io::Error::other)?),
            Mode::Redirect => None,
        };
        let addresses = settings.addresses();
        Ok(Self { listener, address, tls, connections, settings, addresses, fetcher })
    }

    /// The address of the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root of the port as a URL, which shows the page of a sandbox.
    pub fn page(&self) -> String {
        own_root(self.address, self.tls.is_some())
    }

    /// Makes the addresses that gRPC hands out, or `None` where it hands out none.
    pub fn avatar_address(&self, clock: Clock) -> Option<AvatarAddress> {
        self.settings.root.as_ref()?;
        let addresses = self.addresses.clone();
        Some(AvatarAddress::new(move |instance, chat| addresses.url(instance, chat, clock.now().wall)))
    }

    /// Serves the port in a task of its own, which ends when the server leaves.
    pub fn start<F: LookupService>(
        self,
        stack: Stack<F>,
        shared: Shared,
        sandbox: Option<&Sandbox>,
    ) -> JoinHandle<()> {
        let Shared { clock, credentials, callers, metrics, drain_timeout, leaving } = shared;
        let parts = Parts {
            pictures: Pictures::new(&self.settings, stack, clock, self.fetcher, metrics.clone()),
            addresses: self.addresses,
            credentials,
            callers,
            clock,
            metrics,
            sandbox: sandbox.map(page_of),
        };
        let settings = PortSettings { tls: self.tls, connections: self.connections, drain_timeout };
        tokio::spawn(avatars::serve(self.listener, avatars::routes(parts), settings, leaving))
    }
}

/// The sandbox that the page shows and controls.
fn page_of(sandbox: &Sandbox) -> avatars::Sandbox {
    avatars::Sandbox {
        control: sandbox.address(),
        instance: Instance::parse(Sandbox::INSTANCE).expect("it is a UUID"),
        numbers: Sandbox::numbers().map(|(number, about)| SandboxNumber { number, about }).collect(),
    }
}

fn own_root(address: SocketAddr, is_encrypted: bool) -> String {
    let scheme = if is_encrypted { "https" } else { "http" };
    format!("{scheme}://{address}/")
}

fn random_key() -> io::Result<AddressKey> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(AddressKey::new(bytes))
}
