//! The proxy to Hypersender: a flag for where it is, and variables or a file for what it asks its users for.

use super::{Variables, faults::Faults, given::Given, secrets::proxy_auth, variables::is_set};
use crate::stack::Proxy;

/// Where other programs look for a proxy. This one does not: they are set for a whole machine, and it holds a token.
const OF_OTHERS: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The proxy, with the user and password of the variable or file, if there are any.
pub fn with_auth(given: &Given<Option<Proxy>>, variables: &Variables, faults: &mut Faults) -> Option<Proxy> {
    let proxy = faults.take(given);
    let (source, auth) = match proxy_auth(variables) {
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

/// The variables that are set for a proxy and that this program does not use.
#[must_use]
pub fn unused_proxy_variables(variables: &Variables) -> Vec<&'static str> {
    OF_OTHERS.into_iter().filter(|name| is_set(variables, name)).collect()
}
