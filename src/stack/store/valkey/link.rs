//! [`Link`]: the connection to the server. It is made when it is first used, and made again when it is lost,
//! when the server is no longer the right one, and when nothing answers.

use std::{fmt, sync::Arc};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use redis::{
    Cmd, Value, aio::MultiplexedConnection, cluster_async::ClusterConnection,
    cluster_routing::SingleNodeRoutingInfo,
};
use tokio::time::{Instant, timeout};

use super::{
    super::engine::Failed,
    fault::Fault,
    target::{CONNECT_MAX, Target},
};

/// So many operations in a row that are given up without any reply in between end a connection. The server
/// is frozen, or another one has taken its name.
const SILENT_MAX: u32 = 3;

/// Whether an operation may be run twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It is harmless. It is repeated once when the connection is lost, since the first use of a connection
    /// finds out that the server has restarted.
    Harmless,
    /// It takes a turn or moves one: it is repeated only when the server says that it did not run.
    Never,
}

/// The connection, shared by all operations.
#[derive(Clone)]
pub struct Link(Arc<Parts>);

struct Parts {
    target: Target,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many connections have been given up.
    generation: u64,
    /// The present connection, or the attempt to make it.
    connection: Option<Connecting>,
    /// Operations in a row that were given up.
    silent: u32,
}

type Connecting = Shared<BoxFuture<'static, Result<Connection, Failed>>>;

/// An open connection.
#[derive(Clone)]
enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    /// A link to `target`, without a connection.
    pub fn new(target: Target) -> Self {
        Self(Arc::new(Parts { target, state: Mutex::default() }))
    }

    /// Where the link leads to.
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// Runs `command`. Its reply is never an error.
    ///
    /// # Errors
    ///
    /// When there is no connection, or the server replies with an error, or does not reply.
    pub async fn call(&self, command: &Cmd, repeat: Repeat) -> Result<Value, Fault> {
        let fault = match self.attempt(command, None).await {
            Ok(reply) => return Ok(reply),
            Err(fault) => fault,
        };
        match &fault {
            Fault::Moved(_) | Fault::Ask(_) => self.attempt(command, Some(&fault)).await,
            Fault::Lost(_) if repeat == Repeat::Harmless => self.attempt(command, None).await,
            Fault::Lost(_)
            | Fault::Unreached(_)
            | Fault::Silent
            | Fault::Elsewhere(_)
            | Fault::NoScript
            | Fault::Refused(_) => Err(fault),
        }
    }

    async fn attempt(&self, command: &Cmd, redirection: Option<&Fault>) -> Result<Value, Fault> {
        let (generation, mut connection) = self.connection().await?;
        let given_up = GivenUp { link: self, generation, began: Instant::now() };
        let reply = connection.call(command, redirection).await;
        std::mem::forget(given_up);
        let result = reply.map_err(|error| Fault::from(&error));
        // The client of a cluster replaces the connection to one node by itself.
        let is_cluster = matches!(connection, Connection::Cluster(_));
        match &result {
            Err(Fault::Lost(_)) if is_cluster => self.note_silence(generation),
            Err(Fault::Lost(_) | Fault::Silent | Fault::Elsewhere(_)) => self.discard(generation),
            Err(
                Fault::Unreached(_) | Fault::Moved(_) | Fault::Ask(_) | Fault::NoScript | Fault::Refused(_),
            )
            | Ok(_) => self.0.state.lock().silent = 0,
        }
        result
    }

    /// The present connection and its number. It is made if there is none, by a task of its own, so that an
    /// operation that is given up does not end it.
    async fn connection(&self) -> Result<(u64, Connection), Fault> {
        let (generation, connecting) = {
            let mut state = self.0.state.lock();
            // An attempt that failed meanwhile says nothing about now.
            state.connection.take_if(|connecting| connecting.peek().is_some_and(Result::is_err));
            let connecting = state.connection.get_or_insert_with(|| {
                let connecting = connect(self.0.target.clone()).boxed().shared();
                tokio::spawn(connecting.clone());
                connecting
            });
            let connecting = connecting.clone();
            (state.generation, connecting)
        };
        match connecting.await {
            Ok(connection) => Ok((generation, connection)),
            Err(failed) => {
                self.discard(generation);
                Err(Fault::Unreached(failed))
            }
        }
    }

    /// Gives up the connection with this number. Operations that use it still finish.
    fn discard(&self, generation: u64) {
        let mut state = self.0.state.lock();
        if state.generation == generation {
            *state = State { generation: generation + 1, ..State::default() };
        }
    }

    fn note_silence(&self, generation: u64) {
        let mut state = self.0.state.lock();
        if state.generation == generation {
            state.silent += 1;
            if state.silent >= SILENT_MAX {
                *state = State { generation: generation + 1, ..State::default() };
            }
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// Counts an operation whose caller stops waiting before the reply.
struct GivenUp<'a> {
    link: &'a Link,
    generation: u64,
    began: Instant,
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if self.began.elapsed() >= self.link.0.target.silence_min() {
            self.link.note_silence(self.generation);
        }
    }
}

async fn connect(target: Target) -> Result<Connection, Failed> {
    let connect = async {
        Ok(match (target.cluster(), target.nodes()) {
            (Some(cluster), _) => Connection::Cluster(cluster.get_async_connection().await?),
            (None, nodes) => {
                let limits = target.limits();
                Connection::Server(nodes[0].get_multiplexed_async_connection_with_config(&limits).await?)
            }
        })
    };
    match timeout(CONNECT_MAX, connect).await {
        Ok(connected) => connected.map_err(|error: redis::RedisError| Fault::from(&error).into()),
        Err(_) => Err(Fault::Silent.into()),
    }
}

impl Connection {
    /// Runs `command`, on the node that an earlier reply named if there was a `redirection`.
    async fn call(&mut self, command: &Cmd, redirection: Option<&Fault>) -> redis::RedisResult<Value> {
        let (cluster, asking, (host, port)) = match (self, redirection) {
            (Self::Server(server), _) => return command.query_async(server).await,
            (Self::Cluster(cluster), Some(Fault::Moved(node))) => (cluster, false, node),
            (Self::Cluster(cluster), Some(Fault::Ask(node))) => (cluster, true, node),
            (Self::Cluster(cluster), _) => return command.query_async(cluster).await,
        };
        let mut commands = redis::pipe();
        if asking {
            commands.cmd("ASKING");
        }
        commands.add_command(command.clone());
        let node = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
        let mut replies = cluster.route_pipeline(commands, 0, 1 + usize::from(asking), node).await?;
        replies.pop().unwrap_or(Value::Nil).extract_error()
    }
}
