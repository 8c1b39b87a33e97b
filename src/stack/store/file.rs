//! [`File`]: an embedded store for one process.

/// The open file.
#[derive(Debug)]
pub struct File {}
