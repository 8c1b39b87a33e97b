//! Links that lead to places that only this machine can reach, and hosts that answer with anything but an
//! image. No forbidden connection is made, and each of them ends as the default image.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// A service that must not be reached, on IPv4 and IPv6, with the number of its connections.
async fn forbidden() -> (u16, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // A machine without IPv6 has no connection over it either.
    let listeners = [Some(listener), TcpListener::bind(("::1", port)).await.ok()];
    for listener in listeners.into_iter().flatten() {
        let seen = connections.clone();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                seen.fetch_add(1, Relaxed);
            }
        });
    }
    (port, connections)
}

/// The outcome for a contact once all work for it is done.
async fn outcome(front: &Front<impl LookupService>, chat: u64) -> &'static str {
    for _ in 0..20 {
        match word(&front.show(chat).await) {
            "not yet" => sleep(SECOND).await,
            word => return word,
        }
    }
    "not yet"
}

/// The pictures with the guard of production, for contacts that have these links.
fn guarded(hosts: &str, links: Vec<String>) -> Front<impl LookupService> {
    let fetcher = Fetcher::new(hosts.parse().unwrap()).unwrap();
    let rate = RateSettings { per_second: 0.0, burst: 0 };
    above(rate, Some(Arc::new(fetcher)), move |chat, _| {
        let number = chat.parse::<usize>().unwrap() - 15_550_000_000;
        at_once(Ok(Finding::Picture(PictureLink::parse(&links[number], wall()).unwrap())))
    })
}

#[tokio::test]
async fn no_link_leads_to_a_forbidden_place() {
    let (port, connections) = forbidden().await;
    let links = [
        "http://127.0.0.1:{port}/p.jpg",
        "https://127.0.0.1:{port}/p.jpg",
        "https://127.0.0.1/p.jpg",
        "http://127.1:{port}/p.jpg",
        "http://0x7f.1:{port}/p.jpg",
        "http://0x7f000001:{port}/p.jpg",
        "http://2130706433:{port}/p.jpg",
        "http://017700000001:{port}/p.jpg",
        "http://0177.0.0.1:{port}/p.jpg",
        "http://①②⑦.⓪.⓪.①:{port}/p.jpg",
        "http://0.0.0.0:{port}/p.jpg",
        "http://0:{port}/p.jpg",
        "http://127.255.255.254:{port}/p.jpg",
        "http://[::1]:{port}/p.jpg",
        "http://[0:0:0:0:0:0:0:1]:{port}/p.jpg",
        "http://[::]:{port}/p.jpg",
        "http://[::ffff:127.0.0.1]:{port}/p.jpg",
        "http://[::ffff:7f00:1]:{port}/p.jpg",
        "http://[::127.0.0.1]:{port}/p.jpg",
        "https://[64:ff9b::7f00:1]:{port}/p.jpg",
        "http://localhost:{port}/p.jpg",
        "https://localhost:{port}/p.jpg",
        // It is on the list here, and resolves to this machine.
        "https://localhost/p.jpg",
        "http://LOCALHOST.:{port}/p.jpg",
        "http://localhost.localdomain:{port}/p.jpg",
        "https://10.0.0.1/p.jpg",
        "https://172.16.0.1/p.jpg",
        "https://192.168.0.1/p.jpg",
        "https://100.64.0.1/p.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/latest/meta-data",
        "http://metadata.google.internal/computeMetadata/v1/",
        "https://pps.whatsapp.net:{port}/p.jpg",
        "http://pps.whatsapp.net:{port}/p.jpg",
        "http://pps.whatsapp.net/p.jpg",
        "https://pps.whatsapp.net./p.jpg",
        "https://whatsapp.net/p.jpg",
        "https://pps.whatsapp.net.evil.example/p.jpg",
        "https://evilwhatsapp.net/p.jpg",
        "https://evil.example\\.whatsapp.net/p.jpg",
        "https://evil.example/#.whatsapp.net",
        "https://evil.example/?.whatsapp.net",
        "https://pps.whatsаpp.net/p.jpg",
        "https://pps.xn--whatspp-3fg.net/p.jpg",
        "http://127.0.0.1.nip.io:{port}/p.jpg",
        "https://7f000001.nip.io/p.jpg",
    ];
    let links: Vec<_> = links.map(|link| link.replace("{port}", &port.to_string())).into();
    let long = format!("http://127.0.0.1:{port}/{}", "a".repeat(100_000));
    let links = [links, vec![long]].concat();
    let front = guarded("*.whatsapp.net,localhost", links.clone());
    for (chat, link) in links.iter().enumerate() {
        assert_eq!(outcome(&front, chat as u64).await, "no image", "{link:.100}");
    }
    assert_eq!(connections.load(Relaxed), 0);
    assert_eq!(links.len(), 47);
    front.check_metrics(&["hypersender_avatar_downloads_total{outcome=\"not_allowed\"} 47"]);
}

/// Texts that are no link of a picture at all: the look-up never hands them over, and the guard refuses them
/// a second time.
#[tokio::test]
async fn a_text_that_is_no_link_is_not_fetched() {
    let (port, connections) = forbidden().await;
    let fetcher = Fetcher::new("*.whatsapp.net".parse().unwrap()).unwrap();
    for text in [
        "http://user@127.0.0.1:{port}/p.jpg",
        "https://pps.whatsapp.net@127.0.0.1:{port}/p.jpg",
        "https://:secret@pps.whatsapp.net/p.jpg",
        "http://[fe80::1%25eth0]:{port}/p.jpg",
        "http://[::1%lo]:{port}/p.jpg",
        "data:image/png;base64,AAAA",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/p.jpg",
        "gopher://127.0.0.1:{port}/_GET",
        "javascript:alert(1)",
        "//127.0.0.1:{port}/p.jpg",
        "http:127.0.0.1:{port}/p.jpg",
        " http://127.0.0.1:{port}/p.jpg",
        "http://127.0.0.1:{port}/p.jpg\r\nHost: pps.whatsapp.net",
        "https://pps.whatsapp.net\t@127.0.0.1:{port}/",
    ] {
        let text = text.replace("{port}", &port.to_string());
        assert!(PictureLink::parse(&text, wall()).is_err(), "{text}");
        assert_eq!(fetcher.fetch(&text, 1024).await.err(), Some(FetchError::NotAllowed), "{text}");
    }
    assert_eq!(connections.load(Relaxed), 0);
}

/// A host that is allowed, and that answers each request with these bytes, and with `more` for ever.
async fn host(bytes: Vec<u8>, more: &'static [u8], then_stalls: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    request.push(byte);
                }
                let _ = stream.write_all(&bytes).await;
                while !more.is_empty() && stream.write_all(more).await.is_ok() {
                    if then_stalls {
                        sleep(SECOND / 2).await;
                    }
                }
                if then_stalls {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    origin
}

fn answer(status: &str, head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\n{head}\r\n").as_bytes(), body].concat()
}

fn file(body: &[u8]) -> Vec<u8> {
    answer("200 OK", &format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n", body.len()), body)
}

async fn check(name: &str, bytes: Vec<u8>, more: &'static [u8], then_stalls: bool) {
    let origin = host(bytes, more, then_stalls).await;
    let front = guarded(&origin, vec![format!("{origin}/v/p.jpg?oe=7FFFFFFF")]);
    // A refused link is not renewed within the refresh floor, so it is the default image for now.
    let is_refused = name.starts_with("refused");
    let expected = if is_refused { "not yet" } else { "no image" };
    let found = if is_refused { word(&front.show(0).await) } else { outcome(&front, 0).await };
    assert_eq!(found, expected, "{name}");
}

#[tokio::test]
async fn a_host_that_answers_with_anything_else_gives_no_image() {
    let (port, connections) = forbidden().await;
    let to = |status| {
        answer(status, &format!("Location: http://127.0.0.1:{port}/p.jpg\r\nContent-Length: 0\r\n"), b"")
    };
    let jpeg = jpeg().bytes;
    let deep = |kind: &[u8]| [kind, &60_000_u32.to_be_bytes(), &60_000_u32.to_be_bytes()].concat();
    let png_bomb = [&deep(b"\x89PNG\r\n\x1A\n\0\0\0\x0DIHDR")[..], b"\x08\x06\0\0\0", b"\0\0\0\0"].concat();
    let webp_bomb = b"RIFF\x16\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0\x5F\xEA\0\x5F\xEA\0".to_vec();
    let mut jpeg_bomb = jpeg.clone();
    let frame = jpeg_bomb.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    jpeg_bomb[frame + 5..frame + 9].copy_from_slice(&[0xEA, 0x60, 0xEA, 0x60]);
    let html = b"<!DOCTYPE html><script>alert(1)</script>";
    let rows = [
        ("moved", to("301 Moved Permanently")),
        ("found", to("302 Found")),
        ("see other", to("303 See Other")),
        ("temporary redirect", to("307 Temporary Redirect")),
        ("permanent redirect", to("308 Permanent Redirect")),
        ("choices", to("300 Multiple Choices")),
        ("refused 403", answer("403 Forbidden", "Content-Length: 0\r\n", b"")),
        ("refused 404", answer("404 Not Found", "Content-Length: 0\r\n", b"")),
        ("refused 410", answer("410 Gone", "Content-Length: 0\r\n", b"")),
        ("part of a file", answer("206 Partial Content", "Content-Length: 3\r\n", &jpeg[..3])),
        ("nothing", answer("204 No Content", "", b"")),
        ("failure", answer("500 Internal Server Error", "Content-Length: 0\r\n", b"")),
        (
            "refresh",
            answer(
                "200 OK",
                &format!("Refresh: 0; url=http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n"),
                b"",
            ),
        ),
        ("another protocol", b"SSH-2.0-x\r\n".to_vec()),
        ("no answer", Vec::new()),
        ("empty file", file(b"")),
        ("three bytes", file(b"\xFF\xD8\xFF")),
        ("HTML", file(html)),
        ("SVG", file(b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>")),
        ("XML and SVG", file(b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"/>")),
        ("GIF", file(b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF\x3B")),
        ("GIFAR", file(b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\x3BPK\x03\x04archive")),
        ("BMP", file(b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0")),
        ("TIFF", file(b"II*\0\x08\0\0\0\0\0\0\0\0\0")),
        ("AVIF", file(b"\0\0\0\x1CftypavifAAAA")),
        ("PDF", file(b"%PDF-1.7\n%\xFF\xD8\xFF\xE0")),
        ("archive", file(b"PK\x03\x04\x14\0\0\0\0\0\0\0")),
        ("blank before a JPEG", file(&[b" ", &jpeg[..]].concat())),
        (
            "compressed",
            answer(
                "200 OK",
                "Content-Encoding: gzip\r\nContent-Length: 14\r\n",
                b"\x1F\x8B\x08\0\0\0\0\0\0\0\0\0\0\0",
            ),
        ),
        ("HTML with the first bytes of a JPEG", file(&[b"\xFF\xD8\xFF\xE0", &html[..]].concat())),
        ("HTML with the first bytes of a PNG", file(&[b"\x89PNG\r\n\x1A\n", &html[..]].concat())),
        ("HTML with the first bytes of a WebP", file(&[b"RIFF\0\0\0\0WEBP", &html[..]].concat())),
        ("half a JPEG", file(&jpeg[..jpeg.len() / 2])),
        ("half a JPEG without a length", answer("200 OK", "", &jpeg[..jpeg.len() / 2])),
        ("a JPEG that ends early", answer("200 OK", "Content-Length: 100000\r\n", &jpeg)),
        ("a PNG bomb", file(&png_bomb)),
        ("a WebP bomb", file(&webp_bomb)),
        ("a JPEG bomb", file(&jpeg_bomb)),
        ("too large", answer("200 OK", "Content-Length: 1048577\r\n", &jpeg)),
        ("far too large", answer("200 OK", "Content-Length: 99999999999999\r\n", &jpeg)),
    ];
    assert_eq!(rows.len(), 40);
    for (name, bytes) in rows {
        check(name, bytes, b"", false).await;
    }
    let endless: &[u8] = &[0; 4096];
    check("a file without an end", answer("200 OK", "", &jpeg), endless, false).await;
    let chunk = [b"FFFFFFFF\r\n", &jpeg[..]].concat();
    check(
        "a chunk without an end",
        answer("200 OK", "Transfer-Encoding: chunked\r\n", &chunk),
        endless,
        false,
    )
    .await;
    check(
        "a head without an end",
        b"HTTP/1.1 200 OK\r\n".to_vec(),
        b"X-Filler: aaaaaaaaaaaaaaaaaaaa\r\n",
        false,
    )
    .await;
    assert_eq!(connections.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_slow_gives_no_image() {
    let jpeg = jpeg().bytes;
    check("silence", Vec::new(), b"", true).await;
    check("a slow head", b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n", true).await;
    check("a slow file", answer("200 OK", "Content-Length: 100000\r\n", &jpeg), b"\0", true).await;
    check("a file that stalls", answer("200 OK", "Content-Length: 100000\r\n", &jpeg), b"", true).await;
    check("interim answers", Vec::new(), b"HTTP/1.1 103 Early Hints\r\n\r\n", true).await;
}

#[tokio::test]
async fn a_polyglot_comes_out_clean() {
    const SCRIPT: &[u8] = b"<script>alert(document.domain)</script>";
    let jpeg = jpeg().bytes;
    let comment = [&b"\xFF\xFE\0\x29"[..], SCRIPT].concat();
    for body in [
        [&jpeg[..2], &comment, &jpeg[2..]].concat(),
        [&jpeg[..], b"PK\x03\x04", SCRIPT].concat(),
        [&jpeg[..], b"GIF89a", SCRIPT].concat(),
    ] {
        let origin = host(file(&body), b"", false).await;
        let front = guarded(&origin, vec![format!("{origin}/v/p.jpg?oe=7FFFFFFF")]);
        let Shown::Picture { bytes, is_stale: false, .. } = front.show(0).await else {
            panic!("it is an image");
        };
        assert!(bytes.starts_with(b"\xFF\xD8\xFF"));
        for part in [SCRIPT, b"PK\x03\x04", b"GIF89a"] {
            assert!(!bytes.windows(part.len()).any(|window| window == part));
        }
    }
}
