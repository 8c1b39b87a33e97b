//! Messages to the service manager that started the service, by the protocol of `sd_notify`. Without the
//! variable `NOTIFY_SOCKET`, which systemd sets, there are none.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{self, MissedTickBehavior};
use tracing::warn;

use crate::telemetry::chain;

/// Time for the end of a drain: to close the store and to send the last traces.
const CLOSING_TIME: Duration = Duration::from_secs(15);

/// Says that the ports are open.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// Says that files are being read again. [`ready`] ends that.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => warn!(error = chain(&error), "cannot read the monotonic clock"),
    }
}

/// Says that the service stops, and that its drain takes `drain` at most, so that the manager does not kill
/// it before.
pub fn stopping(drain: Duration) {
    let longest = u32::try_from((drain + CLOSING_TIME).as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(longest)]);
}

/// Sends a sign of life from a task of the runtime, twice in each period that the manager asks for. It
/// restarts a service whose runtime no longer runs tasks.
pub fn keep_watchdog() {
    let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) else { return };
    tokio::spawn(async move {
        let mut ticks = time::interval(period / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            send(&[NotifyState::Watchdog]);
        }
    });
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(error = chain(&error), "cannot reach the service manager");
    }
}
