//! [`Relay`]: the way to a server, which a test can cut.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// Connections that lead to a server. While it is cut, new ones are closed at once.
pub struct Relay {
    port: u16,
    is_cut: Arc<AtomicBool>,
    cut: Arc<Notify>,
    accepts: JoinHandle<()>,
}

impl Relay {
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_cut, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let (is_closed, end) = (is_cut.clone(), cut.clone());
        let accepts = tokio::spawn(async move {
            loop {
                let (mut inward, _) = listener.accept().await.unwrap();
                if is_closed.load(Relaxed) {
                    continue;
                }
                let end = end.clone();
                tokio::spawn(async move {
                    let Ok(mut outward) = TcpStream::connect(("127.0.0.1", server)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut inward, &mut outward) => {}
                        () = end.notified() => {}
                    }
                });
            }
        });
        Self { port, is_cut, cut, accepts }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn cut(&self) {
        self.is_cut.store(true, Relaxed);
        self.cut.notify_waiters();
    }

    pub fn mend(&self) {
        self.is_cut.store(false, Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}
