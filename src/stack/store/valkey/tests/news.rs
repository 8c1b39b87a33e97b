//! The subscription to the news of other replicas.

use tokio::{sync::mpsc::Receiver, time::timeout};

use super::{
    super::{
        super::engine::{Failed, Heard},
        news::WAITING_MAX,
    },
    proxy::Proxy,
    *,
};

/// The subscription takes some milliseconds, and seconds after a loss.
const SOON: Duration = Duration::from_secs(60);

/// The next message, whether there were attempts that failed before it or not.
async fn next(heard: &mut Receiver<Heard>) -> Heard {
    loop {
        match timeout(SOON, heard.recv()).await.expect("something is heard").expect("the task runs") {
            Heard::NotSubscribed(_) => {}
            heard => return heard,
        }
    }
}

#[tokio::test]
async fn every_replica_hears_every_message() {
    let server = Server::start();
    let (one, other) = (valkey(&server), valkey(&server));
    let (mut first, mut second) = (one.subscribe(), other.subscribe());
    assert_eq!((next(&mut first).await, next(&mut second).await), (Heard::Subscribed, Heard::Subscribed));
    let message = b"\0\xff\r\n$3\r\n sealed".to_vec();
    one.publish(message.clone()).await.unwrap();
    other.publish(vec![]).await.unwrap();
    for heard in [&mut first, &mut second] {
        assert_eq!(next(heard).await, Heard::Message(message.clone()));
        assert_eq!(next(heard).await, Heard::Message(vec![]));
    }
    let channels: Vec<String> = server.command(&["PUBSUB", "CHANNELS", "*"]).await;
    assert_eq!(channels, ["test:news"]);
}

#[tokio::test]
async fn the_subscription_begins_again_after_each_loss() {
    let mut server = Server::start();
    let valkey = valkey(&server);
    server.kill();
    let mut heard = valkey.subscribe();
    server.restart();
    for round in 0..3 {
        assert_eq!(next(&mut heard).await, Heard::Subscribed, "{round}");
        valkey.publish(b"news".to_vec()).await.unwrap();
        assert_eq!(next(&mut heard).await, Heard::Message(b"news".to_vec()));
        match round {
            0 => server.restart(),
            _ => server.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await,
        }
    }
}

#[tokio::test]
async fn a_subscription_that_cannot_be_made_is_heard_of_until_it_is_made() {
    let server = Server::start();
    let valkey = valkey(&server);
    let _: () = server.command(&["ACL", "SETUSER", "default", "resetchannels"]).await;
    let mut heard = valkey.subscribe();
    let cause = "NOPERM: the user lacks the right to a command, a key or a channel".to_owned();
    for _ in 0..2 {
        let not_subscribed = timeout(SOON, heard.recv()).await.expect("it is heard of");
        assert_eq!(not_subscribed, Some(Heard::NotSubscribed(Failed { cause: cause.clone() })));
    }
    let _: () = server.command(&["ACL", "SETUSER", "default", "allchannels"]).await;
    assert_eq!(next(&mut heard).await, Heard::Subscribed);
}

#[tokio::test]
async fn the_subscription_to_a_frozen_server_is_given_up() {
    let (frozen, other) = (Server::start(), Server::start());
    let proxy = Proxy::before(frozen.port()).await;
    let valkey = Valkey::new(&settings(proxy.port())).unwrap();
    let mut heard = valkey.subscribe();
    assert_eq!(next(&mut heard).await, Heard::Subscribed);
    frozen.stop();
    proxy.lead_to(other.port());
    assert_eq!(next(&mut heard).await, Heard::Subscribed);
    let _: u64 = other.command(&["PUBLISH", "test:news", "news"]).await;
    assert_eq!(next(&mut heard).await, Heard::Message(b"news".to_vec()));
}

#[tokio::test]
async fn a_receiver_that_is_too_slow_loses_messages_and_hears_of_it() {
    let server = Server::start();
    let valkey = valkey(&server);
    let mut heard = valkey.subscribe();
    assert_eq!(next(&mut heard).await, Heard::Subscribed);
    for _ in 0..WAITING_MAX + 10 {
        valkey.publish(b"news".to_vec()).await.unwrap();
    }
    let mut messages = 0;
    while next(&mut heard).await != Heard::Subscribed {
        messages += 1;
    }
    assert!((WAITING_MAX..WAITING_MAX + 10).contains(&messages), "{messages}");
}

#[tokio::test]
async fn the_subscription_ends_with_its_receiver() {
    let server = Server::start();
    let valkey = valkey(&server);
    let mut heard = valkey.subscribe();
    assert_eq!(next(&mut heard).await, Heard::Subscribed);
    drop(heard);
    let unsubscribed = async {
        while server.command::<Vec<String>>(&["PUBSUB", "CHANNELS", "*"]).await != Vec::<String>::new() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, unsubscribed).await.expect("the connection ends");
}
