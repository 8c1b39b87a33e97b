//! [`Relay`]: the way to a server, which a test can cut.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Connections that lead to a server. While it is cut, new ones are closed at once.
pub struct Relay {
    port: u16,
    is_cut: watch::Sender<bool>,
    accepts: JoinHandle<()>,
}

impl Relay {
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (is_cut, cut) = watch::channel(false);
        let accepts = tokio::spawn(async move {
            loop {
                let (mut inward, _) = listener.accept().await.unwrap();
                // It also sees a cut that comes before its task first runs.
                let mut cut = cut.clone();
                if *cut.borrow_and_update() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut outward) = TcpStream::connect(("127.0.0.1", server)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut inward, &mut outward) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { port, is_cut, accepts }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}
