//! [`Listener`]: the port of a test double, and the connections to it.

use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
};

/// A free loopback port. Dropping it closes the port and cuts its connections.
pub struct Listener {
    port: u16,
    task: AbortHandle,
}

impl Listener {
    /// Accepts connections, and runs `serve` in a new task for each one.
    pub async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accept = async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream));
            }
        };
        Self { port, task: tokio::spawn(accept).abort_handle() }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}
