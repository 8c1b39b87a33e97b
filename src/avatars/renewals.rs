//! [`Renewals`]: whether a link that the CDN refuses is renewed by a look-up (rule 61). A CDN that blocks
//! this machine refuses each link, however new it is, and each renewal is a request of the number.
//!
//! Not here: the look-up and the download.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tracing::{info, warn};

use crate::telemetry::AvatarMetrics;

/// After so many new links in a row that the CDN refuses, no link is renewed. So many renewals are in
/// progress at most, too, because the outcome of one decides about the next.
const REFUSED_MAX: u32 = 5;
/// The time for which no link is renewed. One renewal then tries whether the CDN still refuses.
const PAUSE: Duration = Duration::from_secs(10 * 60);

/// The renewals of this process.
#[derive(Debug)]
pub struct Renewals {
    phase: Mutex<Phase>,
    /// Notified when a renewal ends.
    ended: Notify,
    metrics: Arc<AvatarMetrics>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Links are renewed. `refused` counts the new links in a row that were refused.
    Usual { refused: u32, in_progress: u32 },
    /// No link is renewed.
    Paused { until: Instant },
    /// One link is renewed, as a trial.
    Trial,
}

/// A renewal that may be made. Dropping it without an outcome means that the CDN was not asked.
#[derive(Debug)]
pub struct Renewal<'a> {
    renewals: &'a Renewals,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Taken,
    Refused,
    Unknown,
}

impl Renewals {
    /// Links are renewed at first.
    #[must_use]
    pub fn new(metrics: Arc<AvatarMetrics>) -> Self {
        metrics.renewals_paused(false);
        let phase = Phase::Usual { refused: 0, in_progress: 0 };
        Self { phase: Mutex::new(phase), ended: Notify::new(), metrics }
    }

    /// A renewal, when its turn has come; `None` when no link is renewed now.
    pub async fn begin(&self) -> Option<Renewal<'_>> {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on, an end is not missed.
            ended.as_mut().enable();
            match self.try_begin(Instant::now()) {
                Admission::Granted => return Some(Renewal { renewals: self, outcome: Outcome::Unknown }),
                Admission::Denied => return None,
                Admission::Later => ended.await,
            }
        }
    }

    fn try_begin(&self, now: Instant) -> Admission {
        let mut phase = self.phase.lock();
        match &mut *phase {
            Phase::Usual { refused, in_progress } if *refused + *in_progress < REFUSED_MAX => {
                *in_progress += 1;
                Admission::Granted
            }
            Phase::Usual { .. } => Admission::Later,
            Phase::Paused { until } if *until <= now => {
                *phase = Phase::Trial;
                Admission::Granted
            }
            Phase::Paused { .. } | Phase::Trial => Admission::Denied,
        }
    }

    fn end(&self, outcome: Outcome, now: Instant) {
        let mut phase = self.phase.lock();
        let next = phase.after(outcome, now);
        match (*phase, next) {
            (Phase::Usual { .. }, Phase::Paused { .. }) => {
                warn!(
                    seconds = PAUSE.as_secs(),
                    "the CDN refuses new links of pictures, so no link is renewed for a while"
                );
                self.metrics.renewals_paused(true);
            }
            (Phase::Trial | Phase::Paused { .. }, Phase::Usual { .. }) => {
                info!("the CDN accepts new links of pictures, so links are renewed again");
                self.metrics.renewals_paused(false);
            }
            (Phase::Usual { .. }, Phase::Usual { .. } | Phase::Trial)
            | (Phase::Trial | Phase::Paused { .. }, Phase::Paused { .. } | Phase::Trial) => {}
        }
        *phase = next;
        drop(phase);
        self.ended.notify_waiters();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Granted,
    Denied,
    Later,
}

impl Phase {
    /// The phase after a renewal has ended.
    fn after(self, outcome: Outcome, now: Instant) -> Self {
        let paused = Self::Paused { until: now + PAUSE };
        match (self, outcome) {
            (Self::Usual { in_progress, .. }, Outcome::Taken) => {
                Self::Usual { refused: 0, in_progress: in_progress.saturating_sub(1) }
            }
            (Self::Usual { refused, .. }, Outcome::Refused) if refused + 1 >= REFUSED_MAX => paused,
            (Self::Usual { refused, in_progress }, Outcome::Refused) => {
                Self::Usual { refused: refused + 1, in_progress: in_progress.saturating_sub(1) }
            }
            (Self::Usual { refused, in_progress }, Outcome::Unknown) => {
                Self::Usual { refused, in_progress: in_progress.saturating_sub(1) }
            }
            (Self::Trial, Outcome::Refused | Outcome::Unknown) => paused,
            // In a pause, it is a renewal that began before.
            (Self::Trial | Self::Paused { .. }, Outcome::Taken) => Self::Usual { refused: 0, in_progress: 0 },
            (Self::Paused { .. }, Outcome::Refused | Outcome::Unknown) => self,
        }
    }
}

impl Renewal<'_> {
    /// The CDN took the new link.
    pub fn taken(mut self) {
        self.outcome = Outcome::Taken;
    }

    /// The CDN refused the new link.
    pub fn refused(mut self) {
        self.outcome = Outcome::Refused;
    }
}

impl Drop for Renewal<'_> {
    fn drop(&mut self) {
        self.renewals.end(self.outcome, Instant::now());
    }
}

#[cfg(test)]
mod tests;
