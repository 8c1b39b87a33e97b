//! The cost of the shared store: what a server of Valkey does for 100 replicas with 1,000 instances, and the
//! bytes that it holds for a contact.
//!
//! The replicas are stacks in this process, each with the connections of a process, the scripts, the sealed
//! values, the renewals and the news of production. Only the requests to Hypersender are made up.
//!
//! The table says for each load: the contacts, the requests of the replicas to the server and the messages
//! that they hear; the CPU of the server, in all and in us for a contact; the time of a turn in us, while all
//! this goes on; the requests that failed and the look-ups that were refused. `VALKEY_BIN` is the server.

#[path = "../../src/stack/store/testing.rs"]
#[allow(
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "nothing stops the clock, and a measurement may panic"
)]
mod server;

mod checks;
mod contacts;
mod load;
mod replicas;
mod turns;
mod usage;

use std::{num::NonZero, sync::Arc};

use hypersender_grpc::stack::RateSettings;

use self::{
    load::{Load, Pace},
    replicas::{Fetch, INSTANCES, REPLICAS, Replicas},
    server::Server,
    turns::{Took, Turns},
    usage::Usage,
};

// The allocator of the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A measurement, with a server and replicas of its own.
struct Row {
    name: &'static str,
    pace: Pace,
    /// The number of contacts of an instance that are asked for together.
    together: usize,
}

const ROWS: [Row; 6] = [
    Row { name: "1,000 a second", pace: Pace::PerSecond(1_000), together: 1 },
    Row { name: "2,500 a second", pace: Pace::PerSecond(2_500), together: 1 },
    Row { name: "5,000 a second", pace: Pace::PerSecond(5_000), together: 1 },
    Row { name: "1,000 in lists of 30", pace: Pace::PerSecond(1_000), together: 30 },
    Row { name: "2,500 in lists of 30", pace: Pace::PerSecond(2_500), together: 30 },
    Row { name: "as fast as it goes", pace: Pace::Callers(256), together: 1 },
];

fn main() {
    // The server has a core, too.
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads((cores - 1).max(1)).enable_all().build().expect("it starts");
    println!("{REPLICAS} replicas, {INSTANCES} instances, contacts that no replica knows; times in us\n");
    let head = [
        "",
        "contacts/s",
        "requests/s",
        "each",
        "news/s",
        "CPU",
        "each",
        "turn p50",
        "p99",
        "failed",
        "refused",
    ];
    println!("{}", line(head.map(str::to_owned)));
    for row in &ROWS {
        println!("{}", line(runtime.block_on(measure(row))));
    }
    println!();
    runtime.block_on(checks::measure());
    runtime.block_on(contacts::measure());
}

/// Measures a row. The load is that of usual operation: each instance has been asked, and its burst is whole.
#[expect(clippy::cast_precision_loss, reason = "there are few contacts")]
async fn measure(row: &Row) -> [String; 11] {
    let server = Server::start();
    let (rate, fetch) = match row.pace {
        Pace::PerSecond(_) => (RateSettings::default(), Fetch::Usual),
        Pace::Callers(_) => (RateSettings { per_second: 0.0, burst: 0 }, Fetch::AtOnce),
    };
    let replicas = Arc::new(Replicas::start(server.port(), rate, fetch).await);
    let (news, failed) = (replicas.operations("receive", "ok"), replicas.failed());
    let before = Usage::of(&server).await;
    let turns = Turns::start(server.port());
    let offered = Load { pace: row.pace, together: row.together }.offer(&replicas).await;
    let Took { turns, p50, p99 } = turns.stop();
    let used = Usage::of(&server).await - before;

    let (contacts, seconds) = (offered.contacts as f64, offered.time.as_secs_f64());
    let requests = (used.requests - turns) as f64;
    let news = (replicas.operations("receive", "ok") - news) as f64;
    let cpu = used.cpu.as_secs_f64();
    [
        row.name.to_owned(),
        format!("{:.0}", contacts / seconds),
        format!("{:.0}", requests / seconds),
        format!("{:.2}", requests / contacts),
        format!("{:.0}", news / seconds),
        format!("{:.0} %", 100.0 * cpu / seconds),
        format!("{:.0}", 1e6 * cpu / contacts),
        p50.as_micros().to_string(),
        p99.as_micros().to_string(),
        (replicas.failed() - failed).to_string(),
        offered.unanswered.to_string(),
    ]
}

fn line([name, numbers @ ..]: [String; 11]) -> String {
    numbers.iter().fold(format!("{name:<21}"), |line, number| format!("{line} {number:>10}"))
}
