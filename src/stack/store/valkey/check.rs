//! [`check`]: whether a server can ever work with the settings. Only a permanent fault ends the start.

use std::time::Duration;

use redis::{Client, RedisError, Value, aio::MultiplexedConnection};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use super::{
    super::{Server, Setting, Unusable, engine::Failed},
    PROBE_TTL,
    fault::Fault,
    millis,
    scripts::{Call, PROBE},
    target::{CONNECT_MAX, Target},
};

/// The oldest version of the protocol that has what the scripts need. Valkey names the version of Redis
/// that it is compatible with.
const VERSION_MIN: (u32, u32) = (6, 2);
/// Time for all of the check.
const CHECK_MAX: Duration = Duration::from_secs(5);

/// What the check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The server works.
    Working,
    /// It does not work now, and may later.
    NotNow(Failed),
}

/// Why the check stops.
enum Stop {
    Unusable(Unusable),
    NotNow(Failed),
}

/// Asks the server, or the first node that answers, for its version, and runs a script that writes `probe`.
///
/// # Errors
///
/// When the password is rejected, when the server is too old or does not run scripts for this user, and
/// when it is a node of a cluster although the settings say otherwise, or the other way round.
pub async fn check(server: &Server, target: &Target, probe: &str) -> Result<Found, Unusable> {
    let checked = timeout(CHECK_MAX, check_nodes(server, target, probe)).await;
    checked.unwrap_or_else(|_| Ok(Found::NotNow(Fault::Silent.into())))
}

async fn check_nodes(server: &Server, target: &Target, probe: &str) -> Result<Found, Unusable> {
    let mut last = Fault::Silent.into();
    for node in target.without_password() {
        let checked = match node {
            Ok(node) => check_node(server, &node, probe).await,
            Err(error) => Err(not_now(&error)),
        };
        match checked {
            Ok(()) => return Ok(Found::Working),
            Err(Stop::Unusable(unusable)) => return Err(unusable),
            Err(Stop::NotNow(failed)) => last = failed,
        }
    }
    Ok(Found::NotNow(last))
}

async fn check_node(server: &Server, node: &Client, probe: &str) -> Result<(), Stop> {
    let connection = timeout(CONNECT_MAX, node.get_multiplexed_async_connection()).await;
    let connection = connection.map_err(|_| Stop::NotNow(Fault::Silent.into()))?;
    let mut connection = connection.map_err(|error| not_now(&error))?;
    authenticate(server, &mut connection).await?;
    choose_database(server, &mut connection).await?;
    check_version(server, &mut connection).await?;
    check_scripts(server, &mut connection, probe).await
}

/// The client library hides the code of the reply to AUTH. A server with too many connections is no rejected
/// password, so AUTH is sent here.
async fn authenticate(server: &Server, connection: &mut MultiplexedConnection) -> Result<(), Stop> {
    let Some(password) = &server.password else { return Ok(()) };
    let mut auth = redis::cmd("AUTH");
    if let Some(username) = &server.username {
        auth.arg(username);
    }
    let reply = auth.arg(password.expose_secret()).query_async::<Value>(connection).await;
    let Err(error) = reply else { return Ok(()) };
    let detail = error.detail().unwrap_or_default();
    if error.code() == Some("WRONGPASS") || detail.contains("without any password configured") {
        return Err(unusable(Setting::Password, "the server rejects it"));
    }
    Err(not_now(&error))
}

async fn choose_database(server: &Server, connection: &mut MultiplexedConnection) -> Result<(), Stop> {
    if server.database == 0 {
        return Ok(());
    }
    match redis::cmd("SELECT").arg(server.database).query_async::<Value>(connection).await {
        Ok(_) => Ok(()),
        Err(error) if error.detail().is_some_and(|detail| detail.contains("out of range")) => {
            Err(unusable(Setting::Place, "the server has no database of this number"))
        }
        Err(error) if error.code() == Some("NOAUTH") => Err(no_password()),
        Err(error) => Err(not_now(&error)),
    }
}

async fn check_version(server: &Server, connection: &mut MultiplexedConnection) -> Result<(), Stop> {
    let info = match redis::cmd("INFO").arg("server").query_async::<String>(connection).await {
        Ok(info) => info,
        Err(error) if error.code() == Some("NOAUTH") => return Err(no_password()),
        // A user without the right to INFO is fine.
        Err(error) if error.code() == Some("NOPERM") => return Ok(()),
        Err(error) => return Err(not_now(&error)),
    };
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let version = field("redis_version").and_then(|version| {
        let mut numbers = version.trim().split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    if let Some((major, minor)) = version.filter(|version| *version < VERSION_MIN) {
        let fault = format!("the server has version {major}.{minor}; 6.2 or newer is needed");
        return Err(unusable(Setting::Place, &fault));
    }
    let mode = field("redis_mode").or_else(|| field("server_mode"));
    if server.is_cluster && mode.map(str::trim) == Some("standalone") {
        return Err(unusable(Setting::Place, "the server is no node of a cluster"));
    }
    Ok(())
}

async fn check_scripts(
    server: &Server,
    connection: &mut MultiplexedConnection,
    probe: &str,
) -> Result<(), Stop> {
    let call = Call::on([probe]).with(millis(PROBE_TTL));
    for command in PROBE.commands(&call) {
        let Err(error) = command.query_async::<Value>(connection).await else { continue };
        match Fault::from(&error) {
            // The first command asks for a script that the server need not know.
            Fault::NoScript => {}
            Fault::Moved(_) | Fault::Ask(_) if server.is_cluster => {}
            Fault::Moved(_) | Fault::Ask(_) => {
                return Err(unusable(Setting::Place, "the server is a node of a cluster"));
            }
            Fault::Refused(cause) if cause.starts_with("NOPERM") || is_unknown(&error) => {
                return Err(unusable(Setting::Place, "the server does not run scripts for this user"));
            }
            fault @ (Fault::Lost(_)
            | Fault::Unreached(_)
            | Fault::Silent
            | Fault::Elsewhere(_)
            | Fault::Refused(_)) => return Err(Stop::NotNow(fault.into())),
        }
    }
    Ok(())
}

fn is_unknown(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("unknown command"))
}

fn no_password() -> Stop {
    unusable(Setting::Password, "the server wants one")
}

fn unusable(setting: Setting, fault: &str) -> Stop {
    Stop::Unusable(Unusable { setting, fault: fault.to_owned() })
}

fn not_now(error: &RedisError) -> Stop {
    Stop::NotNow(Fault::from(error).into())
}
