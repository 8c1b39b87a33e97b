//! [`Relay`]: a TCP relay whose open connections can stop without a FIN or an RST, while new ones work.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
    sync::watch,
};

use super::Listener;

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
    listener: Listener,
    /// The number of calls of [`Relay::kill`].
    deaths: watch::Sender<usize>,
    connections: Arc<AtomicUsize>,
}

impl Relay {
    /// Forwards connections to the port `to` of this machine.
    pub async fn start(to: u16, death: Death) -> Self {
        let (deaths, connections) = (watch::Sender::new(0), Arc::<AtomicUsize>::default());
        let (killed, count) = (deaths.clone(), connections.clone());
        let serve = move |near| {
            count.fetch_add(1, SeqCst);
            pass_on(near, to, death, killed.subscribe())
        };
        Self { listener: Listener::start(serve).await, deaths, connections }
    }

    pub fn port(&self) -> u16 {
        self.listener.port()
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

async fn pass_on(mut near: TcpStream, to: u16, death: Death, mut killed: watch::Receiver<usize>) {
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
}

async fn swallow(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(1..) = stream.read(&mut bytes).await {}
    std::future::pending::<()>().await;
}
