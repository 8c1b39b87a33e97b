//! Operations on the records of scopes.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    super::engine::{Failed, GROUP_MAX, SCOPE_TIME, ScopeState},
    Repeat, StoreTime, Valkey,
    answers::state,
    form, millis,
    scripts::{Call, REJECT, SCOPE},
};

impl Valkey {
    /// Notes that the token of a scope was rejected so long ago. Returns the rejection that is noted now.
    ///
    /// # Errors
    ///
    /// [`Failed`].
    pub async fn reject(&self, scope: &str, ago: Duration) -> Result<Option<StoreTime>, Failed> {
        let ago = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
        let call = Call::on([scope]).with(ago).with(millis(SCOPE_TIME));
        let rejected: Option<u64> = form(REJECT.run(&self.link, &call, Repeat::Harmless).await?)?;
        Ok(rejected.map(StoreTime::from_millis))
    }

    /// Reads the records of scopes, which may be on several nodes.
    ///
    /// # Errors
    ///
    /// [`Failed`], when one of them cannot be read.
    pub async fn scopes(&self, names: &[String]) -> Result<Vec<Option<ScopeState>>, Failed> {
        // A closure in the stream would keep the future from being sent to another thread.
        let reads: Vec<_> = names.iter().map(|name| self.scope(name)).collect();
        stream::iter(reads).buffered(GROUP_MAX).try_collect().await
    }

    async fn scope(&self, name: &str) -> Result<Option<ScopeState>, Failed> {
        let call = Call::on([name]);
        let reply = SCOPE.run(&self.link, &call, Repeat::Harmless).await?;
        let (epoch, rejected): (Option<Vec<u8>>, Option<u64>) = form(reply)?;
        Ok(state(epoch, rejected))
    }
}
