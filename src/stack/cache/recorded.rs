//! An [`Entry`] in the form in which the shared store keeps it, and back.
//!
//! The store has a clock of its own, which all replicas share. The ages and the ends in a record are those of
//! the replica that wrote it. Nothing is decided here.

use std::time::Duration;

use tokio::time::Instant;

use super::freshness::{Entry, Since};
use crate::{
    domain::{Finding, Now},
    stack::store::{Record, SinceRecord, StoreClock, StoreTime},
};

/// The entry in the form for the store. `None` before the clock of the store is known.
pub fn record(entry: &Entry, clock: &StoreClock) -> Option<Record> {
    let since = match entry.since.as_deref() {
        None => None,
        Some(Since { finding, asked, due_at, doubted }) => Some(SinceRecord {
            finding: finding.clone(),
            asked: clock.at(asked.instant)?,
            due_at: clock.at(*due_at)?,
            doubted: *doubted,
        }),
    };
    Some(Record {
        finding: entry.finding.clone(),
        fetched: clock.at(entry.fetched.instant)?,
        fresh_until: clock.at(entry.fresh_until)?,
        since,
    })
}

/// The entry of a record that was read at `now`. `None` before the clock of the store is known, and when this
/// machine's clock cannot represent one of the times.
///
/// No answer comes from the future: when the clocks disagree that much, the whole record counts as written
/// now, with the lifetime that it had.
pub fn entry(record: Record, clock: &StoreClock, now: Now) -> Option<Entry> {
    let asked = record.since.as_ref().map_or(record.fetched, |since| since.asked);
    let ahead = clock.instant(asked.max(record.fetched))?.saturating_duration_since(now.instant);
    let instant = |time: StoreTime| clock.instant(time)?.checked_sub(ahead);
    let both = |time: StoreTime| {
        let instant = instant(time)?;
        let age = now.instant.saturating_duration_since(instant);
        Some(Now { instant, wall: now.wall.checked_sub(age)? })
    };
    let since = match record.since {
        None => None,
        Some(SinceRecord { finding, asked, due_at, doubted }) => {
            let (asked, due_at) = (both(asked)?, instant(due_at)?);
            Some(Box::new(Since { finding, asked, due_at, doubted }))
        }
    };
    Some(Entry {
        finding: record.finding,
        fetched: both(record.fetched)?,
        fresh_until: instant(record.fresh_until)?,
        since,
    })
}

/// The start of the attempt that `entry` last heard of, where `answer` is what was said last: `fetched` after
/// it `took` that long.
pub fn began(entry: &Entry, fetched: Instant, took: Duration) -> Instant {
    let asked_at = entry.asked_at();
    if asked_at == fetched { asked_at.checked_sub(took).unwrap_or(asked_at) } else { asked_at }
}

/// Whether `entry` has lost the picture that `previous` had: it is another one, or it is gone. A new link to
/// the same picture is no change.
pub fn is_change(previous: Option<&Entry>, entry: &Entry) -> bool {
    match (previous.map(|previous| &previous.finding), &entry.finding) {
        (Some(Finding::Picture(before)), Finding::Picture(after)) => {
            before.fingerprint() != after.fingerprint()
        }
        (Some(Finding::Picture(_)), Finding::Absent(_) | Finding::NotFound(_)) => true,
        (None | Some(Finding::Absent(_) | Finding::NotFound(_)), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::domain::{Absence, NotFound, PictureLink};

    const MINUTE: Duration = Duration::from_secs(60);

    fn now() -> Now {
        Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_768_000_000) }
    }

    fn earlier(now: Now, by: Duration) -> Now {
        Now { instant: now.instant - by, wall: now.wall - by }
    }

    fn link(url: &str) -> Finding {
        Finding::Picture(PictureLink::parse(url, now().wall).unwrap())
    }

    /// A clock that shows `millis` at `instant`.
    fn clock(instant: Instant, millis: u64) -> StoreClock {
        let clock = StoreClock::default();
        clock.learn(instant, StoreTime::from_millis(millis));
        clock
    }

    fn doubted(now: Now) -> Entry {
        let asked = earlier(now, MINUTE);
        Entry {
            finding: link("https://pps.whatsapp.net/p.jpg?oe=70000000"),
            fetched: earlier(now, 50 * MINUTE),
            fresh_until: now.instant - MINUTE,
            since: Some(Box::new(Since {
                finding: Finding::Absent(Absence::Null),
                asked,
                due_at: asked.instant + 10 * MINUTE,
                doubted: true,
            })),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_comes_back_as_it_was_written_whatever_the_clock_shows() {
        let now = now();
        let clock = clock(now.instant + 3 * MINUTE, 1_900_000_000_000);
        for entry in [doubted(now), Entry { since: None, ..doubted(now) }] {
            let record = record(&entry, &clock).unwrap();
            assert_eq!(super::entry(record, &clock, now), Some(entry));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_the_future_counts_as_given_now_and_keeps_its_lifetime() {
        let now = now();
        let entry = Entry { fresh_until: now.instant + 10 * MINUTE, since: None, ..doubted(now) };
        let record = record(&entry, &clock(now.instant, 1_900_000_000_000)).unwrap();
        let set_back = clock(now.instant, 1_900_000_000_000 - 3_600_000 * 5);
        let read = super::entry(record, &set_back, now).unwrap();
        assert_eq!(read.fetched, now);
        assert_eq!(read.fresh_until, now.instant + 60 * MINUTE);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_converted_before_the_clock_of_the_store_is_known() {
        let (now, unknown) = (now(), StoreClock::default());
        assert_eq!(record(&doubted(now), &unknown), None);
        let written = record(&doubted(now), &clock(now.instant, 1_900_000_000_000)).unwrap();
        assert_eq!(entry(written, &unknown, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_is_as_old_as_the_start_of_its_latest_attempt() {
        let now = now();
        let entry = doubted(now);
        let asked = entry.asked_at();
        assert_eq!(began(&entry, asked, MINUTE), asked - MINUTE);
        assert_eq!(began(&entry, asked - MINUTE, MINUTE), asked, "the answer changed nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn only_another_picture_or_none_is_a_change() {
        let entry = |finding| Entry { finding, since: None, ..doubted(now()) };
        let [first, signed, other] = [
            "https://pps.whatsapp.net/v/t61.24694-24/1_2_3_n.jpg?oe=70000000",
            "https://pps.whatsapp.net/v/t61.24694-24/1_2_3_n.jpg?oe=70000fff",
            "https://pps.whatsapp.net/v/t61.24694-24/4_5_6_n.jpg?oe=70000000",
        ]
        .map(link);
        let [gone, missing] = [Finding::Absent(Absence::Null), Finding::NotFound(NotFound::Upstream)];
        for (before, after, is) in [
            (Some(&first), &signed, false),
            (Some(&first), &other, true),
            (Some(&first), &gone, true),
            (Some(&first), &missing, true),
            (Some(&gone), &first, false),
            (Some(&missing), &gone, false),
            (None, &first, false),
        ] {
            let before = before.cloned().map(entry);
            assert_eq!(is_change(before.as_ref(), &entry(after.clone())), is, "{before:?} {after:?}");
        }
    }
}
