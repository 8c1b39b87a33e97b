//! The operations of a file, until its engine is there: each of them fails.

use std::{path::Path, time::Duration};

use super::{
    Setting, Unusable,
    engine::{Failed, LeaseId, Names, Reading, ScopeState, Seen, Write, Written},
    file::File,
    horizon::HorizonRecord,
    time::StoreTime,
};
use crate::domain::Reach;

fn absent<T>() -> Result<T, Failed> {
    Err(Failed { cause: "there is no engine for files".into() })
}

type Group = (StoreTime, Option<ScopeState>, Vec<Option<Vec<u8>>>);

#[expect(clippy::unused_async, clippy::unused_self)]
impl File {
    pub fn open(_: &Path, _: u64) -> Result<Self, Unusable> {
        Err(Unusable { setting: Setting::Place, fault: "there is no engine for files".into() })
    }
    pub async fn read(&self, _: &Names, _: Seen, _: Option<LeaseId>) -> Result<Reading, Failed> {
        absent()
    }
    pub async fn answers(&self, _: &str, _: &[String]) -> Result<Group, Failed> {
        absent()
    }
    pub async fn write(&self, _: Write<'_>) -> Result<(StoreTime, Written), Failed> {
        absent()
    }
    pub async fn fail(
        &self,
        _: &Names,
        _: Reach,
        _: &[u8],
        _: Duration,
        _: LeaseId,
    ) -> Result<StoreTime, Failed> {
        absent()
    }
    pub async fn renew(&self, _: &str, _: LeaseId) -> Result<bool, Failed> {
        absent()
    }
    pub async fn release(&self, _: &str, _: LeaseId) -> Result<(), Failed> {
        absent()
    }
    pub async fn reject(&self, _: &str, _: Duration) -> Result<Option<StoreTime>, Failed> {
        absent()
    }
    pub async fn scopes(&self, _: &[String]) -> Result<Vec<Option<ScopeState>>, Failed> {
        absent()
    }
    pub async fn probe(&self) -> Result<StoreTime, Failed> {
        absent()
    }
    pub fn horizons(&self) -> Vec<(String, HorizonRecord)> {
        Vec::new()
    }
    pub fn remember(&self, _: &str, _: HorizonRecord) {}
    pub async fn close(&self) {}
}
