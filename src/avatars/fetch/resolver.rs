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

/// The addresses that may be connected to. The client resolves a name once for each connection.
fn public(addresses: impl Iterator<Item = SocketAddr>) -> Result<Addrs, NoPublicAddress> {
    let public: Vec<_> = addresses.filter(|address| is_public(address.ip())).collect();
    if public.is_empty() {
        return Err(NoPublicAddress);
    }
    Ok(Box::new(public.into_iter()))
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Arc};

    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn addresses_that_are_not_public_are_dropped() {
        let read = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mixed = ["127.0.0.1:0", "157.240.0.60:0", "[::1]:0", "10.0.0.1:0"].map(read);
        assert_eq!(public(mixed.into_iter()).unwrap().collect::<Vec<_>>(), [read("157.240.0.60:0")]);
        assert!(public(["127.0.0.1:0", "[fd00::1]:0"].map(read).into_iter()).is_err());
        assert!(public(std::iter::empty()).is_err());
    }

    /// A name whose addresses change with each resolution.
    struct Rebinding {
        answers: Mutex<VecDeque<&'static str>>,
    }

    impl Resolve for Rebinding {
        fn resolve(&self, _: Name) -> Resolving {
            let answer = self.answers.lock().pop_front().expect("each request resolves the name once");
            Box::pin(async move { Ok(public(std::iter::once(answer.parse().unwrap()))?) })
        }
    }

    #[tokio::test]
    async fn a_name_that_changes_between_two_resolutions_leads_to_no_private_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = ["157.240.0.60:0", "127.0.0.1:0", "[::ffff:127.0.0.1]:0"].into();
        let resolver = Arc::new(Rebinding { answers: Mutex::new(answers) });
        let first = resolver.resolve("pps.whatsapp.net".parse().unwrap()).await.unwrap();
        assert_eq!(first.collect::<Vec<_>>(), ["157.240.0.60:0".parse().unwrap()]);
        // The guarded client asks again for its own connection, and gets the private address.
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().dns_resolver(resolver.clone());
        let client = client.build().unwrap();
        for _ in 0..2 {
            let error = client.get(format!("http://pps.whatsapp.net:{port}/")).send().await.unwrap_err();
            assert!(crate::telemetry::sources(&error).any(<dyn std::error::Error>::is::<NoPublicAddress>));
        }
        assert!(listener.accept().is_err(), "nothing connects to this machine");
        assert!(resolver.answers.lock().is_empty());
    }

    #[tokio::test]
    async fn a_name_of_this_machine_has_no_public_address() {
        let resolved = PublicAddresses.resolve("localhost".parse().unwrap()).await;
        assert!(resolved.err().unwrap().is::<NoPublicAddress>());
    }
}
