//! [`Files`]: the files that a service or a subcommand reads, in a directory that is deleted when dropped.

use std::fs;

use tempfile::TempDir;

use super::Identity;

/// A temporary directory.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Writes a file, in place of an earlier one with that name, and returns its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a certificate and its key, in place of earlier ones, and returns both paths.
    pub fn identity(&self, identity: &Identity) -> [String; 2] {
        [self.write("cert.pem", &identity.cert), self.write("key.pem", &identity.key)]
    }

    /// The path of a file that need not exist.
    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}
