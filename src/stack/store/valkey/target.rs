//! [`Target`]: where the server is, and how connections to it are set up.

use std::{sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, RedisError, TlsCertificates,
    cluster::{ClusterClient, ClusterClientBuilder},
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::ExposeSecret;

use super::super::{Server, Setting, Unusable};

/// Time to make a connection, TLS and the password included. An operation waits for it only as long as it
/// may.
pub const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Time for a reply that nothing else bounds. An operation that may take longer has its own time.
const REPLY_MAX: Duration = Duration::from_secs(2);
/// An operation that is given up sooner says nothing about the server: its caller has left. For a time-out
/// that is shorter, it is half of it.
const SILENCE_MIN: Duration = Duration::from_millis(50);
/// Time that sent bytes may stay without an acknowledgement before the kernel gives up the connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(2);
/// After this time of silence the kernel asks the other side whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Where connections lead to.
#[derive(Clone)]
pub struct Target {
    /// The server, or the nodes of the cluster that the settings name. Their names are resolved for every
    /// connection.
    nodes: Arc<[Client]>,
    cluster: Option<Arc<ClusterClient>>,
    /// Time for a reply.
    reply_max: Duration,
    silence_min: Duration,
}

impl Target {
    /// The target of these settings, for operations that may take `timeout`. Nothing is looked for yet.
    ///
    /// # Errors
    ///
    /// When there is no host, or the certificates cannot be read.
    pub fn new(server: &Server, timeout: Duration) -> Result<Self, Unusable> {
        let (reply_max, silence_min) = (REPLY_MAX.max(timeout), SILENCE_MIN.min(timeout / 2));
        let certificates = server.tls.then(|| certificates(server)).transpose()?;
        let mut nodes = clients(server, certificates.as_ref()).map_err(|error| unusable(&error))?;
        if !server.is_cluster {
            nodes.truncate(1);
        }
        if nodes.is_empty() {
            return Err(Unusable { setting: Setting::Place, fault: "there is no host".to_owned() });
        }
        let cluster = server.is_cluster.then(|| cluster(&nodes, certificates, reply_max)).transpose();
        let cluster = cluster.map_err(|error| unusable(&error))?.map(Arc::new);
        Ok(Self { nodes: nodes.into(), cluster, reply_max, silence_min })
    }

    /// The clients for one connection each: to the server, or to the nodes that the settings name. There is
    /// at least one.
    pub fn nodes(&self) -> &[Client] {
        &self.nodes
    }

    /// The client for connections to all nodes of the cluster, if it is one.
    pub fn cluster(&self) -> Option<&ClusterClient> {
        self.cluster.as_deref()
    }

    /// The shortest time without a reply that counts as silence of the server.
    pub fn silence_min(&self) -> Duration {
        self.silence_min
    }

    /// The limits of a connection to one server.
    pub fn limits(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(self.reply_max))
    }

    /// The clients of [`Self::nodes`], which present no password and choose no database.
    pub fn without_password(&self) -> impl Iterator<Item = Result<Client, RedisError>> {
        let settings =
            RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        self.nodes().iter().map(move |node| {
            Client::open(node.get_connection_info().clone().set_redis_settings(settings.clone()))
        })
    }
}

/// The client of a cluster. It follows no redirection and repeats nothing: a repeated booking would take two
/// turns, so the link decides.
fn cluster(
    nodes: &[Client],
    certificates: Option<TlsCertificates>,
    reply_max: Duration,
) -> Result<ClusterClient, RedisError> {
    let nodes = nodes.iter().map(|node| node.get_connection_info().clone());
    let builder = ClusterClientBuilder::new(nodes)
        .use_protocol(ProtocolVersion::RESP2)
        .tcp_settings(tcp())
        .connection_timeout(CONNECT_MAX / 2)
        .response_timeout(reply_max)
        .retries(0);
    match certificates {
        Some(certificates) => builder.certs(certificates).build(),
        None => builder.build(),
    }
}

/// Clients of the hosts of the settings.
fn clients(server: &Server, certificates: Option<&TlsCertificates>) -> Result<Vec<Client>, RedisError> {
    let client = |(host, port): &(String, u16)| {
        let info = |address: ConnectionAddr| -> Result<ConnectionInfo, RedisError> {
            let info = address.into_connection_info()?;
            Ok(info.set_redis_settings(connection(server)).set_tcp_settings(tcp()))
        };
        let (host, port) = (host.clone(), *port);
        match certificates {
            None => Client::open(info(ConnectionAddr::Tcp(host, port))?),
            Some(certificates) => {
                let address = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
                Client::build_with_tls(info(address)?, certificates.clone())
            }
        }
    };
    server.hosts.iter().map(client).collect()
}

/// What a connection says first. The name of the client library is left out, since a user may lack the
/// right to tell it.
fn connection(server: &Server) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default()
        .set_db(server.database)
        .set_protocol(ProtocolVersion::RESP2)
        .set_skip_set_lib_name();
    if let Some(password) = &server.password {
        settings = settings.set_password(password.expose_secret());
        if let Some(username) = &server.username {
            settings = settings.set_username(username);
        }
    }
    settings
}

fn tcp() -> TcpSettings {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 5).with_retries(3);
    TcpSettings::default().set_nodelay(true).set_keepalive(keep_alive).set_user_timeout(UNACKNOWLEDGED_MAX)
}

/// The authorities for TLS. Without some of its own, the client takes those of the machine.
fn certificates(server: &Server) -> Result<TlsCertificates, Unusable> {
    // The client library takes the provider of the process. A second installation is refused, which is no
    // fault.
    let _ = aws_lc_rs::default_provider().install_default();
    if let Some(pem) = &server.ca {
        let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let (usable, unusable) = certificates
            .map(|certificates| RootCertStore::empty().add_parsable_certificates(certificates))
            .unwrap_or_default();
        if usable == 0 || unusable > 0 {
            let fault = "it is not a list of certificates in PEM".to_owned();
            return Err(Unusable { setting: Setting::Ca, fault });
        }
    }
    Ok(TlsCertificates { client_tls: None, root_cert: server.ca.clone() })
}

fn unusable(error: &RedisError) -> Unusable {
    Unusable { setting: Setting::Place, fault: format!("it cannot be used: {}", error.category()) }
}
