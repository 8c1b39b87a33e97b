//! [`Turns`]: a caller that takes turns of an instance of its own all the time, and measures them.
//!
//! It is a thread with a connection of its own, so that the load on the replicas is not measured with it.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use redis::{Client, Script};
use tokio::time::Instant;

/// The script of the service.
const SCRIPT: &str = concat!(
    include_str!("../../src/stack/store/valkey/turns.lua"),
    include_str!("../../src/stack/store/valkey/turn.lua")
);
/// The time between two turns.
const PAUSE: Duration = Duration::from_millis(5);

/// The measurement, which goes on until [`Turns::stop`].
#[derive(Debug)]
pub struct Turns {
    stop: Sender<()>,
    thread: JoinHandle<Vec<Duration>>,
}

/// The turns of a measurement, and the time that half of them, and 99 of 100, took at most.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    pub turns: u64,
    pub p50: Duration,
    pub p99: Duration,
}

impl Turns {
    /// Begins to take turns from the server.
    pub fn start(port: u16) -> Self {
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            let (script, mut took) = (Script::new(SCRIPT), Vec::new());
            let client = Client::open(format!("redis://127.0.0.1:{port}")).expect("it is a URL");
            let mut connection = client.get_connection().expect("the server listens");
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                let begun = Instant::now();
                let mut turn = script.key("{turns}:turn");
                // A turn each millisecond, so that there is always one.
                turn.key("{turns}:back").arg(&[1_000, 19_000, 0, 0, 0]).arg("book").arg(1_000_000);
                let reply: Vec<u64> = turn.invoke(&mut connection).expect("the server replies");
                took.push(begun.elapsed());
                assert_eq!(reply[1], 1, "a turn was taken");
            }
            took
        });
        Self { stop, thread }
    }

    /// Ends the measurement.
    pub fn stop(self) -> Took {
        drop(self.stop);
        let mut took = self.thread.join().expect("the thread does not panic");
        took.sort();
        let [p50, p99] = [50, 99].map(|percent| took[took.len() * percent / 100]);
        Took { turns: took.len() as u64, p50, p99 }
    }
}
