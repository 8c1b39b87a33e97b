//! [`Interrupts`]: the events that end a stream from outside (rules 44 and 45).

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::domain::{Instance, Recheck, Refusal};

/// How often a stream checks that its caller may still ask.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The deadline of a stream, the stop of the server, and the permission of the caller.
#[derive(Debug)]
pub struct Interrupts {
    deadline: Instant,
    stopping: watch::Receiver<bool>,
    has_stopped: bool,
    recheck: Option<Recheck>,
    instance: Instance,
    next_check: Instant,
}

/// The server stops. The stream must not start a further look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

impl Interrupts {
    /// Interrupts of a stream for `instance` that ends at `deadline`. `stopping` turns `true` when the server
    /// stops. `recheck` says whether the caller may still ask; `None` when every client may.
    pub fn new(
        deadline: Instant,
        stopping: watch::Receiver<bool>,
        recheck: Option<Recheck>,
        instance: Instance,
    ) -> Self {
        let next_check = Instant::now() + RECHECK_INTERVAL;
        Self { deadline, stopping, has_stopped: false, recheck, instance, next_check }
    }

    /// Whether the stop of the server has interrupted the stream.
    pub fn has_stopped(&self) -> bool {
        self.has_stopped
    }

    /// Resolves at the stop of the server, once.
    ///
    /// # Errors
    ///
    /// The refusal that ends the stream: its time is over, or its caller may not ask any more.
    pub async fn next(&mut self) -> Result<Stop, Refusal> {
        loop {
            tokio::select! {
                _ = self.stopping.wait_for(|stopping| *stopping), if !self.has_stopped => {
                    self.has_stopped = true;
                    return Ok(Stop);
                }
                () = sleep_until(self.deadline) => return Err(Refusal::DeadlineExceeded),
                () = sleep_until(self.next_check), if self.recheck.is_some() => {
                    self.next_check = Instant::now() + RECHECK_INTERVAL;
                    if let Some(recheck) = &self.recheck {
                        recheck.check(&self.instance)?;
                    }
                }
            }
        }
    }
}
