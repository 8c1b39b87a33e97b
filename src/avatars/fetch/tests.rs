//! Downloads from servers that are as bad as they can be, over sockets of this machine.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Barrier,
    time::sleep,
};

use super::*;

const JPEG: &[u8] = b"\xFF\xD8\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xFF\xD9";
const BYTES_MAX: usize = 64 * 1024;
/// The part of a link that no error may repeat.
const SECRET: &str = "secret-signature";

/// The behaviour of a server after it has read a request.
#[derive(Clone)]
enum Habit {
    /// It sends these bytes and closes.
    Send(Vec<u8>),
    /// It sends these bytes and falls silent.
    Stall(Vec<u8>),
    /// It sends these bytes, and then more bytes until the client leaves.
    Flood(Vec<u8>),
}

/// A server on a port of its own, with the requests that it has read.
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(habit: Habit) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, habit.clone(), seen.clone()));
            }
        });
        Self { address, requests }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn fetch(&self) -> Result<Image, FetchError> {
        let fetcher = Fetcher::new(self.origin().parse().unwrap()).unwrap();
        fetcher.fetch(&format!("{}/v/p.jpg?oh={SECRET}", self.origin()), BYTES_MAX).await
    }
}

async fn converse(mut stream: TcpStream, habit: Habit, seen: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    seen.lock().unwrap().push(String::from_utf8(request).unwrap());
    let (Habit::Send(bytes) | Habit::Stall(bytes) | Habit::Flood(bytes)) = &habit;
    let _ = stream.write_all(bytes).await;
    match habit {
        Habit::Send(_) => {}
        Habit::Stall(_) => std::future::pending().await,
        Habit::Flood(_) => while stream.write_all(&[0; 4096]).await.is_ok() {},
    }
}

/// An answer with these lines in its head.
fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(), body].concat()
}

fn whole(content_type: &str, body: &[u8]) -> Habit {
    let head = format!("200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}", body.len());
    Habit::Send(answer(&head, body))
}

async fn check_refused(habit: Habit, expected: FetchError) {
    let error = Server::start(habit).await.fetch().await.err();
    assert_eq!(error, Some(expected));
    let text = format!("{expected} {expected:?}");
    assert!(!text.contains(SECRET) && !text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn an_image_is_known_by_its_bytes_and_not_by_its_header() {
    for content_type in ["image/jpeg", "text/html", "application/octet-stream"] {
        let image = Server::start(whole(content_type, JPEG)).await.fetch().await.unwrap();
        assert!(image.kind == Kind::Jpeg && image.bytes == JPEG, "{content_type}");
    }
    for body in
        [&b"<html><script>alert(1)</script></html>"[..], b"GIF89a\0\0\0\0\0\0\0\0", b"\xFF\xD8\xFF", b""]
    {
        check_refused(whole("image/jpeg", body), FetchError::NotAnImage).await;
    }
    let zipped = answer(
        "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 14",
        b"\x1F\x8B\x08\0\0\0\0\0\0\0\0\0\0\0",
    );
    check_refused(Habit::Send(zipped), FetchError::NotAnImage).await;
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let private = Server::start(whole("image/jpeg", JPEG)).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        let head =
            format!("{status}\r\nLocation: {}/latest/meta-data\r\nContent-Length: 0", private.origin());
        let number = status[..3].parse().unwrap();
        check_refused(Habit::Send(answer(&head, b"")), FetchError::Status(number)).await;
    }
    let refresh = answer("403 Forbidden\r\nContent-Length: 0", b"");
    check_refused(Habit::Send(refresh), FetchError::Status(403)).await;
    assert!(private.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_at_the_limit() {
    let chunk = [b"FFFFFFFF\r\n", JPEG].concat();
    for head in ["200 OK\r\nContent-Type: image/jpeg", "200 OK\r\nTransfer-Encoding: chunked"] {
        let body = if head.ends_with("chunked") { &chunk[..] } else { JPEG };
        check_refused(Habit::Flood(answer(head, body)), FetchError::TooLarge).await;
    }
    let announced = format!("200 OK\r\nContent-Length: {}", BYTES_MAX + 1);
    check_refused(Habit::Stall(answer(&announced, JPEG)), FetchError::TooLarge).await;
    let mut largest = JPEG.to_vec();
    largest.resize(BYTES_MAX, 0);
    let image = Server::start(whole("image/jpeg", &largest)).await.fetch().await.unwrap();
    assert_eq!(image.bytes.len(), BYTES_MAX);
    largest.push(0);
    check_refused(whole("image/jpeg", &largest), FetchError::TooLarge).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_download_is_given_up() {
    check_refused(Habit::Stall(Vec::new()), FetchError::TimedOut).await;
    check_refused(Habit::Stall(answer("200 OK\r\nContent-Length: 100", JPEG)), FetchError::TimedOut).await;
}

#[tokio::test]
async fn a_download_that_ends_early_gives_no_image() {
    check_refused(Habit::Send(answer("200 OK\r\nContent-Length: 100", JPEG)), FetchError::BrokenOff).await;
    let chunk = [b"FF\r\n", JPEG].concat();
    check_refused(Habit::Send(answer("200 OK\r\nTransfer-Encoding: chunked", &chunk)), FetchError::BrokenOff)
        .await;
    check_refused(Habit::Send(Vec::new()), FetchError::BrokenOff).await;
    check_refused(Habit::Send(b"SSH-2.0-x\r\n".to_vec()), FetchError::BrokenOff).await;
}

#[tokio::test]
async fn a_request_says_nothing_of_the_one_who_asks() {
    let setting = "200 OK\r\nSet-Cookie: a=b\r\nAlt-Svc: h2=\":1\"\r\nContent-Length: 22";
    let server = Server::start(Habit::Send(answer(setting, &JPEG[..22]))).await;
    let fetcher = Fetcher::new(server.origin().parse().unwrap()).unwrap();
    for _ in 0..2 {
        fetcher.fetch(&format!("{}/p.jpg?oh=x#part", server.origin()), BYTES_MAX).await.unwrap();
    }
    for request in &*server.requests.lock().unwrap() {
        assert!(request.starts_with("GET /p.jpg?oh=x HTTP/1.1\r\n"), "{request}");
        let names = request.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name);
        let mut names: Vec<_> = names.map(str::to_ascii_lowercase).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "host", "user-agent"]);
    }
    assert_eq!(server.requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_not_connected_to() {
    let server = Server::start(whole("image/jpeg", JPEG)).await;
    let check = async |hosts: &str, link: String, expected: FetchError| {
        let fetcher = Fetcher::new(hosts.parse().unwrap()).unwrap();
        assert_eq!(fetcher.fetch(&link, BYTES_MAX).await.err(), Some(expected), "{hosts} {link}");
    };
    let port = server.address.port();
    check("*.whatsapp.net", format!("{}/p.jpg", server.origin()), FetchError::NotAllowed).await;
    check("*.whatsapp.net", format!("https://127.0.0.1:{port}/p.jpg"), FetchError::NotAllowed).await;
    check("localhost", format!("http://localhost:{port}/p.jpg"), FetchError::NotAllowed).await;
    check("*.whatsapp.net", "no link".to_owned(), FetchError::NotAllowed).await;
    let other = format!("http://127.0.0.1:{}", port.wrapping_add(1).max(1));
    check(&other, format!("{}/p.jpg", server.origin()), FetchError::NotAllowed).await;
    // A name of the list that resolves to this machine is not connected to, either.
    check("localhost", "https://localhost/p.jpg".to_owned(), FetchError::NotPublic).await;
    assert!(server.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_host_that_does_not_listen_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let fetcher = Fetcher::new(origin.parse().unwrap()).unwrap();
    let failed = fetcher.fetch(&format!("{origin}/p.jpg"), BYTES_MAX).await.err();
    assert_eq!(failed, Some(FetchError::Unreachable));
}

/// A host that keeps its connections, and answers once `all` have sent a request. Counts those that are
/// closed.
async fn keep(listener: TcpListener, all: Arc<Barrier>, closed: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (all, closed) = (all.clone(), closed.clone());
        tokio::spawn(async move {
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            all.wait().await;
            let head = format!("200 OK\r\nContent-Length: {}", JPEG.len());
            stream.write_all(&answer(&head, JPEG)).await.unwrap();
            assert_eq!(stream.read(&mut request).await.unwrap(), 0);
            closed.fetch_add(1, Relaxed);
        });
    }
}

#[tokio::test(start_paused = true)]
async fn few_connections_are_kept_and_not_for_long() {
    const DOWNLOADS: usize = IDLE_CONNECTIONS_MAX + 4;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let closed = Arc::new(AtomicUsize::new(0));
    tokio::spawn(keep(listener, Arc::new(Barrier::new(DOWNLOADS)), closed.clone()));
    let fetcher = Fetcher::new(origin.parse().unwrap()).unwrap();
    let link = format!("{origin}/p.jpg");
    let images = join_all((0..DOWNLOADS).map(|_| fetcher.fetch(&link, BYTES_MAX))).await;
    assert!(images.iter().all(Result::is_ok));
    for (seconds, expected) in [(1, 4), (2 * IDLE_TIMEOUT.as_secs(), DOWNLOADS)] {
        sleep(Duration::from_secs(seconds)).await;
        assert_eq!(closed.load(Relaxed), expected, "after {seconds} s more");
    }
}

#[test]
fn only_a_failure_that_may_pass_is_tried_again() {
    for (error, expected) in [
        (FetchError::NotAllowed, false),
        (FetchError::NotPublic, true),
        (FetchError::Unreachable, true),
        (FetchError::TimedOut, true),
        (FetchError::BrokenOff, true),
        (FetchError::Status(302), false),
        (FetchError::Status(403), false),
        (FetchError::Status(429), true),
        (FetchError::Status(503), true),
        (FetchError::TooLarge, false),
        (FetchError::NotAnImage, false),
    ] {
        assert_eq!(error.may_pass(), expected, "{error:?}");
    }
}
