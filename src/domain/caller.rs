//! [`Caller`]: who asks, and which instances it may ask.

use std::{collections::HashSet, fmt, sync::Arc};

use super::Instance;

/// A backend that calls this service.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller {
    name: Option<Arc<str>>,
    instances: Allowed,
}

/// Which instances may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every one.
    All,
    /// These alone.
    These(Arc<HashSet<Instance>>),
}

impl Caller {
    /// Whoever calls a server that is open to all: it has no name and may ask every instance.
    pub const ANYONE: Self = Self { name: None, instances: Allowed::All };

    /// A caller that was told to this service.
    #[must_use]
    pub fn new(name: &str, instances: Allowed) -> Self {
        Self { name: Some(name.into()), instances }
    }

    /// The name it was told by; fit for a log line.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether it may ask `instance`.
    #[must_use]
    pub fn may_ask(&self, instance: &Instance) -> bool {
        match &self.instances {
            Allowed::All => true,
            Allowed::These(instances) => instances.contains(instance),
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({})", self.name().unwrap_or("anyone"))
    }
}
