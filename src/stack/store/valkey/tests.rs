//! The operations on a real server, and how a test sets them up.

mod cluster;
mod faults;
mod news;
mod proxy;
mod records;
mod silence;
mod start;
mod tls;
mod turns;

use std::time::Duration;

use super::{
    super::{
        Server as Settings, Unusable,
        engine::{LeaseId, Names, Seen, Write, Written},
        testing::Server,
        time::StoreTime,
    },
    Valkey,
};

/// The tag of the names of an instance.
const TAG: &str = "{test:0011223344556677}";
/// A lease.
const LEASE: LeaseId = [1; 16];
/// Another one.
const OTHER: LeaseId = [2; 16];
/// An epoch.
const EPOCH: [u8; 16] = *b"\0\x01epoch\xff\r\n 34567";
/// A time to live that no test outlives.
const LONG: Duration = Duration::from_secs(60);

fn settings(port: u16) -> Settings {
    Settings::at("127.0.0.1", port, "test")
}

impl Valkey {
    /// The server with the time-out of production.
    fn new(server: &Settings) -> Result<Self, Unusable> {
        Self::within(server, Duration::from_millis(100))
    }
}

fn valkey(server: &Server) -> Valkey {
    Valkey::new(&settings(server.port())).unwrap()
}

fn names(contact: &str) -> Names {
    let name = |kind| format!("{TAG}:{kind}:{contact}");
    Names {
        scope: format!("{TAG}:s:scope"),
        scope_failure: format!("{TAG}:f:scope"),
        answer: name("a"),
        lease: name("l"),
        failure: name("f"),
    }
}

/// A sealed value with this time in its header.
fn sealed(millis: u64) -> Vec<u8> {
    [&[1], &millis.to_be_bytes()[..], b"\0nonce and \r\n ciphertext\xff"].concat()
}

#[expect(clippy::unnecessary_wraps, reason = "each use wants an option")]
fn at(millis: u64) -> Option<StoreTime> {
    Some(StoreTime::from_millis(millis))
}

fn seen(answer: u64) -> Seen {
    Seen { answer: at(answer), ..Seen::default() }
}

/// An answer of the scope's epoch that nobody seeks to overwrite in any case.
fn write<'a>(names: &'a Names, value: &'a [u8]) -> Write<'a> {
    let (epoch, lease) = (EPOCH, LEASE);
    Write { names, value, ttl: LONG, epoch, is_new_epoch: false, unreadable: None, lease }
}

/// Stores the first answer of the scope.
async fn begin(valkey: &Valkey, names: &Names, millis: u64) {
    let value = sealed(millis);
    let first = Write { is_new_epoch: true, ..write(names, &value) };
    assert_eq!(valkey.write(first).await.unwrap().1, Written::Stored);
}

/// The rights that a user needs, as the documentation names them.
const RIGHTS: [&str; 20] = [
    "+evalsha",
    "+eval",
    "+time",
    "+get",
    "+set",
    "+del",
    "+hmget",
    "+hset",
    "+hdel",
    "+pexpire",
    "+zadd",
    "+zrem",
    "+zremrangebyscore",
    "+zrangebyscore",
    "+publish",
    "+subscribe",
    "+info",
    "~{test*",
    "~test:probe",
    "&test:news",
];
