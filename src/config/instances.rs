//! The instances file: a token for each instance, in TOML.
//!
//! ```toml
//! [instances."5a4db0c5-7a3e-4c1d-9f26-1b0e5d2c8f47"]
//! token_file = "/run/secrets/shop"   # or token = "..."
//! ```

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{
    files,
    secrets::token_from,
    tables::{Kind, Table, Tables},
};
use crate::domain::Instance;

const INSTANCES: Kind = Kind { section: "instances", head: "[instances.\"<id>\"]", called };

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    token: Option<SecretString>,
    token_file: Option<PathBuf>,
}

/// The token of each instance in the file.
///
/// # Errors
///
/// Every fault, with the path of the file, the line and the instance. No fault repeats a token.
pub fn read(path: &Path) -> Result<Vec<(Instance, SecretString)>, Vec<String>> {
    let directory = path.parent().unwrap_or(Path::new(""));
    files::parse(path, |text| parse(text, directory))
}

fn parse(text: &str, directory: &Path) -> Result<Vec<(Instance, SecretString)>, Vec<String>> {
    let Tables { tables, mut faults } = Tables::<Fields>::read(text, INSTANCES);
    let mut tokens: Vec<(Instance, SecretString)> = Vec::new();
    for Table { name, at, fields } in tables {
        let parsed = Instance::parse(&name).map_err(|error| error.to_string());
        let read = parsed.and_then(|instance| {
            if tokens.iter().any(|(known, _)| *known == instance) {
                return Err("is in the file twice".to_owned());
            }
            fields.token(directory).map(|token| (instance, token))
        });
        match read {
            Ok(instance) => tokens.push(instance),
            Err(fault) => faults.note(at, format!("{}: {fault}", called(&name))),
        }
    }
    match faults.into_texts() {
        Some(faults) => Err(faults),
        None if tokens.is_empty() => {
            let head = INSTANCES.head;
            Err(vec![format!("names no instance; write {head} with token or token_file")])
        }
        None => Ok(tokens),
    }
}

impl Fields {
    /// The token. A relative `token_file` is resolved in `directory`, the directory of the instances file.
    fn token(self, directory: &Path) -> Result<SecretString, String> {
        match (self.token, self.token_file) {
            (Some(token), None) => token_from(token.expose_secret()),
            (None, Some(file)) => {
                let text = files::read(&directory.join(file));
                token_from(&text.map_err(|fault| format!("token_file: {fault}"))?)
            }
            (Some(_), Some(_)) => Err("token and token_file are both given; keep one".to_owned()),
            (None, None) => Err("neither token nor token_file is given; write one".to_owned()),
        }
    }
}

/// The instance in the text of a fault: by its id only if that is valid, because any other text may be a
/// token.
fn called(name: &str) -> String {
    Instance::parse(name).map_or("an instance".to_owned(), |_| format!("instance {name}"))
}
