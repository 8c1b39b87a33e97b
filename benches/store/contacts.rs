//! The bytes that a store holds for a contact.

use std::{fs, future::ready, time::Duration};

use futures_util::{StreamExt, stream};
use hypersender_grpc::stack::{RateSettings, StorePlace};
use tokio::time::sleep;

use super::{
    replicas::{Fetch, Replicas, place},
    server::Server,
    usage::info,
};

/// The number of contacts.
const CONTACTS: usize = 100_000;
/// The most look-ups in progress.
const AT_A_TIME: usize = 32;

/// Prints the bytes for a contact in a server and in a file.
pub async fn measure() {
    let server = Server::start();
    let before = info(&server, "memory", "used_memory:").await;
    let replicas = filled(&place(server.port())).await;
    let after = info(&server, "memory", "used_memory:").await;
    drop(replicas);
    println!("{CONTACTS} contacts in a server: {} bytes each", (after - before) / CONTACTS as u64);

    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().join("store");
    drop(filled(&StorePlace::File { path, bytes: 1 << 40 }).await);
    let files = fs::read_dir(directory.path()).expect("it is there");
    let bytes: u64 = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum();
    println!("{CONTACTS} contacts in a file: {} bytes each", bytes / CONTACTS as u64);
}

/// A replica whose store has the contacts.
async fn filled(place: &StorePlace) -> Replicas {
    let rate = RateSettings { per_second: 0.0, burst: 0 };
    let replicas = Replicas::with(place, 1, rate, Fetch::AtOnce).await;
    let asks = (0..CONTACTS).map(|number| replicas.ask(0, 0, number));
    let answered = stream::iter(asks).buffered(AT_A_TIME).all(|answer| ready(answer.is_ok())).await;
    assert!(answered, "every look-up is answered");
    sleep(Duration::from_secs(1)).await;
    replicas.close().await;
    // The first of a token are written again, when they find that another one was first.
    assert!(replicas.operations("write", "ok") >= CONTACTS as u64, "each contact is written");
    replicas
}
