//! [`Horizons`]: the [`Horizon`] of each instance, from the replies of the store and from the news of other
//! replicas.
//!
//! The number of changes orders what was read of one record, so a later reading replaces an earlier one.
//! Turns that no record has are kept beside it, until the record has taken them in.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{engine::INSTANCES_MAX, horizon::Horizon};

/// The horizons by the beginning of the names of the instance. When there are [`INSTANCES_MAX`], those whose
/// turns are all over are dropped; while there is none, no further one is noted.
#[derive(Debug, Default)]
pub struct Horizons(Mutex<HashMap<String, Known>>);

/// Two horizons of one instance.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// What was read of the record, and when.
    record: Option<(Horizon, Instant)>,
    /// Turns that no record has.
    unshared: Option<Horizon>,
}

impl Horizons {
    pub fn get(&self, instance: &str) -> Option<Horizon> {
        self.0.lock().get(instance)?.furthest()
    }

    /// Notes a reply to an operation that began at `began`. `sent` are the turns that the operation told the
    /// store. They are not all that are known by now: others may have been taken since.
    pub fn reply(&self, instance: String, new: Horizon, sent: Option<Horizon>, began: Instant, now: Instant) {
        self.change(instance, now, |known| {
            // A record with fewer changes has lost its state, unless the reply was overtaken by another one.
            let is_latest = |(read, at): (Horizon, Instant)| new.changes >= read.changes || at <= began;
            if known.record.is_none_or(is_latest) {
                known.record = Some((new, now));
            }
            // The record has taken in what was sent.
            known.unshared = known.unshared.filter(|turns| !sent.is_some_and(|sent| sent.covers(turns)));
        });
    }

    /// Notes what another replica read of the record.
    pub fn hear(&self, instance: String, new: Horizon, now: Instant) {
        self.change(instance, now, |known| {
            if known.record.is_none_or(|(read, _)| new.changes > read.changes) {
                known.record = Some((new, now));
            }
        });
    }

    /// Notes turns that no record has, besides those that are known.
    pub fn raise(&self, instance: String, new: Horizon, now: Instant) {
        self.change(instance, now, |known| {
            known.unshared = Some(known.unshared.map_or(new, |former| former.furthest(new)));
        });
    }

    /// Notes the turns of an instance that only this process has.
    pub fn set(&self, instance: String, new: Horizon, now: Instant) {
        self.change(instance, now, |known| known.unshared = Some(new));
    }

    fn change(&self, instance: String, now: Instant, change: impl FnOnce(&mut Known)) {
        let mut all = self.0.lock();
        if !all.contains_key(&instance) && all.len() >= INSTANCES_MAX {
            all.retain(|_, known| known.furthest().is_some_and(|horizon| !horizon.is_over(now)));
            if all.len() >= INSTANCES_MAX {
                return;
            }
        }
        change(all.entry(instance).or_default());
    }
}

impl Known {
    fn furthest(&self) -> Option<Horizon> {
        match (self.record.map(|(horizon, _)| horizon), self.unshared) {
            (Some(record), Some(unshared)) => Some(record.furthest(unshared)),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::horizon::UNSHARED, *};

    const SECOND: Duration = Duration::from_secs(1);

    fn horizon(start: Instant, seconds: u32, changes: u64) -> Horizon {
        let at = start + seconds * SECOND;
        Horizon { free_at: at, spare_at: at, paused_until: start, changes }
    }

    /// What is noted after a first reply with 10 changes that is 5 s ahead.
    fn after(note: impl Fn(&Horizons, Instant)) -> (u32, u64) {
        let (horizons, start) = (Horizons::default(), Instant::now());
        horizons.reply("i".into(), horizon(start, 5, 10), None, start, start);
        note(&horizons, start);
        let known = horizons.get("i").unwrap();
        (u32::try_from((known.free_at - start).as_secs()).unwrap(), known.changes)
    }

    #[test]
    fn the_latest_reading_of_a_record_counts() {
        let reply = |changes, began: u32| {
            after(move |horizons, start| {
                let began = start + began * SECOND;
                horizons.reply("i".into(), horizon(start, 2, changes), None, began, began);
            })
        };
        assert_eq!(reply(11, 0), (2, 11), "turns were given back");
        assert_eq!(
            after(|horizons, start| {
                horizons.reply("i".into(), horizon(start, 2, 9), None, start - SECOND, start);
            }),
            (5, 10),
            "a reply that was overtaken"
        );
        assert_eq!(reply(3, 1), (2, 3), "the record lost its state");
        let heard = |changes| {
            after(move |horizons, start| horizons.hear("i".into(), horizon(start, 2, changes), start))
        };
        assert_eq!(heard(11), (2, 11));
        assert_eq!(heard(9), (5, 10));
    }

    #[test]
    fn turns_that_no_record_has_stay_until_the_record_has_taken_them_in() {
        let unshared = |seconds| {
            move |horizons: &Horizons, start| {
                horizons.raise("i".into(), horizon(start, seconds, UNSHARED), start);
            }
        };
        assert_eq!(after(unshared(7)), (7, UNSHARED));
        assert_eq!(after(unshared(2)), (5, UNSHARED));
        let heard = after(|horizons, start| {
            unshared(7)(horizons, start);
            horizons.hear("i".into(), horizon(start, 9, 11), start);
            horizons.hear("i".into(), horizon(start, 8, 12), start);
        });
        assert_eq!(heard, (8, UNSHARED));
        let replied = after(|horizons, start| {
            unshared(7)(horizons, start);
            let sent = horizons.get("i");
            horizons.reply("i".into(), horizon(start, 8, 11), sent, start, start + SECOND);
        });
        assert_eq!(replied, (8, 11));
        let overtaken = after(|horizons, start| {
            horizons.raise("i".into(), horizon(start, 6, UNSHARED), start);
            let sent = horizons.get("i");
            // Another thread takes a turn before the operation begins.
            horizons.raise("i".into(), horizon(start, 7, UNSHARED), start);
            horizons.reply("i".into(), horizon(start, 6, 11), sent, start, start + 2 * SECOND);
        });
        assert_eq!(overtaken, (7, UNSHARED), "the operation did not send this turn");
    }

    #[test]
    fn instances_are_bounded_and_those_without_turns_make_room() {
        let (horizons, start) = (Horizons::default(), Instant::now());
        for number in 0..INSTANCES_MAX + 10 {
            horizons.raise(number.to_string(), horizon(start, 5, UNSHARED), start);
        }
        assert_eq!(horizons.0.lock().len(), INSTANCES_MAX);
        horizons.raise("later".into(), horizon(start, 9, UNSHARED), start + 5 * SECOND);
        assert_eq!(horizons.0.lock().len(), 1);
    }
}
