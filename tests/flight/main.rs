//! The flight in every order of its steps. The source of `stack/flight` is compiled with shuttle's tokio and
//! dashmap, whose scheduler chooses the next task at each lock, wait and spawn.
//!
//! Shuttle does not control std's atomics and the lock of the waiters, where no task can change, and it does
//! not control time: a time-out ends when a test says so. A failure prints its schedule, which
//! `shuttle::replay` repeats.

#![expect(clippy::unwrap_used, reason = "clippy does not see that all of this is a test")]

// In the source of the flight, `tokio` and `dashmap` are these two.
extern crate self as tokio;
extern crate shuttle_dashmap as dashmap;

mod world;

#[path = "../../src/stack/ask.rs"]
mod ask;
#[path = "../../src/stack/flight.rs"]
mod flight;

use std::{cell::RefCell, future::Future, io::Write, time::Duration};

use hypersender_grpc::{domain, telemetry};
use shuttle::{
    Config, Runner,
    future::{AbortHandle, JoinHandle, block_on, yield_now},
    rand::Rng,
    scheduler::{PctScheduler, RandomScheduler, Scheduler},
};
pub use shuttle_tokio::{sync, time};
use tower::ServiceExt;

use self::{
    domain::{Lookup, LookupError, Purpose},
    world::{Fetches, Outcome, Plan, World},
};

/// The number of orders of each test that are tried with each of the two schedulers.
const SCHEDULES: usize = 4_000;
/// The number of task changes by the second scheduler, which otherwise runs a task as long as possible. Most
/// races need three at most.
const CHANGES: usize = 3;
const SEED: u64 = 13;

thread_local! {
    /// The fetches of this schedule. Shuttle runs all tasks of a test in one thread.
    static FETCHES: RefCell<Vec<JoinHandle<()>>> = const { RefCell::new(Vec::new()) };
}

/// The `tokio::spawn` of the flight. A test can wait for a spawned fetch and can abort it.
pub fn spawn(fetch: impl Future<Output = ()> + Send + 'static) {
    let fetch = shuttle::future::spawn(fetch);
    FETCHES.with_borrow_mut(|fetches| fetches.push(fetch));
}

fn abort_fetches() {
    let fetches: Vec<_> = FETCHES.with_borrow(|all| all.iter().map(JoinHandle::abort_handle).collect());
    fetches.iter().for_each(AbortHandle::abort);
}

async fn until_fetches_end() {
    while let Some(fetch) = FETCHES.with_borrow_mut(Vec::pop) {
        // An aborted fetch has ended, too.
        let _ = fetch.await;
    }
}

/// Runs `scenario` with many schedules in a world with room for `flights` fetches, and prints the number of
/// schedules.
fn explore<S, F>(name: &str, flights: usize, plan: Plan, scenario: S)
where
    S: Fn(Fetches, World) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()>,
{
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let scenario = scenario.clone();
        Runner::new(scheduler, Config::new()).run(move || {
            time::clear_triggers();
            let (flight, world) = World::with_flights(flights, plan);
            block_on(async {
                scenario(flight.clone(), world.clone()).await;
                nothing_is_left(flight, world).await;
            });
        })
    };
    let random = run(Box::new(RandomScheduler::new_from_seed(SEED, SCHEDULES)));
    let changes = run(Box::new(PctScheduler::new_from_seed(SEED, CHANGES, SCHEDULES)));
    // This bypasses the capture of the test harness, so that a passing run prints it, too.
    let mut log = std::io::stderr();
    writeln!(log, "flight: {name}: {} schedules", random + changes).unwrap();
}

/// Checks the state after all callers have left: the fetches end, the map has no flight, and the count is
/// zero.
async fn nothing_is_left(flight: Fetches, world: World) {
    time::clear_triggers();
    until_fetches_end().await;
    assert!(!world.had_side_by_side(), "two fetches of one chat ran at once");
    let (max, asked) = (world.flights_max(), world.asked());
    world.close_gate();
    // These calls include the chats of the scenario. They would join a flight that was left behind.
    let chats: Vec<_> = (0..max).collect();
    let waiting = callers(&flight, &world, &chats, true);
    world.until_running(max).await;
    let refused = call(flight, world.clone(), max, true).await;
    assert_eq!(refused.err(), Some(LookupError::Overloaded), "fewer flights are counted than there are");
    world.open_gate();
    for outcome in outcomes(waiting).await {
        assert!(!outcome.expect("no more flights are counted than there are").cache.collapsed);
    }
    assert_eq!(world.asked(), asked + max);
    until_fetches_end().await;
}

/// A caller. Like the cache, it looks into the store first, and it asks if the store is empty or if it must
/// `renew` the answer.
async fn call(flight: Fetches, world: World, chat: usize, renew: bool) -> Outcome {
    let seen = world.stored(chat);
    if let Some(number) = seen
        && !renew
    {
        return Ok(world.answer(number));
    }
    let outcome = flight.oneshot(world.lookup(chat, seen)).await;
    if let Ok(answer) = &outcome {
        let told = Some(world.number(answer));
        assert!(told >= seen, "told an older answer than was seen before");
        assert!(world.stored(chat) >= told, "told an answer that is not stored");
    }
    outcome
}

/// The look-ups of this number of streams, which have seen nothing yet.
fn streams(flight: &Fetches, world: &World, count: usize) -> Vec<JoinHandle<Outcome>> {
    let stream = |_| Lookup { own_purpose: Purpose::Stream, ..world.lookup(0, None) };
    (0..count).map(stream).map(|lookup| shuttle::future::spawn(flight.clone().oneshot(lookup))).collect()
}

fn callers(flight: &Fetches, world: &World, chats: &[usize], renew: bool) -> Vec<JoinHandle<Outcome>> {
    let call = |chat: &usize| call(flight.clone(), world.clone(), *chat, renew);
    chats.iter().map(|chat| shuttle::future::spawn(call(chat))).collect()
}

async fn outcomes(callers: Vec<JoinHandle<Outcome>>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for caller in callers {
        outcomes.push(caller.await.expect("nobody aborts it"));
    }
    outcomes
}

async fn cancel(caller: JoinHandle<Outcome>) {
    caller.abort();
    // The task ends at its next wait, or with an outcome if no wait follows.
    let _ = caller.await;
}

/// Lets other tasks run first, in a random number of steps.
async fn pause() {
    for _ in 0..shuttle::rand::thread_rng().gen_range(0..12) {
        yield_now().await;
    }
}

#[test]
fn callers_of_one_cold_key_share_one_fetch() {
    explore("one cold key", 2, Plan::Answer, |flight, world| async move {
        let outcomes = outcomes(callers(&flight, &world, &[0, 0, 0, 0], false)).await;
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(world.asked(), 1);
    });
}

#[test]
fn callers_that_cancel_leave_the_others_as_they_were() {
    explore("cancelled callers", 2, Plan::Answer, |flight, world| async move {
        let cancelled = callers(&flight, &world, &[0, 0], false);
        let others = callers(&flight, &world, &[0, 0], false);
        for caller in cancelled {
            pause().await;
            cancel(caller).await;
        }
        assert!(outcomes(others).await.iter().all(Result::is_ok));
        assert_eq!(world.asked(), 1);
    });
}

#[test]
fn a_fetch_that_nobody_waits_for_still_fills_the_store() {
    explore("nobody waits", 1, Plan::Answer, |flight, world| async move {
        let [caller] = <[_; 1]>::try_from(callers(&flight, &world, &[0], false)).unwrap();
        pause().await;
        cancel(caller).await;
        let started = FETCHES.with_borrow(|fetches| !fetches.is_empty());
        until_fetches_end().await;
        assert_eq!(world.stored(0).is_some(), started);
    });
}

#[test]
fn who_was_told_may_ask_again_at_once() {
    explore("one caller twice", 2, Plan::Answer, |flight, world| async move {
        for times in 1..=2 {
            assert!(call(flight.clone(), world.clone(), 0, true).await.is_ok());
            // It would be 1 if the second call joined the flight that answered the first one.
            assert_eq!(world.asked(), times);
        }
    });
}

#[test]
fn callers_that_renew_never_fetch_side_by_side() {
    explore("renewed keys", 3, Plan::Answer, |flight, world| async move {
        let first = callers(&flight, &world, &[0, 0, 1], true);
        pause().await;
        let second = callers(&flight, &world, &[0, 1, 0], true);
        assert!(outcomes(first).await.iter().all(Result::is_ok));
        assert!(outcomes(second).await.iter().all(Result::is_ok));
    });
}

#[test]
fn however_a_fetch_ends_every_waiter_is_told() {
    let check = |name, plan, disturb: fn(), told: LookupError| {
        explore(name, 2, plan, move |flight, world| {
            let told = told.clone();
            async move {
                let callers = callers(&flight, &world, &[0, 0, 0], true);
                pause().await;
                disturb();
                let outcomes = outcomes(callers).await;
                assert!(
                    outcomes.iter().all(|it| it.is_ok() || it.as_ref().is_err_and(|error| *error == told))
                );
            }
        });
    };
    check("a panic", Plan::PanicAtFirst, || (), LookupError::Internal);
    check("an aborted fetch", Plan::Answer, abort_fetches, LookupError::Internal);
    let run_out = || time::trigger_timeouts(|_| true);
    check("time that runs out", Plan::Answer, run_out, LookupError::TimedOut { retry_after: None });
}

#[test]
fn who_joined_a_flight_that_was_refused_starts_another() {
    explore("a refused flight", 2, Plan::RefuseAtFirst, |flight, world| async move {
        let outcomes = outcomes(callers(&flight, &world, &[0, 0, 0], true)).await;
        // The caller that started the flight gets the refusal, since no other caller has more time.
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
    });
}

#[test]
fn a_caller_is_never_held_to_the_terms_of_a_stream() {
    explore("a caller beside streams", 3, Plan::RefuseStreams, |flight, world| async move {
        let mut before = streams(&flight, &world, 2);
        pause().await;
        let callers = callers(&flight, &world, &[0, 0], false);
        before.extend(streams(&flight, &world, 2));
        assert!(outcomes(callers).await.iter().all(Result::is_ok));
        for outcome in outcomes(before).await {
            assert!(matches!(outcome, Ok(_) | Err(LookupError::NoTurnYet { .. })), "{outcome:?}");
        }
        assert_eq!(world.asked(), 1);
    });
}

#[test]
fn an_avatar_that_only_joins_starts_no_flight_and_shares_the_fetch() {
    explore("an avatar that joins", 2, Plan::Answer, |flight, world| async move {
        let joining = || Lookup { own_purpose: Purpose::Avatar, joins_only: true, ..world.lookup(0, None) };
        let alone = flight.clone().oneshot(joining()).await;
        assert_eq!(alone.err(), Some(LookupError::NoTurnYet { wait: Duration::ZERO }));
        assert_eq!(world.asked(), 0);
        let callers = callers(&flight, &world, &[0, 0], false);
        let joins = |lookup| shuttle::future::spawn(flight.clone().oneshot(lookup));
        let avatars = [joining(), joining()].map(joins);
        assert!(outcomes(callers).await.iter().all(Result::is_ok));
        for outcome in outcomes(avatars.into()).await {
            assert!(matches!(outcome, Ok(_) | Err(LookupError::NoTurnYet { .. })), "{outcome:?}");
        }
        assert_eq!(world.asked(), 1);
    });
}

#[test]
fn streams_alone_wait_outside_the_flight() {
    explore("streams alone", 2, Plan::RefuseStreams, |flight, world| async move {
        for outcome in outcomes(streams(&flight, &world, 3)).await {
            assert_eq!(outcome.err(), Some(LookupError::NoTurnYet { wait: Duration::ZERO }));
        }
        assert_eq!(world.asked(), 0);
    });
}
