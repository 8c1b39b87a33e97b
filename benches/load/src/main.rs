//! Calls one server from one thread, and prints the result as one line of JSON: GetProfilePicture and
//! BatchGetProfilePictures many times, or StreamProfilePictures.
//!
//! h2load always sends the same body, keeps a rate by bursts, and ignores the answers. Here calls are for
//! many contacts, begin when they are due, and must get a message. The thread never sleeps, so that the
//! server does not pay for waking it, which it would not do for a client on another machine either.

#![expect(clippy::disallowed_types, reason = "it measures time as it is, and has no runtime")]

mod connection;
mod frames;
mod pace;
mod stream;

use std::{
    io,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use mio::{Events, Poll};

use connection::Connection;
use frames::Contacts;
use pace::Pace;
use stream::Stream;

/// Calls GetProfilePicture and prints the result as one line of JSON.
#[derive(Debug, Parser)]
struct Flags {
    /// Server to call
    #[arg(long)]
    address: SocketAddr,
    /// Number of connections
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Number of calls, after which the program ends
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    calls: u64,
    /// Seconds, after which the program begins no more calls and ends
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    #[command(flatten)]
    pace: Pace,
    /// Number of contacts, in a mixed order; each one once in a round
    #[arg(long, default_value_t = 1)]
    contacts: u64,
    /// Call BatchGetProfilePictures, with this number of contacts in each call
    #[arg(long)]
    batch: Option<u64>,
    /// Call StreamProfilePictures for all contacts, once on each connection, and measure the time until this
    /// number of results have arrived
    #[arg(long, value_name = "RESULTS", conflicts_with_all = ["batch", "in_flight", "together", "rate"])]
    stream: Option<u64>,
    /// Print the result of --stream first, and keep the streams open until the end of standard input
    #[arg(long, requires = "stream")]
    hold: bool,
    /// Phone number of the first contact
    #[arg(long, default_value_t = 15_560_000_000)]
    first: u64,
    /// Bearer token of each call
    #[arg(long)]
    token: Option<String>,
}

/// The number of bytes of a read. A smaller buffer would cost more system calls.
const READ_BYTES_MAX: usize = 64 * 1024;

fn main() -> ExitCode {
    match run(&Flags::parse()) {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> io::Result<String> {
    let contacts = Contacts::new(flags.first, flags.contacts);
    if let Some(results) = flags.stream {
        return stream(flags, &contacts, results);
    }
    let method = flags.batch.map_or("GetProfilePicture", |_| "BatchGetProfilePictures");
    let each = flags.batch.unwrap_or(1);
    let of = |call: u64| (call * each..(call + 1) * each).map(|number| contacts.at(number));
    let mut poll = Poll::new()?;
    let mut connections = (0..flags.connections)
        .map(|index| Connection::open(flags.address, method, flags.token.as_deref(), poll.registry(), index))
        .collect::<io::Result<Vec<_>>>()?;
    let mut events = Events::with_capacity(flags.connections);
    let mut buffer = vec![0; READ_BYTES_MAX];
    let mut latencies = Vec::new();
    let mut begun = 0;
    let start = Instant::now();
    loop {
        let now = start.elapsed();
        let open = now.as_secs_f64() < flags.seconds && begun < flags.calls;
        if open {
            let most = flags.calls - begun;
            begun += flags.pace.begin(&mut connections, begun, most, now, of);
        }
        for connection in &mut connections {
            connection.write()?;
        }
        poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            let now = start.elapsed();
            connections[event.token().0].read(&mut buffer, now, &mut latencies)?;
        }
        if !open && latencies.len() as u64 == begun {
            return Ok(tell(start.elapsed().as_secs_f64(), &mut latencies, &connections));
        }
    }
}

/// Reads one stream after the other until this number of its results have arrived, and returns the time of
/// all of them. They are open until the end of standard input.
fn stream(flags: &Flags, contacts: &Contacts, results: u64) -> io::Result<String> {
    let start = Instant::now();
    let mut open = Vec::new();
    for _ in 0..flags.connections {
        let all = (0..flags.contacts).map(|number| contacts.at(number));
        let mut stream = Stream::open(flags.address, flags.token.as_deref(), all)?;
        stream.read(results)?;
        open.push(stream);
    }
    let told = format!("{{\"seconds\": {:.6}}}", start.elapsed().as_secs_f64());
    if flags.hold {
        println!("{told}");
        io::copy(&mut io::stdin(), &mut io::sink())?;
    }
    Ok(told)
}

#[expect(clippy::cast_precision_loss, reason = "a run has far fewer calls and bytes")]
fn tell(seconds: f64, latencies: &mut [u64], connections: &[Connection]) -> String {
    latencies.sort_unstable();
    let at =
        |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or_default() as f64 / 1e3;
    let empty: u64 = connections.iter().map(|connection| connection.empty).sum();
    let bytes: u64 = connections.iter().map(|connection| connection.bytes).sum();
    let calls = latencies.len();
    let per_reply = bytes as f64 / calls.max(1) as f64;
    let [p50, p99] = [at(50), at(99)];
    format!(
        "{{\"calls\": {calls}, \"empty\": {empty}, \"seconds\": {seconds:.6}, \"p50_us\": {p50:.1}, \
         \"p99_us\": {p99:.1}, \"reply_bytes\": {per_reply:.1}}}"
    )
}
