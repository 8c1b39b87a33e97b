//! The settings of the avatars: the port for browsers, the addresses and their keys, the images.

mod keys;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use url::Url;

use super::{
    Variables, authorities,
    avatar_flags::AvatarFlags,
    faults::Faults,
    flags::ServeFlags,
    values::AvatarsListen,
    variables::{AVATARS_KEY, AVATARS_KEY_FILE, is_set},
};
use crate::{
    avatars::{self, Mode, PictureHosts},
    domain::TokenOwner,
    server::Tls,
    stack,
};

/// The usual port with `--sandbox`.
const SANDBOX_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Maximum number of open connections of the port. A browser opens up to 6 for HTTP/1.1, and a proxy in front
/// of the service opens few, so it is as high as the default of the gRPC port.
const CONNECTIONS_MAX: usize = 1024;

/// The settings of the port of the avatars.
#[derive(Debug)]
pub struct Avatars {
    /// The address to listen on; with port 0, the system chooses a port.
    pub listen: SocketAddr,
    /// Encryption, by the certificate of the gRPC port, without client certificates.
    pub tls: Option<Tls>,
    /// Maximum number of open connections; a further one waits in the system's accept queue.
    pub connections: usize,
    /// The settings of the images. With a sandbox, root and keys may be missing; they are then made when the
    /// port is open.
    pub settings: avatars::Settings,
}

/// The other settings that those of the avatars must fit.
pub struct Others<'a> {
    /// The port of gRPC, if it can be read.
    pub listen: Option<SocketAddr>,
    /// The admin port, if there is one.
    pub admin_listen: Option<SocketAddr>,
    /// Whose token the look-ups carry, if it can be read.
    pub token_owner: Option<TokenOwner>,
    /// Encryption of the gRPC port.
    pub tls: Option<&'a Tls>,
}

/// The settings of the avatars, or `None` where they are off. If a setting is at fault, its fault is noted.
pub fn read(
    all: &ServeFlags,
    others: &Others<'_>,
    variables: &Variables,
    faults: &mut Faults,
) -> Option<Avatars> {
    let flags = &all.avatars;
    let is_sandbox = is_sandbox(all);
    let given = faults.take(&flags.avatars_listen);
    let is_passthrough = others.token_owner == Some(TokenOwner::Caller);
    let listen = match given {
        Some(AvatarsListen::At(listen)) => Some(listen),
        None if is_sandbox && !is_passthrough => Some(sandbox_listen(others)),
        Some(AvatarsListen::Off) | None => None,
    };
    let is_key_required = listen.is_some() && !is_sandbox && flags.avatars_url.is_given();
    let settings = settings(flags, is_key_required, variables, faults);
    let Some(listen) = listen else {
        // A port that cannot be read is a fault that is noted already.
        if flags.avatars_listen.value.is_ok() {
            refuse_without_port(flags, variables, faults);
        }
        return None;
    };
    check_port(listen, all, others, faults);
    // A sandbox makes a missing key itself, and its images come from it directly.
    if !is_sandbox {
        keys::refuse_without_root(&flags.avatars_url, variables, faults);
        if settings.mode == Mode::Bytes {
            check_downloads(all, &settings.picture_hosts, faults);
        }
    }
    let tls = others.tls.map(Tls::for_browsers);
    Some(Avatars { listen, tls, connections: CONNECTIONS_MAX, settings })
}

fn is_sandbox(all: &ServeFlags) -> bool {
    matches!(all.hypersender.sandbox.value, Ok(true))
}

/// The port with `--sandbox`: the usual one, or a free one when another port of this service is that one.
fn sandbox_listen(others: &Others<'_>) -> SocketAddr {
    let mut ports = others.listen.into_iter().chain(others.admin_listen);
    let is_taken = ports.any(|taken| are_the_same(SANDBOX_LISTEN, taken));
    if is_taken { SocketAddr::new(SANDBOX_LISTEN.ip(), 0) } else { SANDBOX_LISTEN }
}

/// Notes the faults of a port that does not fit the other settings.
fn check_port(listen: SocketAddr, all: &ServeFlags, others: &Others<'_>, faults: &mut Faults) {
    let name = &all.avatars.avatars_listen.name;
    let is_sandbox = is_sandbox(all);
    if others.token_owner == Some(TokenOwner::Caller) {
        let own = format!("{} passthrough", all.hypersender.credentials.name);
        faults.note(name, format_args!("cannot be used with {own}: a browser brings no token"));
    }
    if is_sandbox && !listen.ip().is_loopback() {
        let page = "the page of the sandbox serves this machine alone";
        faults.note(name, format_args!("not a loopback address such as 127.0.0.1:8080; {page}"));
    }
    if !is_sandbox && !all.avatars.avatars_url.is_given() && !all.server.callers_file.is_given() {
        let (url, callers) = (&all.avatars.avatars_url.name, &all.server.callers_file.name);
        faults.note(name, format_args!("nothing to serve: neither {url} nor {callers} is given"));
    }
    for (other, taken) in
        [(&all.server.listen.name, others.listen), (&all.server.admin_listen.name, others.admin_listen)]
    {
        if taken.is_some_and(|taken| are_the_same(listen, taken)) {
            faults.note(name, format_args!("the same port as {other}; use another one"));
        }
    }
}

/// Notes why images cannot be downloaded.
fn check_downloads(all: &ServeFlags, hosts: &PictureHosts, faults: &mut Faults) {
    let flags = &all.avatars;
    if all.hypersender.upstream_proxy.is_given() {
        let proxy = &all.hypersender.upstream_proxy.name;
        let direct = "images are downloaded without a proxy; set it to redirect";
        faults.note(&flags.avatars_mode.name, format_args!("cannot be bytes with {proxy}: {direct}"));
    }
    if (hosts.has_listed() || hosts.has_https_origin())
        && let Some(fault) = authorities::missing("https")
    {
        faults.note(&flags.picture_hosts.name, fault);
    }
}

/// The settings of the addresses and images.
fn settings(
    flags: &AvatarFlags,
    is_key_required: bool,
    variables: &Variables,
    faults: &mut Faults,
) -> avatars::Settings {
    let root = faults.take(&flags.avatars_url);
    if let Some(root) = &root {
        check_root(root, flags, faults);
    }
    avatars::Settings {
        keys: keys::read(&flags.avatars_url, is_key_required, variables, faults),
        root,
        period: faults.take(&flags.avatars_period),
        mode: faults.take(&flags.avatars_mode),
        bytes: faults.take(&flags.avatars_bytes).as_u64(),
        picture_hosts: faults.take(&flags.picture_hosts),
    }
}

/// An address is a credential for one image, so it must not cross a network in plain text; and a page of
/// https does not load images of http from elsewhere than this machine.
fn check_root(root: &Url, flags: &AvatarFlags, faults: &mut Faults) {
    if root.scheme() == "http" && !stack::is_loopback(root) {
        let plain =
            "browsers would send the addresses in plain text, and pages of https do not load such images";
        faults.note(&flags.avatars_url.name, format_args!("{plain}; use https, or http on loopback"));
    }
}

/// Settings that have no effect without the port.
fn refuse_without_port(flags: &AvatarFlags, variables: &Variables, faults: &mut Faults) {
    let alone = format!("cannot be used without {}", flags.avatars_listen.name);
    if flags.avatars_url.is_given() {
        faults.note(&flags.avatars_url.name, &alone);
    }
    for variable in [AVATARS_KEY, AVATARS_KEY_FILE].into_iter().filter(|name| is_set(variables, name)) {
        faults.note(variable, &alone);
    }
}

/// Whether both cannot be listened on at the same time. Port 0 stands for a free port.
fn are_the_same(one: SocketAddr, other: SocketAddr) -> bool {
    let is_same_ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && is_same_ip
}
