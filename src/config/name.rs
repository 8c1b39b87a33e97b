//! [`Name`]: the flag of a setting and its variable, as a person writes them.

use std::{ffi::OsStr, fmt};

use clap::Arg;

/// The flag of a setting and its variable, such as `--listen (HYPERSENDER_GRPC_LISTEN)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    flag: String,
    variable: Option<String>,
}

impl Name {
    /// The name of the setting that `argument` defines.
    pub(super) fn of(argument: &Arg) -> Self {
        let flag = argument.get_long().unwrap_or_else(|| argument.get_id().as_str());
        let variable = argument.get_env().map(OsStr::to_string_lossy);
        Self { flag: flag.to_owned(), variable: variable.map(Into::into) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flag, variable } = self;
        match variable {
            Some(variable) => write!(f, "--{flag} ({variable})"),
            None => write!(f, "--{flag}"),
        }
    }
}
