//! [`Script`]: the scripts that the server runs, each with its contract at its head.

use std::sync::LazyLock;

use redis::{Cmd, ToRedisArgs, Value};

use super::{
    super::engine::Failed,
    fault::Fault,
    link::{Link, Repeat},
};

/// The script in these files, of which the first ones are shared.
macro_rules! script {
    ($($file:literal),+) => {
        LazyLock::new(|| Script::new(concat!($(include_str!($file)),+)))
    };
}

pub static READ: LazyLock<Script> = script!("records.lua", "read.lua");
pub static ANSWERS: LazyLock<Script> = script!("records.lua", "answers.lua");
pub static WRITE: LazyLock<Script> = script!("records.lua", "write.lua");
pub static FAIL: LazyLock<Script> = script!("records.lua", "fail.lua");
pub static RENEW: LazyLock<Script> = script!("records.lua", "renew.lua");
pub static RELEASE: LazyLock<Script> = script!("records.lua", "release.lua");
pub static REJECT: LazyLock<Script> = script!("records.lua", "reject.lua");
pub static SCOPE: LazyLock<Script> = script!("records.lua", "scope.lua");
pub static TURN: LazyLock<Script> = script!("turns.lua", "turn.lua");
pub static GIVE_BACK: LazyLock<Script> = script!("turns.lua", "give_back.lua");
pub static PUSH_BACK: LazyLock<Script> = script!("turns.lua", "push_back.lua");
pub static PROBE: LazyLock<Script> = script!("probe.lua");

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

    /// Both commands that run the script. The server knows the script after the second.
    pub fn commands(&self, call: &Call) -> [Cmd; 2] {
        [call.command("EVALSHA", &self.sha1), call.command("EVAL", self.source)]
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
