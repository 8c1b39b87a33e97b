//! The scripts of the store give the same turns as [`Gcra`], starting from an existing record.
//!
//! In the copies of the scripts that run here, the time is that of a key, so that both sides live in the same
//! moments.

use std::cell::RefCell;

use proptest::{collection::vec, prelude::*, sample::select, test_runner::TestRunner};
use redis::{Client, Connection, Script, ToRedisArgs};

use super::{
    tests::{Step, limit, step},
    *,
};
use crate::stack::store::testing::Server;

/// The clock of the server at the beginning, in microseconds: a moment of 2026.
const START: u64 = 1_795_727_477_816_451;
/// The longest wait that the scripts book.
const PATIENCE_MAX: Duration = Duration::from_secs(15);

/// The place of each script in an array of them.
const TURN: usize = 0;
const GIVE_BACK: usize = 1;
const PUSH_BACK: usize = 2;

macro_rules! script {
    ($file:literal) => {
        at_given_times(concat!(
            include_str!("../../store/valkey/turns.lua"),
            include_str!(concat!("../../store/valkey/", $file))
        ))
    };
}

fn at_given_times(source: &str) -> Script {
    let clock = "redis.call('TIME')";
    assert_eq!(source.matches(clock).count(), 1, "the scripts read the clock once");
    Script::new(&source.replace(clock, "{ 0, redis.call('GET', 'clock') }"))
}

/// The turns of a record in a real server.
struct Recorded<'a> {
    connection: &'a mut Connection,
    scripts: &'a [Script; 3],
    limit: Limit,
}

impl<'a> Recorded<'a> {
    /// A record of which no turn is taken.
    fn new(connection: &'a mut Connection, scripts: &'a [Script; 3], limit: Limit) -> Self {
        let () = redis::cmd("FLUSHALL").query(connection).unwrap();
        let mut record = redis::cmd("HSET");
        record.arg("turn").arg(&["next", "1000000", "changes", "0"]);
        for time in ["free_at", "spare_at", "paused_until"] {
            record.arg(time).arg(START);
        }
        let () = record.query(connection).unwrap();
        Self { connection, scripts, limit }
    }

    fn turn(&mut self, mode: &str, passed: Duration, patience: Duration) -> Result<Duration, Duration> {
        self.call(TURN, passed, &[mode.to_owned(), patience.as_micros().to_string()])
    }

    /// Calls a script when this time has passed. Returns the wait in the reply, as a success if something
    /// was taken.
    fn call(
        &mut self,
        script: usize,
        passed: Duration,
        rest: &[impl ToRedisArgs],
    ) -> Result<Duration, Duration> {
        let reply = self.call_knowing(Known::default(), script, passed, rest);
        if reply.is_taken { Ok(reply.wait) } else { Err(reply.wait) }
    }

    fn call_knowing(
        &mut self,
        known: Known,
        script: usize,
        passed: Duration,
        rest: &[impl ToRedisArgs],
    ) -> Reply {
        let time = START + micros(passed);
        let () = redis::cmd("SET").arg("clock").arg(time).query(self.connection).unwrap();
        let mut call = self.scripts[script].key("turn");
        call.key("back").arg(micros(self.limit.interval)).arg(micros(self.limit.slack));
        call.arg(micros(known.free_in)).arg(micros(known.pause)).arg(known.changes).arg(rest);
        let (now, is_taken, rest): (u64, bool, [u64; 5]) = {
            let (now, is_taken, wait, free_in, spare_in, pause, changes) =
                call.invoke(self.connection).unwrap();
            (now, is_taken, [wait, free_in, spare_in, pause, changes])
        };
        assert_eq!(now, time);
        let [wait, free_in, spare_in, pause] = [0, 1, 2, 3].map(|index| Duration::from_micros(rest[index]));
        Reply { is_taken, wait, spare_in, known: Known { free_in, pause, changes: rest[4] } }
    }
}

/// What a caller knows of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    free_in: Duration,
    pause: Duration,
    changes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reply {
    is_taken: bool,
    wait: Duration,
    spare_in: Duration,
    known: Known,
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap()
}

fn signed(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap()
}

/// Runs `test` with a record of which no turn is taken.
fn with_record(limit: Limit, test: impl FnOnce(&mut Recorded)) {
    let server = Server::start();
    let mut connection = connect(&server);
    test(&mut Recorded::new(&mut connection, &scripts(), limit));
}

fn connect(server: &Server) -> Connection {
    Client::open(format!("redis://127.0.0.1:{}", server.port())).unwrap().get_connection().unwrap()
}

fn scripts() -> [Script; 3] {
    [script!("turn.lua"), script!("give_back.lua"), script!("push_back.lua")]
}

#[test]
fn the_scripts_of_the_store_give_the_same_turns() {
    let server = Server::start();
    let (connection, scripts) = (RefCell::new(connect(&server)), scripts());
    let steps = vec((step(), any::<bool>(), -4..=4_i64), 1..80);
    let settings = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(settings)
        .run(&(steps, select(vec![0.5, 1.0, 5.0, 7.0]), 1..25_u32), |(steps, per_second, burst)| {
            let (mut turns, start) = limit(per_second, burst);
            let mut connection = connection.borrow_mut();
            let mut record = Recorded::new(&mut connection, &scripts, turns.limit);
            check(&mut turns, &mut record, start, &steps)
        })
        .unwrap();
}

/// Takes the same steps on both sides. A step has a flag, which says whether Hypersender has answered, and an
/// inaccuracy of the time until a turn that is given back, in tenths of an interval.
fn check(
    turns: &mut Gcra,
    record: &mut Recorded,
    start: Instant,
    steps: &[(Step, bool, i64)],
) -> Result<(), TestCaseError> {
    let (mut now, mut booked) = (start, Vec::new());
    for (step, answered, inaccuracy) in steps {
        let passed = now - start;
        let patience = match step {
            Step::Caller { patience } => Duration::from_millis(*patience).min(PATIENCE_MAX),
            _ => Duration::ZERO,
        };
        match step {
            Step::Pass { millis } => now += Duration::from_millis(*millis),
            Step::Caller { .. } | Step::Batch => {
                let expected = turns.turn(now, now + patience);
                booked.extend(expected.ok());
                let reply = record.turn("book", passed, patience);
                prop_assert_eq!(reply, expected.map(|turn| turn - now));
            }
            Step::Stream => {
                let expected = turns.spare_turn(now).map(|()| Duration::ZERO);
                prop_assert_eq!(record.turn("spare", passed, patience), expected);
            }
            Step::Leave { turn } => {
                if booked.get(*turn).is_some_and(|turn| *turn > now) {
                    let turn = booked.swap_remove(*turn);
                    turns.give_back(turn, now);
                    let inexact = signed(turn - now) + inaccuracy * signed(turns.interval()) / 10;
                    let _ = record.call(GIVE_BACK, passed, &[inexact]);
                }
            }
            Step::PushedBack { seconds } => {
                // The store forgets refusals after a while, as the table of instances does here.
                if *answered || turns.paused_until + PAUSE_MAX <= now {
                    turns.answered();
                }
                let asked = seconds.map(Duration::from_secs);
                let expected = turns.pushed_back(now, asked);
                let rest = [asked.map_or(-1, signed), i64::from(*answered)];
                prop_assert_eq!(record.call(PUSH_BACK, passed, &rest), Ok(expected));
            }
        }
    }
    Ok(())
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// A limit of one turn a second, five at once.
const ONE_A_SECOND: Limit = Limit { interval: SECOND, slack: Duration::from_secs(4) };

/// The waits of the next turns that are booked, in seconds.
fn book<const N: usize>(record: &mut Recorded, passed: Duration) -> [u64; N] {
    [(); N].map(|()| {
        let wait = record.turn("book", passed, PATIENCE_MAX).unwrap();
        assert_eq!(wait.subsec_micros(), 0, "{wait:?}");
        wait.as_secs()
    })
}

fn delete(record: &mut Recorded, key: &str) {
    let _: u64 = redis::cmd("DEL").arg(key).query(record.connection).unwrap();
}

#[test]
fn without_a_record_the_first_turn_comes_at_once_and_the_burst_grows_back() {
    with_record(ONE_A_SECOND, |record| {
        delete(record, "turn");
        assert_eq!(record.turn("spare", Duration::ZERO, Duration::ZERO), Err(4 * SECOND));
        assert_eq!(book(record, Duration::ZERO), [0, 1, 2]);
        // Seven seconds pay for three turns, and for four of the burst.
        assert_eq!(book(record, 7 * SECOND), [0, 0, 0, 0, 0, 1]);
    });
}

#[test]
fn a_record_that_has_lost_changes_takes_over_the_later_times_once() {
    with_record(ONE_A_SECOND, |record| {
        let look = |record: &mut Recorded, known, passed| record.call_knowing(known, TURN, passed, &["look"]);
        let _: [u64; 8] = book(record, Duration::ZERO);
        let known = look(record, Known::default(), Duration::ZERO).known;
        assert_eq!(known, Known { free_in: 8 * SECOND, pause: Duration::ZERO, changes: 8 });
        // Times that are inexact do not push the turns away.
        let inexact = Known { free_in: known.free_in + SECOND, pause: SECOND, ..known };
        assert_eq!(look(record, inexact, Duration::ZERO).known, known);
        let late = Known { pause: 3 * SECOND, ..known };
        for changes in ["", "7"] {
            let _: u64 =
                redis::cmd("HSET").arg("turn").arg("changes").arg(7).query(record.connection).unwrap();
            let times = ["free_at", "spare_at"].map(|time| (time, START - 1));
            let () = redis::cmd("HSET").arg("turn").arg(&times).query(record.connection).unwrap();
            let _: u64 =
                redis::cmd("ZADD").arg("back").arg(&[START + 1; 2]).query(record.connection).unwrap();
            if changes.is_empty() {
                delete(record, "turn");
            }
            let reply = look(record, late, Duration::ZERO);
            assert_eq!((reply.known.free_in, reply.spare_in), (8 * SECOND, 8 * SECOND), "{changes}");
            assert_eq!((reply.known.pause, reply.wait), (3 * SECOND, 4 * SECOND), "{changes}");
            // The others know it by now.
            assert_eq!(look(record, reply.known, SECOND).known.free_in, 7 * SECOND);
        }
    });
}

#[test]
fn a_clock_that_steps_back_changes_no_wait() {
    with_record(ONE_A_SECOND, |record| {
        let _: [u64; 8] = book(record, HOUR);
        assert_eq!(record.turn("look", Duration::ZERO, PATIENCE_MAX), Err(4 * SECOND));
        let reply = record.call_knowing(Known::default(), TURN, Duration::ZERO, &["look"]);
        assert_eq!(reply.known.pause, Duration::ZERO, "there was none");
        assert_eq!(book(record, SECOND), [3]);
        let asked = signed(Duration::from_secs(30));
        assert_eq!(record.call(PUSH_BACK, HOUR, &[asked, 0]), Ok(30 * SECOND));
        assert_eq!(record.turn("look", SECOND, PATIENCE_MAX), Err(30 * SECOND));
    });
}

#[test]
fn a_record_from_the_future_holds_up_turns_for_a_bounded_time() {
    with_record(ONE_A_SECOND, |record| {
        let forget = |record: &mut Recorded| {
            let _: u64 = redis::cmd("HDEL").arg("turn").arg("at").query(record.connection).unwrap();
        };
        let _: [u64; 8] = book(record, HOUR);
        forget(record);
        assert_eq!(record.turn("book", Duration::ZERO, PATIENCE_MAX), Err(16 * SECOND));
        assert_eq!(book(record, SECOND), [15], "it is counted down from there");
        let asked = signed(Duration::from_secs(100_000));
        assert_eq!(record.call(PUSH_BACK, HOUR, &[asked, 0]), Ok(Duration::from_secs(300)));
        forget(record);
        assert_eq!(record.turn("look", Duration::ZERO, PATIENCE_MAX), Err(Duration::from_secs(316)));
    });
}

#[test]
fn a_clock_that_steps_forward_forgets_no_turn() {
    with_record(ONE_A_SECOND, |record| {
        let asked = signed(Duration::from_secs(300));
        assert_eq!(record.call(PUSH_BACK, Duration::ZERO, &[asked, 0]), Ok(Duration::from_secs(300)));
        let reply = record.call_knowing(Known::default(), TURN, Duration::ZERO, &["look"]);
        // A caller who knows of the turns tells the store.
        let reply = record.call_knowing(reply.known, TURN, Duration::from_secs(600), &["look"]);
        assert_eq!((reply.wait, reply.known.pause), (Duration::from_secs(300), Duration::from_secs(300)));
    });
}

#[test]
fn keys_expire_an_hour_after_the_last_turn() {
    with_record(ONE_A_SECOND, |record| {
        let booked: [u64; 8] = book(record, Duration::ZERO);
        record.call(GIVE_BACK, Duration::ZERO, &[signed(Duration::from_secs(booked[6]))]).unwrap();
        for key in ["turn", "back"] {
            let left: u64 = redis::cmd("PTTL").arg(key).query(record.connection).unwrap();
            let least = 3_600_000 + 8_000 - 60_000;
            assert!((least..=3_608_000).contains(&left), "{key}: {left} ms");
        }
        let size: u64 = redis::cmd("DBSIZE").query(record.connection).unwrap();
        assert_eq!(size, 2 + 1, "the clock of the test is the third one");
    });
}
