//! The shares of all replicas together, as a pure function of the calls.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::stack::{rate::Settings, store::UNSHARED};

const SECOND: Duration = Duration::from_secs(1);

fn ahead(now: Instant, free_in: Duration) -> Horizon {
    let free_at = now + free_in;
    Horizon { free_at, spare_at: free_at, paused_until: now, changes: 7 }
}

fn limit(per_second: f64, burst: u32) -> Limit {
    Limit::of(Settings { per_second, burst })
}

/// The waits of the next turns, in milliseconds.
fn waits<const N: usize>(turns: &mut Detached, now: Instant) -> [u128; N] {
    [(); N].map(|()| (turns.turn(now, now + 60 * SECOND).unwrap() - now).as_millis())
}

#[test]
fn the_first_turn_comes_after_the_furthest_that_is_known() {
    let start = Instant::now();
    for (passed, free_in, expected) in [
        // Nothing is known: one turn of this share after the start.
        (Duration::ZERO, None, [600, 1_200, 1_800]),
        (SECOND / 2, None, [100, 700, 1_300]),
        (60 * SECOND, None, [0, 600, 1_200]),
        // Nothing is booked, and the burst is not used up.
        (60 * SECOND, Some(Duration::ZERO), [0, 600, 1_200]),
        // The last turn is now, and then in 2 s.
        (60 * SECOND, Some(4 * SECOND), [600, 1_200, 1_800]),
        (60 * SECOND, Some(6 * SECOND), [2_600, 3_200, 3_800]),
    ] {
        let mut turns = Detached::new(limit(5.0, 20), 3, start);
        let now = start + passed;
        turns.learn(free_in.map(|free_in| ahead(now, free_in)));
        assert_eq!(waits(&mut turns, now), expected, "{passed:?} {free_in:?}");
        // It does not count its own turns twice.
        turns.learn(Some(turns.horizon()));
        assert_eq!(waits(&mut turns, now), [expected[2] + 600], "{passed:?} {free_in:?}");
    }
}

#[test]
fn a_pause_that_is_known_holds_and_so_does_one_that_begins() {
    let now = Instant::now() + 60 * SECOND;
    let mut turns = Detached::new(limit(5.0, 20), 2, now - 60 * SECOND);
    let paused_until = now + 3 * SECOND;
    turns.learn(Some(Horizon { paused_until, ..ahead(now, Duration::ZERO) }));
    assert_eq!(turns.turn(now, now), Err(3 * SECOND));
    assert_eq!(turns.spare_turn(now, false), Err(3 * SECOND));
    assert_eq!(waits(&mut turns, now), [3_000, 3_400]);
    assert_eq!(turns.pushed_back(now, Some(7 * SECOND)), 7 * SECOND);
    assert_eq!(turns.paused_until(), now + 7 * SECOND);
    let known = turns.horizon();
    assert_eq!((known.paused_until, known.changes), (now + 7 * SECOND, UNSHARED));
    assert!(known.free_at >= now + 7 * SECOND + Duration::from_millis(3_800), "no burst after it");
}

#[test]
fn a_share_without_a_limit_still_pauses() {
    let now = Instant::now();
    let mut turns = Detached::new(limit(0.0, 20), 3, now);
    assert_eq!(waits(&mut turns, now), [0; 9]);
    turns.pushed_back(now, Some(SECOND));
    assert_eq!(turns.turn(now, now), Err(SECOND));
}

#[test]
fn a_turn_that_is_given_back_is_the_next_one_and_is_not_counted() {
    let now = Instant::now() + 60 * SECOND;
    let mut turns = Detached::new(limit(5.0, 20), 3, now - 60 * SECOND);
    assert_eq!(waits(&mut turns, now), [0, 600]);
    let before = turns.horizon();
    let turn = turns.turn(now, now + 2 * SECOND).unwrap();
    turns.give_back(turn, now);
    assert_eq!(turns.horizon(), before);
    assert_eq!(turns.turn(now, now + 2 * SECOND), Ok(turn));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// All replicas take turns from one record, lose it for a while, and take turns from it again.
    #[test]
    fn all_replicas_together_stay_within_the_rate_but_for_one_turn_each(
        before in vec((0..1_500_u64, 1..30_usize), 0..4),
        replicas in 1..5_u32,
        burst in 1..25_u32,
        away in 0..20_000_u64,
        demand in vec(1..2_000_u64, 1..5),
        is_lost in any::<bool>(),
    ) {
        let (limit, start) = (limit(5.0, burst), Instant::now());
        let mut now = start + 60 * SECOND;
        let mut shared = Gcra::new(limit, start);
        let mut taken = Vec::new();
        for (millis, turns) in before {
            now += Duration::from_millis(millis);
            taken.extend((0..turns).filter_map(|_| shared.turn(now, now + 10 * SECOND).ok()));
        }
        let known = Some(shared.horizon());
        let back = now + Duration::from_millis(away);
        for replica in 0..replicas {
            let mut turns = Detached::new(limit, replicas, start);
            let wait = Duration::from_millis(demand[replica as usize % demand.len()]);
            let mut at = now;
            while at < back {
                turns.learn(known);
                taken.extend(turns.turn(at, at + 2 * SECOND).ok());
                at += wait;
            }
            if is_lost && replica == 0 {
                shared = Gcra::new(limit, back);
                shared.take_over(&Horizon {
                    free_at: back + limit.slack,
                    spare_at: back + limit.slack,
                    paused_until: back,
                    changes: 0,
                });
            }
            shared.take_over(&turns.horizon());
        }
        taken.extend((0..60).filter_map(|_| shared.turn(back, back + 10 * SECOND).ok()));
        taken.sort();
        for (first, start) in taken.iter().enumerate() {
            let most = (burst + replicas) as usize;
            for (more, end) in taken[first..].iter().skip(most).enumerate() {
                let least = limit.interval * u32::try_from(more + 1).unwrap();
                prop_assert!(*end - *start >= least, "{more} turns too many in {:?}", *end - *start);
            }
        }
    }
}
