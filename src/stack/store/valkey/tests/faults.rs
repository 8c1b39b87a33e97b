//! A server that is gone, frozen, full, read-only, empty or wrong.

use tokio::time::{Instant, sleep, timeout};

use super::{
    super::{
        super::engine::{Failed, Heard, Leased, TurnMode, TurnRequest},
        target::CONNECT_MAX,
    },
    proxy::Proxy,
    *,
};
use crate::domain::Reach;

/// An operation takes some milliseconds. In this time even a busy machine does it.
const SOON: Duration = Duration::from_secs(20);
/// The time that the store gives an operation by default.
const TIMEOUT: Duration = Duration::from_millis(100);

fn cause<T: std::fmt::Debug>(result: Result<T, Failed>) -> String {
    result.unwrap_err().cause
}

/// Tries an operation until it succeeds, as the store does in the background.
async fn until_ok<T, F: Future<Output = Result<T, Failed>>>(operation: impl Fn() -> F) -> T {
    let started = Instant::now();
    loop {
        match timeout(TIMEOUT, operation()).await {
            Ok(Ok(result)) => return result,
            result => assert!(started.elapsed() < SOON, "{:?}", result.map(Result::err)),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn booking() -> TurnRequest {
    TurnRequest {
        mode: TurnMode::Book,
        interval: Duration::from_secs(1),
        slack: Duration::from_secs(3),
        patience: Duration::from_secs(10),
        known_free_in: Duration::ZERO,
        known_pause: Duration::ZERO,
        known_changes: 0,
    }
}

/// How many turns are booked: one more than the script counts changes, which begin at none.
async fn bookings(server: &Server) -> u64 {
    server
        .command::<Option<u64>>(&["HGET", &format!("{TAG}:turn"), "changes"])
        .await
        .map_or(0, |last| last + 1)
}

#[tokio::test]
async fn a_server_that_is_killed_is_a_failure_at_once_and_its_restart_is_found() {
    let mut server = Server::start();
    let valkey = valkey(&server);
    begin(&valkey, &names("a"), 1000).await;
    server.kill();
    let refused = timeout(SOON, valkey.probe()).await.expect("it is not waited for");
    assert_eq!(cause(refused), "connection refused");
    assert_eq!(cause(valkey.read(&names("a"), Seen::default(), None).await), "connection refused");
    server.restart();
    valkey.probe().await.expect("the connection is made again");
    let reading = valkey.read(&names("a"), Seen::default(), None).await.unwrap();
    assert_eq!((reading.scope, reading.answer), (None, None), "nothing outlived the server");
    begin(&valkey, &names("a"), 1000).await;
}

#[tokio::test]
async fn the_first_read_after_a_restart_succeeds() {
    let mut server = Server::start();
    let valkey = valkey(&server);
    valkey.probe().await.unwrap();
    server.restart();
    let reading = valkey.read(&names("a"), Seen::default(), Some(LEASE)).await.unwrap();
    assert_eq!(reading.lease, Leased::Taken);
}

/// Servers with the option `timeout` close connections that are idle.
#[tokio::test]
async fn the_first_read_after_a_long_silence_succeeds() {
    let server = Server::with(&["--timeout", "1"]);
    let proxy = Proxy::before(server.port()).await;
    let valkey = Valkey::new(&settings(proxy.port())).unwrap();
    valkey.probe().await.unwrap();
    let closed = async {
        while server.command::<String>(&["CLIENT", "LIST"]).await.lines().count() > 1 {
            sleep(TIMEOUT).await;
        }
    };
    timeout(SOON, closed).await.unwrap();
    valkey.read(&names("a"), Seen::default(), None).await.unwrap();
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_frozen_server_that_goes_on_is_used_again() {
    let server = Server::start();
    let valkey = valkey(&server);
    valkey.probe().await.unwrap();
    server.stop();
    for _ in 0..5 {
        assert!(timeout(TIMEOUT, valkey.probe()).await.is_err(), "nothing answers");
    }
    server.go_on();
    until_ok(|| valkey.probe()).await;
}

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

#[tokio::test]
async fn a_flushed_server_is_an_empty_one() {
    let server = Server::start();
    let valkey = valkey(&server);
    begin(&valkey, &names("a"), 1000).await;
    let _: () = server.command(&["FLUSHALL"]).await;
    let reading = valkey.read(&names("a"), seen(1000), Some(LEASE)).await.unwrap();
    assert_eq!((reading.scope, reading.answer, reading.lease), (None, None, Leased::Taken));
    let value = sealed(2000);
    let written = valkey.write(write(&names("a"), &value)).await.unwrap().1;
    assert_eq!(written, Written::NoScope, "an old epoch does not come back");
    begin(&valkey, &names("a"), 2000).await;
}

#[tokio::test]
async fn a_server_that_forgot_the_scripts_gets_them_again() {
    let server = Server::start();
    let valkey = valkey(&server);
    for _ in 0..2 {
        valkey.turn(TAG, booking()).await.unwrap();
        begin(&valkey, &names("a"), 1000).await;
        let _: () = server.command(&["SCRIPT", "FLUSH"]).await;
    }
    assert_eq!(bookings(&server).await, 2);
    begin(&valkey, &names("a"), 1000).await;
    let stats: String = server.command(&["INFO", "commandstats"]).await;
    let calls = |command: &str| {
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:"))).unwrap();
        line.split("calls=").nth(1).unwrap().split(',').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!((calls("evalsha"), calls("eval")), (5, 5), "the source is sent only when it is wanted");
    begin(&valkey, &names("a"), 1000).await;
    let stats: String = server.command(&["INFO", "commandstats"]).await;
    assert!(stats.contains("cmdstat_eval:calls=5,"), "{stats}");
}

#[tokio::test]
async fn a_full_server_still_reads() {
    let server = Server::start();
    let valkey = valkey(&server);
    let names = names("a");
    begin(&valkey, &names, 1000).await;
    valkey.turn(TAG, booking()).await.unwrap();
    let _: () = server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let oom = "OOM: the server is out of memory";
    let reading = valkey.read(&names, Seen::default(), None).await.unwrap();
    assert_eq!(reading.answer, Some(sealed(1000)));
    assert_eq!(cause(valkey.probe().await), oom);
    assert_eq!(cause(valkey.read(&names, seen(1000), Some(LEASE)).await), oom);
    let value = sealed(2000);
    assert_eq!(cause(valkey.write(write(&names, &value)).await), oom);
    assert_eq!(cause(valkey.turn(TAG, booking()).await), oom);
    let _: () = server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;

    let leased = valkey.read(&names, seen(1000), Some(LEASE)).await.unwrap().lease;
    assert_eq!(leased, Leased::Taken);
    let _: () = server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let failed = valkey.fail(&names, Reach::Key, &value, LONG, LEASE).await;
    assert_eq!(cause(failed), oom);
    assert_eq!(
        server.command::<u64>(&["EXISTS", &names.lease]).await,
        0,
        "the lease is released in any case"
    );
}

#[tokio::test]
async fn a_server_that_has_become_a_replica_is_left_for_the_new_primary() {
    let (old, new) = (Server::start(), Server::start());
    let proxy = Proxy::before(old.port()).await;
    let valkey = Valkey::new(&settings(proxy.port())).unwrap();
    valkey.probe().await.unwrap();
    let _: () = old.command(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]).await;
    let read_only = "READONLY: the server is a replica";
    // A replica that has not yet synchronised may also say that its primary is down.
    let first = cause(valkey.probe().await);
    assert!(first == read_only || first.starts_with("MASTERDOWN"), "{first}");
    let again = cause(valkey.probe().await);
    assert!(again == read_only || again.starts_with("MASTERDOWN") || again.starts_with("LOADING"), "{again}");
    assert_eq!(proxy.connections(), 2, "the connection is made again");
    proxy.lead_to(new.port());
    until_ok(|| valkey.probe()).await;
    valkey.turn(TAG, booking()).await.unwrap();
    assert_eq!(bookings(&new).await, 1);
}

#[tokio::test]
async fn turns_of_another_kind_are_a_failure_and_leave_the_connection() {
    let server = Server::start();
    let proxy = Proxy::before(server.port()).await;
    let valkey = Valkey::new(&settings(proxy.port())).unwrap();
    let _: () = server.command(&["SET", &format!("{TAG}:turn"), "x"]).await;
    let wrong = "WRONGTYPE: a record is of another kind";
    assert_eq!(cause(valkey.turn(TAG, booking()).await), wrong);
    begin(&valkey, &names("a"), 1000).await;
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_changed_password_is_a_failure_until_it_is_changed_back() {
    let mut server = Server::with(&["--requirepass", "first-secret"]);
    let mut settings = settings(server.port());
    settings.password = Some("first-secret".to_owned().into());
    let valkey = Valkey::new(&settings).unwrap();
    valkey.probe().await.unwrap();
    server.restart_with(&["--requirepass", "second-secret"]);
    let rejected = cause(valkey.probe().await);
    assert_eq!(rejected, "the server rejected the password");
    server.restart();
    valkey.probe().await.unwrap();
}

#[tokio::test]
async fn a_server_that_wants_a_password_is_a_failure() {
    let server = Server::with(&["--requirepass", "secret"]);
    let valkey = valkey(&server);
    assert_eq!(cause(valkey.probe().await), "NOAUTH: the server wants a password");
    let _: () = server.command_as(Some("secret"), &["CONFIG", "SET", "requirepass", ""]).await;
    valkey.probe().await.unwrap();
}

#[tokio::test]
async fn a_user_without_a_right_is_a_failure_that_quotes_no_name() {
    let server = Server::start();
    let mut settings = settings(server.port());
    (settings.username, settings.password) = (Some("store".to_owned()), Some("secret".to_owned().into()));
    let valkey = Valkey::new(&settings).unwrap();
    let no_permission = "NOPERM: the user lacks the right to a command, a key or a channel";
    let rows: [(&[&str], [bool; 3]); 5] = [
        (&["+@all", "~*", "&*"], [true, true, true]),
        (&["+@all", "~{test*", "&*"], [false, true, true]),
        (&["+@all", "~*", "resetchannels"], [true, true, false]),
        (&["+@all", "-set", "~*", "&*"], [false, false, true]),
        // The rights that the documentation names.
        (&RIGHTS, [true, true, true]),
    ];
    for (rights, expected) in rows {
        let user = ["ACL", "SETUSER", "store", "reset", "on", ">secret"];
        let _: () = server.command(&[&user[..], rights].concat()).await;
        let names = names("a");
        let results = [
            valkey.probe().await.map(|_| ()),
            valkey.read(&names, Seen::default(), Some(LEASE)).await.map(|_| ()),
            valkey.publish(b"news".to_vec()).await,
        ];
        for (result, expected) in results.into_iter().zip(expected) {
            let expected = if expected { Ok(()) } else { Err(no_permission.to_owned()) };
            assert_eq!(result.map_err(|failed| failed.cause), expected, "{rights:?}");
        }
        let _: () = server.command(&["FLUSHALL"]).await;
    }
    // The last rights are enough for every operation.
    let names = names("a");
    begin(&valkey, &names, 1000).await;
    valkey.fail(&names, Reach::Key, &sealed(1000), LONG, LEASE).await.unwrap();
    valkey.read(&names, seen(1000), Some(LEASE)).await.unwrap();
    valkey.renew(&names.lease, LEASE).await.unwrap();
    valkey.release(&names.lease, LEASE).await.unwrap();
    valkey.answers(&names.scope, std::slice::from_ref(&names.answer)).await.unwrap();
    valkey.scopes(std::slice::from_ref(&names.scope)).await.unwrap();
    valkey.reject(&names.scope, Duration::ZERO).await.unwrap();
    let second = Duration::from_secs(1);
    for _ in 0..4 {
        valkey.turn(TAG, TurnRequest { slack: Duration::ZERO, ..booking() }).await.unwrap();
    }
    for turn_in in [2 * second, 3 * second] {
        valkey.give_back(TAG, turn_in, second, Duration::ZERO).await.unwrap();
    }
    valkey.turn(TAG, TurnRequest { slack: Duration::ZERO, ..booking() }).await.unwrap();
    valkey.push_back(TAG, Some(second), false, booking()).await.unwrap();
    assert_eq!(valkey.subscribe().recv().await, Some(Heard::Subscribed));
}

#[tokio::test]
async fn a_reply_that_is_cut_short_is_a_lost_connection() {
    let server = Server::start();
    let proxy = Proxy::before(server.port()).await;
    let valkey = Valkey::new(&settings(proxy.port())).unwrap();
    begin(&valkey, &names("a"), 1000).await;

    proxy.cut(1);
    let reading = valkey.read(&names("a"), Seen::default(), None).await.unwrap();
    assert_eq!(reading.answer, Some(sealed(1000)), "a read is repeated");
    assert_eq!(proxy.connections(), 2);

    proxy.cut(2);
    let cut = cause(valkey.read(&names("a"), Seen::default(), None).await);
    assert!(["the reply is broken", "broken pipe", "connection reset"].contains(&cut.as_str()), "{cut}");
    valkey.probe().await.unwrap();
}

#[tokio::test]
async fn a_booking_is_never_repeated() {
    let server = Server::start();
    let proxy = Proxy::before(server.port()).await;
    let valkey = Valkey::new(&settings(proxy.port())).unwrap();
    valkey.turn(TAG, booking()).await.unwrap();
    assert_eq!(bookings(&server).await, 1);
    for expected in 2..=4 {
        proxy.cut(1);
        valkey.turn(TAG, booking()).await.unwrap_err();
        assert_eq!(bookings(&server).await, expected, "it was booked, and only once");
    }
}

#[tokio::test]
async fn a_server_that_is_loading_is_a_failure_until_it_has() {
    let mut server = Server::with(&[
        "--enable-debug-command",
        "local",
        "--key-load-delay",
        "2000",
        "--loading-process-events-interval-bytes",
        "1024",
    ]);
    let valkey = valkey(&server);
    let _: () = server.command(&["DEBUG", "POPULATE", "1000", "key", "64"]).await;
    let _: () = server.command(&["SAVE"]).await;
    server.restart();
    assert_eq!(cause(valkey.probe().await), "LOADING: the server is loading its data");
    until_ok(|| valkey.probe()).await;
}
