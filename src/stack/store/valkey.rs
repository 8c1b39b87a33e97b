//! [`Valkey`]: a server of Valkey or Redis, or a cluster of them, that replicas share. What its operations
//! mean is in [`super::engine`]; how each of them is one script on the server is here and in the scripts.

mod answers;
mod check;
mod fault;
mod link;
mod news;
mod scopes;
mod scripts;
mod target;
#[cfg(test)]
mod tests;
mod turns;

use std::time::Duration;

use redis::{FromRedisValue, Value};

pub use self::check::Found;
use self::{
    link::{Link, Repeat},
    scripts::{Call, PROBE},
    target::Target,
};
use super::{Server, Unusable, engine::Failed, time::StoreTime};

/// Time to live of the key that the probe writes.
const PROBE_TTL: Duration = Duration::from_secs(60);

/// A connection to the server, which is made when it is first used.
#[derive(Debug)]
pub struct Valkey {
    link: Link,
    /// The key that the probe writes.
    probe: String,
    /// The channel of the news.
    channel: String,
}

impl Valkey {
    /// The server of these settings, for operations that may take `timeout`. It is not contacted yet.
    ///
    /// # Errors
    ///
    /// When the certificates cannot be read.
    pub fn within(server: &Server, timeout: Duration) -> Result<Self, Unusable> {
        let name = |last| format!("{}:{last}", server.prefix);
        let link = Link::new(Target::new(server, timeout)?);
        Ok(Self { link, probe: name("probe"), channel: name("news") })
    }

    /// Finds out, within some seconds, whether the server can work with the settings.
    ///
    /// # Errors
    ///
    /// When it never can.
    pub async fn check(&self, server: &Server) -> Result<Found, Unusable> {
        check::check(server, self.link.target(), &self.probe).await
    }

    /// Finds out whether the server accepts writes. A mere PING succeeds on a server that is full or a
    /// replica.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn probe(&self) -> Result<StoreTime, Failed> {
        let call = Call::on([self.probe.as_str()]).with(millis(PROBE_TTL));
        let now = PROBE.run(&self.link, &call, Repeat::Harmless).await?;
        Ok(StoreTime::from_micros(form(now)?))
    }
}

/// Milliseconds for the server, which refuses a time to live of zero.
fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 50)
}

/// The reply in its form.
fn form<T: FromRedisValue>(reply: Value) -> Result<T, Failed> {
    T::from_redis_value(reply).map_err(|_| Failed { cause: "the reply has another form".to_owned() })
}
