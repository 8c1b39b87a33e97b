//! [`Detached`]: the turns of an instance that a replica may take without the store.
//!
//! Every replica takes its even share of the rate, without a burst. While all of them are without the store,
//! they together stay within the rate, but for one turn each. It has no clock and asks no store.

use std::time::Duration;

use tokio::time::Instant;

use super::{gcra::Gcra, limit::Limit};
use crate::stack::store::{Horizon, UNSHARED};

/// The share of one replica.
#[derive(Debug)]
pub struct Detached {
    /// The limit over all replicas.
    limit: Limit,
    share: Limit,
    gcra: Gcra,
    /// How far ahead the turns of all replicas are taken, as far as they are known. Each turn that was taken
    /// here counts for all replicas, because the others have taken theirs.
    known: Horizon,
}

impl Detached {
    /// The share of one of `replicas` in a process that began at `started`. As long as no other turns are
    /// known, the first one comes as long after that as two turns are apart.
    pub fn new(limit: Limit, replicas: u32, started: Instant) -> Self {
        let share = limit.share_of(replicas);
        let (first, burst_at) = (started + share.interval, started + limit.slack);
        let mut gcra = Gcra::new(share, started);
        gcra.take_over(&Horizon { free_at: first, spare_at: first, paused_until: started, changes: 0 });
        let known =
            Horizon { free_at: burst_at, spare_at: burst_at, paused_until: started, changes: UNSHARED };
        Self { limit, share, gcra, known }
    }

    /// Learns what is known of the turns of all replicas. The next turn comes after the furthest of them.
    pub fn learn(&mut self, horizon: Option<Horizon>) {
        let Some(Horizon { free_at, spare_at, paused_until, .. }) = horizon else {
            return;
        };
        // Turns that were taken here are part of the horizon, too. The next one comes one turn of this
        // share after them anyway.
        if free_at > self.known.free_at
            && let Some(last) = free_at.checked_sub(self.limit.span())
        {
            let first = last + self.share.interval;
            self.gcra.take_over(&Horizon { free_at: first, spare_at: first, ..self.gcra.horizon() });
        }
        self.known.free_at = self.known.free_at.max(free_at);
        self.known.spare_at = self.known.spare_at.max(spare_at);
        self.pause(paused_until);
    }

    /// What this process knows of the turns of all replicas.
    pub fn horizon(&self) -> Horizon {
        self.known
    }

    pub fn paused_until(&self) -> Instant {
        self.gcra.paused_until()
    }

    /// The turn that would be reserved next.
    pub fn next_turn(&self, now: Instant) -> Instant {
        self.gcra.next_turn(now)
    }

    /// The next spare turn after those of the retries that wait. It may be in the past.
    pub fn next_spare(&self, now: Instant) -> Instant {
        self.gcra.next_spare(now)
    }

    /// Reserves the next turn if it comes by `latest`. Otherwise reserves none and returns the time until it
    /// would come.
    pub fn turn(&mut self, now: Instant, latest: Instant) -> Result<Instant, Duration> {
        let before = self.gcra.horizon().free_at;
        let turn = self.gcra.turn(now, latest)?;
        if self.gcra.horizon().free_at != before {
            self.count(turn);
        }
        Ok(turn)
    }

    /// Takes a spare turn that is free now, for a retry that waits or for others. Otherwise returns the time
    /// until one would come.
    pub fn spare_turn(&mut self, now: Instant, is_retry: bool) -> Result<(), Duration> {
        if is_retry {
            self.gcra.spare_turn_of_retry(now)?;
        } else {
            self.gcra.spare_turn(now)?;
        }
        self.count(now);
        Ok(())
    }

    /// Gives back a reserved turn that has not come yet.
    pub fn give_back(&mut self, turn: Instant, now: Instant) {
        let before = self.gcra.horizon().free_at;
        self.gcra.give_back(turn, now);
        let less = before - self.gcra.horizon().free_at;
        self.known.free_at -= less;
        self.known.spare_at -= less;
    }

    /// Pauses as [`Gcra::pushed_back`] does.
    pub fn pushed_back(&mut self, now: Instant, asked: Option<Duration>) -> Duration {
        let wait = self.gcra.pushed_back(now, asked);
        self.pause(now + wait);
        wait
    }

    /// Allows no turn before `until`, and no burst right after it.
    pub fn pause(&mut self, until: Instant) {
        if until > self.known.paused_until {
            self.gcra.pause(until);
            self.known.paused_until = until;
            self.known.free_at = self.known.free_at.max(until + self.limit.slack);
        }
    }

    /// Forgets earlier refusals, because Hypersender has answered.
    pub fn answered(&mut self) {
        self.gcra.answered();
    }

    pub fn retry_waits(&mut self) {
        self.gcra.retry_waits();
    }

    pub fn retry_left(&mut self) {
        self.gcra.retry_left();
    }

    /// The number of retries that wait for a spare turn.
    pub fn retries(&self) -> u32 {
        self.gcra.retries()
    }

    /// Whether a new share would be no different from this one.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.gcra.is_idle(now) && self.known.free_at <= now
    }

    fn count(&mut self, turn: Instant) {
        self.known.free_at = self.known.free_at.max(turn) + self.share.interval;
        self.known.spare_at = self.known.spare_at.max(turn) + self.share.interval;
    }
}

#[cfg(test)]
mod tests;
