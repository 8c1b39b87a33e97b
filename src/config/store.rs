//! The settings of the store: its place from a flag, its user and password from variables or a file.

use std::{fmt, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{
    Variables, authorities,
    faults::Faults,
    flags::StoreFlags,
    given::Given,
    location::{self, Location},
    name::Name,
    names,
    secrets::{password_from, store_password, store_username, user_from},
    variables::{STORE_PASSWORD, STORE_PASSWORD_FILE, STORE_USERNAME, is_set},
};
use crate::{
    server::Pem,
    stack::{StorePlace, StoreServer, StoreSetting, StoreSettings, StoreUnusable},
};

/// The store, or `None` without one. If a setting is at fault, its fault is noted.
pub fn read(flags: &StoreFlags, variables: &Variables, faults: &mut Faults) -> Option<StoreSettings> {
    let location = faults.take(&flags.store);
    let prefix = faults.take(&flags.store_prefix);
    let timeout = faults.take(&flags.store_timeout);
    let bytes = faults.take(&flags.store_bytes).as_u64();
    let replicas = faults.take(&flags.replicas);
    let ca = ca(&flags.store_ca, faults);
    let login = Login::read(variables, faults);
    let store = &flags.store.name;
    let place = match location {
        None => {
            if !flags.store.is_given() {
                refuse(&login, &flags.store_ca, format_args!("cannot be used without {store}"), faults);
                if replicas > 1 {
                    let alone = format!("cannot be more than 1 without {store}, which they share");
                    faults.note(&flags.replicas.name, alone);
                }
            }
            return None;
        }
        Some(Location::File(path)) => {
            refuse(&login, &flags.store_ca, format_args!("cannot be used with a file in {store}"), faults);
            if replicas > 1 {
                let alone = format!("must be 1 with a file in {store}, which belongs to one process");
                faults.note(&flags.replicas.name, alone);
            }
            StorePlace::File { path, bytes }
        }
        Some(Location::Server(server)) => {
            encryption(&server, flags, faults);
            check_login(&server, store, faults);
            let (username, password) = login.join(&server, store, faults);
            let location::Server { hosts, is_cluster, database, tls, .. } = server;
            StorePlace::Server(StoreServer {
                hosts,
                is_cluster,
                database,
                tls,
                ca,
                username,
                password,
                prefix,
            })
        }
    };
    Some(StoreSettings { place, timeout, replicas })
}

/// The fault of a store that can never work with its settings, with the names of the setting at fault.
#[must_use]
pub fn store_faults(unusable: &StoreUnusable, settings: &StoreSettings, variables: &Variables) -> Faults {
    let mut faults = Faults::default();
    let in_url = match &settings.place {
        StorePlace::Server(server) => server.password.is_some(),
        StorePlace::File { .. } => false,
    };
    let by_variable =
        || [STORE_PASSWORD, STORE_PASSWORD_FILE].into_iter().find(|name| is_set(variables, name));
    match unusable.setting {
        StoreSetting::Place => faults.note(names("store"), unusable),
        StoreSetting::Ca => faults.note(names("store_ca"), unusable),
        StoreSetting::Password => match by_variable() {
            Some(variable) => faults.note(variable, unusable),
            None if in_url => faults.note(names("store"), unusable),
            None => faults.note(STORE_PASSWORD, unusable),
        },
    }
    faults
}

/// The authorities in a file, PEM.
fn ca(given: &Given<Option<PathBuf>>, faults: &mut Faults) -> Option<Vec<u8>> {
    let pem = Pem::read(&faults.take(given)?);
    let pem = pem.and_then(|pem| pem.certificates().map(|_| pem.bytes().to_vec()));
    pem.map_err(|fault| faults.note(&given.name, fault)).ok()
}

/// Notes the faults of encryption.
fn encryption(server: &location::Server, flags: &StoreFlags, faults: &mut Faults) {
    let store = &flags.store.name;
    match (server.tls, flags.store_ca.is_given()) {
        (false, true) => {
            let plain = format!("cannot be used without TLS; begin {store} with rediss://");
            faults.note(&flags.store_ca.name, plain);
        }
        (true, false) => {
            if let Some(fault) = authorities::missing("TLS") {
                faults.note(store, format_args!("{fault}, or give {}", flags.store_ca.name));
            }
        }
        (true, true) | (false, false) => {}
    }
}

/// Notes the faults of a user and password in the URL.
fn check_login(server: &location::Server, store: &Name, faults: &mut Faults) {
    if let Some(Err(fault)) = server.username.as_deref().map(user_from) {
        faults.note(store, fault);
    }
    let Some(password) = &server.password else { return };
    if server.is_public {
        let public = "holds a password, and every user of this machine can read the command line";
        faults.note(store, format_args!("{public}; set {STORE_PASSWORD} or {STORE_PASSWORD_FILE}"));
    }
    if let Err(fault) = password_from(password.expose_secret()) {
        faults.note(store, fault);
    }
}

/// Notes `fault` for each given setting that only a server has.
fn refuse<T>(login: &Login, ca: &Given<Option<T>>, fault: impl fmt::Display, faults: &mut Faults) {
    if ca.is_given() {
        faults.note(&ca.name, &fault);
    }
    if login.username.is_some() {
        faults.note(STORE_USERNAME, &fault);
    }
    if let Some((variable, _)) = &login.password {
        faults.note(variable, &fault);
    }
}

/// The user and password from variables. Those in the URL are in [`Location`].
struct Login {
    username: Option<String>,
    password: Option<(&'static str, SecretString)>,
    /// Whether one of them has a fault, which is noted.
    is_faulty: bool,
}

impl Login {
    fn read(variables: &Variables, faults: &mut Faults) -> Self {
        let username = store_username(variables).map_err(|fault| faults.note_variable(fault));
        let password = store_password(variables).map_err(|fault| faults.note_variable(fault));
        let is_faulty = username.is_err() || password.is_err();
        Self { username: username.unwrap_or_default(), password: password.unwrap_or_default(), is_faulty }
    }

    /// The user and password from the variables or the URL.
    fn join(
        self,
        server: &location::Server,
        store: &Name,
        faults: &mut Faults,
    ) -> (Option<String>, Option<SecretString>) {
        let twice = format!("given twice, here and in {store}; keep one");
        if self.username.is_some() && server.username.is_some() {
            faults.note(STORE_USERNAME, &twice);
        }
        if let (Some((variable, _)), Some(_)) = (&self.password, &server.password) {
            faults.note(variable, &twice);
        }
        let by_variable = self.username.is_some();
        let username = self.username.or_else(|| server.username.clone());
        let password = self.password.map(|(_, password)| password).or_else(|| server.password.clone());
        if username.is_some() && password.is_none() && !self.is_faulty {
            let fault = format!("a user without a password; set {STORE_PASSWORD} or {STORE_PASSWORD_FILE}");
            if by_variable {
                faults.note(STORE_USERNAME, fault);
            } else {
                faults.note(store, fault);
            }
        }
        (username, password)
    }
}
