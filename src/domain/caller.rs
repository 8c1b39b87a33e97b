//! [`Caller`]: a backend that calls this service, and the instances it may ask.

use std::{collections::HashSet, fmt, sync::Arc};

use super::{Instance, Refusal};

/// A backend that calls this service.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    name: Option<Arc<str>>,
    instances: Allowed,
    has_avatars: bool,
}

/// The instances that a caller may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every instance.
    All,
    /// These instances and no others.
    These(Arc<HashSet<Instance>>),
}

impl Caller {
    /// The caller of every call to a server that is open to all. It has no name and may ask every instance.
    pub const ANYONE: Self = Self { name: None, instances: Allowed::All, has_avatars: true };

    /// A caller from the file of known callers.
    #[must_use]
    pub fn new(name: &str, instances: Allowed) -> Self {
        Self { name: Some(name.into()), instances, has_avatars: false }
    }

    /// The same caller, who gets the addresses of images or does not.
    #[must_use]
    pub fn with_avatars(self, has_avatars: bool) -> Self {
        Self { has_avatars, ..self }
    }

    /// Whether the answers to the caller carry the addresses of images.
    #[must_use]
    pub fn has_avatars(&self) -> bool {
        self.has_avatars
    }

    /// The name in the file of known callers. It may be logged.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the caller may ask `instance`.
    #[must_use]
    pub fn may_ask(&self, instance: &Instance) -> bool {
        match &self.instances {
            Allowed::All => true,
            Allowed::These(instances) => instances.contains(instance),
        }
    }
}

/// Asks again, during a long call, whether its caller is still known and may ask an instance. It is an
/// extension of the request of a stream.
#[derive(Clone)]
pub struct Recheck(Arc<Check>);

type Check = dyn Fn(&Instance) -> Result<(), Refusal> + Send + Sync;

impl Recheck {
    /// A check that `check` makes.
    #[must_use]
    pub fn new(check: impl Fn(&Instance) -> Result<(), Refusal> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// Whether the caller may still ask `instance`.
    ///
    /// # Errors
    ///
    /// The refusal that a new call of the same caller would get.
    pub fn check(&self, instance: &Instance) -> Result<(), Refusal> {
        (self.0)(instance)
    }
}

impl fmt::Debug for Recheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recheck(..)")
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({})", self.name().unwrap_or("anyone"))
    }
}
