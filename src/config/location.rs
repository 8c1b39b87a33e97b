//! [`Location`]: where a store is, in the words of `--store`. Its user and password are checked in `store`.
//!
//! No fault repeats a part of the text, because each part may be one of a password: after a slash in it, for
//! example, the rest of a password looks like a path.

use std::path::PathBuf;

use clap::parser::ValueSource;
use secrecy::SecretString;
use url::Host;

use crate::domain::percent_decoded;

/// The place of a store.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file, by its absolute path.
    File(PathBuf),
    /// A server of Valkey or Redis, or a cluster.
    Server(Server),
}

/// A server of Valkey or Redis, or a cluster.
#[derive(Clone, Debug)]
pub struct Server {
    /// Host and port of the server, or of some nodes of the cluster; an IPv6 address is without brackets.
    pub hosts: Vec<(String, u16)>,
    /// Whether they are nodes of a cluster.
    pub is_cluster: bool,
    /// The number of the database.
    pub database: i64,
    /// Whether connections use TLS.
    pub tls: bool,
    /// The user, where the URL holds one.
    pub username: Option<String>,
    /// The password, where the URL holds one.
    pub password: Option<SecretString>,
    /// Whether the URL is on the command line, which everyone on the machine can read.
    pub is_public: bool,
}

const PORT: u16 = 6379;
const PORT_FORM: &str = "a port is not a number from 1 to 65535; in a user or password, / is written %2F";
/// Most nodes of a cluster in a URL. The others are learned from these.
const HOSTS_MAX: usize = 100;

impl Location {
    /// Reads `--store`; `None` is no store.
    ///
    /// # Errors
    ///
    /// The fault of the text, without a part of it.
    pub fn read(text: &str, source: ValueSource) -> Result<Option<Self>, String> {
        const FORM: &str = "neither none, file:/path, nor a URL such as redis://host:6379/0; redis, rediss, \
                            valkey and valkeys are known";
        if text.eq_ignore_ascii_case("none") {
            return Ok(None);
        }
        if let Some(path) = text.strip_prefix("file:") {
            return file(path).map(|path| Some(Self::File(path)));
        }
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            other if other.contains("sentinel") => {
                return Err(
                    "Sentinel is not supported; name the primary by an address that follows it".to_owned()
                );
            }
            _ => return Err(FORM.to_owned()),
        };
        let server = server(rest)?;
        Ok(Some(Self::Server(Server { tls, is_public: source == ValueSource::CommandLine, ..server })))
    }
}

/// The path after `file:`. That of `file:///path` is `/path`.
fn file(text: &str) -> Result<PathBuf, String> {
    let path = match text.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err("a file has no host; write file:/path".to_owned()),
        None => text,
    };
    if path.is_empty() {
        return Err("file: without a path; write file:/path".to_owned());
    }
    if !path.starts_with('/') {
        return Err("the path of a file must be absolute, such as file:/var/lib/contacts/store".to_owned());
    }
    if path.ends_with('/') || path.contains('\0') {
        return Err("not the path of a file".to_owned());
    }
    Ok(PathBuf::from(path))
}

/// A server without TLS, in the part of its URL after the scheme.
fn server(rest: &str) -> Result<Server, String> {
    const QUERY: &str = "may hold ?cluster=true and neither another query nor a fragment; in a user or \
                         password, ? and # are written %3F and %23";
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(authority_end);
    let (path, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let is_cluster = match query {
        "" | "?cluster=false" => false,
        "?cluster=true" => true,
        _ => return Err(QUERY.to_owned()),
    };
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (username, password) = login.split_once(':').map_or((login, None), |(user, word)| (user, Some(word)));
    let username = Some(username).filter(|user| !user.is_empty()).map(decoded).transpose()?;
    let password = password.filter(|word| !word.is_empty()).map(decoded).transpose()?;
    let hosts = hosts.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
    if hosts.len() > 1 && !is_cluster {
        return Err("names several hosts, which only a cluster has; add ?cluster=true".to_owned());
    }
    if hosts.len() > HOSTS_MAX {
        return Err(format!("names more than {HOSTS_MAX} hosts; a few nodes of a cluster are enough"));
    }
    let database = database(path)?;
    if is_cluster && database != 0 {
        return Err("a cluster has no numbered databases; leave the number out".to_owned());
    }
    let password = password.map(SecretString::from);
    Ok(Server { hosts, is_cluster, database, tls: false, username, password, is_public: false })
}

fn decoded(text: &str) -> Result<String, String> {
    percent_decoded(text).ok_or_else(|| "a % in a user or password is written %25".to_owned())
}

/// A host with its port. A port that is left out is that of Redis.
fn host(text: &str) -> Result<(String, u16), String> {
    const HOST: &str = "a host is not a name or an IP address; in a user or password, / is written %2F";
    let is_bare = text.ends_with(']') || !text.contains(':');
    let (name, port) = match text.rsplit_once(':').filter(|_| !is_bare) {
        None => (text, PORT),
        Some((name, port)) => {
            let is_number = port.bytes().all(|digit| digit.is_ascii_digit());
            let port = port.parse().ok().filter(|port| is_number && *port > 0);
            (name, port.ok_or(PORT_FORM)?)
        }
    };
    if name.is_empty() {
        return Err("names no host".to_owned());
    }
    let name = match Host::parse(name).map_err(|_| HOST)? {
        Host::Domain(name) => name,
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
    };
    Ok((name, port))
}

fn database(path: &str) -> Result<i64, String> {
    let number = path.strip_prefix('/').unwrap_or_default();
    if number.is_empty() {
        return Ok(0);
    }
    let is_number = number.bytes().all(|digit| digit.is_ascii_digit());
    let database = number.parse::<i32>().ok().filter(|_| is_number);
    database.map(i64::from).ok_or_else(|| "the path is not the number of a database such as /0".to_owned())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read(text: &str) -> Result<Option<Location>, String> {
        Location::read(text, ValueSource::EnvVariable)
    }

    fn server(text: &str) -> Server {
        match read(text) {
            Ok(Some(Location::Server(server))) => server,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_file_has_an_absolute_path() {
        for (text, path) in [
            ("file:/var/lib/store", Some("/var/lib/store")),
            ("file:///var/lib/store", Some("/var/lib/store")),
            ("file:/a b?c#d%20", Some("/a b?c#d%20")),
            ("file:", None),
            ("file://", None),
            ("file:store", None),
            ("file:./store", None),
            ("file://host/store", None),
            ("file:/var/lib/", None),
        ] {
            let read = read(text).ok().map(|location| match location {
                Some(Location::File(path)) => path,
                other => panic!("{text}: {other:?}"),
            });
            assert_eq!(read, path.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn a_server_has_hosts_and_a_database() {
        for (text, hosts, is_cluster, database, tls) in [
            ("redis://localhost", &[("localhost", 6379)][..], false, 0, false),
            ("REDIS://Cache.Internal:7000/", &[("cache.internal", 7000)], false, 0, false),
            ("valkey://10.0.0.7:6380/15", &[("10.0.0.7", 6380)], false, 15, false),
            ("rediss://[::1]:6380/0", &[("::1", 6380)], false, 0, true),
            ("valkeys://[fd00::7]", &[("fd00::7", 6379)], false, 0, true),
            ("redis://a:1,b,[::1]:3?cluster=true", &[("a", 1), ("b", 6379), ("::1", 3)], true, 0, false),
            ("redis://a/0?cluster=true", &[("a", 6379)], true, 0, false),
            ("redis://a?cluster=false", &[("a", 6379)], false, 0, false),
        ] {
            let found = server(text);
            let named: Vec<_> = found.hosts.iter().map(|(host, port)| (host.as_str(), *port)).collect();
            let found = (named.as_slice(), found.is_cluster, found.database, found.tls);
            assert_eq!(found, (hosts, is_cluster, database, tls), "{text}");
        }
    }

    #[test]
    fn a_url_may_hold_user_and_password_where_only_the_process_can_read_it() {
        for (text, user, password) in [
            ("redis://host", None, None),
            ("redis://@host", None, None),
            ("redis://someone@host", Some("someone"), None),
            ("redis://:p%40ss@host", None, Some("p@ss")),
            ("redis://someone:p:a%2Fs,s@host:1/0", Some("someone"), Some("p:a/s,s")),
            ("redis://someone:@host", Some("someone"), None),
            ("rediss://u:Zq9pass@a:1,b:2/?cluster=true", Some("u"), Some("Zq9pass")),
        ] {
            let found = server(text);
            let word = found.password.as_ref().map(ExposeSecret::expose_secret);
            assert_eq!((found.username.as_deref(), word), (user, password), "{text}");
            assert!(password.is_none_or(|word| !format!("{found:?}").contains(word)), "{found:?}");
            assert!(!found.is_public, "{text}");
        }
        let public = Location::read("redis://:p@host", ValueSource::CommandLine);
        assert!(matches!(public, Ok(Some(Location::Server(Server { is_public: true, .. })))));
    }

    #[test]
    fn no_fault_repeats_a_part_of_the_url() {
        for text in [
            "Zq9",
            "Zq9:6379",
            "Zq9://host",
            "http://Zq9",
            "redis:Zq9",
            "redis://",
            "redis://:6379",
            "redis://Zq9@",
            "redis://a,,b/?cluster=true",
            "redis://Zq9:port",
            "redis://Zq9:0",
            "redis://Zq9:70000",
            "redis://Zq9:+1",
            "redis://Zq9:Zq9:1",
            "redis://[Zq9]:1",
            "redis://Zq 9",
            "redis://:Zq9/word@host",
            "redis://:Zq9?word@host",
            "redis://:Zq9#word@host",
            "redis://:Zq9%word@host",
            "redis://host/Zq9",
            "redis://host/1/Zq9",
            "redis://host/-1",
            "redis://host/+1",
            "redis://host/99999999999",
            "redis://Zq9/1?cluster=true",
            "redis://Zq9,other",
            "redis://host?Zq9=1",
            "redis://host?cluster=Zq9",
            "redis://host?cluster=true&Zq9=1",
            "redis://host#Zq9",
            "redis+sentinel://Zq9:26379/mymaster",
            "",
        ] {
            let fault = read(text).expect_err(text);
            assert!(!fault.contains("Zq9"), "{text}: {fault}");
        }
    }
}
