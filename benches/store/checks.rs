//! The checks of the records of tokens, which every replica makes in the background for all instances in its
//! memory.

use redis::Client;

use super::{
    replicas::{INSTANCES, REPLICAS},
    server::Server,
    usage::Usage,
};

/// The script of the service.
const SCRIPT: &str = concat!(
    include_str!("../../src/stack/store/valkey/records.lua"),
    include_str!("../../src/stack/store/valkey/scope.lua")
);
/// The checks that are measured, and how many of them are sent together, as in the service.
const CHECKS: usize = 50_000;
const TOGETHER: usize = 64;
/// The time between two checks of a replica, in seconds.
const EVERY: usize = 30;

/// Prints the cost of the checks.
#[expect(clippy::cast_precision_loss, reason = "there are few checks")]
pub async fn measure() {
    let server = Server::start();
    let client = Client::open(format!("redis://127.0.0.1:{}", server.port())).expect("it is a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("the server listens");
    let fields = ("e", "0123456789abcdef", "o", "1700000000000");
    let () =
        redis::cmd("HSET").arg("{scope}").arg(fields).query_async(&mut connection).await.expect("it replies");
    let script: String =
        redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query_async(&mut connection).await.expect("it replies");
    let mut pipeline = redis::pipe();
    for _ in 0..TOGETHER {
        pipeline.cmd("EVALSHA").arg(&script).arg(1).arg("{scope}");
    }
    let before = Usage::of(&server).await;
    for _ in 0..CHECKS / TOGETHER {
        let _: Vec<(Vec<u8>, Option<u64>)> = pipeline.query_async(&mut connection).await.expect("it replies");
    }
    let used = Usage::of(&server).await - before;
    let (each, rate) = (used.cpu.as_secs_f64() / used.requests as f64, (REPLICAS * INSTANCES / EVERY) as f64);
    println!(
        "checks of tokens: {rate:.0} requests/s, {:.1} % CPU, {:.0} us each",
        100.0 * rate * each,
        1e6 * each
    );
}
