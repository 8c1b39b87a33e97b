//! [`Fault`]: why the server did not do what it was asked to. Its text holds no name, no value and no
//! password, although errors of the server quote them.

use std::{borrow::Cow, error::Error, io, sync::Arc};

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::super::engine::Failed;

/// Why a command has no reply, by what is done about it.
#[derive(Debug)]
pub enum Fault {
    /// The connection is lost. The command may have run.
    Lost(Cow<'static, str>),
    /// There is no connection. The command did not run.
    Unreached(Failed),
    /// There is no reply.
    Silent,
    /// This server cannot serve now, and another one may have taken its name.
    Elsewhere(Cow<'static, str>),
    /// The server does not know the script. It did not run.
    NoScript,
    /// Another node of the cluster has the slot. The command did not run.
    Moved(Node),
    /// Another node of the cluster is taking over the slot. The command did not run.
    Ask(Node),
    /// The server refuses the command, and the connection is good.
    Refused(Cow<'static, str>),
}

/// The host and the port of a node.
pub type Node = (String, u16);

/// Codes of error replies, with the text for the log. Servers before 7.0 hide the code of an error inside a
/// script in the text of the error.
const CODES: &[(&str, &str)] = &[
    ("READONLY", "READONLY: the server is a replica"),
    ("LOADING", "LOADING: the server is loading its data"),
    ("MASTERDOWN", "MASTERDOWN: the server is a replica without its primary"),
    ("CLUSTERDOWN", "CLUSTERDOWN: the cluster does not serve"),
    ("NOAUTH", "NOAUTH: the server wants a password"),
    ("WRONGPASS", "WRONGPASS: the server rejected the password"),
    ("OOM", "OOM: the server is out of memory"),
    ("NOPERM", "NOPERM: the user lacks the right to a command, a key or a channel"),
    ("WRONGTYPE", "WRONGTYPE: a record is of another kind"),
    ("MISCONF", "MISCONF: the server cannot save its data"),
    ("NOREPLICAS", "NOREPLICAS: too few replicas of the server are in reach"),
    ("BUSY", "BUSY: a script runs for too long"),
    ("CROSSSLOT", "CROSSSLOT: the names of a contact are in several slots"),
    ("TRYAGAIN", "TRYAGAIN: a slot is moving"),
];

/// Texts of a missing right inside a script, which have no code.
const DENIED: &[&str] = &["ACL failure in script", "The user executing the script can't run"];

/// The codes after which the connection is made again: its server may have been replaced, or knows the user
/// no longer.
const ELSEWHERE: &[&str] = &["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS"];

impl From<&RedisError> for Fault {
    fn from(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Io => lost(error),
            ErrorKind::Parse => Self::Lost("the reply is broken".into()),
            ErrorKind::AuthenticationFailed => Self::Elsewhere("the server rejected the password".into()),
            ErrorKind::ClusterConnectionNotFound => {
                Self::Elsewhere("no node of the cluster is in reach".into())
            }
            ErrorKind::Client if inner::<rustls::Error>(error).is_some() => Self::Lost("TLS failed".into()),
            ErrorKind::Server(ServerErrorKind::NoScript) => Self::NoScript,
            ErrorKind::Server(ServerErrorKind::Moved) => {
                node(error).map_or_else(|| replied(error), Self::Moved)
            }
            ErrorKind::Server(ServerErrorKind::Ask) => node(error).map_or_else(|| replied(error), Self::Ask),
            ErrorKind::UnexpectedReturnType => Self::Refused("the reply has another form".into()),
            _ => replied(error),
        }
    }
}

fn lost(error: &RedisError) -> Fault {
    if error.is_timeout() {
        return Fault::Silent;
    }
    let Some(error) = inner::<io::Error>(error) else {
        // The client library reads the certificates of the machine for every connection, needed or not, and
        // wants all of them to be good.
        let is_native = inner::<rustls_native_certs::Error>(error).is_some();
        let native = "a certificate of this machine cannot be read";
        return Fault::Lost(if is_native { native } else { "the connection failed" }.into());
    };
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    Fault::Lost(match inner {
        Some(rustls::Error::InvalidCertificate(_)) => "the certificate of the server is not trusted".into(),
        Some(_) => "TLS failed".into(),
        None if error.to_string().starts_with("failed to lookup address") => "the host has no address".into(),
        None => error.kind().to_string().into(),
    })
}

/// The error that the client library has wrapped.
fn inner<E: Error + 'static>(error: &RedisError) -> Option<&E> {
    error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?.downcast_ref()
}

fn node(error: &RedisError) -> Option<Node> {
    let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

/// A reply that is an error.
fn replied(error: &RedisError) -> Fault {
    let code = error.code().unwrap_or_default();
    let detail = error.detail().unwrap_or_default();
    let words = || detail.split(|letter: char| !letter.is_ascii_uppercase()).chain([code]);
    let is_denied = DENIED.iter().any(|denied| detail.contains(denied));
    let known = CODES.iter().find(|(known, _)| match code {
        "ERR" | "" => words().any(|word| word == *known) || is_denied && *known == "NOPERM",
        code => code == *known,
    });
    match known {
        Some((code, text)) if ELSEWHERE.contains(code) => Fault::Elsewhere((*text).into()),
        Some((_, text)) => Fault::Refused((*text).into()),
        None if detail.contains("unknown command") => Fault::Refused("the server lacks a command".into()),
        None if detail.contains("max number of clients") => {
            Fault::Refused("the server has too many connections".into())
        }
        None if code != "ERR" && is_code(code) => Fault::Refused(code.to_owned().into()),
        None => Fault::Refused("the server replied with an error".into()),
    }
}

fn is_code(code: &str) -> bool {
    (2..=16).contains(&code.len()) && code.bytes().all(|letter| letter.is_ascii_uppercase())
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        let cause = match fault {
            Fault::Unreached(failed) => return failed,
            Fault::Lost(cause) | Fault::Elsewhere(cause) | Fault::Refused(cause) => cause.into_owned(),
            Fault::Silent => "no reply".to_owned(),
            Fault::NoScript => "the server forgets scripts".to_owned(),
            Fault::Moved(_) => "MOVED: the server is a node of a cluster".to_owned(),
            Fault::Ask(_) => "ASK: a slot is moving".to_owned(),
        };
        Self { cause }
    }
}
