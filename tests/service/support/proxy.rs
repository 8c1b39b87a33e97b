//! [`Proxy`]: an egress proxy that records its requests and forwards every connection to one port.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

use super::Listener;

/// The protocol between a client and the proxy.
#[derive(Clone)]
pub enum Speech {
    Http,
    Https(Arc<ServerConfig>),
    Socks,
}

/// A proxy on a loopback port. Dropping it cuts its connections.
pub struct Proxy {
    listener: Listener,
    told: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Forwards every connection to the port `to`, or answers it with `refusal` if there is one.
    pub async fn start(speech: Speech, to: u16, refusal: Option<&'static str>) -> Self {
        let told = Arc::<Mutex<Vec<String>>>::default();
        let notes = told.clone();
        let serve = move |socket| pass(socket, speech.clone(), to, refusal, notes.clone());
        Self { listener: Listener::start(serve).await, told }
    }

    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// The requests, one for each connection: the head of a CONNECT, or the user, the password and the host
    /// of a SOCKS request, separated by spaces.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

async fn pass(
    socket: TcpStream,
    speech: Speech,
    to: u16,
    refusal: Option<&'static str>,
    told: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let note = |text| told.lock().unwrap().push(text);
    match speech {
        Speech::Http => connect(socket, to, refusal, note).await,
        Speech::Https(tls) => {
            let stream = TlsAcceptor::from(tls).accept(socket).await.ok()?;
            connect(stream, to, refusal, note).await
        }
        Speech::Socks => socks(socket, to, note).await,
    }
}

async fn connect(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    to: u16,
    refusal: Option<&str>,
    note: impl Fn(String),
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    note(String::from_utf8(head).unwrap().to_ascii_lowercase());
    let answer = refusal.unwrap_or("200 OK");
    stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    if refusal.is_none() {
        pass_on(stream, to).await?;
    }
    Some(())
}

/// RFC 1928, with user and password by RFC 1929.
async fn socks(mut stream: TcpStream, to: u16, note: impl Fn(String)) -> Option<()> {
    const BY_PASSWORD: u8 = 2;
    const BY_NAME: u8 = 3;
    stream.read_u8().await.ok()?;
    text(&mut stream).await?;
    stream.write_all(&[5, BY_PASSWORD]).await.ok()?;
    stream.read_u8().await.ok()?;
    let (user, password) = (text(&mut stream).await?, text(&mut stream).await?);
    stream.write_all(&[1, 0]).await.ok()?;
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.ok()?;
    let host = match request[3] {
        BY_NAME => text(&mut stream).await?,
        kind => {
            let mut address = vec![0; if kind == 1 { 4 } else { 16 }];
            stream.read_exact(&mut address).await.ok()?;
            "an address".to_owned()
        }
    };
    stream.read_u16().await.ok()?;
    note(format!("{user} {password} {host}"));
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    pass_on(stream, to).await
}

/// Reads one byte with a length, and a text of that length.
async fn text(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = vec![0; stream.read_u8().await.ok()?.into()];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

async fn pass_on(mut stream: impl AsyncRead + AsyncWrite + Unpin, to: u16) -> Option<()> {
    let mut server = TcpStream::connect(("127.0.0.1", to)).await.ok()?;
    copy_bidirectional(&mut stream, &mut server).await.ok()?;
    Some(())
}
