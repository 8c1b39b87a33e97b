//! [`Upstream`]: Hypersender as a script. It knows HTTP/1.1 to the byte and nothing of what the answers mean.

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
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use super::patiently;

/// One answer of the script.
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
    /// The answer, and then the next request.
    Open,
    /// The answer, and then the end of the connection, of which no header told.
    Close,
    /// The head and half of the body.
    Half,
    /// No answer, and the connection stays open.
    Hang,
    /// No answer, and a reset of the connection.
    Reset,
}

impl Reply {
    /// A JSON body.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::typed(status, "application/json", body.into())
    }

    /// The body that most failures have.
    pub fn status(status: u16) -> Self {
        Self::json(status, r#"{"message":"Upstream speaks."}"#)
    }

    /// A page where an API should be.
    pub fn html(status: u16) -> Self {
        let page = b"<!DOCTYPE html>\n<html><body>Upstream speaks.</body></html>\n";
        Self::typed(status, "text/html; charset=utf-8", page.to_vec())
    }

    /// A status line without anything.
    pub fn empty(status: u16) -> Self {
        Self::raw(format!("HTTP/1.1 {status} Scripted\r\n\r\n"))
    }

    /// A picture behind `link`.
    pub fn picture(link: &str) -> Self {
        let head = r#"{"message":"Profile picture retrieved successfully.","data":{"#;
        Self::json(200, format!(r#"{head}"profilePictureURL":"{link}"}}}}"#))
    }

    /// These bytes, head included.
    pub fn raw(bytes: impl Into<String>) -> Self {
        Self { head: bytes.into(), body: Vec::new(), delay: Duration::ZERO, held: false, end: End::Open }
    }

    /// No answer for ever.
    pub fn hang() -> Self {
        Self { end: End::Hang, ..Self::raw("") }
    }

    /// The end of the connection without a byte of an answer.
    pub fn cut() -> Self {
        Self::raw("").closing()
    }

    /// The same by a reset.
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

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let end = self.head.find("\r\n").expect("a status line ends") + 2;
        self.head.insert_str(end, &format!("{name}: {value}\r\n"));
        self
    }

    /// The head, half of the body, and the end of the connection.
    pub fn half(self) -> Self {
        Self { end: End::Half, ..self }
    }

    /// All of it, and then the end of the connection.
    pub fn closing(self) -> Self {
        Self { end: End::Close, ..self }
    }

    /// So much later.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// Once [`Upstream::release`] is called.
    pub fn held(self) -> Self {
        Self { held: true, ..self }
    }
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// In their order, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A scripted REST API on a loopback port. Dropped, it cuts its connections.
pub struct Upstream {
    root: String,
    script: Arc<Script>,
    task: AbortHandle,
}

struct Script {
    replies: Mutex<VecDeque<Reply>>,
    asked: watch::Sender<Vec<Asked>>,
    released: watch::Sender<bool>,
    connections: AtomicUsize,
}

impl Upstream {
    /// Answers with `replies`, one after the other, over all connections; the last one again and again.
    pub async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_with(replies, None).await
    }

    /// The same over TLS.
    pub async fn start_tls(replies: impl IntoIterator<Item = Reply>, tls: ServerConfig) -> Self {
        Self::start_with(replies, Some(Arc::new(tls).into())).await
    }

    async fn start_with(replies: impl IntoIterator<Item = Reply>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Script {
            replies: Mutex::new(replies.into_iter().collect()),
            asked: watch::Sender::default(),
            released: watch::Sender::default(),
            connections: AtomicUsize::new(0),
        });
        // Certificates are for names, and a name may have an IPv6 address too, where nobody listens.
        let root = match tls {
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://{address}"),
        };
        let task = tokio::spawn(listen(listener, tls, script.clone())).abort_handle();
        Self { root, script, task }
    }

    /// What to configure as the root of the API.
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

    /// How many requests came.
    pub fn calls(&self) -> usize {
        self.script.asked.borrow().len()
    }

    /// How many connections came.
    pub fn connections(&self) -> usize {
        self.script.connections.load(Ordering::SeqCst)
    }

    /// Returns once `calls` requests have come.
    pub async fn called(&self, calls: usize) {
        let mut asked = self.script.asked.subscribe();
        let enough = asked.wait_for(|asked| asked.len() >= calls);
        patiently("a call of upstream", enough).await.unwrap();
    }

    /// Lets go of the replies that are held, now and later.
    pub fn release(&self) {
        self.script.released.send_replace(true);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Script {
    fn next(&self) -> Reply {
        let mut replies = self.replies.lock().unwrap();
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

async fn listen(listener: TcpListener, tls: Option<TlsAcceptor>, script: Arc<Script>) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        script.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, script) = (tls.clone(), script.clone());
        connections.spawn(async move {
            match tls {
                None => converse(socket, &script).await,
                // A client that turns away from the certificate is what some tests want.
                Some(tls) => match tls.accept(socket).await {
                    Ok(stream) => converse(stream, &script).await,
                    Err(_) => None,
                },
            }
        });
    }
}

/// Answers requests until either side ends the connection.
async fn converse(stream: impl Stream, script: &Script) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let asked = read(&mut stream).await?;
        let reply = script.next();
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

/// The next request, or `None` when the connection ends before it.
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
