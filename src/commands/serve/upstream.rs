//! The API that the service asks: Hypersender, or a sandbox of its own.

use std::{hash::RandomState, io, net::Ipv4Addr};

use secrecy::SecretString;
use url::Url;

use crate::{
    config::Upstream,
    domain::{Credential, Instance},
    grpc::Credentials,
    sandbox::Sandbox,
};

/// The base URL of the API, the tokens for it, and the sandbox if it is used. The sandbox is started here,
/// and stops when it is dropped.
pub async fn start(upstream: Upstream) -> io::Result<(Url, Credentials, Option<Sandbox>)> {
    // The key of credential ids. They are compared within this process alone, so it is random.
    let hasher = RandomState::new();
    let credential = |token: SecretString| Credential::new(token, &hasher);
    match upstream {
        Upstream::Hypersender { base_url, tokens, default_instance } => {
            let by_instance = tokens.by_instance.into_iter();
            let credentials = Credentials {
                by_instance: by_instance.map(|(instance, token)| (instance, credential(token))).collect(),
                any: tokens.any.map(credential),
                default_instance,
            };
            Ok((base_url, credentials, None))
        }
        Upstream::Sandbox => {
            let sandbox = sandbox().await?;
            let base_url = Url::parse(&sandbox.base_url()).expect("the sandbox knows its own address");
            let instance = Instance::parse(Sandbox::INSTANCE).expect("it is a UUID");
            let credentials = Credentials {
                any: Some(credential(Sandbox::TOKEN.into())),
                default_instance: Some(instance),
                ..Credentials::default()
            };
            Ok((base_url, credentials, Some(sandbox)))
        }
    }
}

/// A sandbox on its usual port, so that the fingerprints of its pictures stay the same when the service is
/// restarted. Where another program uses that port, a free one is taken.
async fn sandbox() -> io::Result<Sandbox> {
    let usual = Sandbox::start((Ipv4Addr::LOCALHOST, Sandbox::PORT).into()).await;
    match usual {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Sandbox::start((Ipv4Addr::LOCALHOST, 0).into()).await
        }
        started => started,
    }
}
