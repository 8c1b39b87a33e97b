//! Listening sockets: the port of the gRPC server, the admin port and the port of the avatars.

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

/// Listens on `wanted`: the admin port, or the port of the avatars. A service must not run without one of
/// them by mistake, so a port in use is an error. With a sandbox, neither is essential, and other programs
/// often use these ports, so a free one is taken instead.
pub fn listen_free(wanted: SocketAddr, id: &str, sandbox: bool) -> io::Result<TcpListener> {
    match listen(wanted, id) {
        Err(error) if sandbox && error.kind() == io::ErrorKind::AddrInUse => {
            warn!(error = chain(&error), "the port is in use; with the sandbox a free one is taken");
            listen(SocketAddr::new(wanted.ip(), 0), id)
        }
        bound => bound,
    }
}
