//! The rules of freshness for answers of the shared store: how one enters memory, and how long one is kept.

use std::time::Duration;

use super::{Entry, Settings, UNKNOWN_EXPIRY_TRUST};
use crate::domain::{Answer, CacheInfo, Finding, Now, PictureLink, Ttl};

impl Entry {
    /// The entry to keep when the store has `read` and memory has `previous`: the one whose answer is later.
    /// A null that displaced no link when it was written casts doubt on a living link that only memory knows,
    /// as rule 7 says of every first null.
    #[must_use]
    pub fn adopt(previous: Option<Self>, read: Self, settings: &Settings) -> Self {
        let Some(previous) = previous else {
            return read;
        };
        if read.asked_at() <= previous.asked_at() {
            return previous;
        }
        if read.since.is_some() {
            return read;
        }
        let answer = Answer {
            finding: read.finding.clone(),
            fetched: read.fetched,
            took: Duration::ZERO,
            cache: CacheInfo::FETCHED,
        };
        let mut settled = Self::settle(Some(previous), &answer, 1.0, settings);
        match &mut settled.since {
            Some(since) => {
                since.due_at = read.fresh_until;
                settled
            }
            None => read,
        }
    }

    /// The entry that `answer`, read from the store, was made of, for callers that find none in memory. A
    /// later answer that displaced nothing is lost in between.
    #[must_use]
    pub fn of_read(answer: Answer, now: Now) -> Self {
        let fresh_until = match answer.cache.ttl {
            Ttl::Left(left) => now.instant + left,
            Ttl::Past(past) => now.instant.checked_sub(past).unwrap_or(now.instant),
        };
        Self { finding: answer.finding, fetched: answer.fetched, fresh_until, since: None }
    }

    /// How long from `now` on some caller may still get this entry. Zero when no caller may.
    #[must_use]
    pub fn useful_for(&self, now: Now, settings: &Settings) -> Duration {
        let spared_until = self.asked_at() + settings.refresh_floor;
        let window = settings.stale_while_revalidate.max(settings.stale_if_error);
        let due_at = self.since.as_ref().map_or(self.fresh_until, |since| since.due_at);
        let stale_until = (self.fresh_until + window).max(spared_until).max(due_at);
        let left = |until: tokio::time::Instant| until.saturating_duration_since(now.instant);
        match &self.finding {
            Finding::NotFound(_) => left(self.fresh_until),
            Finding::Absent(_) => left(stale_until),
            Finding::Picture(link) if link.is_dead(self.fetched.wall) => {
                left(self.fresh_until.min(spared_until))
            }
            Finding::Picture(link) => left(stale_until).min(match link.expires_at() {
                Some(end) => end.duration_since(now.wall + PictureLink::DEAD_MARGIN).unwrap_or_default(),
                None => left(self.fetched.instant + UNKNOWN_EXPIRY_TRUST),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::{
        domain::{Absence, CacheControl, NotFound},
        stack::cache::freshness::{Decision, Since, decide},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> Now {
        Now { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_768_000_000) }
    }

    fn after(start: Now, by: Duration) -> Now {
        Now { instant: start.instant + by, wall: start.wall + by }
    }

    fn link(name: &str, life: Option<u64>) -> Finding {
        let expiry = life.map_or(String::new(), |life| format!("?oe={:x}", 1_768_000_000 + life));
        let url = format!("https://pps.whatsapp.net/{name}.jpg{expiry}");
        Finding::Picture(PictureLink::parse(&url, start().wall).unwrap())
    }

    fn entry(finding: Finding, fetched: Now, settings: &Settings) -> Entry {
        let answer = Answer { finding, fetched, took: Duration::ZERO, cache: CacheInfo::FETCHED };
        Entry::settle(None, &answer, 1.0, settings)
    }

    #[test]
    fn the_later_answer_is_kept_and_a_null_only_casts_doubt_on_a_living_link() {
        let (start, settings) = (start(), Settings::default());
        let at = |minutes: u32| after(start, 60 * SECOND * minutes);
        let [first, other] = ["first", "other"].map(|name| link(name, Some(1_000_000)));
        let null = || Finding::Absent(Absence::Null);
        let known = || entry(first.clone(), at(5), &settings);
        let adopt = |read: Entry| Entry::adopt(Some(known()), read, &settings);

        assert_eq!(Entry::adopt(None, known(), &settings), known());
        assert_eq!(adopt(entry(other.clone(), at(4), &settings)), known());
        assert_eq!(adopt(entry(null(), at(4), &settings)), known());
        assert_eq!(adopt(entry(other.clone(), at(6), &settings)), entry(other, at(6), &settings));
        let foreign = entry(Finding::Absent(Absence::ForeignLink), at(6), &settings);
        assert_eq!(adopt(foreign.clone()), foreign);

        let null = entry(null(), at(6), &settings);
        let doubted = adopt(null.clone());
        assert_eq!(doubted.finding, first);
        let since = doubted.since.as_ref().map(|since| (since.asked, since.due_at, since.doubted));
        assert_eq!(since, Some((at(6), null.fresh_until, true)));
        // Another replica counted the second null, or the first one is the one that memory knows.
        let second = entry(Finding::Absent(Absence::Null), at(20), &settings);
        assert_eq!(Entry::adopt(Some(doubted.clone()), second.clone(), &settings), second);
        assert_eq!(Entry::adopt(Some(known()), doubted.clone(), &settings), doubted);
    }

    fn findings() -> impl Strategy<Value = Finding> {
        prop_oneof![
            (0..200_000_u64).prop_map(|life| link("p", Some(life))),
            Just(link("p", None)),
            Just(Finding::Absent(Absence::Null)),
            Just(Finding::Absent(Absence::ForeignLink)),
            Just(Finding::NotFound(NotFound::Upstream)),
        ]
    }

    proptest! {
        #[test]
        fn an_answer_that_is_not_kept_any_more_would_be_served_to_no_caller(
            finding in findings(),
            has_doubt in any::<bool>(),
            (floor, revalidate, error) in (0..100_u64, 0..2_000_u64, 0..100_000_u64),
            later in 0..200_000_u64,
            only_if_cached in any::<bool>(),
        ) {
            let settings = Settings {
                refresh_floor: Duration::from_secs(floor),
                stale_while_revalidate: Duration::from_secs(revalidate),
                stale_if_error: Duration::from_secs(error),
                ..Settings::default()
            };
            let start = start();
            let mut entry = entry(finding, start, &settings);
            if has_doubt && entry.living_link(start).is_some() {
                let asked = after(start, SECOND);
                entry.fresh_until = entry.fresh_until.min(asked.instant);
                let due_at = asked.instant + 600 * SECOND;
                let finding = Finding::Absent(Absence::Null);
                entry.since = Some(Box::new(Since { finding, asked, due_at, doubted: true }));
            }
            let now = after(start, Duration::from_secs(later));
            let control = CacheControl { only_if_cached, ..CacheControl::default() };
            let is_served = match decide(Some(&entry), now, &control, &settings) {
                Decision::Serve(_) | Decision::ServeAndRefresh => true,
                Decision::Fetch(_) | Decision::NotCached => false,
            };
            prop_assert!(!is_served || later <= entry.useful_for(start, &settings).as_secs());
        }
    }
}
