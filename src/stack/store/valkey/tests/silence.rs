//! Connections that stay although no reply comes at once.

use tokio::time::{sleep, timeout};

use super::{proxy::Proxy, *};

/// The time-out of a store that waits for a slow server.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn callers_who_leave_at_once_end_no_connection() {
    let server = Server::start();
    let proxy = Proxy::before(server.port()).await;
    let valkey = Valkey::new(&settings(proxy.port())).unwrap();
    valkey.probe().await.unwrap();
    for _ in 0..20 {
        let _ = timeout(Duration::ZERO, valkey.probe()).await;
    }
    valkey.probe().await.unwrap();
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_reply_that_is_slow_and_comes_within_the_time_out_ends_no_connection() {
    let server = Server::start();
    let proxy = Proxy::before(server.port()).await;
    let valkey = Valkey::within(&settings(proxy.port()), PATIENCE).unwrap();
    valkey.probe().await.unwrap();
    server.stop();
    let later = async {
        sleep(Duration::from_secs(3)).await;
        server.go_on();
    };
    let (probed, ()) = tokio::join!(valkey.probe(), later);
    probed.unwrap();
    valkey.probe().await.unwrap();
    assert_eq!(proxy.connections(), 1);
}
