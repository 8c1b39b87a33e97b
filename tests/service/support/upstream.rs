//! [`Upstream`]: Hypersender as a script. It controls every byte of HTTP/1.1 and knows nothing about the API.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use super::{Listener, patiently};

/// One response of the script.
#[derive(Clone, Debug)]
pub struct Reply {
    head: String,
    body: Vec<u8>,
    delay: Duration,
    held: bool,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The response, and then the next request.
    Open,
    /// The response, and then the end of the connection, which no header announces.
    Close,
    /// The head and half of the body.
    Half,
    /// No response, on a connection that stays open.
    Hang,
    /// No response, and a reset of the connection.
    Reset,
}

impl Reply {
    /// A JSON body.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::typed(status, "application/json", body.into())
    }

    /// The JSON body that most failures have.
    pub fn status(status: u16) -> Self {
        Self::json(status, r#"{"message":"Upstream speaks."}"#)
    }

    /// An HTML page in place of JSON.
    pub fn html(status: u16) -> Self {
        let page = b"<!DOCTYPE html>\n<html><body>Upstream speaks.</body></html>\n";
        Self::typed(status, "text/html; charset=utf-8", page.to_vec())
    }

    /// A status line without headers and body.
    pub fn empty(status: u16) -> Self {
        Self::raw(format!("HTTP/1.1 {status} Scripted\r\n\r\n"))
    }

    /// The answer with a picture at `link`.
    pub fn picture(link: &str) -> Self {
        let head = r#"{"message":"Profile picture retrieved successfully.","data":{"#;
        Self::json(200, format!(r#"{head}"profilePictureURL":"{link}"}}}}"#))
    }

    /// These bytes, in place of the head and the body.
    pub fn raw(bytes: impl Into<String>) -> Self {
        Self { head: bytes.into(), body: Vec::new(), delay: Duration::ZERO, held: false, end: End::Open }
    }

    /// No response, on a connection that stays open.
    pub fn hang() -> Self {
        Self { end: End::Hang, ..Self::raw("") }
    }

    /// The end of the connection without a response.
    pub fn cut() -> Self {
        Self::raw("").closing()
    }

    /// A reset of the connection without a response.
    pub fn reset() -> Self {
        Self { end: End::Reset, ..Self::raw("") }
    }

    fn typed(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        Self { body, ..Self::raw(head) }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let end = self.head.find("\r\n").expect("a status line ends") + 2;
        self.head.insert_str(end, &format!("{name}: {value}\r\n"));
        self
    }

    /// Ends the connection after half of the body.
    pub fn half(self) -> Self {
        Self { end: End::Half, ..self }
    }

    /// Ends the connection after the response.
    pub fn closing(self) -> Self {
        Self { end: End::Close, ..self }
    }

    /// Delays the response.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Holds the response until [`Upstream::release`] is called.
    pub fn held(self) -> Self {
        Self { held: true, ..self }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// In the order of the request, with names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    /// The value of the header `name`, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// A scripted REST API on a loopback port. Dropping it cuts its connections.
pub struct Upstream {
    root: String,
    script: Arc<Script>,
    _listener: Listener,
}

struct Script {
    reply: Box<dyn Fn(&Asked) -> Reply + Send + Sync>,
    asked: watch::Sender<Vec<Asked>>,
    released: watch::Sender<bool>,
    connections: AtomicUsize,
}

impl Upstream {
    /// Answers with `replies`, one after the other, counted over all connections. The last one is repeated.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_with(in_turn(replies.into_iter().collect()), None).await
    }

    /// The same over TLS.
    pub async fn start_tls(replies: impl IntoIterator<Item = Reply>, tls: ServerConfig) -> Self {
        Self::start_with(in_turn(replies.into_iter().collect()), Some(Arc::new(tls).into())).await
    }

    /// Answers each request with the `reply` to it.
    pub async fn answering(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(reply, None).await
    }

    async fn start_with(
        reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let script = Arc::new(Script {
            reply: Box::new(reply),
            asked: watch::Sender::default(),
            released: watch::Sender::default(),
            connections: AtomicUsize::new(0),
        });
        let (scripted, is_tls) = (script.clone(), tls.is_some());
        let serve = move |socket| {
            scripted.connections.fetch_add(1, Ordering::SeqCst);
            accept(socket, tls.clone(), scripted.clone())
        };
        let listener = Listener::start(serve).await;
        // With TLS the URL contains a name, because certificates are for names. Without TLS it does not: the
        // name may also have an IPv6 address, on which no server listens.
        let host = if is_tls { "https://localhost" } else { "http://127.0.0.1" };
        let root = format!("{host}:{}", listener.port());
        Self { root, script, _listener: listener }
    }

    /// The root of the API, for the configuration of the service.
    pub fn base_url(&self) -> String {
        format!("{}/api/whatsapp/v2", self.root)
    }

    /// Scheme, host and port.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.script.asked.borrow().clone()
    }

    /// The number of requests so far.
    pub fn calls(&self) -> usize {
        self.script.asked.borrow().len()
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.script.connections.load(Ordering::SeqCst)
    }

    /// Waits until `calls` requests have arrived.
    pub async fn called(&self, calls: usize) {
        let mut asked = self.script.asked.subscribe();
        let enough = asked.wait_for(|asked| asked.len() >= calls);
        patiently("a call of upstream", enough).await.unwrap();
    }

    /// Sends the responses that are held. Later ones are not held.
    pub fn release(&self) {
        self.script.released.send_replace(true);
    }
}

/// A script that ignores the requests.
fn in_turn(replies: VecDeque<Reply>) -> impl Fn(&Asked) -> Reply {
    let replies = Mutex::new(replies);
    move |_| {
        let mut replies = replies.lock().unwrap();
        if replies.len() > 1 {
            return replies.pop_front().unwrap();
        }
        replies.front().expect("a script has a reply").clone()
    }
}

/// A connection that can be reset.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

async fn accept(socket: TcpStream, tls: Option<TlsAcceptor>, script: Arc<Script>) -> Option<()> {
    match tls {
        None => converse(socket, &script).await,
        // In some tests the client rejects the certificate.
        Some(tls) => converse(tls.accept(socket).await.ok()?, &script).await,
    }
}

/// Answers requests until either side ends the connection.
async fn converse(stream: impl Stream, script: &Script) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let asked = read(&mut stream).await?;
        let reply = (script.reply)(&asked);
        script.asked.send_modify(|all| all.push(asked));
        if reply.held {
            script.released.subscribe().wait_for(|released| *released).await.ok()?;
        }
        tokio::time::sleep(reply.delay).await;
        let body = if reply.end == End::Half { &reply.body[..reply.body.len() / 2] } else { &reply.body };
        stream.write_all(&[reply.head.as_bytes(), body].concat()).await.ok()?;
        stream.flush().await.ok()?;
        match reply.end {
            End::Open => {}
            End::Close | End::Half => return stream.shutdown().await.ok(),
            End::Hang => std::future::pending().await,
            End::Reset => return stream.get_ref().socket().set_zero_linger().ok(),
        }
    }
}

/// Reads the next request. Returns `None` when the connection ends first.
async fn read(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first()?.split(' ').map(str::to_owned);
    let header = |line: &String| {
        let (name, value) = line.split_once(": ").expect("a header has a name and a value");
        (name.to_ascii_lowercase(), value.to_owned())
    };
    let headers: Vec<_> = lines[1..].iter().map(header).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked { method: first.next()?, target: first.next()?, headers, body })
}
