//! The flight in every order that its steps can take: the source of `stack/flight` itself, built on shuttle's tokio and
//! dashmap, which let a scheduler choose who goes on at each lock, wait and spawn.
//!
//! What shuttle does not see: std's atomics and the waiters' own lock, which have no other step inside them, and time,
//! which runs out when a test says so. A failure prints its schedule, which `shuttle::replay` plays again.

#![expect(clippy::unwrap_used, reason = "clippy does not see that all of this is a test")]

// `tokio` and `dashmap` in the flight's source mean these.
extern crate self as tokio;
extern crate shuttle_dashmap as dashmap;

mod world;

#[path = "../../src/stack/ask.rs"]
mod ask;
#[path = "../../src/stack/flight.rs"]
mod flight;

use std::{cell::RefCell, future::Future, io::Write};

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
    domain::LookupError,
    world::{Fetches, Outcome, Plan, World},
};

/// Orders that are tried of each test, by each of two ways to choose them.
const SCHEDULES: usize = 4_000;
/// Changes of mind of the second way, which runs one task as far as it goes: most races need no more than three.
const CHANGES: usize = 3;
const SEED: u64 = 13;

thread_local! {
    /// The fetches of this schedule that were not waited for. Shuttle runs all tasks of a test in its thread.
    static FETCHES: RefCell<Vec<JoinHandle<()>>> = const { RefCell::new(Vec::new()) };
}

/// `tokio::spawn`, for the flight: what it spawns can be waited for, and ended from outside.
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
        // One that was aborted has ended too.
        let _ = fetch.await;
    }
}

/// Runs `scenario` in a world with room for `flights` fetches, under many schedules, and says how many.
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
    // Past the capture of the test harness, so that it is seen in a run that passes.
    let mut log = std::io::stderr();
    writeln!(log, "flight: {name}: {} schedules", random + changes).unwrap();
}

/// What must hold when every caller is gone: its fetch ends, no flight is left in the map, the count is back at zero.
async fn nothing_is_left(flight: Fetches, world: World) {
    time::clear_triggers();
    until_fetches_end().await;
    assert!(!world.had_side_by_side(), "two fetches of one chat ran at once");
    let (max, asked) = (world.flights_max(), world.asked());
    world.close_gate();
    // The chats of the scenario are among them: a flight that was left behind would be joined.
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

/// A caller: looks into the store first, as the cache does, and asks when nothing is there or when it is to `renew` it.
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
    // It ends at its next wait, or with an outcome if there is none.
    let _ = caller.await;
}

/// Lets others go first, more or less of them.
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
            // It would be one, had the second call joined the flight that told the first.
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
        // Whoever started it is told, for nobody would have done better in its place.
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
    });
}
