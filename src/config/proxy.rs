//! The proxy to Hypersender: a flag for where it is, and variables or a file for what it asks its users for.

use secrecy::SecretString;

use super::{
    Variables,
    given::{Given, variable},
    instances::read_file,
};
use crate::stack::Proxy;

/// What the proxy asks its users for, as `user:password`.
pub const AUTH: &str = "HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH";
/// A file with the same.
pub const AUTH_FILE: &str = "HYPERSENDER_GRPC_UPSTREAM_PROXY_AUTH_FILE";
/// Where other programs look for a proxy. This one does not: they are set for a whole machine, and it holds a token.
const OF_OTHERS: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The proxy with its user and password, if it has any. `name` is that of the flag.
///
/// # Errors
///
/// What is wrong, behind the name of what it is wrong with.
pub fn read(
    given: Option<Given<Proxy>>,
    name: &str,
    variables: &Variables,
) -> Result<Option<Proxy>, (String, String)> {
    let proxy = given.map(|given| given.0).transpose().map_err(|fault| (name.to_owned(), fault))?;
    let (source, auth) = match (variable(variables, AUTH), variable(variables, AUTH_FILE)) {
        (None, None) => return Ok(proxy),
        (Some(_), Some(_)) => {
            let fault = format!("given twice, here and by {AUTH_FILE}; set one of them");
            return Err((AUTH.to_owned(), fault));
        }
        (Some(value), None) => (AUTH, Ok(value.to_string_lossy().into_owned())),
        (None, Some(path)) => (AUTH_FILE, read_file(path.as_ref())),
    };
    let proxy = proxy.ok_or_else(|| format!("of no use without {name}"));
    let auth = auth.map(|text| SecretString::from(text.trim_end_matches(['\r', '\n'])));
    let proxy = proxy.and_then(|proxy| proxy.with_auth(&auth?));
    proxy.map(Some).map_err(|fault| (source.to_owned(), fault))
}

/// The variables that are set for a proxy and that this program does not use.
#[must_use]
pub fn unused_proxy_variables(variables: &Variables) -> Vec<&'static str> {
    OF_OTHERS.into_iter().filter(|name| variable(variables, name).is_some()).collect()
}
