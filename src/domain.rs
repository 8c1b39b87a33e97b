//! What the service talks about: names, links, look-ups, answers and errors.
//!
//! Nothing here does I/O, reads a clock or knows a framework: what depends on time is told the time.

mod caller;
mod contact;
mod credential;
mod deadline;
mod error;
mod link;
mod lookup;
mod refusal;

pub use caller::{Allowed, Caller};
pub use contact::{ChatId, Instance};
pub use credential::{Credential, CredentialId, TokenOwner};
pub use deadline::{CallEnd, CallTime, Deadline, Waiting};
pub use error::{Again, Handling, LookupError, NotFound, Reach, Rejected, Signal};
pub use link::{LinkInvalid, PictureLink};
pub use lookup::{
    Absence, Answer, CacheControl, CacheInfo, CacheStatus, Finding, Key, Lookup, Now, Purpose, Scope, Ttl,
};
pub use refusal::{Refusal, Unknown};
