//! [`Valkey`]: a server of Valkey or Redis, or a cluster of them, that replicas share.

/// A connection to the server, which is made when it is first used.
#[derive(Debug)]
pub struct Valkey {}
