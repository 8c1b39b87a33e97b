//! Downloads over sockets of this machine, through the guard of production.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// A CDN on a port of this machine, which counts its requests.
async fn cdn() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let (seen, file) = (requests.clone(), jpeg().bytes);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, file) = (seen.clone(), file.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    request.push(byte);
                }
                seen.fetch_add(1, Relaxed);
                let head =
                    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", file.len());
                let _ = stream.write_all(&[head.as_bytes(), &file].concat()).await;
            });
        }
    });
    (origin, requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_for_100_avatars_make_each_once() {
    let (origin, requests) = cdn().await;
    let fetcher = Fetcher::new(origin.parse().unwrap()).unwrap();
    let script = move |chat: &str, number| {
        let end = (wall() + LINK_LIFE).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        (SECOND / 100, Some(Ok(link_at(&origin, chat, 1, number, end))))
    };
    let rate = RateSettings { per_second: 0.0, burst: 0 };
    let front = above(rate, Some(Arc::new(fetcher)), script);
    // A request that cannot wait is made again, as a browser does.
    let mut words = Vec::new();
    for _ in 0..20 {
        words = join_all((0..10_000).map(|number| front.show(number % 100))).await.iter().map(word).collect();
        if words.iter().all(|word| *word == "picture") {
            break;
        }
        sleep(SECOND / 2).await;
    }
    assert!(words.iter().all(|word| *word == "picture"));
    assert_eq!((front.attempts(), requests.load(Relaxed)), (100, 100));
    front.check_metrics(&[
        "hypersender_avatar_resizes_total 100",
        "hypersender_avatar_downloads_total{outcome=\"image\"} 100",
    ]);
}
