//! [`Script`]: the scripts that the server runs, each with its contract at its head.

use std::sync::LazyLock;

use redis::{Cmd, ToRedisArgs, Value};

use super::{
    super::engine::Failed,
    fault::Fault,
    link::{Link, Repeat},
};

/// The scripts that work on records share these functions.
macro_rules! with_records {
    ($file:literal) => {
        Script::new(concat!(include_str!("records.lua"), include_str!($file)))
    };
}

pub static READ: LazyLock<Script> = LazyLock::new(|| with_records!("read.lua"));
pub static ANSWERS: LazyLock<Script> = LazyLock::new(|| with_records!("answers.lua"));
pub static WRITE: LazyLock<Script> = LazyLock::new(|| with_records!("write.lua"));
pub static FAIL: LazyLock<Script> = LazyLock::new(|| with_records!("fail.lua"));
pub static RENEW: LazyLock<Script> = LazyLock::new(|| with_records!("renew.lua"));
pub static RELEASE: LazyLock<Script> = LazyLock::new(|| with_records!("release.lua"));
pub static REJECT: LazyLock<Script> = LazyLock::new(|| with_records!("reject.lua"));
pub static SCOPE: LazyLock<Script> = LazyLock::new(|| with_records!("scope.lua"));
pub static PROBE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("probe.lua")));

/// A script and the name under which a server keeps it.
#[derive(Debug)]
pub struct Script {
    source: &'static str,
    sha1: String,
}

impl Script {
    /// The script with this source.
    pub fn new(source: &'static str) -> Self {
        Self { source, sha1: redis::Script::new(source).get_hash().to_owned() }
    }

    /// Runs the script. A server that does not know it, after a restart or a `SCRIPT FLUSH`, gets the source
    /// and keeps it.
    ///
    /// # Errors
    ///
    /// Those of [`Link::call`].
    pub async fn run(&self, link: &Link, call: &Call, repeat: Repeat) -> Result<Value, Failed> {
        match link.call(&call.command("EVALSHA", &self.sha1), repeat).await {
            Err(Fault::NoScript) => Ok(link.call(&call.command("EVAL", self.source), repeat).await?),
            result => Ok(result?),
        }
    }

    /// The command that runs the script on a server that need not know it.
    pub fn command(&self, call: &Call) -> Cmd {
        call.command("EVAL", self.source)
    }
}

/// The names and the arguments of a script.
#[derive(Debug, Default)]
pub struct Call {
    keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

impl Call {
    /// A call with these names, all of one slot.
    pub fn on<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let keys = keys.into_iter().map(|key| key.as_bytes().to_vec()).collect();
        Self { keys, arguments: Vec::new() }
    }

    /// Adds an argument.
    pub fn with(mut self, argument: impl ToRedisArgs) -> Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}
