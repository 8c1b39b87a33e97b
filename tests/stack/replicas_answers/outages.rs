//! The store hangs, a replica dies, a process starts again.

use std::thread;

use hypersender_grpc::{
    domain::{CacheStatus, LookupError},
    stack::StorePlace,
};
use tokio::{
    runtime,
    time::{Instant, sleep},
};

use super::numbers;
use crate::support::{
    Front, Outcome, Replicas, SECOND, contact, millis, plain, server_at, store_at, told, until,
};

#[tokio::test]
async fn a_store_that_hangs_costs_a_miss_little_and_no_answer() {
    let replicas = Replicas::new(numbers);
    let front = replicas.impatient_one().await;
    front.ask(contact(1)).await.unwrap();
    replicas.server.stop();
    let start = Instant::now();
    front.ask(contact(2)).await.unwrap();
    front.avatar(contact(3)).await.unwrap();
    let took = start.elapsed();
    assert!(took < 5 * SECOND, "{took:?}");
    // A hit needs no store.
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Hit));
    replicas.server.go_on();
}

#[tokio::test]
async fn another_replica_takes_over_from_one_that_died() {
    let replicas = Replicas::new(|attempt| match attempt.number {
        1 => numbers(attempt).after(10 * SECOND),
        _ => numbers(attempt),
    });
    let (port, clock, upstream) = (replicas.server.port(), replicas.clock(), replicas.upstream.clone());
    // The runtime of the first replica ends as its process would: nothing of it runs any more.
    let died = thread::spawn(move || {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let asked = upstream.clone();
        runtime.spawn(async move {
            let store = store_at(StorePlace::Server(server_at(port))).await;
            Front::beside(plain(), Some(&store), clock, upstream).ask(contact(1)).await
        });
        while asked.attempts().is_empty() {
            thread::sleep(millis(5));
        }
        runtime.shutdown_background();
    });
    while !died.is_finished() {
        sleep(millis(5)).await;
    }
    died.join().unwrap();

    let [second, third, _] = replicas.three().await;
    let start = Instant::now();
    let [one, two] = [second.spawn(contact(1)), third.spawn(contact(1))];
    for outcome in [one.await.unwrap(), two.await.unwrap()] {
        outcome.unwrap();
    }
    // A lease lives for 3 s.
    assert!(start.elapsed() < 20 * SECOND, "{:?}", start.elapsed());
    assert_eq!(replicas.calls(), 2);
}

#[tokio::test]
async fn a_process_that_starts_again_finds_its_answers_in_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let place = || StorePlace::File { path: directory.path().join("answers"), bytes: 64 << 20 };
    let replicas = Replicas::new(numbers);
    let store = store_at(place()).await;
    let front = Front::beside(plain(), Some(&store), replicas.clock(), replicas.upstream.clone());
    for chat in 0..20 {
        front.ask(contact(chat)).await.unwrap();
    }
    store.close().await;
    drop((front, store));

    let front =
        Front::beside(plain(), Some(&store_at(place()).await), replicas.clock(), replicas.upstream.clone());
    for chat in 0..20 {
        let outcome: Outcome = front.ask(contact(chat)).await;
        assert_eq!(told(&outcome), Ok(CacheStatus::Hit));
    }
    assert_eq!(replicas.calls(), 20);
    until(&front, contact(100), Outcome::is_ok).await;
}

#[tokio::test]
async fn a_caller_waits_for_another_replica_until_its_own_deadline() {
    let replicas = Replicas::new(|attempt| numbers(attempt).after(4 * SECOND));
    let [first, second, _] = replicas.three().await;
    let fetched = first.spawn(contact(1));
    while replicas.calls() == 0 {
        sleep(millis(5)).await;
    }
    let hasty = second.ask(contact(1).within(millis(500))).await;
    assert_eq!(told(&hasty), Err(LookupError::DeadlineExceeded));
    let patient = second.ask(contact(1)).await;
    assert_eq!(patient.unwrap().finding, fetched.await.unwrap().unwrap().finding);
    assert_eq!(replicas.calls(), 1);
}

#[tokio::test]
async fn a_cold_miss_takes_three_round_trips_and_a_hit_takes_none() {
    let replicas = Replicas::new(numbers);
    let [front, other, _] = replicas.three().await;
    // The scripts are loaded with the first ones. Each contact is read, takes a turn, and is written in the
    // background.
    front.ask(contact(1)).await.unwrap();
    until(&other, contact(1).only_if_cached(), Outcome::is_ok).await;
    let before = scripts(&replicas).await;
    for chat in 10..20 {
        front.ask(contact(chat)).await.unwrap();
    }
    while scripts(&replicas).await < before + 30 {
        sleep(millis(5)).await;
    }
    for chat in 10..20 {
        assert_eq!(told(&front.ask(contact(chat)).await), Ok(CacheStatus::Hit));
    }
    assert_eq!(scripts(&replicas).await, before + 30);
}

/// The number of scripts that the server has run.
async fn scripts(replicas: &Replicas) -> usize {
    let statistics: String = replicas.server.command(&["INFO", "commandstats"]).await;
    let calls = statistics.lines().filter_map(|line| {
        let (command, rest) = line.split_once(":calls=")?;
        let calls = rest.split(',').next()?.parse::<usize>().ok()?;
        command.starts_with("cmdstat_eval").then_some(calls)
    });
    calls.sum()
}
