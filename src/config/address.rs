//! [`Address`]: host and port of a running service.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use url::Host;

/// Host and port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address.
    Socket(SocketAddr),
    /// A host name. It is resolved when a connection is opened.
    Name {
        /// The name, in ASCII.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Address {
    /// The valid forms, as error texts name them.
    pub const FORM: &'static str = "a host and port such as 127.0.0.1:50051, localhost:50051 or [::1]:50051";

    /// Whether a connection to this address stays on this machine.
    #[must_use]
    pub fn is_this_machine(&self) -> bool {
        match self {
            Self::Socket(address) => address.ip().is_loopback(),
            Self::Name { host, .. } => host == "localhost",
        }
    }
}

impl FromStr for Address {
    type Err = ();

    /// An unspecified address such as `0.0.0.0`, which `--listen` allows, is read as loopback.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let port = port.parse().map_err(|_| ())?;
        let ip = match Host::parse(host).map_err(|_| ())? {
            Host::Domain(host) => return Ok(Self::Name { host, port }),
            Host::Ipv4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
            Host::Ipv6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
            Host::Ipv4(ip) => IpAddr::V4(ip),
            Host::Ipv6(ip) => IpAddr::V6(ip),
        };
        Ok(Self::Socket(SocketAddr::new(ip, port)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, read) in [
            ("127.0.0.1:50051", Some("127.0.0.1:50051")),
            ("0.0.0.0:50051", Some("127.0.0.1:50051")),
            ("[::]:50051", Some("[::1]:50051")),
            ("[::1]:50051", Some("[::1]:50051")),
            ("localhost:50051", Some("localhost:50051")),
            ("hypersender-grpc:50051", Some("hypersender-grpc:50051")),
            ("contacts_grpc.shop.svc.cluster.local:1", Some("contacts_grpc.shop.svc.cluster.local:1")),
            ("", None),
            ("localhost", None),
            (":50051", None),
            ("::1:50051", None),
            ("localhost:70000", None),
            ("local host:1", None),
            ("http://localhost:50051", None),
            ("tcp://10.0.0.1:50051", None),
        ] {
            let address = text.parse::<Address>().ok().map(|address| address.to_string());
            assert_eq!(address.as_deref(), read, "{text:?}");
        }
    }
}
