//! A second implementation of the rules of freshness, the judge. It shares nothing with the code: it keeps
//! every answer and derives from the rules which of them may be served. Random stories run through both, and
//! their results are compared.
//!
//! Times are microseconds since the story began. The wall clock may jump; the monotonic clock may not.

mod stories;
mod story;

use std::time::{Duration, SystemTime};

use super::{Decision, Settings};
use crate::domain::{CacheControl, CacheStatus};

type Micros = i64;
const SECOND: Micros = 1_000_000;
/// The wall clock at the beginning of a story, in Unix seconds.
const WALL: i64 = 1_768_000_000;
/// An `oe` that is further ahead does not count as an expiry.
const FAR_SECONDS: i64 = 400 * 86_400;
/// A binary fraction, so that both sides compute the same microsecond.
const SPREAD: (f64, Micros, Micros) = (0.9375, 15, 16);

/// An answer that upstream could give. `life` is the number of seconds until a link's `oe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Link { life: Option<i64> },
    Null,
    Foreign,
    NotFound,
}

/// An answer that was given, with its time on both clocks.
#[derive(Clone, Copy, Debug)]
struct Told {
    said: Said,
    at: Micros,
    wall: Micros,
    /// The `oe`, on the wall clock.
    oe: Option<Micros>,
    /// The `oe`, unless it is too far ahead to be an expiry.
    end: Option<Micros>,
    slow: bool,
}

impl Told {
    fn is_link(&self) -> bool {
        matches!(self.said, Said::Link { .. })
    }

    /// Whether the answer may still be served: false only for a link without a known expiry that is a quarter
    /// of an hour old.
    fn is_trusted(&self, at: Micros) -> bool {
        !self.is_link() || self.end.is_some() || at - self.at < 15 * 60 * SECOND
    }

    /// Whether the answer is a link that rule 6 forbids at this time of the wall clock.
    fn is_dead(&self, wall: Micros) -> bool {
        self.end.is_some_and(|end| wall >= end - 60 * SECOND)
    }

    /// Whether the answer is neither null nor a link that was dead on arrival. Such an answer leaves no
    /// doubt.
    fn is_firm(&self) -> bool {
        self.said != Said::Null && !self.is_dead(self.wall)
    }
}

/// The entry that should be stored.
struct Held {
    told: Told,
    fresh_until: Micros,
    asked_at: Micros,
    /// When to ask again about a link that is in doubt.
    due_at: Micros,
}

struct Judge<'a> {
    told: &'a [Told],
    settings: &'a Settings,
}

impl Judge<'_> {
    /// Derives from all answers, by the rules 5 to 7, which one counts, and until when.
    fn held(&self) -> Option<Held> {
        let newest_before = |at: usize| self.told[..at].iter().map(|told| told.at).max();
        let known = self.told.iter().enumerate().filter(|(at, told)| newest_before(*at) <= Some(told.at));
        let known: Vec<Told> = known.map(|(_, told)| *told).collect();
        let last = *known.last()?;
        let alone = Held {
            told: last,
            fresh_until: last.at + self.lifetime(&last),
            asked_at: last.at,
            due_at: last.at,
        };
        let Some(firm) = known.iter().rposition(Told::is_firm) else { return Some(alone) };
        let (link, doubts) = (known[firm], &known[firm + 1..]);
        let nulls = doubts.iter().filter(|told| told.said == Said::Null).count();
        let kept = link.is_link()
            && nulls <= 1
            && doubts.iter().all(|told| !link.is_dead(told.wall) && link.is_trusted(told.at));
        let Some(first) = doubts.first().filter(|_| kept) else { return Some(alone) };
        Some(Held {
            told: link,
            fresh_until: first.at.min(link.at + self.lifetime(&link)),
            asked_at: last.at,
            due_at: last.at + self.lifetime(&last),
        })
    }

    fn lifetime(&self, told: &Told) -> Micros {
        let ttl = micros(self.settings.ttl) * SPREAD.1 / SPREAD.2;
        let absent = micros(self.settings.absent_ttl);
        let floor = micros(self.settings.refresh_floor);
        match (told.said, told.end) {
            (Said::Link { .. }, None) => ttl.min(15 * 60 * SECOND),
            (Said::Link { .. }, Some(_)) if told.is_dead(told.wall) => floor,
            (Said::Link { .. }, Some(end)) => {
                ttl.min(floor.max(end - told.wall - micros(self.settings.link_margin)))
            }
            (Said::Null | Said::Foreign, _) if told.slow => absent.min(30 * SECOND),
            (Said::Null | Said::Foreign, _) => absent,
            (Said::NotFound, _) => 60 * SECOND,
        }
    }

    /// The names of all rules that `decision` breaks.
    fn faults(
        &self,
        decision: Decision,
        at: Micros,
        wall: Micros,
        control: &CacheControl,
    ) -> Vec<&'static str> {
        let Some(held) = self.held() else {
            let right =
                if control.only_if_cached { Decision::NotCached } else { Decision::Fetch(CacheStatus::Miss) };
            return if decision == right { vec![] } else { vec!["nothing is stored"] };
        };
        let fresh = held.is_fresh(at, wall, self.settings);
        let stale = |window| held.is_good_stale(at, wall, control, window);
        let spared = at < held.asked_at + micros(self.settings.refresh_floor);
        let wanted = held.is_wanted(at, wall, control);
        let undue = wanted && at < held.due_at;
        let hit = fresh && (wanted || spared);
        let kept = !hit && (spared || undue) && stale(None);
        let revalidates = wanted && stale(Some(self.settings.stale_while_revalidate));
        let outlasts = wanted && stale(Some(self.settings.stale_if_error));
        let cached_only = control.only_if_cached;
        let rules = [
            (
                "rule 5: what is fresh and wanted is a hit",
                !hit || decision == Decision::Serve(CacheStatus::Hit),
            ),
            ("rule 5: only what is fresh is a hit", hit || decision != Decision::Serve(CacheStatus::Hit)),
            (
                "rules 5 and 7: in the floor or doubt it is served",
                !kept || decision == Decision::Serve(CacheStatus::Stale),
            ),
            (
                "rule 10: else stale without a refresh is for only_if_cached",
                decision != Decision::Serve(CacheStatus::Stale) || kept || (cached_only && outlasts),
            ),
            (
                "rule 9: stale while it is renewed",
                (decision == Decision::ServeAndRefresh) == (!hit && !kept && !cached_only && revalidates),
            ),
            (
                "rule 10: only_if_cached takes what there is",
                (decision == Decision::NotCached) == (!hit && !kept && cached_only && !outlasts),
            ),
            ("rule 10: only_if_cached never asks", !cached_only || !matches!(decision, Decision::Fetch(_))),
            (
                "rule 11: a fetch says why",
                match decision {
                    Decision::Fetch(why) => {
                        why == if fresh { CacheStatus::Refreshed } else { CacheStatus::Expired }
                    }
                    _ => true,
                },
            ),
        ];
        rules.into_iter().filter(|(_, holds)| !holds).map(|(rule, _)| rule).collect()
    }
}

impl Held {
    fn is_fresh(&self, at: Micros, wall: Micros, settings: &Settings) -> bool {
        let born_dead = self.told.is_dead(self.told.wall);
        let in_floor = at < self.told.at + micros(settings.refresh_floor);
        at < self.fresh_until && (!self.told.is_dead(wall) || (born_dead && in_floor))
    }

    /// Whether the entry may be served as stale, for at most `window` after the end of its lifetime, or
    /// without limit.
    fn is_good_stale(
        &self,
        at: Micros,
        wall: Micros,
        control: &CacheControl,
        window: Option<Duration>,
    ) -> bool {
        let ever = self.told.said != Said::NotFound && !self.told.is_dead(self.told.wall);
        let window = [window, control.stale_if_error].into_iter().flatten().min().map(micros);
        ever && !self.told.is_dead(wall)
            && self.told.is_trusted(at)
            && window != Some(0)
            && window.is_none_or(|most| at - self.fresh_until <= most)
    }

    fn is_wanted(&self, at: Micros, wall: Micros, control: &CacheControl) -> bool {
        let young = control.max_age.is_none_or(|max| at - self.told.at < micros(max));
        let lasting = match (control.min_fresh, self.told.end) {
            (Some(min), Some(end)) => end - wall >= micros(min),
            _ => true,
        };
        young && lasting
    }
}

fn micros(duration: Duration) -> Micros {
    duration.as_micros().try_into().unwrap()
}

fn duration(micros: Micros) -> Duration {
    Duration::from_micros(micros.try_into().unwrap())
}

fn on_the_wall(wall: Micros) -> SystemTime {
    SystemTime::UNIX_EPOCH + duration(wall)
}
