//! [`Target`]: the address of a running service and how to connect to it, and the settings of the subcommands
//! that call it: `get`, `sync` and `health`.

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::SecretString;

use super::{
    Variables,
    address::Address,
    client_flags::{AskingFlags, GetFlags, SyncFlags, TargetFlags},
    faults::Faults,
    given::Given,
    secrets::caller_token,
    values::Output,
};
use crate::{avatars::PictureHosts, server::Pem};

/// The address of a running service, and how to connect to it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address it listens on.
    pub address: Address,
    /// Time for the connection and the answer.
    pub timeout: Duration,
    /// Encryption of the connection; with `None`, it is plain text.
    pub tls: Option<ClientTls>,
}

/// How the connection to a service is encrypted.
#[derive(Clone)]
pub struct ClientTls {
    /// Authorities that sign the certificate of the service, PEM.
    pub ca: Vec<u8>,
    /// The name in that certificate, where it differs from the host of the address.
    pub domain: Option<String>,
    /// Certificate chain and private key of the client, PEM.
    pub identity: Option<[Vec<u8>; 2]>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// How a running service is asked.
#[derive(Debug)]
pub struct Asking {
    /// The instance to ask. With an empty one, the service asks its default instance.
    pub instance: String,
    /// The service.
    pub target: Target,
    /// The token of the caller.
    pub token: Option<SecretString>,
}

/// Look-ups at a running service.
#[derive(Debug)]
pub struct Get {
    /// The contacts, as they are given.
    pub chat_ids: Vec<String>,
    /// The form of the answers. With `None`, it depends on their number and on the terminal.
    pub output: Option<Output>,
    /// The service.
    pub asking: Asking,
}

/// A contact list that is kept up to date.
#[derive(Debug)]
pub struct Sync {
    /// The CSV file.
    pub contacts: PathBuf,
    /// The name of the column with the chat ids.
    pub column: String,
    /// A contact that was checked within this time is skipped.
    pub max_age: Duration,
    /// The file to which changes are added; `None` prints them.
    pub out: Option<PathBuf>,
    /// The folder of the pictures; `None` saves none.
    pub pictures: Option<PathBuf>,
    /// The hosts that pictures are downloaded from.
    pub picture_hosts: PictureHosts,
    /// The service.
    pub asking: Asking,
}

impl TargetFlags {
    /// The settings of `health`.
    ///
    /// # Errors
    ///
    /// Every fault of every setting.
    pub fn check(self) -> Result<Target, Faults> {
        let mut faults = Faults::default();
        let target = self.read(&mut faults);
        faults.unless_any(target)
    }

    fn read(&self, faults: &mut Faults) -> Option<Target> {
        let address = faults.take_valid(&self.address);
        let timeout = faults.take(&self.timeout);
        let (cert, key) = (&self.tls_client_cert, &self.tls_client_key);
        match [cert, key].map(Given::is_given) {
            [true, false] => faults.require(key, cert),
            [false, true] => faults.require(cert, key),
            [true, true] | [false, false] => {}
        }
        if !self.tls_ca.is_given() {
            if self.tls_domain.is_given() {
                faults.require(&self.tls_ca, &self.tls_domain);
            }
            if cert.is_given() {
                faults.require(&self.tls_ca, cert);
            }
        }
        let domain = faults.take(&self.tls_domain);
        let ca = pem(&self.tls_ca, |pem| pem.certificates().map(drop), faults);
        let identity = self.identity(faults);
        let tls = match (self.tls_ca.is_given(), ca) {
            (false, _) => None,
            (true, None) => return None,
            (true, Some(ca)) => Some(ClientTls { ca: ca.bytes().to_vec(), domain, identity }),
        };
        Some(Target { address: address?, timeout, tls })
    }

    /// Certificate chain and private key of the client, PEM, where both are given and belong together.
    fn identity(&self, faults: &mut Faults) -> Option<[Vec<u8>; 2]> {
        let cert = pem(&self.tls_client_cert, |pem| pem.certificates().map(drop), faults);
        let key = pem(&self.tls_client_key, |pem| pem.private_key().map(drop), faults);
        let (cert, key) = cert.zip(key)?;
        let fault = match cert.is_of(&key) {
            Ok(true) => return Some([cert, key].map(|pem| pem.bytes().to_vec())),
            Ok(false) => "not the certificate of the private key".to_owned(),
            Err(fault) => fault,
        };
        faults.note(&self.tls_client_cert.name, fault);
        None
    }
}

/// The PEM file that a setting names, if it names one and `check` finds no fault in it.
fn pem(
    given: &Given<Option<PathBuf>>,
    check: fn(&Pem) -> Result<(), String>,
    faults: &mut Faults,
) -> Option<Pem> {
    let path = faults.take(given)?;
    let read = Pem::read(&path).and_then(|pem| check(&pem).map(|()| pem));
    read.map_err(|fault| faults.note(&given.name, format_args!("{}: {fault}", path.display()))).ok()
}

impl AskingFlags {
    fn read(self, variables: &Variables, faults: &mut Faults) -> Option<Asking> {
        let target = self.target.read(faults);
        let token = caller_token(variables).map_err(|fault| faults.note_variable(fault)).ok().flatten();
        Some(Asking { instance: self.instance, target: target?, token })
    }
}

impl GetFlags {
    /// The settings of `get`.
    ///
    /// # Errors
    ///
    /// Every fault of every setting.
    pub fn check(self, variables: &Variables) -> Result<Get, Faults> {
        let mut faults = Faults::default();
        let output = faults.take(&self.output);
        let asking = self.asking.read(variables, &mut faults);
        let get = asking.map(|asking| Get { chat_ids: self.chat_ids, output, asking });
        faults.unless_any(get)
    }
}

impl SyncFlags {
    /// The settings of `sync`.
    ///
    /// # Errors
    ///
    /// Every fault of every setting.
    pub fn check(self, variables: &Variables) -> Result<Sync, Faults> {
        let mut faults = Faults::default();
        let contacts = faults.take(&self.contacts);
        let max_age = faults.take(&self.max_age);
        let [out, pictures] = [&self.out, &self.pictures].map(|path| faults.take(path));
        let picture_hosts = faults.take(&self.picture_hosts);
        let asking = self.asking.read(variables, &mut faults);
        let sync = asking.map(|asking| Sync {
            contacts,
            column: self.chat_id_column,
            max_age,
            out,
            pictures,
            picture_hosts,
            asking,
        });
        faults.unless_any(sync)
    }
}
