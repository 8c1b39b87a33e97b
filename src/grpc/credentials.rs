//! [`Credentials`]: the instance that a call is for, and the token for it.

use std::collections::HashMap;

use http::Extensions;

use crate::domain::{Caller, Credential, Instance, Refusal};

/// The token for each instance, for calls that carry none themselves.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The tokens of instances that have their own.
    pub by_instance: HashMap<Instance, Credential>,
    /// The token for every other instance. Without it, calls for other instances are refused.
    pub any: Option<Credential>,
    /// The instance for calls that name none.
    pub default_instance: Option<Instance>,
}

impl Credentials {
    /// The instance that a caller means by `name`, and the token for it. The layers of the server have put
    /// the caller, and its token in passthrough, into `call`, the extensions of the request.
    ///
    /// # Errors
    ///
    /// The refusal when the name is not valid, or the caller or this server may not use the instance.
    pub fn resolve(&self, name: &str, call: &Extensions) -> Result<(Instance, Credential), Refusal> {
        let instance = if name.is_empty() {
            self.default_instance.clone().ok_or(Refusal::InstanceMissing)?
        } else {
            Instance::parse(name)?
        };
        // A call without a caller means that the layer in front of this service is missing. It is refused.
        let caller = call.get::<Caller>().ok_or(Refusal::Internal)?;
        if !caller.may_ask(&instance) {
            return Err(Refusal::InstanceNotAllowed);
        }
        let credential = call.get::<Credential>().or_else(|| self.own(&instance));
        let credential = credential.cloned().ok_or(Refusal::InstanceNotConfigured)?;
        Ok((instance, credential))
    }

    /// The token of this server for `instance`, if there is one.
    #[must_use]
    pub fn own(&self, instance: &Instance) -> Option<&Credential> {
        self.by_instance.get(instance).or(self.any.as_ref())
    }
}
