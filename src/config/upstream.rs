//! [`Upstream`]: the API that the service asks for pictures, and the tokens for its requests.

use std::path::Path;

use secrecy::SecretString;
use url::Url;

use super::{
    Variables, authorities,
    faults::Faults,
    flags::HypersenderFlags,
    instances,
    name::Name,
    secrets::api_key,
    variables::{API_KEY, API_KEY_FILE, is_set},
};
use crate::{
    domain::{Instance, TokenOwner},
    stack::{self, Proxy},
};

/// The API that the service asks for pictures.
#[derive(Debug)]
pub enum Upstream {
    /// The stand-in, started with the service.
    Sandbox,
    /// Hypersender.
    Hypersender {
        /// Base URL of the REST API.
        base_url: Url,
        /// The tokens for requests to it.
        tokens: Tokens,
        /// Instance for calls that name none.
        default_instance: Option<Instance>,
    },
}

/// The tokens of the instances. Both are empty where each call carries its token.
#[derive(Debug, Default)]
pub struct Tokens {
    /// The token of every instance that is not listed. Without it, only listed instances can be asked.
    pub any: Option<SecretString>,
    /// The token of each listed instance.
    pub by_instance: Vec<(Instance, SecretString)>,
}

/// The API to ask. If it is `None`, a fault is noted. If it is `Some`, a fault may be noted as well.
pub fn read(
    flags: &HypersenderFlags,
    token_owner: Option<TokenOwner>,
    variables: &Variables,
    faults: &mut Faults,
) -> Option<Upstream> {
    let sandbox = faults.take(&flags.sandbox);
    let allow_http = faults.take(&flags.allow_http);
    let base_url = faults.take_valid(&flags.base_url);
    let default_instance = faults.take(&flags.instance);
    if let Some(url) = &base_url
        && url.scheme() == "http"
        && !allow_http
        && !stack::is_loopback(url)
    {
        let allow = &flags.allow_http.name;
        let fault =
            format!("the token would cross the network in plain text; use https, or allow http by {allow}");
        faults.note(&flags.base_url.name, fault);
    }
    if sandbox {
        return Some(Upstream::Sandbox);
    }
    if let Some(name) = base_url.as_ref().and_then(|url| https_setting(url, flags))
        && let Some(fault) = authorities::missing("https")
    {
        faults.note(name, fault);
    }
    let instances_file = faults.take_valid(&flags.instances_file)?;
    let tokens = match token_owner {
        Some(TokenOwner::Caller) => Some(no_tokens(flags, variables, faults)),
        Some(TokenOwner::Server) => match instances_file {
            None => token_of_all(&flags.instances_file.name, variables, faults),
            Some(file) => tokens(&file, default_instance.as_ref(), flags, variables, faults),
        },
        // The token owner has a fault, so that it is not known which tokens must be given.
        None => None,
    };
    Some(Upstream::Hypersender { base_url: base_url?, tokens: tokens?, default_instance })
}

/// The setting that asks for https on the way to `base_url`: the URL itself, or else the proxy.
fn https_setting<'a>(base_url: &Url, flags: &'a HypersenderFlags) -> Option<&'a Name> {
    if base_url.scheme() == "https" {
        return Some(&flags.base_url.name);
    }
    let proxy = flags.upstream_proxy.value.as_ref().ok().and_then(Option::as_ref);
    let needed = Proxy::is_used_for(base_url) && proxy.is_some_and(Proxy::is_encrypted);
    needed.then_some(&flags.upstream_proxy.name)
}

/// Passthrough: each call carries its own token. A token in the settings would never be used, or worse, would
/// be used for every caller.
fn no_tokens(flags: &HypersenderFlags, variables: &Variables, faults: &mut Faults) -> Tokens {
    let fault =
        format!("must not be set with {} passthrough: each call brings its token", flags.credentials.name);
    for name in [API_KEY, API_KEY_FILE].into_iter().filter(|name| is_set(variables, name)) {
        faults.note(name, &fault);
    }
    if flags.instances_file.is_given() {
        faults.note(&flags.instances_file.name, &fault);
    }
    Tokens::default()
}

/// Without an instances file: the API key is the token of every instance.
fn token_of_all(instances_file: &Name, variables: &Variables, faults: &mut Faults) -> Option<Tokens> {
    match api_key(variables) {
        Ok(Some(key)) => return Some(Tokens { any: Some(key), by_instance: Vec::new() }),
        Ok(None) => {
            let others = format!("neither {API_KEY_FILE} nor {instances_file} is");
            faults.note(API_KEY, format_args!("not set, and {others}; set one of them, or try --sandbox"));
        }
        Err(fault) => faults.note_variable(fault),
    }
    None
}

/// With an instances file, only the instances in it can be asked, and the default instance with the API key.
fn tokens(
    file: &Path,
    default: Option<&Instance>,
    flags: &HypersenderFlags,
    variables: &Variables,
    faults: &mut Faults,
) -> Option<Tokens> {
    let [instance, instances_file] = [&flags.instance.name, &flags.instances_file.name];
    let key = api_key(variables).map_err(|fault| faults.note_variable(fault)).ok().flatten();
    let read = instances::read(file);
    let read = read.map_err(|all| all.iter().for_each(|fault| faults.note(instances_file, fault)));
    let mut by_instance = read.ok()?;
    let listed = |instance: &Instance| by_instance.iter().any(|(known, _)| known == instance);
    match (key, default) {
        (Some(_), Some(default)) if listed(default) => {
            let twice = "the token of the default instance is given twice";
            faults.note(API_KEY, format_args!("{twice}, here and by {instances_file}; set one of them"));
        }
        (Some(key), Some(default)) => by_instance.push((default.clone(), key)),
        (Some(_), None) => {
            let owner = format!("with {instances_file} it is the token of {instance} alone");
            faults.note(API_KEY, format_args!("cannot be used: {owner}"));
        }
        (None, Some(default)) if !listed(default) => {
            let missing = format!("{instances_file} does not name it, and {API_KEY} is not set");
            faults.note(instance, format_args!("has no token: {missing}"));
        }
        (None, _) => {}
    }
    Some(Tokens { any: None, by_instance })
}
