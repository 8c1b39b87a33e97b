//! Listening sockets: the port of the gRPC server and the admin port.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};
use tracing::warn;

use crate::{config::names, telemetry::chain};

/// Maximum number of connections that wait to be accepted (the backlog). The usual 128 are filled by one
/// burst of clients that reconnect, or of silent peers, and the next client then waits a second for its
/// second SYN. The system may set a lower limit.
const BACKLOG: u32 = 4096;

/// Listens on `address`, which the setting `id` names.
pub fn listen(address: SocketAddr, id: &str) -> io::Result<TcpListener> {
    let listening = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A service that is restarted must get its port while connections of the last one are in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listening().map_err(|error| {
        let text = format!("cannot listen on {address}: {error}; see {}", names(id));
        io::Error::new(error.kind(), text)
    })
}

/// Listens on the admin port. A service that cannot be monitored must not run by mistake, so a port in use is
/// an error. With a sandbox, no monitoring is needed, and a Prometheus on the same machine may use this very
/// port, so a free port is taken instead.
pub fn listen_admin(wanted: Option<SocketAddr>, sandbox: bool) -> io::Result<Option<TcpListener>> {
    let Some(wanted) = wanted else { return Ok(None) };
    match listen(wanted, "admin_listen") {
        Err(error) if sandbox && error.kind() == io::ErrorKind::AddrInUse => {
            warn!(error = chain(&error), "the admin port is in use; with the sandbox a free one is taken");
            listen(SocketAddr::new(wanted.ip(), 0), "admin_listen").map(Some)
        }
        bound => bound.map(Some),
    }
}
