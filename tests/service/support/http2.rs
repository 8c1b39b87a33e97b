//! [`Http2`]: Hypersender over HTTP/2, frame by frame, so that it can end streams and connections as servers do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::DOCUMENTED_ABSENCE;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;
const PREFACE_BYTES: usize = 24;
/// `:status: 200` in HPACK.
const STATUS_OK: u8 = 0x88;

/// What the server does to requests.
#[derive(Clone, Copy, Debug)]
pub enum Habit {
    /// It answers them all.
    Answers,
    /// It answers so many of a connection, says GOAWAY with the id of the last one, and ignores the others, as nginx does
    /// with `keepalive_requests`.
    GoesAwayAfter(usize),
    /// It refuses the first so many, of all connections, and answers the others.
    Refuses(usize),
}

/// An HTTP/2 server on a loopback port. Dropped, it cuts its connections.
pub struct Http2 {
    port: u16,
    seen: Arc<Seen>,
    task: AbortHandle,
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Seen>::default();
        let task = tokio::spawn(listen(listener, tls, habit, seen.clone())).abort_handle();
        Self { port, seen, task }
    }

    /// What to configure as the root of the API.
    pub fn base_url(&self) -> String {
        https(self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Requests that came, answered or not.
    pub fn requests(&self) -> usize {
        self.seen.requests.load(SeqCst)
    }

    /// Requests that were answered.
    pub fn answered(&self) -> usize {
        self.seen.answered.load(SeqCst)
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The root of an API on `port`; by its name, since certificates are for names.
pub fn https(port: u16) -> String {
    format!("https://localhost:{port}/api/whatsapp/v2")
}

async fn listen(listener: TcpListener, tls: TlsAcceptor, habit: Habit, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (tls, seen) = (tls.clone(), seen.clone());
        connections.spawn(async move {
            let stream = tls.accept(socket).await.ok()?;
            converse(stream, habit, &seen).await
        });
    }
}

/// Reads frames until either side ends the connection.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, habit: Habit, seen: &Seen) -> Option<()> {
    stream.read_exact(&mut [0; PREFACE_BYTES]).await.ok()?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.ok()?;
    let mut of_connection = 0;
    loop {
        let (kind, flags, id, payload) = read(&mut stream).await?;
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

/// What is sent for a request, the `number`th of its connection.
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
        // Time for requests beyond the last one to be sent.
        tokio::time::sleep(Duration::from_millis(300)).await;
        reply.extend(goaway(id));
    }
    reply
}

/// A graceful one.
fn goaway(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}
