//! [`Source`]: where the turns of an instance come from.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Spare, asking::Asking, booked::Booked, gcra::Gcra, own::Own, shared::Shared};

/// The turns of one instance.
#[derive(Debug)]
pub enum Source {
    /// This process alone takes them.
    Own(Own),
    /// All replicas take them from the store.
    Shared(Shared),
}

impl Source {
    /// Reserves the next turn if it comes by `latest`. Otherwise reserves none and returns the time until it
    /// would come.
    pub async fn turn(&self, asking: &mut Asking, now: Instant, latest: Instant) -> Result<Booked, Duration> {
        match self {
            Self::Own(own) => own.change(|gcra| gcra.turn(now, latest)).map(Booked::own),
            Self::Shared(shared) => shared.turn(asking, now, latest).await,
        }
    }

    /// Takes a spare turn that is free now. Otherwise returns the time until one would come, after those of
    /// the retries that wait.
    pub async fn spare_turn(&self, asking: &mut Asking, now: Instant) -> Result<(), Duration> {
        match self {
            Self::Own(own) => own.change(|gcra| gcra.spare_turn(now)),
            Self::Shared(shared) => shared.spare_turn(asking, now, false).await,
        }
    }

    /// The same for the first of the retries that wait.
    pub async fn spare_turn_of_retry(&self, asking: &mut Asking, now: Instant) -> Result<(), Duration> {
        match self {
            Self::Own(own) => own.change(|gcra| gcra.spare_turn_of_retry(now)),
            Self::Shared(shared) => shared.spare_turn(asking, now, true).await,
        }
    }

    /// Gives back a reserved turn that has not come yet.
    pub fn give_back(&self, booked: &Booked) {
        match self {
            Self::Own(own) => own.change(|gcra| gcra.give_back(booked.at, Instant::now())),
            Self::Shared(shared) => shared.give_back(booked),
        }
    }

    /// Waits for a turn. Returns whether it has come in a pause, so that it is lost.
    pub async fn comes_in_pause(&self, asking: &mut Asking, booked: &Booked) -> bool {
        match self {
            Self::Own(own) => {
                sleep_until(booked.at).await;
                own.read(|gcra| gcra.paused_until() > Instant::now())
            }
            Self::Shared(shared) => shared.comes_in_pause(asking, booked).await,
        }
    }

    /// The next spare turn, and the end of the pause, as far as they are known.
    pub fn spare(&self, now: Instant) -> Spare {
        match self {
            Self::Own(own) => {
                own.read(|gcra| Spare { at: gcra.next_spare(now), paused_until: gcra.paused_until() })
            }
            Self::Shared(shared) => shared.spare(now),
        }
    }

    /// Notes that Hypersender refuses requests as too many. Returns the time until the end of the pause.
    pub async fn pushed_back(&self, asking: &mut Asking, asked: Option<Duration>) -> Duration {
        match self {
            Self::Own(own) => own.change(|gcra| gcra.pushed_back(Instant::now(), asked)),
            Self::Shared(shared) => shared.pushed_back(asking, asked).await,
        }
    }

    /// Notes that Hypersender answers.
    pub fn answered(&self) {
        match self {
            Self::Own(own) => own.change(Gcra::answered),
            Self::Shared(shared) => shared.answered(),
        }
    }

    /// The distance of two turns, once the burst is used up.
    pub fn interval(&self) -> Duration {
        match self {
            Self::Own(own) => own.read(Gcra::interval),
            Self::Shared(shared) => shared.interval(),
        }
    }

    /// Counts a retry that begins to wait for a spare turn.
    pub fn retry_waits(&self) {
        match self {
            Self::Own(own) => own.change(Gcra::retry_waits),
            Self::Shared(shared) => shared.retry_waits(),
        }
    }

    /// Counts off a retry that has its spare turn or does not wait any longer.
    pub fn retry_left(&self) {
        match self {
            Self::Own(own) => own.change(Gcra::retry_left),
            Self::Shared(shared) => shared.retry_left(),
        }
    }

    /// Whether new turns would be no different from these.
    pub fn is_idle(&self, now: Instant) -> bool {
        match self {
            Self::Own(own) => own.read(|gcra| gcra.is_idle(now)),
            Self::Shared(shared) => shared.is_idle(now),
        }
    }
}
