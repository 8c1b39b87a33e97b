//! [`Pace`]: the times at which calls begin.

use std::time::Duration;

use clap::Args;

use crate::connection::Connection;

/// The times at which calls begin: when others have ended, or by the clock.
#[derive(Args, Clone, Copy, Debug)]
pub struct Pace {
    /// Calls in flight on each connection; a new one begins as soon as one has ended
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Begin the next calls only when all of them have ended, so that the load depends less on the speed of
    /// either side
    #[arg(long)]
    together: bool,
    /// Calls per second, begun by the clock whether or not earlier ones have ended; overrides the number in
    /// flight
    #[arg(long, conflicts_with_all = ["in_flight", "together"])]
    rate: Option<f64>,
    /// Calls that are due at the same instant on one connection
    #[arg(long, default_value_t = 1, requires = "rate")]
    burst: u64,
}

/// The most calls in flight on a connection. Calls that are due wait for it. Every server allows this number.
const STREAMS_MAX: usize = 100;

impl Pace {
    /// Begins the calls that are due, at most `most`, and returns their number. `begun` is the number of
    /// earlier calls.
    pub fn begin<C: Iterator<Item = u64>>(
        &self,
        connections: &mut [Connection],
        begun: u64,
        most: u64,
        now: Duration,
        contacts: impl Fn(u64) -> C,
    ) -> u64 {
        let mut count = 0;
        if let Some(rate) = self.rate {
            while count < most {
                let burst = (begun + count) / self.burst;
                #[expect(clippy::cast_precision_loss, reason = "a run has far fewer calls")]
                let due = Duration::from_secs_f64((burst * self.burst) as f64 / rate);
                let connection = usize::try_from(burst).unwrap_or_default() % connections.len();
                let connection = &mut connections[connection];
                if due > now || connection.in_flight() >= STREAMS_MAX {
                    break;
                }
                connection.begin(contacts(begun + count), due);
                count += 1;
            }
            return count;
        }
        for connection in connections {
            if self.together && connection.in_flight() > 0 {
                continue;
            }
            while connection.in_flight() < self.in_flight && count < most {
                connection.begin(contacts(begun + count), now);
                count += 1;
            }
        }
        count
    }
}
