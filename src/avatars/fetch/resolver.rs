//! [`PublicAddresses`]: resolves a name, and keeps only addresses of the public Internet. The client connects
//! to the addresses that were checked, so a name that changes meanwhile (DNS rebinding) gains nothing.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;
use tokio::net::lookup_host;

use super::addresses::is_public;

/// The resolver of the guarded client.
#[derive(Clone, Copy, Debug)]
pub struct PublicAddresses;

/// A name has only addresses that are not public. The text names none of them.
#[derive(Clone, Copy, Debug, Error)]
#[error("the name has no public address")]
pub struct NoPublicAddress;

impl Resolve for PublicAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The client sets the port itself.
            let found = lookup_host((name.as_str(), 0)).await?;
            Ok(public(found)?)
        })
    }
}

fn public(addresses: impl Iterator<Item = SocketAddr>) -> Result<Addrs, NoPublicAddress> {
    let public: Vec<_> = addresses.filter(|address| is_public(address.ip())).collect();
    if public.is_empty() {
        return Err(NoPublicAddress);
    }
    Ok(Box::new(public.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_public_are_dropped() {
        let read = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mixed = ["127.0.0.1:0", "157.240.0.60:0", "[::1]:0", "10.0.0.1:0"].map(read);
        assert_eq!(public(mixed.into_iter()).unwrap().collect::<Vec<_>>(), [read("157.240.0.60:0")]);
        assert!(public(["127.0.0.1:0", "[fd00::1]:0"].map(read).into_iter()).is_err());
        assert!(public(std::iter::empty()).is_err());
    }

    #[tokio::test]
    async fn a_name_of_this_machine_has_no_public_address() {
        let resolved = PublicAddresses.resolve("localhost".parse().unwrap()).await;
        assert!(resolved.err().unwrap().is::<NoPublicAddress>());
    }
}
