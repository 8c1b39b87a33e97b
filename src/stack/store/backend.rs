//! [`Backend`]: the engine of this process, one of the two, and the operations of both.
//!
//! The types of the operations are in `engine`. Operations that a file does not have fail.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{
    Place, Settings, Unusable,
    engine::{
        Failed, Heard, LeaseId, Names, RawReading, ScopeState, Seen, TurnReply, TurnRequest, Write, Written,
    },
    file::File,
    horizon::HorizonRecord,
    time::StoreTime,
    valkey::{Found, Valkey},
};
use crate::domain::Reach;

/// A store that has been opened.
#[derive(Debug)]
pub enum Backend {
    /// A server of Valkey or Redis, or a cluster of them.
    Valkey(Valkey),
    /// A file of this process.
    File(File),
}

/// The answers of a group: the time of the store, the record of the scope, and the values in the order of
/// their names.
type Group = (StoreTime, Option<ScopeState>, Vec<Option<Vec<u8>>>);

impl Backend {
    /// Opens the store of `settings`. Also returns why it does not answer now, if it does not.
    ///
    /// # Errors
    ///
    /// When the store can never work with these settings.
    pub async fn open(settings: &Settings) -> Result<(Self, Option<Failed>), Unusable> {
        match &settings.place {
            Place::Server(server) => {
                let valkey = Valkey::within(server, settings.timeout)?;
                let away = match valkey.check(server).await? {
                    Found::Working => None,
                    Found::NotNow(failed) => Some(failed),
                };
                Ok((Self::Valkey(valkey), away))
            }
            // It blocks while the file is checked. Nothing is served yet.
            Place::File { path, bytes } => Ok((Self::File(File::open(path, *bytes)?), None)),
        }
    }

    pub async fn read(
        &self,
        names: &Names,
        seen: Seen,
        lease: Option<LeaseId>,
    ) -> Result<RawReading, Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.read(names, seen, lease)).await,
            Self::File(file) => file.read(names, seen, lease).await,
        }
    }

    /// Reads up to 64 answers of one scope.
    pub async fn answers(&self, scope: &str, names: &[String]) -> Result<Group, Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.answers(scope, names)).await,
            Self::File(file) => file.answers(scope, names).await,
        }
    }

    pub async fn write(&self, write: Write<'_>) -> Result<(StoreTime, Written), Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.write(write)).await,
            Self::File(file) => file.write(write).await,
        }
    }

    /// Stores a cool-down if the scope has a record, and releases the lease in any case.
    pub async fn fail(
        &self,
        names: &Names,
        reach: Reach,
        value: &[u8],
        ttl: Duration,
        lease: LeaseId,
    ) -> Result<StoreTime, Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.fail(names, reach, value, ttl, lease)).await,
            Self::File(file) => file.fail(names, reach, value, ttl, lease).await,
        }
    }

    /// Whether the lease was still this one.
    pub async fn renew(&self, lease: &str, id: LeaseId) -> Result<bool, Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.renew(lease, id)).await,
            Self::File(file) => file.renew(lease, id).await,
        }
    }

    pub async fn release(&self, lease: &str, id: LeaseId) -> Result<(), Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.release(lease, id)).await,
            Self::File(file) => file.release(lease, id).await,
        }
    }

    /// Sets the flag of a scope to the moment `ago`. Returns the flag as it is stored now; `None` when there
    /// is no record, or when an attempt that began later was answered.
    pub async fn reject(&self, scope: &str, ago: Duration) -> Result<Option<StoreTime>, Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.reject(scope, ago)).await,
            Self::File(file) => file.reject(scope, ago).await,
        }
    }

    pub async fn scopes(&self, names: &[String]) -> Result<Vec<Option<ScopeState>>, Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.scopes(names)).await,
            Self::File(file) => file.scopes(names).await,
        }
    }

    /// Writes to a record of its own. It fails where other writes would.
    pub async fn probe(&self) -> Result<StoreTime, Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.probe()).await,
            Self::File(file) => file.probe().await,
        }
    }

    pub async fn turn(&self, instance: &str, request: TurnRequest) -> Result<TurnReply, Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.turn(instance, request)).await,
            Self::File(_) => Err(no_turns()),
        }
    }

    pub async fn give_back(
        &self,
        instance: &str,
        turn_in: Duration,
        interval: Duration,
        slack: Duration,
    ) -> Result<(), Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.give_back(instance, turn_in, interval, slack)).await,
            Self::File(_) => Err(no_turns()),
        }
    }

    /// Begins or lengthens the pause of an instance.
    pub async fn push_back(
        &self,
        instance: &str,
        asked: Option<Duration>,
        answered: bool,
        request: TurnRequest,
    ) -> Result<TurnReply, Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.push_back(instance, asked, answered, request)).await,
            Self::File(_) => Err(no_turns()),
        }
    }

    /// Sends a message to all replicas. A file has none.
    pub async fn publish(&self, message: Vec<u8>) -> Result<(), Failed> {
        match self {
            Self::Valkey(valkey) => Box::pin(valkey.publish(message)).await,
            Self::File(_) => Ok(()),
        }
    }

    /// The messages of all replicas, this one included. `None` for a file.
    pub fn subscribe(&self) -> Option<mpsc::Receiver<Heard>> {
        match self {
            Self::Valkey(valkey) => Some(valkey.subscribe()),
            Self::File(_) => None,
        }
    }

    /// The turns that the file had at the start, by the tag of the instance. A server sends them with each
    /// reply.
    pub fn horizons(&self) -> Vec<(String, HorizonRecord)> {
        match self {
            Self::Valkey(_) => Vec::new(),
            Self::File(file) => file.horizons(),
        }
    }

    /// Notes turns for the next start of a process with the same file.
    pub fn remember(&self, instance: &str, horizon: HorizonRecord) {
        match self {
            Self::Valkey(_) => {}
            Self::File(file) => file.remember(instance, horizon),
        }
    }

    /// Whether the turns of an instance are those of all replicas.
    pub fn shares_turns(&self) -> bool {
        matches!(self, Self::Valkey(_))
    }

    pub async fn close(&self) {
        match self {
            Self::Valkey(_) => {}
            Self::File(file) => file.close().await,
        }
    }
}

fn no_turns() -> Failed {
    Failed { cause: "a file shares no turns".into() }
}
