//! [`Http2`]: Hypersender over HTTP/2. It writes each frame by hand, so that it can end streams and
//! connections in the ways in which servers do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::{
    DOCUMENTED_ABSENCE, Listener,
    frames::{
        ACK, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
        frame, read,
    },
};

const REFUSED_STREAM: u32 = 7;
/// `:status: 200` in HPACK.
const STATUS_OK: u8 = 0x88;

/// The way in which the server treats requests.
#[derive(Clone, Copy, Debug)]
pub enum Habit {
    /// It answers all requests.
    Answers,
    /// It answers this number of requests on a connection, sends GOAWAY with the last one's identifier, and
    /// ignores the others, like nginx with `keepalive_requests`.
    GoesAwayAfter(usize),
    /// It refuses this number of requests, counted over all connections, and answers the others.
    Refuses(usize),
}

/// An HTTP/2 server on a loopback port. Dropping it cuts its connections.
pub struct Http2 {
    listener: Listener,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    answered: AtomicUsize,
}

impl Http2 {
    pub async fn start(mut tls: ServerConfig, habit: Habit) -> Self {
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(tls));
        let seen = Arc::<Seen>::default();
        let counts = seen.clone();
        let serve = move |socket| {
            let (tls, seen) = (tls.clone(), counts.clone());
            async move { converse(tls.accept(socket).await.ok()?, habit, &seen).await }
        };
        Self { listener: Listener::start(serve).await, seen }
    }

    /// The root of the API, for the configuration of the service.
    pub fn base_url(&self) -> String {
        https(self.port())
    }

    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// The number of requests that arrived, answered or not.
    pub fn requests(&self) -> usize {
        self.seen.requests.load(SeqCst)
    }

    /// The number of requests that were answered.
    pub fn answered(&self) -> usize {
        self.seen.answered.load(SeqCst)
    }
}

/// The root of an API on `port`. The URL contains a host name, because the certificates are for host names.
pub fn https(port: u16) -> String {
    format!("https://localhost:{port}/api/whatsapp/v2")
}

/// Reads frames until either side ends the connection.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, habit: Habit, seen: &Seen) -> Option<()> {
    stream.read_exact(&mut [0; PREFACE.len()]).await.ok()?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.ok()?;
    let mut of_connection = 0;
    loop {
        let Frame { kind, flags, stream: id, payload } = read(&mut stream).await.ok()?;
        let reply = match kind {
            SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(PING, ACK, 0, &payload),
            HEADERS => {
                of_connection += 1;
                request(habit, id, of_connection, seen).await
            }
            _ => continue,
        };
        stream.write_all(&reply).await.ok()?;
        stream.flush().await.ok()?;
    }
}

/// The frames that answer a request, which is the `number`th of its connection.
async fn request(habit: Habit, id: u32, number: usize, seen: &Seen) -> Vec<u8> {
    let earlier = seen.requests.fetch_add(1, SeqCst);
    let goes = match habit {
        Habit::Refuses(first) if earlier < first => {
            return frame(RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes());
        }
        Habit::GoesAwayAfter(0) => return goaway(0),
        Habit::GoesAwayAfter(most) if number > most => return Vec::new(),
        Habit::GoesAwayAfter(most) => number == most,
        Habit::Answers | Habit::Refuses(_) => false,
    };
    seen.answered.fetch_add(1, SeqCst);
    let mut reply = frame(HEADERS, END_HEADERS, id, &[STATUS_OK]);
    reply.extend(frame(DATA, END_STREAM, id, DOCUMENTED_ABSENCE.as_bytes()));
    if goes {
        // In this time the client sends requests after the last one that will be answered.
        tokio::time::sleep(Duration::from_millis(300)).await;
        reply.extend(goaway(id));
    }
    reply
}

/// A GOAWAY without an error.
fn goaway(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}
