//! [`Progress`]: a progress bar on standard error, when that is a terminal.

use std::{
    fmt::{self, Display},
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use humantime::format_rfc3339_seconds;
use indicatif::{HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use prost_types::Timestamp;

use crate::grpc::contact::StreamProgress;

/// The interval at which the time that is left is computed while nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// The message is before the rate, because the end of the line is cut on a narrow terminal.
const TEMPLATE: &str = "{bar:20} {pos} of {len}{msg}{speed}";

/// The number of contacts that have a result, of all; the rate and the time that is left, or a pause.
pub struct Progress {
    bar: ProgressBar,
    /// Whether there are no results at the moment, so that neither rate nor time would be right.
    waits: Arc<AtomicBool>,
}

impl Progress {
    /// Shows a bar for so many contacts. Without a terminal, nothing is shown.
    pub fn new(total: usize) -> Self {
        let shown = Self::of(ProgressBar::new(total as u64));
        shown.bar.enable_steady_tick(TICK);
        shown
    }

    fn of(bar: ProgressBar) -> Self {
        let waits = Arc::new(AtomicBool::new(false));
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let is_waiting = waits.clone();
        let write = move |state: &ProgressState, line: &mut dyn fmt::Write| {
            if !is_waiting.load(Ordering::Relaxed) {
                // A line that is not written is written with the next tick.
                let _ = line.write_str(&speed(state.per_sec(), state.eta()));
            }
        };
        bar.set_style(style.with_key("speed", write));
        Self { bar, waits }
    }

    /// Counts a contact that has a result.
    pub fn found(&self) {
        self.waits.store(false, Ordering::Relaxed);
        self.bar.set_message("");
        self.bar.inc(1);
    }

    /// Shows why there are no results at the moment.
    pub fn waits(&self, progress: &StreamProgress) {
        let text = match (time(progress.paused_until.as_ref()), time(progress.next_turn_time.as_ref())) {
            (Some(end), _) => format!(", paused until {}", clock(end)),
            (None, Some(turn)) => format!(", next turn at {}", clock(turn)),
            (None, None) => String::new(),
        };
        self.wait(text);
    }

    /// Shows that the stream has ended early, and when the next one begins.
    pub fn resumes(&self, pause: Duration) {
        self.wait(format!(", stream ended early, next one in {:.1} s", pause.as_secs_f64()));
    }

    fn wait(&self, text: String) {
        self.waits.store(!text.is_empty(), Ordering::Relaxed);
        self.bar.set_message(text);
    }

    /// Writes a line to standard output, above the bar.
    ///
    /// # Errors
    ///
    /// Those of standard output.
    pub fn print(&self, line: impl Display) -> io::Result<()> {
        self.bar.suspend(|| writeln!(anstream::stdout(), "{line}"))
    }

    /// Removes the bar.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// The rate in contacts a second, and the time that is left; nothing while neither is known.
fn speed(rate: f64, left: Duration) -> String {
    // The library gives a time of 0 where it has no estimate.
    if rate < 0.05 || left.is_zero() {
        return String::new();
    }
    format!(", {rate:.1}/s, {:#} left", HumanDuration(left))
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
    use std::sync::Mutex;

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    #[test]
    fn the_template_can_be_read() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    /// A terminal that keeps its text.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl Screen {
        fn take(&self) -> String {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write_str(line)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_rate_has_one_decimal_and_nothing_is_known_before_there_is_a_result() {
        for (rate, left, expected) in [
            (0.0, 0, ""),
            (4.0, 0, ""),
            (0.01, 600, ""),
            (4.754_321, 90, ", 4.8/s, 2m left"),
            (12_345.678, 1, ", 12345.7/s, 1s left"),
        ] {
            assert_eq!(speed(rate, Duration::from_secs(left)), expected);
        }
    }

    #[test]
    fn a_pause_takes_the_place_of_the_time_that_is_left() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let shown = Progress::of(ProgressBar::with_draw_target(Some(1_000_000), target));
        shown.bar.force_draw();
        let before = screen.take();
        assert!(before.contains("0 of 1000000") && !before.contains("left"), "{before}");
        shown.found();
        shown.bar.force_draw();
        let going = screen.take();
        assert!(going.contains("1 of 1000000, ") && going.contains("/s, "), "{going}");
        let paused_until = Some(Timestamp { seconds: 1_764_000_060, nanos: 0 });
        shown.waits(&StreamProgress { paused_until, ..StreamProgress::default() });
        screen.take();
        shown.bar.force_draw();
        let paused = screen.take();
        assert!(paused.contains("1 of 1000000, paused until 16:01:00 UTC"), "{paused}");
        assert!(!paused.contains("left") && !paused.contains("/s"), "{paused}");
    }

    #[test]
    fn a_pause_is_shown_until_there_is_a_result() {
        let shown = Progress::of(ProgressBar::hidden());
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let progress = StreamProgress { next_turn_time: at(1_764_000_000), ..StreamProgress::default() };
        shown.waits(&progress);
        assert_eq!(shown.bar.message(), ", next turn at 16:00:00 UTC");
        shown.waits(&StreamProgress { paused_until: at(1_764_000_060), ..progress });
        assert_eq!(shown.bar.message(), ", paused until 16:01:00 UTC");
        assert!(shown.waits.load(Ordering::Relaxed));
        shown.found();
        assert_eq!((shown.bar.message().as_str(), shown.bar.position()), ("", 1));
        assert!(!shown.waits.load(Ordering::Relaxed));
        shown.resumes(Duration::from_millis(1500));
        assert_eq!(shown.bar.message(), ", stream ended early, next one in 1.5 s");
    }
}
