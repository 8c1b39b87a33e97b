//! [`RateLimit`]: how fast one instance may be asked, so that its WhatsApp number is not banned for bulk
//! look-ups.
//!
//! It reserves turns: a call gets a turn that comes in time and waits for it, or is refused at once with the
//! time until the next free turn. The limit holds for this process; each replica has its own.
//!
//! governor is not used: it reserves no turns, cannot pause an instance after a 429, and does not run on
//! tokio's clock.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tower::ServiceExt;
use tracing::warn;

use super::{
    ask::{Ask, LookupService},
    keyed::{Idle, Keyed},
};
use crate::{
    domain::{Answer, Instance, Lookup, LookupError, Purpose},
    telemetry::LookupMetrics as Metrics,
};

/// How fast an instance may be asked.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Attempts per second for each instance; 0 switches the limit off.
    pub per_second: f64,
    /// Attempts at once after a quiet time; 0 switches the limit off.
    pub burst: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { per_second: 5.0, burst: 20 }
    }
}

/// The slowest rate is one turn a day, so that every instant stays in the range of the clock.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The pause after a 429 without a hint. It doubles with each further 429 ...
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// ... up to this length.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The turns of every instance. Clones share them.
#[derive(Clone, Debug)]
pub struct Rates {
    instances: Arc<Keyed<Instance, Turns>>,
    settings: Settings,
}

/// When a stream may ask an instance, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spare {
    /// The next spare turn, if no other call takes a turn before.
    pub at: Instant,
    /// The end of the pause after a 429. It is in the past when there is none.
    pub paused_until: Instant,
}

impl Rates {
    /// Turns as `settings` allow. No instance has used any.
    pub fn new(settings: Settings) -> Self {
        Self { instances: Arc::new(Keyed::new()), settings }
    }

    /// The next spare turn of `instance`. Nothing is reserved.
    pub fn spare(&self, instance: &Instance, now: Instant) -> Spare {
        let turns = self.instances.get(instance);
        let spare = turns.map(|turns| {
            let turns = turns.0.lock();
            Spare { at: turns.spare_at.max(turns.paused_until), paused_until: turns.paused_until }
        });
        spare.unwrap_or(Spare { at: now, paused_until: now })
    }

    fn of(&self, instance: &Instance) -> Result<Arc<Turns>, LookupError> {
        self.instances.of(instance, || Turns::new(self.settings, Instant::now()))
    }
}

/// The layer with a rate limit for each instance. Hits and callers that join a flight do not reach it.
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    rates: Rates,
    metrics: Arc<Metrics>,
    inner: S,
}

impl<S> RateLimit<S> {
    /// Asks through `inner` no faster than `rates` allow.
    pub fn new(rates: Rates, metrics: Arc<Metrics>, inner: S) -> Self {
        Self { rates, metrics, inner }
    }
}

impl<S: LookupService> Ask for RateLimit<S> {
    async fn ask(self, lookup: Lookup) -> Result<Answer, LookupError> {
        let turns = self.rates.of(&lookup.key.scope.instance)?;
        loop {
            let now = Instant::now();
            if lookup.purpose == Purpose::Stream && lookup.resent == 0 {
                let taken = turns.0.lock().spare_turn(now);
                taken.map_err(|wait| LookupError::NoSpareTurn { wait })?;
                lookup.place.iter().for_each(crate::domain::QueuePlace::leave);
                break;
            }
            let latest = match lookup.purpose {
                Purpose::SpareRefresh | Purpose::Refresh => now,
                Purpose::Stream | Purpose::Batch | Purpose::Caller => {
                    let latest = lookup.deadline.latest_start();
                    latest.filter(|latest| *latest >= now).ok_or(LookupError::DeadlineExceeded)?
                }
            };
            let turn = turns.0.lock().turn(now, latest);
            let turn = turn.map_err(|wait| {
                self.metrics.refused(lookup.purpose);
                LookupError::RateLimited { wait }
            })?;
            // The timer rounds up to the next millisecond, so a turn that is free now must not wait for it.
            if turn <= now {
                break;
            }
            sleep_until(turn).await;
            // A pause that has begun during the wait holds for this call, too.
            if turns.0.lock().paused_until <= Instant::now() {
                break;
            }
        }
        let instance = lookup.key.scope.instance.clone();
        match self.inner.oneshot(lookup).await {
            Err(LookupError::UpstreamRateLimited { retry_after }) => {
                let wait = turns.0.lock().pushed_back(Instant::now(), retry_after);
                warn!(
                    instance = instance.as_str(),
                    ?wait,
                    "upstream limits the rate of an instance, which pauses"
                );
                Err(LookupError::UpstreamRateLimited { retry_after: Some(wait) })
            }
            // A refusal by this server says nothing about the rate limit of Hypersender.
            answered => {
                if !answered.as_ref().is_err_and(|error| error.handling().is_own_refusal) {
                    turns.0.lock().pause_next = PAUSE_MIN;
                }
                answered
            }
        }
    }
}

#[derive(Debug)]
struct Turns(Mutex<Gcra>);

impl Turns {
    fn new(settings: Settings, now: Instant) -> Self {
        Self(Mutex::new(Gcra::new(settings, now)))
    }
}

impl Idle for Turns {
    fn is_idle(&self, now: Instant) -> bool {
        let turns = self.0.lock();
        // Refusals are forgotten after a while. Otherwise names that callers invent would fill the table for
        // ever.
        let forgiven = turns.pause_next == PAUSE_MIN || turns.paused_until + PAUSE_MAX <= now;
        turns.free_at <= now && turns.paused_until <= now && forgiven
    }
}

/// The generic cell rate algorithm (ITU-T I.371), extended by a pause. One instant records which turns are
/// taken.
#[derive(Debug)]
struct Gcra {
    interval: Duration,
    /// How far ahead of an even spacing turns may be taken. It is the time of the burst minus one turn.
    slack: Duration,
    /// The instant after all reserved turns, if they were evenly spaced.
    free_at: Instant,
    /// The same without the slack that a pause adds: the next turn that is spare.
    spare_at: Instant,
    paused_until: Instant,
    pause_next: Duration,
}

impl Gcra {
    fn new(settings: Settings, now: Instant) -> Self {
        let off = settings.per_second <= 0.0 || settings.burst == 0;
        let interval = if off {
            Duration::ZERO
        } else {
            Duration::try_from_secs_f64(1.0 / settings.per_second).unwrap_or(INTERVAL_MAX).min(INTERVAL_MAX)
        };
        Self {
            interval,
            slack: interval.saturating_mul(settings.burst.saturating_sub(1)),
            free_at: now,
            spare_at: now,
            paused_until: now,
            pause_next: PAUSE_MIN,
        }
    }

    /// Reserves the next turn if it comes by `latest`. Otherwise reserves none and returns the time until it
    /// would come.
    fn turn(&mut self, now: Instant, latest: Instant) -> Result<Instant, Duration> {
        let free_at = self.free_at.max(now);
        let turn = free_at.checked_sub(self.slack).map_or(now, |turn| turn.max(now)).max(self.paused_until);
        if turn > latest {
            return Err(turn - now);
        }
        self.free_at = free_at + self.interval;
        self.spare_at = self.spare_at.max(now) + self.interval;
        Ok(turn)
    }

    /// Takes a turn that no call needs: one that is free now, while no turn is owed and there is no pause.
    /// Otherwise takes none and returns the time until one would come.
    ///
    /// A spare turn does not delay the return of the burst after a pause.
    fn spare_turn(&mut self, now: Instant) -> Result<(), Duration> {
        let at = self.spare_at.max(self.paused_until);
        if at > now {
            return Err(at - now);
        }
        self.spare_at = now + self.interval;
        self.free_at = self.free_at.max(self.spare_at);
        Ok(())
    }

    /// Allows no turn before `until`, and no burst right after it.
    fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(until);
        self.free_at = self.free_at.max(until + self.slack);
    }

    /// Pauses for as long as Hypersender asks, or longer each time when it gives no hint.
    fn pushed_back(&mut self, now: Instant, asked: Option<Duration>) -> Duration {
        if self.paused_until <= now {
            self.pause(now + asked.unwrap_or(self.pause_next));
            self.pause_next = (self.pause_next * 2).min(PAUSE_MAX);
        } else {
            // The request was on the wire before the pause began, so it belongs to the same refusal.
            self.pause(now + asked.unwrap_or_default());
        }
        self.paused_until - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limit(per_second: f64, burst: u32) -> (Gcra, Instant) {
        let now = Instant::now();
        (Gcra::new(Settings { per_second, burst }, now), now)
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
        assert_eq!(turns.turn(now, now), Err(INTERVAL_MAX));
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
}
