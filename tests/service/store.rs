//! The store from outside: which of its faults end the start, which do not, and what reaches the log.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, time::Duration};

use hypersender_grpc::grpc::contact::{BatchGetProfilePicturesRequest, CacheStatus};
use tempfile::TempDir;
use tonic::Code;

use crate::support::{CHAT, Ended, Launch, Service, Valkey, about, patiently};

const STORE: &str = "HYPERSENDER_GRPC_STORE";
const USERNAME: &str = "HYPERSENDER_GRPC_STORE_USERNAME";
const PASSWORD: &str = "HYPERSENDER_GRPC_STORE_PASSWORD";
const PASSWORD_FILE: &str = "HYPERSENDER_GRPC_STORE_PASSWORD_FILE";
/// The end of every process includes a search for it.
const MARKED: &str = "Zq9password";

/// A service in front of its sandbox with this store.
fn with(store: &str) -> Launch {
    Service::sandboxed().variable(STORE, store)
}

/// Starts a service that must end because of the setting `name`.
async fn refused(launch: Launch, name: &str, fault: &str) {
    let ended = launch.run().await;
    let expected = format!("error: 1 setting at fault\n  {name}: {fault}");
    assert!(ended.code == 78 && ended.stderr.ends_with(&expected), "{expected}{ended:?}");
    assert!(!ended.stderr.contains("listening"), "the service opened a port first: {ended:?}");
}

fn warnings(logs: &str) -> Vec<&str> {
    logs.lines().filter(|line| line.contains(r#""level":"WARN""#)).collect()
}

/// The cache status of the answer for `CHAT`.
async fn status(service: &Service) -> CacheStatus {
    service.ask(about(CHAT), &[]).await.unwrap().cache_info.unwrap().status()
}

#[tokio::test]
async fn a_rejected_password_ends_the_start_by_the_name_of_its_setting() {
    let valkey = Valkey::with(&["--requirepass", "Zq9password-of-the-server"]);
    let address = format!("127.0.0.1:{}", valkey.port());
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, format!("{MARKED}\n")).unwrap();
    let url = format!("redis://{address}");
    let rejected = "the server rejects it";
    refused(with(&url).variable(PASSWORD, MARKED), PASSWORD, rejected).await;
    refused(with(&url).variable(PASSWORD_FILE, file.to_str().unwrap()), PASSWORD_FILE, rejected).await;
    refused(with(&url).variable(PASSWORD, MARKED).variable(USERNAME, "someone"), PASSWORD, rejected).await;
    refused(with(&format!("redis://:{MARKED}@{address}")), &format!("--store ({STORE})"), rejected).await;
    let ended = with(&url).run().await;
    assert!(ended.code == 78 && ended.stderr.contains(&format!("  {PASSWORD}: ")), "{ended:?}");
}

#[tokio::test]
async fn a_password_in_a_variable_opens_the_store() {
    let valkey = Valkey::with(&["--requirepass", "Zq9password/1"]);
    let address = format!("127.0.0.1:{}", valkey.port());
    let in_url = with(&format!("valkey://:Zq9password%2F1@{address}/3"));
    let beside = with(&format!("redis://{address}/3")).variable(PASSWORD, "Zq9password/1");
    let first = in_url.start().await;
    assert_eq!(status(&first).await, CacheStatus::Miss);
    let metrics =
        first.counted("hypersender_store_operations_total{operation=\"write\",outcome=\"ok\"}", 1.0);
    metrics.await;
    let second = beside.start().await;
    assert_eq!(status(&second).await, CacheStatus::Hit);
    for service in [first, second] {
        assert_eq!(warnings(&service.logs()), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn a_server_that_is_no_cluster_ends_the_start() {
    let valkey = Valkey::start();
    let url = format!("redis://127.0.0.1:{}?cluster=true", valkey.port());
    let ended = with(&url).run().await;
    assert!(ended.code == 78 && ended.stderr.contains("  --store (HYPERSENDER_GRPC_STORE): "), "{ended:?}");
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_gets_one_warning_and_the_service_serves() {
    // A port that refuses connections, and one that accepts them and stays silent.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [free, silent.local_addr().unwrap()] {
        let service = with(&format!("redis://{address}")).start().await;
        assert_eq!(service.look_up("15551230011").await, Code::Ok);
        let logs = service.logs();
        let warnings = warnings(&logs);
        assert!(warnings.len() == 1 && warnings[0].contains("the store does not answer"), "{warnings:?}");
        let attached = service.metrics().await.value("hypersender_store_attached");
        assert!(attached.abs() < 0.5, "{attached}");
    }
}

#[tokio::test]
async fn a_connection_in_plain_text_to_another_machine_is_warned_of() {
    let (open, closed) = (Valkey::start(), Valkey::with(&["--requirepass", MARKED]));
    let started = async |host: &str, port: u16, password: &str| {
        let launch = with(&format!("redis://{host}:{port}")).variable(PASSWORD, password);
        launch.start().await.logs()
    };
    // A connection to this address stays on this machine, which the service does not know.
    let logs = started("0.0.0.0", open.port(), "").await;
    assert!(warnings(&logs).iter().any(|line| line.contains("no TLS and no password")), "{logs}");
    let logs = started("0.0.0.0", closed.port(), MARKED).await;
    assert!(warnings(&logs).iter().any(|line| line.contains("no TLS: the password")), "{logs}");
    for host in ["127.0.0.1", "localhost"] {
        let logs = started(host, closed.port(), MARKED).await;
        assert!(!logs.contains("no TLS"), "{host}: {logs}");
    }
}

#[tokio::test]
async fn a_file_keeps_answers_over_a_restart() {
    let directory = TempDir::new().unwrap();
    let store = format!("file:{}", directory.path().join("store").display());
    for expected in [CacheStatus::Miss, CacheStatus::Hit] {
        let mut service = with(&store).start().await;
        assert_eq!(status(&service).await, expected);
        service.signal("INT").await;
        assert_eq!(service.exit_code().await, 0);
        assert_eq!(warnings(&service.logs()), Vec::<&str>::new());
    }
}

#[tokio::test]
async fn a_file_that_can_never_work_ends_the_start() {
    let directory = TempDir::new().unwrap();
    let place = |name: &str| format!("file:{}", directory.path().join(name).display());
    let ended = |launch: Launch| async {
        let ended: Ended = launch.run().await;
        assert!(ended.code == 78 && ended.stderr.contains("--store (HYPERSENDER_GRPC_STORE): "), "{ended:?}");
    };
    ended(with(&place("missing/store"))).await;
    fs::create_dir(directory.path().join("folder")).unwrap();
    ended(with(&place("folder"))).await;
    let first = with(&place("store")).start().await;
    ended(with(&place("store"))).await;
    assert_eq!(first.look_up(CHAT).await, Code::Ok);
}

#[tokio::test]
async fn a_file_of_something_else_is_moved_aside() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let text = "this is no database, and longer than the header of one: ".repeat(20);
    fs::write(&path, &text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let service = with(&format!("file:{}", path.display())).start().await;
    assert_eq!(service.look_up(CHAT).await, Code::Ok);
    let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> = names.filter(|path| path.to_str().unwrap().contains(".damaged-")).collect();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert_eq!(fs::read_to_string(&aside[0]).unwrap(), text);
    assert_eq!(warnings(&service.logs()).len(), 1, "{}", service.logs());
}

#[tokio::test]
async fn a_file_that_may_not_grow_ends_no_process() {
    let directory = TempDir::new().unwrap();
    let store = format!("file:{}", directory.path().join("store").display());
    let launch = with(&store).variable("HYPERSENDER_GRPC_RATE", "0").file_blocks(200);
    let mut service = launch.start().await;
    let mut client = service.client().await;
    for round in 0.. {
        assert!(round < 20, "all of it was written: {}", service.logs());
        let chat_ids = (0..100).map(|contact| format!("1666{}", 1_000_000 + 100 * round + contact)).collect();
        let request = BatchGetProfilePicturesRequest { chat_ids, ..Default::default() };
        let answer = patiently("an answer", client.batch_get_profile_pictures(request)).await.unwrap();
        assert_eq!(answer.into_inner().failed_count, 0);
        tokio::time::sleep(Duration::from_millis(500)).await;
        if !warnings(&service.logs()).is_empty() {
            break;
        }
    }
    assert!(service.logs().contains("the store's file could not be written"), "{}", service.logs());
    assert_eq!(service.look_up(CHAT).await, Code::Ok);
    service.signal("INT").await;
    assert_eq!(service.exit_code().await, 0);
}
