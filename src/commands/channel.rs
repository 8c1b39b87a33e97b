//! A channel to a running service, for the subcommands that ask it.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::{config::Target, telemetry::chain};

/// A channel to the service that `target` names.
pub async fn connect(target: &Target) -> Result<Channel, String> {
    let mut address = target.address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let cannot = |error: tonic::transport::Error| format!("cannot connect to {address}: {}", chain(&error));
    let tls = tls(target)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}")).expect("it is an address");
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls).map_err(cannot)?;
    }
    endpoint.connect_timeout(target.timeout).connect().await.map_err(cannot)
}

/// How to encrypt, when an authority is given.
fn tls(target: &Target) -> Result<Option<ClientTlsConfig>, String> {
    let Some(authority) = &target.tls_ca else { return Ok(None) };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("--tls-ca", authority)?));
    if let Some(name) = &target.tls_domain {
        tls = tls.domain_name(name);
    }
    if let (Some(cert), Some(key)) = (&target.tls_client_cert, &target.tls_client_key) {
        let [cert, key] =
            [("--tls-client-cert", cert), ("--tls-client-key", key)].map(|(flag, path)| read(flag, path));
        tls = tls.identity(Identity::from_pem(cert?, key?));
    }
    Ok(Some(tls))
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{flag}: {}: {error}", path.display()))
}
