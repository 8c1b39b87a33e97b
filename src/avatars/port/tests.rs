//! A connection as a browser or a hostile peer sees it. Time is stopped where there are no sockets.

use std::{convert::Infallible, sync::Arc};

use axum::{body::Body, response::Response, routing::any};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::Notify,
    task::JoinHandle,
    time::Instant,
};

use super::*;
use crate::server::TlsSettings;

const BIG_BYTES: usize = 1 << 20;
const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A connection of HTTP/1.1, and what controls the server.
struct Peer {
    stream: DuplexStream,
    leaving: watch::Sender<bool>,
    /// Lets the response of `/slow` begin.
    release: Arc<Notify>,
    served: JoinHandle<()>,
    begin: Instant,
}

impl Peer {
    fn connect() -> Self {
        let (stream, end) = duplex(4096);
        let leaving = watch::Sender::new(false);
        let release = Arc::new(Notify::new());
        let served = tokio::spawn(exchange(end, routes(&release), leaving.subscribe()));
        Self { stream, leaving, release, served, begin: Instant::now() }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The head and the body of the next response, which says its length.
    async fn response(&mut self) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\nok") {
            text.push(self.stream.read_u8().await.unwrap());
        }
        String::from_utf8(text).unwrap()
    }

    /// Everything up to the end of the connection, and the seconds since its beginning.
    async fn rest(mut self) -> (String, u64) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).await.unwrap();
        let seconds = self.begin.elapsed().as_secs();
        drop(self.stream);
        self.served.await.unwrap();
        (String::from_utf8(rest).unwrap(), seconds)
    }
}

/// As many bytes as `/big` has, in pieces.
fn pieces() -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::iter((0..BIG_BYTES / 16_384).map(|_| Ok(Bytes::from_static(&[b'x'; 16_384]))))
}

fn routes(release: &Arc<Notify>) -> Router {
    let release = release.clone();
    let slow = async move || {
        release.notified().await;
        "ok"
    };
    Router::new()
        .route("/", any(async || "ok"))
        .route("/slow", any(slow))
        .route("/pieces", any(async || Response::new(Body::from_stream(pieces()))))
        .route("/big", any(async || Response::new(Body::from(vec![b'x'; BIG_BYTES]))))
}

#[tokio::test(start_paused = true)]
async fn a_connection_carries_many_requests() {
    let mut peer = Peer::connect();
    for _ in 0..3 {
        peer.send(REQUEST).await;
        let response = peer.response().await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        sleep(Duration::from_secs(50)).await;
    }
    assert!(!peer.served.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_no_whole_request_is_closed() {
    for (begin, pause) in
        [("", 0), ("G", 0), ("PRI * HTTP/2.0\r\n", 0), ("GET / HTTP/1.1\r\nho", 0), (REQUEST, 20)]
    {
        let mut peer = Peer::connect();
        peer.send(begin).await;
        if pause > 0 {
            peer.response().await;
            sleep(Duration::from_secs(pause)).await;
            peer.send("GET / HTTP/1.1\r\n").await;
        }
        let (rest, seconds) = peer.rest().await;
        assert!((10..=14).contains(&(seconds - pause)), "{begin:?}: {seconds} s");
        assert!(rest.is_empty(), "{rest}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_arrives_byte_by_byte_is_cut() {
    let mut peer = Peer::connect();
    let mut seconds = 0;
    while peer.stream.write_all(b"x").await.is_ok() {
        sleep(Duration::from_secs(1)).await;
        seconds += 1;
    }
    assert!((10..=14).contains(&seconds), "{seconds} s");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_a_minute() {
    let mut peer = Peer::connect();
    peer.send(REQUEST).await;
    peer.response().await;
    let (rest, seconds) = peer.rest().await;
    assert!((60..=64).contains(&seconds), "{seconds} s");
    assert!(rest.is_empty(), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_its_answer_is_not_idle() {
    let mut peer = Peer::connect();
    peer.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    sleep(Duration::from_secs(200)).await;
    peer.release.notify_one();
    assert!(peer.response().await.starts_with("HTTP/1.1 200 OK\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_request_may_begin_in_the_same_bytes_as_the_last_one() {
    let two = [REQUEST, REQUEST].concat();
    let with_body = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}";
    for (begin, half, expected) in [
        (REQUEST, "", 60..=64),
        (REQUEST, "GET / HTTP/1.1\r\nho", 10..=14),
        (REQUEST, "G", 10..=14),
        (&two, "", 60..=64),
        (&two, "GET / HTTP/1.1\r\n", 10..=14),
    ] {
        let mut peer = Peer::connect();
        peer.send(&format!("{begin}{half}")).await;
        let (rest, seconds) = peer.rest().await;
        assert!(rest.ends_with("ok"), "{rest}");
        assert!(expected.contains(&seconds), "{begin:?} {half:?}: {seconds} s");
    }
    // A request with a body ends its connection, unless the body is there already.
    let mut peer = Peer::connect();
    peer.send(with_body).await;
    assert!(peer.rest().await.0.ends_with("ok"));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_closed() {
    for path in ["/big", "/pieces"] {
        let mut peer = Peer::connect();
        peer.send(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let closed = timeout(Duration::from_secs(70), &mut peer.served).await;
        assert!(closed.is_ok(), "{path}");
        let seconds = peer.begin.elapsed().as_secs();
        assert!((30..=34).contains(&seconds), "{path}: {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_is_served() {
    let mut peer = Peer::connect();
    peer.send("GET /pieces HTTP/1.1\r\nhost: a\r\n\r\n").await;
    for _ in 0..30 {
        sleep(Duration::from_secs(20)).await;
        peer.stream.read_exact(&mut [0; 2048]).await.unwrap();
    }
    assert!(!peer.served.is_finished());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_system_bounds_the_bytes_that_a_peer_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    bound(&stream);
    let socket = SockRef::from(&stream);
    assert!(stream.nodelay().unwrap());
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(READ_TIMEOUT));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_large_gets_431() {
    let fields = "a: b\r\n".repeat(FIELDS_MAX + 1);
    for fields in [format!("a: {}\r\n", "b".repeat(HEAD_BYTES_MAX as usize)), fields] {
        let mut peer = Peer::connect();
        // The server may close the connection before it has read everything.
        let _ = peer.stream.write_all(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes()).await;
        let (rest, _) = peer.rest().await;
        assert!(rest.starts_with("HTTP/1.1 431 "), "{rest}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_of_a_request_is_not_read() {
    let mut peer = Peer::connect();
    peer.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n").await;
    let (rest, _) = peer.rest().await;
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("ok"), "{rest}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_answers_what_is_on_its_way() {
    // A connection that has just been opened, and one with a request in flight.
    let mut peers = [Peer::connect(), Peer::connect()];
    peers[1].send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    sleep(Duration::from_millis(1)).await;
    for peer in &peers {
        peer.leaving.send_replace(true);
    }
    sleep(Duration::from_secs(1)).await;
    peers[0].send(REQUEST).await;
    peers[1].release.notify_one();
    for peer in peers {
        let (rest, seconds) = peer.rest().await;
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("ok"), "{rest}");
        assert!(seconds <= 2, "{seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_does_not_wait_for_idle_peers() {
    for begin in ["", REQUEST, "GET / HTTP/1.1\r\n"] {
        let mut peer = Peer::connect();
        peer.send(begin).await;
        sleep(Duration::from_millis(1)).await;
        peer.leaving.send_replace(true);
        let (_, seconds) = peer.rest().await;
        assert!(seconds <= 6, "{begin:?}: {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn http_2_is_spoken_without_an_upgrade_and_ends_gracefully() {
    let Peer { stream, leaving, release, served, .. } = Peer::connect();
    let (mut sender, connection) =
        http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let get = |path| Request::get(format!("http://a{path}")).body(Empty::new()).unwrap();
    let response = sender.send_request(get("/")).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    let slow = tokio::spawn(sender.send_request(get("/slow")));
    sleep(Duration::from_secs(100)).await;
    leaving.send_replace(true);
    sleep(Duration::from_secs(1)).await;
    release.notify_one();
    let response = slow.await.unwrap().unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    drop(sender);
    connection.await.unwrap().unwrap();
    served.await.unwrap();
}

#[tokio::test]
async fn the_port_ends_with_the_server_and_cuts_what_does_not_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let release = Arc::new(Notify::new());
    let leaving = Leaving::new();
    let settings = PortSettings { tls: None, connections: 1, drain_timeout: Duration::from_millis(100) };
    let served = tokio::spawn(serve(listener, routes(&release), settings, leaving.clone()));
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(REQUEST.as_bytes()).await.unwrap();
    release.notify_one();
    let mut response = [0; 15];
    first.read_exact(&mut response).await.unwrap();
    assert_eq!(&response, b"HTTP/1.1 200 OK");
    // Only now is there a place for the second connection.
    drop(first);
    second.read_exact(&mut response).await.unwrap();
    second.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    leaving.announce();
    served.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_browser_chooses_the_protocol_in_the_handshake() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let settings = TlsSettings { cert: cert.clone(), key: key.clone(), client_ca: Some(cert.clone()) };
    let of_grpc = Tls::new(settings).unwrap();
    // The files were read once, and a reload that fails changes nothing.
    std::fs::remove_file(&key).unwrap();
    let tls = of_grpc.for_browsers();
    assert!(of_grpc.reload().is_err());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = PortSettings { tls: Some(tls), connections: 8, drain_timeout: Duration::from_secs(1) };
    let served = tokio::spawn(serve(listener, routes(&Arc::default()), settings, Leaving::new()));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    for (offered, chosen) in
        [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)]
    {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider);
        let client = client.with_safe_default_protocol_versions().unwrap();
        let mut client = client.with_root_certificates(roots.clone()).with_no_client_auth();
        client.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes));
        if chosen != Some("h2") {
            stream.write_all(REQUEST.as_bytes()).await.unwrap();
            let mut response = [0; 15];
            stream.read_exact(&mut response).await.unwrap();
            assert_eq!(&response, b"HTTP/1.1 200 OK");
        }
    }
    served.abort();
}
