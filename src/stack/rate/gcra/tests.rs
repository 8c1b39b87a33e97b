//! The turns as a pure function of the calls.

use proptest::{collection::vec, option::of, prelude::*, sample::select};

use super::*;
use crate::stack::rate::Settings;

const SECOND: Duration = Duration::from_secs(1);

pub fn limit(per_second: f64, burst: u32) -> (Gcra, Instant) {
    let now = Instant::now();
    (Gcra::new(Limit::of(Settings { per_second, burst }), now), now)
}

#[test]
fn turns_come_as_a_burst_and_then_evenly_spaced() {
    let (mut turns, now) = limit(5.0, 3);
    let waits: Vec<_> =
        (0..6).map(|_| turns.turn(now, now + SECOND).unwrap().duration_since(now).as_millis()).collect();
    assert_eq!(waits, [0, 0, 0, 200, 400, 600]);
}

#[test]
fn a_refused_turn_tells_the_wait_and_is_not_booked() {
    let (mut turns, now) = limit(1.0, 1);
    assert_eq!(turns.turn(now, now), Ok(now));
    for _ in 0..3 {
        assert_eq!(turns.turn(now, now), Err(SECOND));
    }
    assert_eq!(turns.turn(now, now + SECOND), Ok(now + SECOND));
    assert_eq!(turns.turn(now, now + SECOND), Err(2 * SECOND));
}

#[test]
fn a_pause_holds_up_every_turn_and_empties_the_burst() {
    let (mut turns, now) = limit(1.0, 20);
    turns.pause(now + 5 * SECOND);
    assert_eq!(turns.turn(now, now + SECOND), Err(5 * SECOND));
    let later = now + 60 * SECOND;
    assert_eq!(turns.turn(now, later), Ok(now + 5 * SECOND));
    assert_eq!(turns.turn(now, later), Ok(now + 6 * SECOND));
}

#[test]
fn a_turn_that_is_given_back_is_the_next_one() {
    let (mut turns, now) = limit(1.0, 1);
    let later = now + 60 * SECOND;
    let all: Vec<_> = (0..6).map(|_| turns.turn(now, later).unwrap()).collect();
    turns.give_back(all[2], now);
    turns.give_back(all[4], now);
    assert_eq!(turns.turn(now, later), Ok(all[2]));
    // The last one, and with it the one before that was given back.
    turns.give_back(all[5], now);
    assert_eq!(turns.turn(now, later), Ok(all[4]));
    turns.give_back(all[4], now);
    turns.give_back(all[3], all[3]);
    assert_eq!(turns.turn(now, later), Ok(all[4]), "a turn that has come cannot be given back");
    for turn in &all[1..5] {
        turns.give_back(*turn, now);
    }
    assert_eq!(turns.turn(now, later), Ok(now + SECOND));
    assert_eq!(turns.turn(now, later), Ok(now + 2 * SECOND));
}

#[test]
fn a_turn_that_is_given_back_is_lost_when_it_has_passed_or_a_pause_begins() {
    let (mut turns, now) = limit(1.0, 1);
    let later = now + 60 * SECOND;
    let all: Vec<_> = (0..5).map(|_| turns.turn(now, later).unwrap()).collect();
    turns.give_back(all[1], now);
    turns.give_back(all[2], now);
    assert_eq!(turns.turn(all[1] + SECOND / 2, later), Ok(all[2]));
    turns.give_back(all[2], now);
    turns.pause(now + 3 * SECOND);
    assert_eq!(turns.turn(now, later), Ok(now + 5 * SECOND));
}

#[test]
fn pauses_that_are_not_asked_for_grow_to_a_bound() {
    let (mut turns, now) = limit(0.0, 0);
    let mut later = now;
    let waits: Vec<_> = (0..7)
        .map(|_| {
            let wait = turns.pushed_back(later, None);
            later += wait;
            wait.as_secs()
        })
        .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(turns.pushed_back(later, Some(3 * SECOND)), 3 * SECOND);
}

#[test]
fn refusals_of_attempts_that_were_on_the_wire_together_are_one() {
    let (mut turns, now) = limit(5.0, 20);
    assert!((0..20).all(|_| turns.pushed_back(now, None) == SECOND));
    assert_eq!(turns.pushed_back(now, Some(3 * SECOND)), 3 * SECOND);
    assert_eq!(turns.pushed_back(now, None), 3 * SECOND, "the longest holds");
    assert_eq!(turns.pushed_back(now + 3 * SECOND, None), 2 * SECOND);
}

#[test]
fn the_slowest_rate_is_a_turn_a_day() {
    let (mut turns, now) = limit(f64::MIN_POSITIVE, 10_000);
    turns.pause(now);
    assert_eq!(turns.turn(now, now), Ok(now));
    assert_eq!(turns.turn(now, now), Err(crate::stack::rate::limit::INTERVAL_MAX));
}

#[test]
fn a_limit_that_is_off_still_pauses() {
    for (per_second, burst) in [(0.0, 20), (5.0, 0)] {
        let (mut turns, now) = limit(per_second, burst);
        assert!((0..1000).all(|_| turns.turn(now, now) == Ok(now)));
        turns.pause(now + SECOND);
        assert_eq!(turns.turn(now, now), Err(SECOND));
    }
}

#[test]
fn a_spare_turn_is_one_that_is_free_while_nothing_is_owed() {
    let (mut turns, now) = limit(1.0, 20);
    assert_eq!(turns.spare_turn(now), Ok(()));
    assert_eq!(turns.spare_turn(now), Err(SECOND), "the burst is not spare");
    assert_eq!(turns.turn(now, now), Ok(now));
    assert_eq!(turns.spare_turn(now + SECOND), Err(SECOND));
    assert_eq!(turns.next_spare(now), now + 2 * SECOND);
    assert_eq!(turns.spare_turn(now + 2 * SECOND), Ok(()));
}

#[test]
fn spare_turns_begin_at_the_end_of_a_pause_and_do_not_delay_the_return_of_the_burst() {
    let (mut turns, now) = limit(1.0, 5);
    turns.pause(now + 10 * SECOND);
    assert_eq!(turns.spare_turn(now), Err(10 * SECOND));
    for second in 10..14 {
        assert_eq!(turns.spare_turn(now + second * SECOND), Ok(()));
    }
    // Without spare turns, all five are free 4 s after the pause.
    let later = now + 14 * SECOND;
    assert!((0..5).all(|_| turns.turn(later, later) == Ok(later)));
}

#[test]
fn turns_that_are_booked_in_a_pause_are_owed_after_it() {
    let (mut turns, now) = limit(1.0, 20);
    let end = now + 10 * SECOND;
    turns.pause(end);
    for second in 0..5 {
        assert_eq!(turns.turn(now, now + 60 * SECOND), Ok(end + second * SECOND));
    }
    assert_eq!(turns.spare_turn(end), Err(5 * SECOND));
}

#[test]
fn retries_that_wait_come_before_all_others_that_take_spare_turns() {
    let (mut turns, now) = limit(1.0, 20);
    assert_eq!(turns.spare_turn(now), Ok(()));
    turns.retry_waits();
    turns.retry_waits();
    assert_eq!(turns.spare_turn(now), Err(3 * SECOND));
    let late = now + 10 * SECOND;
    assert_eq!((turns.spare_turn(late), turns.next_spare(late)), (Err(2 * SECOND), late + 2 * SECOND));
    assert_eq!(turns.spare_turn_of_retry(late), Ok(()));
    turns.retry_left();
    assert_eq!(turns.spare_turn(late + SECOND), Err(SECOND));
    turns.retry_left();
    assert_eq!(turns.spare_turn(late + SECOND), Ok(()));
    assert_eq!(turns.turn(late + SECOND, late + SECOND), Ok(late + SECOND), "callers do not wait for them");
}

/// A step of a story: a time passes, or something happens to the turns.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Pass {
        millis: u64,
    },
    Caller {
        patience: u64,
    },
    Batch,
    Stream,
    /// The caller of this turn leaves, if the turn has not come yet.
    Leave {
        turn: usize,
    },
    PushedBack {
        seconds: Option<u64>,
    },
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![0..50_u64, 0..1_000_u64, 0..10_000_u64].prop_map(|millis| Step::Pass { millis }),
        4 => (0..30_000_u64).prop_map(|patience| Step::Caller { patience }),
        2 => Just(Step::Batch),
        4 => Just(Step::Stream),
        3 => (0..100_usize).prop_map(|turn| Step::Leave { turn }),
        1 => of(0..20_u64).prop_map(|seconds| Step::PushedBack { seconds }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn turns_of_all_sides_together_stay_within_rate_and_burst(
        steps in vec(step(), 1..100),
        per_second in select(vec![0.5, 1.0, 5.0, 7.0]),
        burst in 1..25_u32,
    ) {
        let (mut turns, mut now) = limit(per_second, burst);
        let mut taken = Vec::new();
        for step in steps {
            match step {
                Step::Pass { millis } => now += Duration::from_millis(millis),
                Step::Caller { patience } => {
                    taken.extend(turns.turn(now, now + Duration::from_millis(patience)).ok());
                }
                Step::Batch => taken.extend(turns.turn(now, now).ok()),
                Step::Stream => taken.extend(turns.spare_turn(now).ok().map(|()| now)),
                Step::Leave { turn } => {
                    if taken.get(turn).is_some_and(|turn| *turn > now) {
                        turns.give_back(taken.swap_remove(turn), now);
                    }
                }
                Step::PushedBack { seconds } => {
                    turns.pushed_back(now, seconds.map(Duration::from_secs));
                }
            }
        }
        taken.sort();
        // A window with more turns than the burst is as long as the further turns take.
        for (first, start) in taken.iter().enumerate() {
            for (more, end) in taken[first..].iter().skip(burst as usize).enumerate() {
                let least = turns.interval() * u32::try_from(more + 1).unwrap();
                let time = *end - *start;
                prop_assert!(time >= least, "{more} turns more than the burst in {time:?}");
            }
        }
    }

    #[test]
    fn spare_turns_delay_a_caller_by_one_turn_at_most(steps in vec(step(), 1..100), burst in 1..25_u32) {
        let (mut turns, mut now) = limit(5.0, burst);
        let mut without = Gcra::new(Limit::of(Settings { per_second: 5.0, burst }), now);
        let far = now + Duration::from_secs(1_000_000);
        for step in steps {
            match step {
                Step::Pass { millis } => now += Duration::from_millis(millis),
                Step::Caller { .. } | Step::Batch => {
                    let [turn, alone] =
                        [&mut turns, &mut without].map(|turns| turns.turn(now, far).unwrap());
                    prop_assert!(turn <= alone + turns.interval(), "{:?} later", turn - alone);
                }
                Step::Stream => {
                    let _ = turns.spare_turn(now);
                }
                Step::Leave { .. } => {}
                Step::PushedBack { seconds } => {
                    for turns in [&mut turns, &mut without] {
                        turns.pushed_back(now, seconds.map(Duration::from_secs));
                    }
                }
            }
        }
    }
}
