//! [`Progress`]: a progress bar on standard error, when that is a terminal.

use std::{
    fmt::Display,
    io::{self, Write},
    time::{Duration, SystemTime},
};

use humantime::format_rfc3339_seconds;
use indicatif::{ProgressBar, ProgressStyle};
use prost_types::Timestamp;

use crate::grpc::contact::StreamProgress;

/// The interval at which the time that is left is computed while nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// The message is before the rate, because the end of the line is cut on a narrow terminal.
const TEMPLATE: &str = "{bar:20} {pos} of {len}{msg}, {per_sec}, {eta} left";

/// The number of contacts that have a result, of all; the rate; the time that is left; and a pause.
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows a bar for so many contacts. Without a terminal, nothing is shown.
    pub fn new(total: usize) -> Self {
        let bar = ProgressBar::new(total as u64);
        bar.set_style(
            ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Counts a contact that has a result.
    pub fn found(&self) {
        self.0.set_message("");
        self.0.inc(1);
    }

    /// Shows why there are no results at the moment.
    pub fn waits(&self, progress: &StreamProgress) {
        let text = match (time(progress.paused_until.as_ref()), time(progress.next_turn_time.as_ref())) {
            (Some(end), _) => format!(", paused until {}", clock(end)),
            (None, Some(turn)) => format!(", next turn at {}", clock(turn)),
            (None, None) => String::new(),
        };
        self.0.set_message(text);
    }

    /// Shows that the stream has ended early, and when the next one begins.
    pub fn resumes(&self, pause: Duration) {
        self.0.set_message(format!(", stream ended early, next one in {:.1} s", pause.as_secs_f64()));
    }

    /// Writes a line to standard output, above the bar.
    ///
    /// # Errors
    ///
    /// Those of standard output.
    pub fn print(&self, line: impl Display) -> io::Result<()> {
        self.0.suspend(|| writeln!(anstream::stdout(), "{line}"))
    }

    /// Removes the bar.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// The time of the day, in UTC.
fn clock(time: SystemTime) -> String {
    let text = format_rfc3339_seconds(time).to_string();
    let clock = text.split_once('T').map_or(text.as_str(), |(_, clock)| clock);
    format!("{} UTC", clock.trim_end_matches('Z'))
}

fn time(time: Option<&Timestamp>) -> Option<SystemTime> {
    time.and_then(|time| SystemTime::try_from(*time).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_can_be_read() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn a_pause_is_shown_until_there_is_a_result() {
        let shown = Progress(ProgressBar::hidden());
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let progress = StreamProgress { next_turn_time: at(1_764_000_000), ..StreamProgress::default() };
        shown.waits(&progress);
        assert_eq!(shown.0.message(), ", next turn at 16:00:00 UTC");
        shown.waits(&StreamProgress { paused_until: at(1_764_000_060), ..progress });
        assert_eq!(shown.0.message(), ", paused until 16:01:00 UTC");
        shown.found();
        assert_eq!((shown.0.message().as_str(), shown.0.position()), ("", 1));
        shown.resumes(Duration::from_millis(1500));
        assert_eq!(shown.0.message(), ", stream ended early, next one in 1.5 s");
    }
}
