//! [`Proxy`]: stands between the store and its server, and cuts or alters what passes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

/// A proxy on a port of its own. Its tasks end with the runtime of the test.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    /// The server's port for new connections.
    to: Arc<AtomicUsize>,
    /// How many of the next replies are cut in the middle.
    cuts: Arc<AtomicUsize>,
    /// How many connections there were.
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    /// A proxy in front of the server at this port.
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let (to, cuts, connections) =
            (Arc::new(AtomicUsize::from(usize::from(port))), Arc::default(), Arc::default());
        let proxy = Self { port: listener.local_addr().unwrap().port(), to, cuts, connections };
        let (to, cuts, connections) = (proxy.to.clone(), proxy.cuts.clone(), proxy.connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                connections.fetch_add(1, SeqCst);
                let port = u16::try_from(to.load(SeqCst)).unwrap();
                tokio::spawn(pass(client, port, cuts.clone()));
            }
        });
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads new connections to another server.
    pub fn lead_to(&self, port: u16) {
        self.to.store(usize::from(port), SeqCst);
    }

    /// Cuts the next replies in the middle, and closes their connections.
    pub fn cut(&self, replies: usize) {
        self.cuts.store(replies, SeqCst);
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

async fn pass(client: TcpStream, port: u16, cuts: Arc<AtomicUsize>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
    let mut reply = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from_server.read(&mut reply).await {
        let is_cut = cuts.fetch_update(SeqCst, SeqCst, |cuts| cuts.checked_sub(1)).is_ok();
        let passed = if is_cut { read / 2 } else { read };
        if to_client.write_all(&reply[..passed]).await.is_err() || is_cut {
            break;
        }
    }
    requests.abort();
}
