//! [`Relay`]: a TCP relay whose open connections can stop without a FIN or an RST, while new ones work.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// The fate of the bytes on a dead connection.
#[derive(Clone, Copy, Debug)]
pub enum Death {
    /// They are acknowledged and discarded, like by a proxy that hangs.
    Swallows,
    /// They are not read, like by a frozen peer.
    Freezes,
}

/// A relay on a loopback port. Dropping it cuts its connections.
pub struct Relay {
    port: u16,
    /// The number of calls of [`Relay::kill`].
    deaths: watch::Sender<usize>,
    connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Relay {
    /// Forwards connections to the port `to` of this machine.
    pub async fn start(to: u16, death: Death) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (deaths, connections) = (watch::Sender::new(0), Arc::<AtomicUsize>::default());
        let pass = pass_on(listener, to, death, deaths.clone(), connections.clone());
        Self { port, deaths, connections, task: tokio::spawn(pass).abort_handle() }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes all open connections die. Later connections work.
    pub fn kill(&self) {
        self.deaths.send_modify(|deaths| *deaths += 1);
    }

    /// The number of connections that were accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass_on(
    listener: TcpListener,
    to: u16,
    death: Death,
    deaths: watch::Sender<usize>,
    connections: Arc<AtomicUsize>,
) {
    let mut tasks = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        connections.fetch_add(1, SeqCst);
        let mut killed = deaths.subscribe();
        tasks.spawn(async move {
            let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {
                    let _ = near.shutdown().await;
                }
                _ = killed.changed() => match death {
                    Death::Freezes => std::future::pending().await,
                    Death::Swallows => swallow(&mut near).await,
                },
            }
        });
    }
}

async fn swallow(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(1..) = stream.read(&mut bytes).await {}
    std::future::pending::<()>().await;
}
