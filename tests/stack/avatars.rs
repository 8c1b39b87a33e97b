//! Look-ups for images in browsers: memory, flights and the store first, then spare turns before all streams.

mod ends;
mod shares;

use std::time::Duration;

use futures_util::{FutureExt, future::Either};
use hypersender_grpc::{
    domain::{CacheStatus, LookupError},
    stack::{CacheSettings, RateSettings, RetrySettings, Settings},
};
use tokio::{
    task::JoinHandle,
    time::{advance, sleep},
};

use crate::support::*;

/// One attempt for each fetch, and turns like these.
fn limited(per_second: f64, burst: u32) -> Settings {
    Settings { rate: RateSettings { per_second, burst }, ..plain() }
}

/// Asks for the images of these contacts, in order.
async fn avatars(front: &Front, chats: impl IntoIterator<Item = usize>) -> Vec<JoinHandle<Outcome>> {
    let mut asked = Vec::new();
    for chat in chats {
        asked.push(front.spawn_avatar(contact(chat)));
        settle().await;
    }
    asked
}

async fn outcomes(asked: Vec<JoinHandle<Outcome>>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for asked in asked {
        outcomes.push(asked.await.unwrap());
    }
    outcomes
}

/// The contacts of the attempts, by number and in order.
fn chats(front: &Front) -> Vec<usize> {
    let number = |chat: &str| chat.parse::<usize>().unwrap() - 15_550_000_000;
    front.upstream.attempts().iter().map(|attempt| number(&attempt.chat)).collect()
}

/// Takes the turns of a burst of this size.
async fn use_burst(front: &Front, burst: usize) {
    let outcomes = front.ask_all((9_000..9_000 + burst).map(contact)).await;
    assert!(outcomes.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn memory_answers_at_once_without_a_turn() {
    let front = Front::new(limited(0.01, 1), |_| Reply::picture());
    front.ask(contact(1)).await.unwrap();
    let Either::Left(found) = front.avatar(contact(1)) else { panic!("it waits") };
    assert_eq!(told(&found.into_inner()), Ok(CacheStatus::Hit));
    assert_eq!(front.metric("hypersender_cache_lookups_total{status=\"hit\"}"), 1);
    assert_eq!((front.calls(), front.metric("hypersender_flights")), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn avatars_take_spare_turns_in_the_order_in_which_they_come() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture().after(millis(700)));
    let asked = avatars(&front, 0..30).await;
    assert_eq!(count(&outcomes(asked).await, Result::is_ok), 30);
    assert_eq!(chats(&front), (0..30).collect::<Vec<_>>());
    let times = front.upstream.times();
    assert_eq!(times, (0..30).map(|turn| turn * 200).collect::<Vec<_>>(), "the burst is left to others");
}

#[tokio::test(start_paused = true)]
async fn an_avatar_whose_turn_a_caller_takes_keeps_its_place() {
    let front = Front::new(limited(1.0, 5), |_| Reply::picture());
    use_burst(&front, 1).await;
    let asked = avatars(&front, 0..3).await;
    for chat in 100..103 {
        sleep(millis(900)).await;
        front.ask(contact(chat)).await.unwrap();
    }
    assert_eq!(count(&outcomes(asked).await, Result::is_ok), 3);
    assert_eq!(chats(&front), [9_000, 100, 101, 102, 0, 1, 2]);
    assert_eq!(front.upstream.times()[4..], [4_000, 5_000, 6_000]);
}

#[tokio::test(start_paused = true)]
async fn an_avatar_whose_turn_is_gone_when_it_starts_keeps_its_place() {
    let front = Front::new(limited(1.0, 5), |_| Reply::picture());
    use_burst(&front, 1).await;
    let [mut first, mut second] = [1, 2].map(|chat| front.avatar(contact(chat)));
    let waits = |avatar: &mut _| FutureExt::now_or_never(avatar).is_none();
    assert!(waits(&mut first) && waits(&mut second));
    advance(SECOND).await;
    // The flight of the caller runs before that of the avatar, which has seen a spare turn.
    let mut caller = Box::pin(front.ask(contact(100)));
    assert!((&mut caller).now_or_never().is_none());
    assert!(waits(&mut first));
    settle().await;
    assert!(waits(&mut first) && waits(&mut second));
    assert!(caller.await.is_ok());
    assert_eq!(chats(&front), [9_000, 100]);
    let [first, second] = [tokio::spawn(first), tokio::spawn(second)];
    assert_eq!(count(&outcomes(vec![first, second]).await, Result::is_ok), 2);
    assert_eq!(chats(&front), [9_000, 100, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_avatar_joins_a_flight_without_a_turn() {
    let front = Front::new(limited(0.01, 2), |_| Reply::picture().after(3 * SECOND));
    let caller = front.spawn(contact(1));
    settle().await;
    let answer = front.avatar(contact(1)).await.unwrap();
    assert!(answer.cache.collapsed && answer.cache.status == CacheStatus::Miss);
    assert_eq!((front.calls(), front.time()), (1, 3 * SECOND));
    assert!(caller.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_avatar_that_waits_for_a_turn_joins_a_flight_that_begins() {
    let front = Front::new(limited(0.2, 5), |_| Reply::picture().after(3 * SECOND));
    front.ask(contact(0)).await.unwrap();
    // The next spare turn comes at 5 s, and after the caller at 10 s.
    let first = front.spawn_avatar(contact(1).within(12 * SECOND));
    settle().await;
    let asked = front.spawn_avatar(contact(2));
    settle().await;
    let caller = front.spawn(contact(2));
    sleep(millis(1_100)).await;
    assert_eq!(front.metric("hypersender_collapsed_total"), 1);
    assert!(caller.await.unwrap().is_ok());
    assert!(asked.await.unwrap().unwrap().cache.collapsed);
    assert_eq!((front.time(), front.calls()), (6 * SECOND, 2));
    assert!(first.await.unwrap().is_ok());
    assert_eq!(front.upstream.times(), [0, 3_000, 10_000]);
}

#[tokio::test(start_paused = true)]
async fn the_first_avatar_leaves_its_place_when_it_joins_a_flight() {
    let front = Front::new(limited(1.0, 5), |attempt| {
        Reply::picture().after(if attempt.chat.ends_with("01") { 5 * SECOND } else { Duration::ZERO })
    });
    use_burst(&front, 1).await;
    let asked = avatars(&front, [1, 2]).await;
    let caller = front.spawn(contact(1));
    assert_eq!(count(&outcomes(asked).await, Result::is_ok), 2);
    assert_eq!((chats(&front), front.upstream.times()), (vec![9_000, 1, 2], vec![0, 0, 2_000]));
    assert_eq!(front.time(), 5 * SECOND);
    assert!(caller.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_avatar_that_waits_for_a_turn_takes_what_a_caller_fetched_meanwhile() {
    let front = Front::new(limited(0.2, 5), |_| Reply::picture());
    front.ask(contact(0)).await.unwrap();
    let asked = avatars(&front, [1]).await;
    sleep(millis(1_100)).await;
    front.ask(contact(1)).await.unwrap();
    let outcomes = outcomes(asked).await;
    assert_eq!(told(&outcomes[0]), Ok(CacheStatus::Hit));
    assert!(front.time() <= 2 * SECOND, "{:?}", front.time());
    assert_eq!(front.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_joins_the_flight_of_an_avatar_on_its_own_terms() {
    let retry = RetrySettings { attempts: 2, budget: 1.0 };
    let front = Front::new(Settings { retry, ..limited(1.0, 5) }, |attempt| match attempt.of_key {
        1 => Reply::fails(unavailable()).after(SECOND),
        _ => Reply::picture(),
    });
    let asked = avatars(&front, [1]).await;
    sleep(millis(500)).await;
    let caller = front.spawn(contact(1));
    sleep(millis(100)).await;
    // Another caller takes the turn that would be spare next.
    let _other = front.spawn(contact(2).within(millis(300)));
    assert!(caller.await.unwrap().is_ok());
    // The retry of a caller takes a turn of the burst, 100 ms after the failure at most.
    assert!(front.time() <= millis(1_100), "{:?}", front.time());
    assert!(outcomes(asked).await[0].is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_retry_of_an_avatar_comes_before_all_avatars_that_wait() {
    let retry = RetrySettings { attempts: 2, budget: 1.0 };
    let front = Front::new(Settings { retry, ..limited(1.0, 1) }, |attempt| match attempt.number {
        1 => Reply::fails(unavailable()),
        _ => Reply::picture(),
    });
    let asked = avatars(&front, 0..3).await;
    assert_eq!(count(&outcomes(asked).await, Result::is_ok), 3);
    assert_eq!(chats(&front), [0, 0, 1, 2]);
    assert_eq!(front.upstream.times(), [0, 1_000, 2_000, 3_000]);
}

#[tokio::test(start_paused = true)]
async fn an_avatar_that_leaves_lets_the_next_one_move_up() {
    let front = Front::new(limited(1.0, 1), |_| Reply::picture());
    use_burst(&front, 1).await;
    let asked = avatars(&front, 0..3).await;
    asked[0].abort();
    asked[1].abort();
    sleep(millis(1_100)).await;
    assert_eq!(chats(&front), [9_000, 2]);
    // Nothing is left in the queue that streams would give way to.
    assert_eq!(front.look_up(contacts([5])).await.unwrap().answers(), 1);
    assert_eq!(front.upstream.times(), [0, 1_000, 2_000]);
}

#[tokio::test(start_paused = true)]
async fn avatars_that_leave_at_any_moment_leave_nothing_behind() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture().after(millis(300)));
    for round in 0..300 {
        let asked = avatars(&front, 10 * round..10 * round + 3).await;
        sleep(millis((37 * round % 700) as u64)).await;
        // The head, the middle and the end of the queue, or look-ups that have started.
        let in_order = [[0, 1, 2], [1, 0, 2], [2, 1, 0]][round % 3];
        for one in in_order {
            asked[one].abort();
            for _ in 0..round % 5 {
                tokio::task::yield_now().await;
            }
        }
    }
    sleep(5 * SECOND).await;
    let (calls, start) = (front.calls(), front.time());
    assert_eq!(front.metric("hypersender_flights"), 0);
    assert!(front.avatar(contact(4_000)).await.is_ok());
    assert_eq!(front.look_up(contacts([4_001])).await.unwrap().answers(), 1);
    assert_eq!(front.time() - start, millis(600), "each has its turn at once");
    use_burst(&front, 18).await;
    assert_eq!((front.time() - start, front.calls() - calls), (millis(900), 20), "no turn is owed");
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_is_not_polled_holds_up_others_until_it_is_dropped() {
    let front = Front::new(limited(5.0, 20), |_| Reply::picture());
    use_burst(&front, 1).await;
    let mut parked = front.avatar(contact(1));
    assert!((&mut parked).now_or_never().is_none());
    let asked = avatars(&front, 2..4).await;
    let stream = front.look_up(contacts([1_000]));
    sleep(5 * SECOND).await;
    assert_eq!(front.calls(), 1);
    drop(parked);
    assert_eq!(count(&outcomes(asked).await, Result::is_ok), 2);
    assert_eq!(stream.await.unwrap().answers(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_served_and_renewed_with_a_spare_turn_alone() {
    let cache = CacheSettings { ttl: MINUTE, ..CacheSettings::default() };
    let front = Front::new(Settings { cache, ..limited(1.0, 5) }, |_| Reply::picture());
    front.ask_all((0..4).map(contact)).await;
    advance(2 * MINUTE).await;
    for chat in 0..4 {
        let found = front.avatar(contact(chat)).now_or_never().expect("it does not wait");
        assert_eq!(told(&found), Ok(CacheStatus::Stale));
        settle().await;
    }
    assert_eq!(front.calls(), 5, "one turn was to spare");
    assert_eq!(front.time(), 2 * MINUTE);
    // While an avatar waits for the next spare turn, no refresh takes it.
    let mut waits = front.avatar(contact(100));
    assert!((&mut waits).now_or_never().is_none());
    sleep(2 * SECOND).await;
    for (renews, renewed) in [(false, vec![0]), (true, vec![0, 2])] {
        if renews {
            drop(std::mem::replace(&mut waits, front.avatar(contact(0))));
        }
        assert!(front.avatar(contact(2)).now_or_never().is_some());
        settle().await;
        assert_eq!(chats(&front)[4..], renewed);
    }
    assert_eq!(front.metric("hypersender_rate_limited_total{purpose=\"refresh\"}"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_only_joins_starts_the_refresh_of_a_stale_answer() {
    let cache = CacheSettings { ttl: MINUTE, ..CacheSettings::default() };
    let front = Front::new(Settings { cache, ..plain() }, |_| Reply::picture());
    let none = front.ask(contact(1).joining()).await;
    assert!(matches!(told(&none), Err(LookupError::NoTurnYet { .. })), "{none:?}");
    front.ask(contact(1)).await.unwrap();
    advance(2 * MINUTE).await;
    assert_eq!(told(&front.ask(contact(1).joining()).await), Ok(CacheStatus::Stale));
    settle().await;
    assert_eq!(front.calls(), 2);
    assert_eq!(told(&front.ask(contact(1)).await), Ok(CacheStatus::Hit));
}

#[tokio::test]
async fn an_answer_that_another_replica_has_needs_no_turn() {
    let replicas = Replicas::new(|_| Reply::picture());
    // Turns are 100 s apart.
    let settings = || limited(0.01, 5);
    let [writer, reader] = [replicas.one_with(settings()).await, replicas.one_with(settings()).await];
    writer.ask(contact(1)).await.unwrap();
    until(&reader, contact(1).only_if_cached(), Outcome::is_ok).await;
    let reader = replicas.one_with(settings()).await;
    // The store knows that no turn is to spare, and then the replica knows it, too.
    let refused = reader.avatar(contact(2)).await;
    assert!(matches!(told(&refused), Err(LookupError::RateLimited { .. })), "{refused:?}");
    assert_eq!(told(&reader.avatar(contact(1)).await), Ok(CacheStatus::Hit));
    assert_eq!(replicas.calls(), 1);
}

#[tokio::test]
async fn avatars_of_all_replicas_share_the_spare_turns() {
    let replicas = Replicas::new(|_| Reply::picture());
    let settings = || limited(10.0, 5);
    let fronts = [replicas.one_with(settings()).await, replicas.one_with(settings()).await];
    let asked = (0..20).flat_map(|chat| {
        fronts.iter().enumerate().map(move |(one, front)| front.spawn_avatar(contact(100 * one + chat)))
    });
    let asked: Vec<_> = asked.collect();
    let outcomes = outcomes(asked).await;
    assert_eq!(count(&outcomes, Result::is_ok), 40, "{outcomes:?}");
    let attempts = replicas.upstream.attempts();
    let span = attempts[39].at - attempts[0].at;
    // A request may be late, but no turn comes early.
    assert!(span >= millis(3_800), "{span:?}");
}

#[tokio::test]
async fn avatars_come_before_streams_with_turns_of_the_store() {
    let replicas = Replicas::new(|_| Reply::picture());
    let front = replicas.one_with(limited(4.0, 5)).await;
    let stream = front.look_up(contacts(1_000..1_100));
    sleep(SECOND).await;
    let asked: Vec<_> = (0..6).map(|chat| front.spawn_avatar(contact(chat))).collect();
    assert_eq!(count(&outcomes(asked).await, Result::is_ok), 6);
    let chats = chats(&front);
    let first = chats.iter().position(|chat| *chat < 1_000).unwrap();
    let last = chats.iter().rposition(|chat| *chat < 1_000).unwrap();
    // All of them wait long before the second one has its turn.
    assert!(last - first <= 6, "{chats:?}");
    sleep(SECOND).await;
    assert!(front.calls() > last + 1, "the stream goes on");
    stream.abort();
}
