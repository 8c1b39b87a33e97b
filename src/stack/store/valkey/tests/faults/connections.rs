//! Connections: when one is given up, and when it is not.

use super::{super::super::target::CONNECT_MAX, *};

#[tokio::test]
async fn the_connection_to_a_frozen_server_is_given_up() {
    let (frozen, other) = (Server::start(), Server::start());
    let proxy = Proxy::before(frozen.port()).await;
    let valkey = Valkey::new(&settings(proxy.port())).unwrap();
    valkey.probe().await.unwrap();
    frozen.stop();
    proxy.lead_to(other.port());
    until_ok(|| valkey.probe()).await;
    assert_eq!(proxy.connections(), 2);
    let probed: u64 = other.command(&["EXISTS", "test:probe"]).await;
    assert_eq!(probed, 1, "the other server has taken over the name");
}

#[tokio::test]
async fn operations_that_are_given_up_end_no_connection_that_answers_others() {
    let server = Server::start();
    let proxy = Proxy::before(server.port()).await;
    let valkey = Valkey::new(&settings(proxy.port())).unwrap();
    for _ in 0..20 {
        let _ = timeout(Duration::ZERO, valkey.probe()).await;
        valkey.probe().await.unwrap();
    }
    assert_eq!(proxy.connections(), 1);
}

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
    let valkey = Valkey::within(&settings(proxy.port()), SOON).unwrap();
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

#[tokio::test]
async fn a_connection_that_is_never_made_is_given_up() {
    // A server that accepts connections and says nothing, not even to a password.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(silent.local_addr().unwrap().port());
    settings.password = Some("secret".to_owned().into());
    let valkey = Valkey::new(&settings).unwrap();
    let probed = timeout(SOON, valkey.probe()).await.expect("it is bounded");
    assert_eq!(cause(probed), "no reply");
}

/// A process that has given up looks for the server every 30 s, and gives up each time after 0.1 s.
#[tokio::test]
async fn an_attempt_that_failed_unseen_is_not_reported_later() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::with(&["--requirepass", "secret"]);
    let proxy = Proxy::before(silent.local_addr().unwrap().port()).await;
    let settings = Settings { password: Some("secret".to_owned().into()), ..settings(proxy.port()) };
    let valkey = Valkey::new(&settings).unwrap();
    timeout(TIMEOUT, valkey.probe()).await.expect_err("the connection is not made");
    proxy.lead_to(server.port());
    sleep(CONNECT_MAX + TIMEOUT).await;
    valkey.probe().await.unwrap();
}
