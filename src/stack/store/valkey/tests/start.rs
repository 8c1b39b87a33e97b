//! The check at the start: only what no time mends ends it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    super::{
        super::{Setting, engine::Failed},
        Found,
    },
    *,
};

async fn check(settings: &Settings) -> Result<Found, (Setting, String)> {
    let checked = Valkey::new(settings).unwrap().check(settings).await;
    checked.map_err(|unusable| (unusable.setting, unusable.fault))
}

fn with_password(port: u16, password: &str) -> Settings {
    Settings { password: Some(password.to_owned().into()), ..settings(port) }
}

fn fault(setting: Setting, text: &str) -> Result<Found, (Setting, String)> {
    Err((setting, text.to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with a result")]
fn not_now(cause: &str) -> Result<Found, (Setting, String)> {
    Ok(Found::NotNow(Failed { cause: cause.to_owned() }))
}

/// A server that says the same to everything.
async fn repeating(reply: &'static str) -> u16 {
    answering(move |_| reply).await
}

/// A server that says this to a command.
async fn answering(reply: impl Fn(&str) -> &'static str + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let reply = reply.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while let Ok(read @ 1..) = client.read(&mut request).await {
                    let request = String::from_utf8_lossy(&request[..read]);
                    let _ = client.write_all(reply(&request).as_bytes()).await;
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_server_that_works_is_found_working() {
    let server = Server::start();
    assert_eq!(check(&settings(server.port())).await, Ok(Found::Working));
    let other_database = Settings { database: 15, ..settings(server.port()) };
    assert_eq!(check(&other_database).await, Ok(Found::Working));
    Valkey::new(&other_database).unwrap().probe().await.unwrap();
    let keyspace: String = server.command(&["INFO", "keyspace"]).await;
    assert!(keyspace.contains("db15:keys=1,expires=1,"), "{keyspace}");
}

#[tokio::test]
async fn a_rejected_password_ends_the_start() {
    let rejects = fault(Setting::Password, "the server rejects it");
    let open = Server::start();
    assert_eq!(check(&with_password(open.port(), "needless")).await, rejects);

    let server = Server::with(&["--requirepass", "secret"]);
    assert_eq!(check(&with_password(server.port(), "secret")).await, Ok(Found::Working));
    assert_eq!(check(&with_password(server.port(), "wrong")).await, rejects);
    let wants = fault(Setting::Password, "the server wants one");
    assert_eq!(check(&settings(server.port())).await, wants);
    assert_eq!(check(&Settings { database: 3, ..settings(server.port()) }).await, wants);
    let username = Some("nobody".to_owned());
    let other_user = Settings { username, ..with_password(server.port(), "secret") };
    assert_eq!(check(&other_user).await, rejects);
}

#[tokio::test]
async fn a_user_without_scripts_ends_the_start() {
    let server = Server::start();
    let username = Some("store".to_owned());
    let settings = Settings { username, ..with_password(server.port(), "secret") };
    let no_scripts = fault(Setting::Place, "the server does not run scripts for this user");
    let rows: [(&[&str], _); 5] = [
        (&RIGHTS, Ok(Found::Working)),
        (&["+@all", "-info", "~*", "&*"], Ok(Found::Working)),
        (&["+@all", "-evalsha", "~*", "&*"], no_scripts.clone()),
        (&["+@all", "-eval", "~*", "&*"], no_scripts.clone()),
        (&["+@all", "-@write", "~*", "&*"], no_scripts.clone()),
    ];
    for (rights, expected) in rows {
        let user = ["ACL", "SETUSER", "store", "reset", "on", ">secret"];
        let _: () = server.command(&[&user[..], rights].concat()).await;
        assert_eq!(check(&settings).await, expected, "{rights:?}");
    }
    let renamed = Server::with(&["--rename-command", "EVALSHA", ""]);
    assert_eq!(check(&super::settings(renamed.port())).await, no_scripts);
}

#[tokio::test]
async fn a_server_that_is_too_old_ends_the_start() {
    let old = repeating("$22\r\nredis_version:6.0.16\r\n\r\n").await;
    let too_old = fault(Setting::Place, "the server has version 6.0; 6.2 or newer is needed");
    assert_eq!(check(&settings(old)).await, too_old);
    let server = Server::start();
    let missing = Settings { database: 16, ..settings(server.port()) };
    let no_database = fault(Setting::Place, "the server has no database of this number");
    assert_eq!(check(&missing).await, no_database);
}

#[tokio::test]
async fn a_cluster_where_none_is_expected_ends_the_start_and_the_other_way_round() {
    let server = Server::start();
    let no_cluster = Settings { is_cluster: true, ..settings(server.port()) };
    assert_eq!(check(&no_cluster).await, fault(Setting::Place, "the server is no node of a cluster"));
    let node = Server::with(&["--cluster-enabled", "yes"]);
    let unserved = check(&settings(node.port())).await;
    assert_eq!(unserved, not_now("CLUSTERDOWN: the cluster does not serve"));
    let moved = |request: &str| {
        let is_info = request.contains("INFO");
        if is_info { "$21\r\nredis_version:7.2.4\r\n\r\n" } else { "-MOVED 1234 127.0.0.1:6379\r\n" }
    };
    let moved = answering(moved).await;
    let expected = check(&settings(moved)).await;
    assert_eq!(expected, fault(Setting::Place, "the server is a node of a cluster"));
}

#[tokio::test]
async fn a_server_that_may_work_later_does_not_end_the_start() {
    assert_eq!(
        check(&settings(super::super::super::testing::free_port())).await,
        not_now("connection refused")
    );
    let unknown = Settings { hosts: vec![("unknown.invalid".to_owned(), 6379)], ..settings(0) };
    assert_eq!(check(&unknown).await, not_now("the host has no address"));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert_eq!(check(&settings(silent.local_addr().unwrap().port())).await, not_now("no reply"));
    let rows = [
        ("-ERR max number of clients reached\r\n", "the server has too many connections"),
        ("-ERR chat 4915 is unknown\r\n", "the server replied with an error"),
        ("-LOADING Redis is loading the dataset in memory\r\n", "LOADING: the server is loading its data"),
        ("-BUSY a script is running\r\n", "BUSY: a script runs for too long"),
        ("-SECRETCODE42 of chat 4915\r\n", "the server replied with an error"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "the reply is broken"),
    ];
    for (reply, cause) in rows {
        assert_eq!(check(&with_password(repeating(reply).await, "secret")).await, not_now(cause), "{reply}");
    }
    let full = Server::with(&["--maxmemory", "1"]);
    assert_eq!(check(&settings(full.port())).await, not_now("OOM: the server is out of memory"));
}

#[test]
fn certificates_that_cannot_be_read_end_the_start() {
    for ca in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let settings = Settings { tls: true, ca: Some(ca.into()), ..settings(1) };
        let unusable = Valkey::new(&settings).unwrap_err();
        assert_eq!(
            (unusable.setting, unusable.fault.as_str()),
            (Setting::Ca, "it is not a list of certificates in PEM")
        );
    }
}
