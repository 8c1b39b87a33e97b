//! One limit over all replicas, with the terms of each purpose.

use tokio::time::{Instant, sleep};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_together_use_the_rate_and_no_more() {
    let replicas = Replicas::new(|_| Reply::picture());
    let fronts = three(&replicas).await;
    fronts[0].ask(contact(1)).await.unwrap();
    sleep(2 * SECOND).await;
    let (stalls, began) = (Stalls::measure(), Instant::now());
    let demand = Demand::of(&fronts, CALLERS, 1);
    sleep(5 * SECOND).await;
    let used = replicas.calls() - 1;
    let expected = f64::from(BURST) + RATE * (began.elapsed() - stalls.longest()).as_secs_f64();
    all_answered(demand.end().await);
    check(&replicas.upstream, RATE, 0.0, &stalls);
    // No turn is lost while callers wait, on whichever replica.
    assert!(f64::from(u32::try_from(used).unwrap()) >= 0.8 * expected, "{used} of {expected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_of_callers_who_leave_are_those_of_other_replicas() {
    let replicas = Replicas::new(|_| Reply::picture());
    let [first, second, _] = three(&replicas).await;
    let leaving: Vec<_> = (10..70).map(|chat| first.spawn(contact(chat))).collect();
    sleep(millis(500)).await;
    leaving.iter().for_each(tokio::task::JoinHandle::abort);
    sleep(millis(200)).await;
    let (stalls, before) = (Stalls::measure(), Instant::now());
    second.ask(contact(100)).await.unwrap();
    // Their turns would take five seconds more.
    assert!(before.elapsed() < 2 * SECOND + stalls.longest(), "{:?}", before.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_leaves_the_turns_to_the_callers_of_other_replicas() {
    let replicas = Replicas::new(|_| Reply::picture());
    let [first, second, _] = three(&replicas).await;
    let stalls = Stalls::measure();
    // There are always callers who wait.
    let demand = Demand::of([&first], 2 * CALLERS, 1);
    sleep(SECOND).await;
    let stream = second.look_up(contacts(0..15));
    sleep(2 * SECOND).await;
    let in_stream = |chat: &str| chat.len() == 11 && chat < "15550000015";
    let asked = |upstream: &Upstream| {
        upstream.attempts().iter().filter(|attempt| in_stream(attempt.chat.trim_start_matches('+'))).count()
    };
    let beside = asked(&replicas.upstream);
    all_answered(demand.end().await);
    let ended = stream.await.unwrap();
    assert_eq!((ended.answers(), asked(&replicas.upstream)), (15, 15));
    assert!(beside <= 2, "{beside} beside callers");
    check(&replicas.upstream, RATE, 0.0, &stalls);
}
