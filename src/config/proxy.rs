//! The proxy to Hypersender: its address from a flag, its user and password from a variable or a file.

use super::{Variables, faults::Faults, given::Given, secrets::proxy_auth, variables::is_set};
use crate::stack::Proxy;

/// The variables in which other programs look for a proxy. They are set for a whole machine. The service does
/// not use them, because it would send its token through a proxy that its operator did not choose for it.
const OF_OTHERS: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// The proxy, with its user and password where a variable or file gives them.
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
        faults.note(source, format_args!("cannot be used without {}", given.name));
    }
    proxy?.with_auth(&auth).map_err(|fault| faults.note(source, fault)).ok()
}

/// The variables that are set for a proxy and are not used by this program.
#[must_use]
pub fn unused_proxy_variables(variables: &Variables) -> Vec<&'static str> {
    OF_OTHERS.into_iter().filter(|name| is_set(variables, name)).collect()
}
