//! [`Usage`]: what a server has done and what it took.

use std::{fs, ops::Sub, time::Duration};

use super::server::Server;

/// The requests of replicas that a server has served, and the CPU time of all its threads.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub requests: u64,
    pub cpu: Duration,
}

impl Usage {
    /// The usage since the start of the server.
    pub async fn of(server: &Server) -> Self {
        let pid = info(server, "server", "process_id:").await;
        let commands: String = server.command(&["INFO", "commandstats"]).await;
        // The commands within a script are counted, too, as commands of their own.
        let ours = ["evalsha", "eval", "publish", "subscribe"].map(|name| format!("cmdstat_{name}:calls="));
        let calls = ours.iter().filter_map(|name| number(&commands, name));
        Self { requests: calls.sum(), cpu: cpu(pid) }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { requests: self.requests - earlier.requests, cpu: self.cpu.saturating_sub(earlier.cpu) }
    }
}

/// A number in a section of INFO.
pub async fn info(server: &Server, section: &str, name: &str) -> u64 {
    let text: String = server.command(&["INFO", section]).await;
    number(&text, name).expect("every server says it")
}

fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

fn cpu(pid: u64) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("this bench needs Linux");
    let nanoseconds = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}
