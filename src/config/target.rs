//! [`Target`]: where a running service is and how to reach it, for the subcommands that ask it.

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::{
    Variables,
    address::Address,
    faults::Faults,
    flags::{GetFlags, TargetFlags},
    given::Given,
    variables::caller_token,
};
use crate::server::Pem;

/// Where a running service is and how to reach it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: Address,
    /// Time for the connection and the answer.
    pub timeout: Duration,
    /// How to encrypt; `None` sends plain text.
    pub tls: Option<ClientTls>,
}

/// How the connection to a service is encrypted.
#[derive(Clone)]
pub struct ClientTls {
    /// Authorities that sign the certificate of the service, PEM.
    pub ca: Vec<u8>,
    /// Name in that certificate, where it is not the host that is asked.
    pub domain: Option<String>,
    /// Certificate chain and private key of the client, PEM.
    pub identity: Option<[Vec<u8>; 2]>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// One look-up at a running service.
#[derive(Debug)]
pub struct Get {
    /// The contact.
    pub chat_id: String,
    /// The instance to ask; the default one of the service when empty.
    pub instance: String,
    /// The service.
    pub target: Target,
    /// What the caller proves by who it is.
    pub token: Option<SecretString>,
}

impl TargetFlags {
    /// The settings of `health`.
    ///
    /// # Errors
    ///
    /// Every fault of every setting.
    pub fn check(self) -> Result<Target, Faults> {
        let mut faults = Faults::of("health");
        let target = self.read(&mut faults);
        faults.unless_any(target)
    }

    fn read(self, faults: &mut Faults) -> Option<Target> {
        let address = faults.take_any("address", Some(self.address));
        let timeout = faults.take("timeout", self.timeout);
        let client = [("tls_client_cert", "tls_client_key"), ("tls_client_key", "tls_client_cert")];
        let given = [self.tls_client_cert.is_some(), self.tls_client_key.is_some()];
        for ((id, other), [given, other_given]) in client.into_iter().zip([given, [given[1], given[0]]]) {
            if given && !other_given {
                faults.require(other, id);
            }
        }
        let others = [("tls_domain", self.tls_domain.is_some()), ("tls_client_cert", given[0])];
        for (id, _) in others.into_iter().filter(|(_, given)| *given && self.tls_ca.is_none()) {
            faults.require("tls_ca", id);
        }
        let domain = faults.take_any("tls_domain", self.tls_domain);
        let is_encrypted = self.tls_ca.is_some();
        let ca = pem(faults, "tls_ca", self.tls_ca, |pem| pem.certificates().map(drop));
        let cert = pem(faults, "tls_client_cert", self.tls_client_cert, |pem| pem.certificates().map(drop));
        let key = pem(faults, "tls_client_key", self.tls_client_key, |pem| pem.private_key().map(drop));
        let identity = cert.zip(key);
        match identity.as_ref().map(|(cert, key)| cert.is_of(key)) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => faults.note_of("tls_client_cert", "not the certificate of the private key"),
            Some(Err(fault)) => faults.note_of("tls_client_cert", &fault),
        }
        let identity = identity.map(|(cert, key)| [cert, key].map(|pem| pem.bytes().to_vec()));
        let tls = match (is_encrypted, ca) {
            (false, _) => None,
            (true, None) => return None,
            (true, Some(ca)) => Some(ClientTls { ca: ca.bytes().to_vec(), domain, identity }),
        };
        Some(Target { address: address?, timeout, tls })
    }
}

/// The PEM file that the setting `id` names, if there is one and `check` finds no fault in it.
fn pem(
    faults: &mut Faults,
    id: &str,
    path: Option<Given<PathBuf>>,
    check: fn(&Pem) -> Result<(), String>,
) -> Option<Pem> {
    let path = faults.take_any(id, path)?;
    let read = Pem::read(&path).and_then(|pem| check(&pem).map(|()| pem));
    read.map_err(|fault| faults.note_of(id, &format!("{}: {fault}", path.display()))).ok()
}

impl GetFlags {
    /// The settings of `get`.
    ///
    /// # Errors
    ///
    /// Every fault of every setting.
    pub fn check(self, variables: &Variables) -> Result<Get, Faults> {
        let mut faults = Faults::of("get");
        let target = self.target.read(&mut faults);
        let token = caller_token(variables);
        let token = token.map_err(|(name, fault)| faults.note(name, &fault)).ok().flatten();
        let get = target.map(|target| Get { chat_id: self.chat_id, instance: self.instance, target, token });
        faults.unless_any(get)
    }
}
