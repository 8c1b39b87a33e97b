//! [`Settings`]: which store is used, and how.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;

/// The store of a process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server or the file.
    pub place: Place,
    /// Time for each operation as a whole.
    pub timeout: Duration,
    /// The most replicas there will ever be at a time; at least 1.
    pub replicas: u32,
}

/// The place of a store.
#[derive(Clone, Debug)]
pub enum Place {
    /// A server that replicas share.
    Server(Server),
    /// A file of this process.
    File {
        /// The file. Its companions are beside it.
        path: PathBuf,
        /// The most bytes of stored answers.
        bytes: u64,
    },
}

/// A server of Valkey or Redis.
#[derive(Clone, Debug)]
pub struct Server {
    /// Host and port of the server, or of some nodes of the cluster. Never empty.
    pub hosts: Vec<(String, u16)>,
    /// Whether they are nodes of a cluster.
    pub is_cluster: bool,
    /// The number of the database; 0 with a cluster.
    pub database: i64,
    /// Whether connections use TLS.
    pub tls: bool,
    /// Authorities that sign the certificate of the server, PEM; `None` takes the machine's.
    pub ca: Option<Vec<u8>>,
    /// The user; `None` is the default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
    /// The beginning of every name.
    pub prefix: String,
}

impl Server {
    /// Whether connections stay on this machine.
    #[must_use]
    pub fn is_this_machine(&self) -> bool {
        let is_loopback = |host: &String| match host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => host == "localhost",
        };
        self.hosts.iter().all(|(host, _)| is_loopback(host))
    }
}

impl Server {
    /// A single server without TLS, user and password, whose names begin with `prefix`.
    #[must_use]
    pub fn at(host: &str, port: u16, prefix: &str) -> Self {
        Self {
            hosts: vec![(host.to_owned(), port)],
            is_cluster: false,
            database: 0,
            tls: false,
            ca: None,
            username: None,
            password: None,
            prefix: prefix.to_owned(),
        }
    }
}
