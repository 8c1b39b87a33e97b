//! The rules of freshness, as pure functions of an [`Entry`], a moment and the caller's cache control.
//!
//! Nothing here locks, waits or asks. [`Entry::settle`] turns an answer into an entry. [`decide`] says what a
//! caller gets before a fetch, and [`after_fetch`] what it gets after one.

mod stored;

use std::time::Duration;

use tokio::time::Instant;

use super::Settings;
use crate::domain::{
    Absence, Answer, CacheControl, CacheInfo, CacheStatus, Finding, LookupError, Now, PictureLink, Ttl,
};

/// How long a link without a readable expiry is trusted, fresh or stale. It may have an expiry that this code
/// cannot read.
const UNKNOWN_EXPIRY_TRUST: Duration = Duration::from_secs(15 * 60);
/// An absence after a longer wait than this is probably a failure of Hypersender's ...
const ABSENCE_SLOW: Duration = Duration::from_secs(5);
/// ... and is fresh for this long.
const ABSENCE_SLOW_TTL: Duration = Duration::from_secs(30);
/// No limit. It applies to a stored answer that a new answer has just failed to displace; only the caller's
/// cache control limits its use.
const STALE_UNBOUNDED: Duration = Duration::MAX;
/// New numbers join WhatsApp, so a missing one is not stored for long.
const NOT_FOUND_TTL: Duration = Duration::from_secs(60);

/// A stored answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Hypersender's statement.
    pub finding: Finding,
    /// When Hypersender made it.
    pub fetched: Now,
    /// The end of the lifetime.
    pub fresh_until: Instant,
    /// A later answer that did not displace `finding`. It is rare, so it is boxed and costs other entries one
    /// pointer.
    pub since: Option<Box<Since>>,
}

/// A later answer that did not displace the stored link: null, which may be a failure, or a link that was
/// already dead.
#[derive(Clone, Debug, PartialEq)]
pub struct Since {
    /// Hypersender's statement.
    pub finding: Finding,
    /// When Hypersender made it.
    pub asked: Now,
    /// When Hypersender must be asked again.
    pub due_at: Instant,
    /// Whether one of these answers was null. A second null displaces the link.
    pub doubted: bool,
}

/// The treatment of a caller's look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve the entry.
    Serve(CacheStatus),
    /// Serve the entry as stale, and fetch in the background.
    ServeAndRefresh,
    /// Fetch, for this reason.
    Fetch(CacheStatus),
    /// The caller wants no fetch, and no stored answer is acceptable to it.
    NotCached,
}

impl Entry {
    /// The entry to store after Hypersender has given `answer`. `spread`, from 0.9 to 1.0, varies the
    /// lifetime, so that entries that were loaded together do not expire together.
    #[must_use]
    pub fn settle(previous: Option<Self>, answer: &Answer, spread: f64, settings: &Settings) -> Self {
        let now = answer.fetched;
        let Some(previous) = previous else {
            return Self::new(answer, spread, settings);
        };
        if now.instant < previous.asked_at() {
            return previous;
        }
        let doubted = previous.since.as_ref().is_some_and(|since| since.doubted);
        let pause = match &answer.finding {
            // Hypersender turns many failures into null, so the first null only casts doubt.
            Finding::Absent(Absence::Null) if !doubted => absence_ttl(answer, settings),
            Finding::Picture(link) if link.is_dead(now.wall) => settings.refresh_floor,
            Finding::Picture(_) | Finding::Absent(_) | Finding::NotFound(_) => {
                return Self::new(answer, spread, settings);
            }
        };
        if previous.living_link(now).is_none() {
            return Self::new(answer, spread, settings);
        }
        Self {
            fresh_until: previous.fresh_until.min(now.instant),
            since: Some(Box::new(Since {
                finding: answer.finding.clone(),
                asked: now,
                due_at: now.instant + pause,
                doubted: doubted || matches!(answer.finding, Finding::Absent(_)),
            })),
            ..previous
        }
    }

    fn new(answer: &Answer, spread: f64, settings: &Settings) -> Self {
        let fetched = answer.fetched;
        let lifetime = match &answer.finding {
            Finding::Picture(link) => link_lifetime(link, fetched, settings.ttl.mul_f64(spread), settings),
            Finding::Absent(_) => absence_ttl(answer, settings),
            Finding::NotFound(_) => NOT_FOUND_TTL,
        };
        Self {
            finding: answer.finding.clone(),
            fetched,
            fresh_until: fetched.instant + lifetime,
            since: None,
        }
    }

    /// When Hypersender was last asked.
    #[must_use]
    pub fn asked_at(&self) -> Instant {
        self.since.as_ref().map_or(self.fetched.instant, |since| since.asked.instant)
    }

    /// How much longer the latest answer prevents another fetch.
    #[must_use]
    pub fn ttl(&self, now: Now) -> Ttl {
        Ttl::until(self.since.as_ref().map_or(self.fresh_until, |since| since.due_at), now.instant)
    }

    /// The latest answer, if it is newer than `seen`, in the form of an answer fetched for this caller.
    #[must_use]
    pub fn said_since(&self, seen: Option<Instant>, now: Now) -> Option<Answer> {
        let (finding, fetched) = match &self.since {
            Some(since) => (&since.finding, since.asked),
            None => (&self.finding, self.fetched),
        };
        let died = match finding {
            Finding::Picture(link) => is_past_use(link, fetched, now) && !link.is_dead(fetched.wall),
            Finding::Absent(_) | Finding::NotFound(_) => false,
        };
        let age = now.instant.duration_since(fetched.instant);
        let cache = CacheInfo { age, ttl: self.ttl(now), ..CacheInfo::FETCHED };
        let answer = Answer { finding: finding.clone(), fetched, took: Duration::ZERO, cache };
        (Some(fetched.instant) > seen && !died).then_some(answer)
    }

    /// The entry as an answer to a caller.
    #[must_use]
    pub fn answer(self, status: CacheStatus, now: Now) -> Answer {
        let cache = CacheInfo {
            status,
            age: now.instant.duration_since(self.fetched.instant),
            ttl: Ttl::until(self.fresh_until, now.instant),
            ..CacheInfo::FETCHED
        };
        Answer { finding: self.finding, fetched: self.fetched, took: Duration::ZERO, cache }
    }

    /// The link, while it lives. A link that was dead on arrival never counts as living, even if the wall
    /// clock has been set back since.
    fn living_link(&self, now: Now) -> Option<&PictureLink> {
        match &self.finding {
            Finding::Picture(link) => {
                let is_living = !is_past_use(link, self.fetched, now) && !link.is_dead(self.fetched.wall);
                is_living.then_some(link)
            }
            Finding::Absent(_) | Finding::NotFound(_) => None,
        }
    }

    fn within_floor(&self, now: Now, settings: &Settings) -> bool {
        now.instant < self.asked_at() + settings.refresh_floor
    }

    /// Whether the entry is fresh. A link that was dead on arrival is the one exception: it is served during
    /// the refresh floor, because our clock or our reading of the link may be wrong.
    fn is_fresh(&self, now: Now, settings: &Settings) -> bool {
        let usable = match &self.finding {
            Finding::Picture(link) => {
                !link.is_dead(now.wall)
                    || (link.is_dead(self.fetched.wall) && self.within_floor(now, settings))
            }
            Finding::Absent(_) | Finding::NotFound(_) => true,
        };
        usable && now.instant < self.fresh_until
    }

    /// Whether the entry may be served after the end of its lifetime, for at most `window`.
    fn is_usable_stale(&self, now: Now, control: &CacheControl, window: Duration) -> bool {
        let usable = match &self.finding {
            Finding::Picture(_) => self.living_link(now).is_some(),
            Finding::Absent(_) => true,
            Finding::NotFound(_) => false,
        };
        let window = control.stale_if_error.map_or(window, |most| most.min(window));
        let beyond = now.instant.saturating_duration_since(self.fresh_until);
        usable && !window.is_zero() && beyond <= window
    }

    fn satisfies(&self, now: Now, control: &CacheControl) -> bool {
        let age = now.instant.duration_since(self.fetched.instant);
        let young = control.max_age.is_none_or(|max| age < max);
        let life = match &self.finding {
            Finding::Picture(link) => link.expires_at(),
            Finding::Absent(_) | Finding::NotFound(_) => None,
        };
        let lasting = match (control.min_fresh, life) {
            (Some(min), Some(end)) => end.duration_since(now.wall).is_ok_and(|left| left >= min),
            _ => true,
        };
        young && lasting
    }
}

fn absence_ttl(answer: &Answer, settings: &Settings) -> Duration {
    if answer.took > ABSENCE_SLOW { settings.absent_ttl.min(ABSENCE_SLOW_TTL) } else { settings.absent_ttl }
}

/// Whether a link that was fetched at `fetched` must not be served any more at `now`.
fn is_past_use(link: &PictureLink, fetched: Now, now: Now) -> bool {
    let age = now.instant.duration_since(fetched.instant);
    link.is_dead(now.wall) || (link.expires_at().is_none() && age >= UNKNOWN_EXPIRY_TRUST)
}

fn link_lifetime(link: &PictureLink, fetched: Now, ttl: Duration, settings: &Settings) -> Duration {
    let Some(end) = link.expires_at() else {
        return ttl.min(UNKNOWN_EXPIRY_TRUST);
    };
    if link.is_dead(fetched.wall) {
        return settings.refresh_floor;
    }
    let life = end.duration_since(fetched.wall).unwrap_or_default();
    ttl.min(life.saturating_sub(settings.link_margin).max(settings.refresh_floor))
}

/// The decision for a caller before anything is fetched.
#[must_use]
pub fn decide(entry: Option<&Entry>, now: Now, control: &CacheControl, settings: &Settings) -> Decision {
    let Some(entry) = entry else {
        return if control.only_if_cached { Decision::NotCached } else { Decision::Fetch(CacheStatus::Miss) };
    };
    let satisfies = entry.satisfies(now, control);
    let fresh = entry.is_fresh(now, settings);
    let spared = entry.within_floor(now, settings);
    if fresh && (satisfies || spared) {
        return Decision::Serve(CacheStatus::Hit);
    }
    let usable = |window| entry.is_usable_stale(now, control, window);
    let undue = entry.since.as_ref().is_some_and(|since| now.instant < since.due_at);
    if (spared || satisfies && undue) && usable(STALE_UNBOUNDED) {
        return Decision::Serve(CacheStatus::Stale);
    }
    if control.only_if_cached {
        return if satisfies && usable(settings.stale_if_error) {
            Decision::Serve(CacheStatus::Stale)
        } else {
            Decision::NotCached
        };
    }
    if satisfies && usable(settings.stale_while_revalidate) {
        return Decision::ServeAndRefresh;
    }
    Decision::Fetch(if fresh { CacheStatus::Refreshed } else { CacheStatus::Expired })
}

/// Whether a stored answer may take the place of what a fetch ended with.
#[must_use]
pub fn yields(fetched: &Result<Answer, LookupError>, now: Now) -> bool {
    match fetched {
        Err(error) => error.handling().yields_to_stored_answer,
        Ok(answer) => match &answer.finding {
            Finding::Picture(link) => link.is_dead(now.wall),
            Finding::Absent(Absence::Null) => true,
            Finding::Absent(Absence::ForeignLink) | Finding::NotFound(_) => false,
        },
    }
}

/// The result for a caller after a fetch: the result of the fetch, or the stored answer (as stale) where that
/// is better.
///
/// # Errors
///
/// The error of the fetch, when no stored answer may take its place.
pub fn after_fetch(
    fetched: Result<Answer, LookupError>,
    stored: Option<Entry>,
    now: Now,
    control: &CacheControl,
    settings: &Settings,
) -> Result<Answer, LookupError> {
    if !yields(&fetched, now) {
        return fetched;
    }
    // A failure gives way to any usable answer. A null or a dead link gives way only to the link that it did
    // not displace.
    let window = match &fetched {
        Err(_) => settings.stale_if_error,
        Ok(_) => STALE_UNBOUNDED,
    };
    let better = stored.filter(|entry| {
        entry.is_usable_stale(now, control, window) && (fetched.is_err() || entry.living_link(now).is_some())
    });
    match better {
        Some(entry) => Ok(entry.answer(CacheStatus::Stale, now)),
        None => fetched,
    }
}

#[cfg(test)]
mod examples;
#[cfg(test)]
mod model;
