//! The proxy to Hypersender: a flag for where it is, and variables or a file for what it asks its users for.

use secrecy::SecretString;

use super::{
    Variables,
    faults::{Fault, Faults},
    given::Given,
    instances::read_file,
    variables::{PROXY_AUTH, PROXY_AUTH_FILE, is_set, variable},
};
use crate::stack::Proxy;

/// Where other programs look for a proxy. This one does not: they are set for a whole machine, and it holds a token.
const OF_OTHERS: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The proxy, with the user and password of the variable or file, if there are any.
pub fn with_auth(given: &Given<Option<Proxy>>, variables: &Variables, faults: &mut Faults) -> Option<Proxy> {
    let proxy = faults.take(given);
    let (source, auth) = match auth(variables) {
        Ok(None) => return proxy,
        Ok(Some(auth)) => auth,
        Err(fault) => {
            faults.note_variable(fault);
            return None;
        }
    };
    if !given.is_given() {
        faults.note(source, format_args!("of no use without {}", given.name));
    }
    proxy?.with_auth(&auth).map_err(|fault| faults.note(source, fault)).ok()
}

/// The user and password, and where they were found.
fn auth(variables: &Variables) -> Result<Option<(&'static str, SecretString)>, Fault> {
    let (source, text) = match (variable(variables, PROXY_AUTH)?, variable(variables, PROXY_AUTH_FILE)?) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err((PROXY_AUTH, format!("given twice, here and by {PROXY_AUTH_FILE}; set one of them")));
        }
        (Some(value), None) => (PROXY_AUTH, value.to_owned()),
        (None, Some(path)) => {
            (PROXY_AUTH_FILE, read_file(path.as_ref()).map_err(|fault| (PROXY_AUTH_FILE, fault))?)
        }
    };
    Ok(Some((source, SecretString::from(text.trim_end_matches(['\r', '\n'])))))
}

/// The variables that are set for a proxy and that this program does not use.
#[must_use]
pub fn unused_proxy_variables(variables: &Variables) -> Vec<&'static str> {
    OF_OTHERS.into_iter().filter(|name| is_set(variables, name)).collect()
}
