//! What happens to the store while callers of all replicas wait for turns.

use tokio::time::sleep;

use super::*;

/// The time of the demand before and after the event.
const BEFORE: Duration = millis(2_500);
const AFTER: Duration = millis(3_500);

/// The requests of a replica that takes its share beside the others until its first probe of the store.
const OF_ONE_CUT_OFF: f64 = RATE / REPLICAS * 1.5;

/// Lets callers of three replicas wait for turns while `event` happens, and checks that no window has more
/// requests than the limit and `more`.
async fn check_event(more: f64, event: impl AsyncFnOnce(&mut Replicas)) {
    let replicas = Replicas::new(|_| Reply::picture());
    let fronts = three(&replicas).await;
    check_event_of(replicas, fronts, more, event).await;
}

async fn check_event_of(
    mut replicas: Replicas,
    fronts: [Front; 3],
    more: f64,
    event: impl AsyncFnOnce(&mut Replicas),
) {
    // Afterwards the burst is there.
    fronts[0].ask(contact(1)).await.unwrap();
    sleep(2 * SECOND).await;
    let stalls = Stalls::measure();
    let demand = Demand::of(&fronts, CALLERS, 1);
    sleep(BEFORE).await;
    event(&mut replicas).await;
    sleep(AFTER).await;
    all_answered(demand.end().await);
    check(&replicas.upstream, RATE, more, &stalls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_grants_no_booked_turn_again() {
    check_event(REPLICAS, async |replicas| {
        let () = replicas.server.command(&["FLUSHALL"]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_its_scripts_gets_them_again() {
    check_event(REPLICAS, async |replicas| {
        let () = replicas.server.command(&["SCRIPT", "FLUSH"]).await;
    })
    .await;
}

/// A fail-over to a server that did not get the last writes. It takes some 50 ms, in which a replica may or
/// may not fail so often that it counts the store as away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_lost_its_last_second_grants_no_booked_turn_again() {
    check_event(REPLICAS + OF_ONE_CUT_OFF, async |replicas| {
        let () = replicas.server.command(&["SAVE"]).await;
        sleep(SECOND).await;
        tokio::task::block_in_place(|| replicas.server.restart());
        let kept: usize = replicas.server.command(&["DBSIZE"]).await;
        assert!(kept > 0, "it has what was saved");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_comes_back_empty_grants_no_booked_turn_again() {
    check_event(REPLICAS, async |replicas| {
        replicas.server.kill();
        sleep(away()).await;
        tokio::task::block_in_place(|| replicas.server.restart());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_freezes_grants_no_booked_turn_again() {
    let replicas = Replicas::new(|_| Reply::picture());
    // They do not wait until it goes on.
    let one = || replicas.one_within(limited(), replicas.server.port(), millis(500));
    let fronts = [one().await, one().await, one().await];
    check_event_of(replicas, fronts, REPLICAS, async |replicas| {
        replicas.server.stop();
        sleep(away()).await;
        replicas.server.go_on();
    })
    .await;
}

/// The time without the server, in seconds: 3, or that of the variable.
fn away() -> Duration {
    let seconds = std::env::var("STORE_AWAY_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

/// The one that is cut off takes its share beside the rate of the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_that_is_cut_off_takes_its_share_and_no_more() {
    let replicas = Replicas::new(|_| Reply::picture());
    let relay = Relay::to(replicas.server.port()).await;
    let [first, second, _] = three(&replicas).await;
    let third = replicas.one_through(limited(), relay.port()).await;
    let stalls = Stalls::measure();
    let demand = Demand::of([&first, &second, &third], CALLERS, 1);
    sleep(BEFORE).await;
    relay.cut();
    sleep(away()).await;
    relay.mend();
    sleep(AFTER).await;
    all_answered(demand.end().await);
    check(&replicas.upstream, RATE * (1.0 + 1.0 / 3.0), REPLICAS, &stalls);
}

/// Two replicas have asked nothing. They know from the news how far ahead the third one has booked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_replicas_do_not_ask_beside_turns_that_another_one_has_booked() {
    let mut replicas = Replicas::new(|_| Reply::picture());
    let fronts = three(&replicas).await;
    fronts[0].ask(contact(1)).await.unwrap();
    sleep(2 * SECOND).await;
    let stalls = Stalls::measure();
    let booked: Vec<_> = (10..60).map(|chat| fronts[0].spawn(contact(chat))).collect();
    sleep(millis(300)).await;
    replicas.server.kill();
    let demand = Demand::of(&fronts[1..], CALLERS, 1);
    for caller in booked {
        caller.await.unwrap().unwrap();
    }
    tokio::task::block_in_place(|| replicas.server.restart());
    sleep(AFTER).await;
    all_answered(demand.end().await);
    check(&replicas.upstream, RATE, REPLICAS, &stalls);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_without_the_store_ask_within_their_shares() {
    let mut replicas = Replicas::new(|_| Reply::picture());
    replicas.server.kill();
    let stalls = Stalls::measure();
    let fronts = three(&replicas).await;
    let demand = Demand::of(&fronts, CALLERS, 1);
    sleep(3 * SECOND).await;
    let without = times(&replicas.upstream);
    assert!(without.len() >= 15, "{without:?}");
    // They have no burst.
    let late = RATE * (stalls.longest() + INEXACT).as_secs_f64();
    assert!(excess(&without, RATE) <= REPLICAS - f64::from(BURST) + late, "{without:?}");
    tokio::task::block_in_place(|| replicas.server.restart());
    sleep(AFTER).await;
    all_answered(demand.end().await);
    check(&replicas.upstream, RATE, REPLICAS, &stalls);
}
