//! [`Gcra`]: the arithmetic of the turns of one instance. It has no clock and waits for nothing.
//!
//! Two instants record which turns are taken. `free_at` is that of the algorithm, and bounds every turn.
//! `spare_at` is the same without the slack that a pause adds, and bounds the turns that no caller needs.
//! `free_at` is never before `spare_at`, so the turns of both kinds together stay within rate and burst.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::limit::Limit;
use crate::stack::store::Horizon;

/// The pause after a 429 without a hint. It doubles with each further 429 ...
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// ... up to this length.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The generic cell rate algorithm (ITU-T I.371), extended by a pause and by spare turns.
#[derive(Debug)]
pub struct Gcra {
    limit: Limit,
    /// The instant after all reserved turns, if they were evenly spaced.
    free_at: Instant,
    /// The same without the slack that a pause adds: the next turn that is spare.
    spare_at: Instant,
    /// The end of the pause after a 429.
    paused_until: Instant,
    pause_next: Duration,
    /// Reserved turns that were given back before they came, while later ones stay reserved.
    given_back: BTreeSet<Instant>,
    /// The retries of streams that wait for a spare turn. They come before everything else that takes spare
    /// turns.
    retries: u32,
}

impl Gcra {
    /// Turns of which none is taken.
    pub fn new(limit: Limit, now: Instant) -> Self {
        Self {
            limit,
            free_at: now,
            spare_at: now,
            paused_until: now,
            pause_next: PAUSE_MIN,
            given_back: BTreeSet::new(),
            retries: 0,
        }
    }

    /// Takes over what is known of turns that were taken elsewhere. Turns come no earlier than without.
    pub fn take_over(&mut self, known: &Horizon) {
        self.free_at = self.free_at.max(known.free_at);
        self.spare_at = self.spare_at.max(known.spare_at);
        self.paused_until = self.paused_until.max(known.paused_until);
    }

    /// How far ahead the turns are taken.
    pub fn horizon(&self) -> Horizon {
        let Self { free_at, spare_at, paused_until, .. } = *self;
        Horizon { free_at, spare_at, paused_until, changes: 0 }
    }

    /// The distance of two turns, once the burst is used up.
    pub fn interval(&self) -> Duration {
        self.limit.interval
    }

    /// The end of the pause. It is in the past when there is none.
    pub fn paused_until(&self) -> Instant {
        self.paused_until
    }

    /// Reserves the next turn if it comes by `latest`. Otherwise reserves none and returns the time until it
    /// would come.
    pub fn turn(&mut self, now: Instant, latest: Instant) -> Result<Instant, Duration> {
        self.forget_lost_turns(now);
        let turn = self.next_turn(now);
        if turn > latest {
            return Err(turn - now);
        }
        if self.given_back.pop_first().is_some() {
            return Ok(turn);
        }
        self.free_at = self.free_at.max(now) + self.limit.interval;
        // A turn after a pause is a debt from the pause's end on. Counted from now, it would be forgiven
        // before it comes.
        self.spare_at = self.spare_at.max(turn) + self.limit.interval;
        Ok(turn)
    }

    /// The turn that would be reserved next.
    pub fn next_turn(&self, now: Instant) -> Instant {
        if let Some(turn) = self.given_back.range(now.max(self.paused_until)..).next() {
            return *turn;
        }
        let turn = self.free_at.checked_sub(self.limit.slack).map_or(now, |turn| turn.max(now));
        turn.max(self.paused_until)
    }

    /// Gives back a reserved turn that has not come yet, because nobody waits for it any longer.
    pub fn give_back(&mut self, turn: Instant, now: Instant) {
        self.forget_lost_turns(now);
        // In a pause the turn is lost, too.
        if turn <= now || turn < self.paused_until {
            return;
        }
        self.given_back.insert(turn);
        // The last turns are not reserved any more. The others wait in their places for the next call.
        while let Some(last) = self.free_at.checked_sub(self.limit.span())
            && self.given_back.remove(&last)
        {
            self.free_at -= self.limit.interval;
            self.spare_at -= self.limit.interval;
        }
    }

    /// A turn that was given back is lost once it has passed: taken later, it would be close to others.
    fn forget_lost_turns(&mut self, now: Instant) {
        self.given_back = self.given_back.split_off(&now.max(self.paused_until));
    }

    /// Takes a turn that no call needs: one that is free now, while no turn is owed, there is no pause, and
    /// no retry of a stream waits for it. Otherwise takes none and returns the time until one would come.
    ///
    /// A spare turn does not delay the return of the burst after a pause.
    pub fn spare_turn(&mut self, now: Instant) -> Result<(), Duration> {
        self.take_spare(now, self.next_spare(now))
    }

    /// The same for the first of the retries that wait.
    pub fn spare_turn_of_retry(&mut self, now: Instant) -> Result<(), Duration> {
        self.take_spare(now, self.spare_at.max(self.paused_until))
    }

    fn take_spare(&mut self, now: Instant, at: Instant) -> Result<(), Duration> {
        if at > now {
            return Err(at - now);
        }
        self.spare_at = now + self.limit.interval;
        self.free_at = self.free_at.max(self.spare_at);
        Ok(())
    }

    /// The next spare turn after those of the retries that wait. It may be in the past.
    pub fn next_spare(&self, now: Instant) -> Instant {
        let next = self.spare_at.max(self.paused_until);
        match self.retries {
            0 => next,
            ahead => next.max(now) + self.limit.interval.saturating_mul(ahead),
        }
    }

    /// Counts a retry that begins to wait for a spare turn.
    pub fn retry_waits(&mut self) {
        self.retries += 1;
    }

    /// Counts off a retry that has its spare turn or does not wait any longer.
    pub fn retry_left(&mut self) {
        self.retries -= 1;
    }

    /// Allows no turn before `until`, and no burst right after it.
    pub fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(until);
        self.free_at = self.free_at.max(until + self.limit.slack);
    }

    /// Pauses for as long as Hypersender asks, or longer each time when it gives no hint. Returns the time
    /// until the end of the pause.
    pub fn pushed_back(&mut self, now: Instant, asked: Option<Duration>) -> Duration {
        if self.paused_until <= now {
            self.pause(now + asked.unwrap_or(self.pause_next));
            self.pause_next = (self.pause_next * 2).min(PAUSE_MAX);
        } else {
            // The request was on the wire before the pause began, so it belongs to the same refusal.
            self.pause(now + asked.unwrap_or_default());
        }
        self.paused_until - now
    }

    /// The number of retries that wait for a spare turn.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// Forgets earlier refusals, because Hypersender has answered.
    pub fn answered(&mut self) {
        self.pause_next = PAUSE_MIN;
    }

    /// Whether new turns would be no different from these.
    pub fn is_idle(&self, now: Instant) -> bool {
        // Refusals are forgotten after a while. Otherwise names that callers invent would fill the table for
        // ever.
        let forgiven = self.pause_next == PAUSE_MIN || self.paused_until + PAUSE_MAX <= now;
        self.free_at <= now && self.paused_until <= now && forgiven
    }
}

#[cfg(test)]
mod scripts;
#[cfg(test)]
mod tests;
