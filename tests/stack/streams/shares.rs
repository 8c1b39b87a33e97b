//! The shares of streams beside each other and beside other calls.

use hypersender_grpc::{
    domain::{CacheStatus, LookupError},
    stack::{ConcurrencySettings, Settings},
};
use tokio::time::{Duration, sleep, timeout};

use super::{assert_apart, paced};
use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_small_stream_gets_its_share_beside_a_large_one() {
    let front = Front::new(paced(5.0), |_| Reply::picture().after(millis(300)));
    let large = front.look_up(contacts(0..10_000));
    sleep(10 * SECOND).await;
    let small = front.look_up(contacts(10_000..10_010)).await.unwrap();
    assert_eq!(small.answers(), 10);
    // Every other turn is its own.
    assert!((13 * SECOND..=millis(14_600)).contains(&front.time()), "{:?}", front.time());
    assert_apart(&front.upstream.times(), 200);
    large.abort();
}

#[tokio::test(start_paused = true)]
async fn streams_of_one_instance_take_turns() {
    let front = Front::new(paced(10.0), |_| Reply::picture().after(millis(250)));
    let streams: Vec<_> = (0..4).map(|one| front.look_up(contacts(one * 1_000..one * 1_000 + 500))).collect();
    sleep(20 * SECOND).await;
    let attempts = front.upstream.attempts();
    for one in 0..4 {
        let first = format!("155500{one:02}");
        let own = attempts.iter().filter(|attempt| attempt.chat.starts_with(&first)).count();
        assert!((48..=51).contains(&own), "{own}");
    }
    assert!(attempts.len() >= 195, "{}", attempts.len());
    for stream in streams {
        assert_eq!(stream.await.unwrap().answers(), 500);
    }
}

/// The times at which callers of an instance got their answers, beside this many streams of another one.
async fn waits_beside(streams: usize) -> Vec<Duration> {
    let settings =
        Settings { concurrency: ConcurrencySettings { attempts: 64 }, flights: 1_024, ..paced(5.0) };
    let front = Front::new(settings, |_| Reply::picture().after(SECOND));
    let streams: Vec<_> =
        (0..streams).map(|one| front.look_up(contacts(one * 1_000..one * 1_000 + 999))).collect();
    sleep(10 * SECOND).await;
    let mut callers = Vec::new();
    for chat in 0..60 {
        let front = front.clone();
        callers.push(tokio::spawn(async move {
            front.ask(contact(chat).of("other")).await.unwrap();
            front.time()
        }));
        sleep(millis(30)).await;
    }
    let mut times = Vec::new();
    for caller in callers {
        times.push(caller.await.unwrap());
    }
    streams.iter().for_each(tokio::task::JoinHandle::abort);
    times
}

#[tokio::test(start_paused = true)]
async fn streams_of_one_instance_slow_down_no_caller_of_another() {
    assert_eq!(waits_beside(0).await, waits_beside(16).await);
}

#[tokio::test(start_paused = true)]
async fn callers_of_the_same_instance_wait_one_turn_longer_at_most() {
    const TURN: Duration = millis(200);
    let reply = |_: &Attempt| Reply::picture().after(millis(300));
    let (front, quiet) = (Front::new(paced(5.0), reply), Front::new(paced(5.0), reply));
    let streams: Vec<_> =
        (0..16).map(|one| front.look_up(contacts(one * 1_000..one * 1_000 + 999))).collect();
    let mut longest = Duration::ZERO;
    for round in 0..10 {
        // In this time the burst comes back. Each round starts at another moment between two turns.
        sleep(5 * SECOND + millis(37 * round)).await;
        let first = 20_000 + 20 * usize::try_from(round).unwrap();
        let (with, without) = (burst(&front, first).await, burst(&quiet, first).await);
        for (with, without) in with.into_iter().zip(without) {
            longest = longest.max(with.saturating_sub(without));
        }
    }
    assert!(longest <= TURN, "{longest:?}");
    assert!(front.calls() > 200 + 100, "the streams run, too");
    streams.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn without_a_rate_limit_the_bounds_alone_hold() {
    let slow = |_: &Attempt| Reply::picture().after(SECOND);
    // 64 look-ups of each stream.
    let front = Front::new(paced(0.0), slow);
    let streams: Vec<_> = (0..2).map(|one| front.look_up(contacts(one * 1_000..one * 1_000 + 640))).collect();
    for stream in streams {
        assert_eq!(stream.await.unwrap().answers(), 640);
    }
    assert_eq!((front.upstream.most_at_once(), front.time()), (128, 10 * SECOND));
    // Half of the flights, for the streams of all instances together.
    let front = Front::new(Settings { flights: 20, ..paced(0.0) }, slow);
    let streams = ["a", "b", "c"].map(|instance| front.look_up(contacts(0..100).of(instance)));
    for stream in streams {
        assert_eq!(stream.await.unwrap().answers(), 100);
    }
    assert_eq!((front.upstream.most_at_once(), front.time()), (10, 30 * SECOND));
    // Half of the attempts of an instance, which are 8, for all of its streams.
    for (attempts, of_streams) in [(16, 4), (2, 1), (1, 1)] {
        let concurrency = ConcurrencySettings { attempts };
        let front = Front::new(Settings { concurrency, ..paced(0.0) }, slow);
        let streams: Vec<_> = (0..3).map(|one| front.look_up(contacts(one * 100..one * 100 + 8))).collect();
        for stream in streams {
            assert_eq!(stream.await.unwrap().answers(), 8);
        }
        assert_eq!(front.upstream.most_at_once(), of_streams, "{attempts}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_holds_up_no_other() {
    let front = Front::new(paced(1.0), |_| Reply::picture());
    let mut idle = front.stream(contacts(0..100));
    assert!(idle.next().await.is_some());
    // It waits for its turn in the first place of the queue.
    assert!(timeout(millis(500), idle.next()).await.is_err());
    idle.leave_queue();
    let other = timeout(12 * SECOND, front.look_up(contacts(200..210))).await.unwrap().unwrap();
    assert_eq!(other.answers(), 10);
    assert_eq!(front.read(&mut *idle).await.answers(), 99, "it goes on where it was");
}

#[tokio::test(start_paused = true)]
async fn look_ups_that_have_ended_hold_no_permit_of_a_stream_that_is_not_read() {
    // Streams have 4 attempts of an instance, and 4 flights.
    let bounds = Settings { concurrency: ConcurrencySettings { attempts: 16 }, flights: 8, ..paced(0.0) };
    let front = Front::new(bounds, |_| Reply::picture().after(SECOND));
    let mut idle = front.stream(contacts(0..100));
    assert!(timeout(millis(500), idle.next()).await.is_err());
    assert_eq!(front.upstream.on_wire(), 4);
    idle.leave_queue();
    sleep(SECOND).await;
    let other = timeout(11 * SECOND, front.look_up(contacts(200..240))).await.unwrap().unwrap();
    assert_eq!(other.answers(), 40);
    assert_eq!(front.read(&mut *idle).await.answers(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_keeps_no_flight_from_other_instances() {
    // Streams have one flight.
    let front =
        Front::new(Settings { flights: 2, ..paced(5.0) }, |attempt| match attempt.instance.as_str() {
            "paused" => Reply::fails(LookupError::UpstreamRateLimited { retry_after: Some(HOUR) }),
            _ => Reply::picture(),
        });
    let slow = front.look_up(contacts(0..10).of("paused"));
    sleep(SECOND).await;
    assert_eq!(front.look_up(contacts(0..50)).await.unwrap().answers(), 50);
    assert!(front.time() < 12 * SECOND, "{:?}", front.time());
    assert_eq!(front.upstream.calls_of("paused"), 1);
    slow.abort();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cools_down_holds_up_no_other_token() {
    let front = Front::new(paced(5.0), |attempt| match attempt.number {
        1 => Reply::fails(LookupError::InstanceStarting),
        _ => Reply::picture(),
    });
    let cools = front.look_up(contacts(0..10).with_token("other"));
    settle().await;
    assert_eq!(front.look_up(contacts(0..20)).await.unwrap().answers(), 20);
    assert!(front.time() < 5 * SECOND, "{:?}", front.time());
    assert_eq!(cools.await.unwrap().answers(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_caller_joins_the_look_up_of_a_stream() {
    let front = Front::new(paced(5.0), |_| Reply::picture().after(SECOND));
    let stream = front.look_up(contacts(0..1));
    settle().await;
    let answer = front.ask(contact(0)).await.unwrap();
    assert!(answer.cache.collapsed && answer.cache.status == CacheStatus::Miss);
    assert_eq!((stream.await.unwrap().answers(), front.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_turn_is_gone_waits_for_no_flight() {
    // Streams have one flight, and a look-up of instance "b" has it for 3 s.
    let front = Front::new(Settings { flights: 2, ..paced(5.0) }, |attempt| {
        Reply::picture().after(if attempt.number == 1 { 3 * SECOND } else { Duration::ZERO })
    });
    let slow = front.look_up(contacts(0..5).of("b"));
    sleep(millis(100)).await;
    let waits = front.look_up(contacts(0..5).of("a"));
    sleep(SECOND).await;
    for chat in 100..120 {
        front.ask(contact(chat).of("a")).await.unwrap();
    }
    assert_eq!(slow.await.unwrap().answers(), 5);
    assert!(front.time() < millis(4_500), "{:?}", front.time());
    assert_eq!(waits.await.unwrap().answers(), 5);
}

#[tokio::test(start_paused = true)]
async fn streams_of_many_instances_leave_half_of_the_wire_to_callers() {
    let settings =
        Settings { concurrency: ConcurrencySettings { attempts: 64 }, flights: 1_024, ..paced(5.0) };
    let front = Front::new(settings, |attempt| {
        Reply::picture().after(if attempt.instance == "other" { SECOND } else { 6 * SECOND })
    });
    let instances = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let streams = instances.map(|instance| front.look_up(contacts(0..1_000).of(instance)));
    sleep(10 * SECOND).await;
    assert_eq!(front.upstream.most_at_once(), 32);
    front.ask(contact(0).of("other")).await.unwrap();
    assert_eq!(front.time(), 11 * SECOND);
    sleep(50 * SECOND).await;
    for instance in instances {
        assert!(front.upstream.calls_of(instance) >= 20, "{instance}");
    }
    streams.iter().for_each(tokio::task::JoinHandle::abort);
}
