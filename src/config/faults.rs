//! [`Faults`]: everything that is wrong with the settings of a subcommand, each fault by its names.

use std::fmt;

use clap::CommandFactory;

use super::{flags::Cli, given::Given};

/// Everything that is wrong with the settings, each by its names.
#[derive(Debug, PartialEq, Eq)]
pub struct Faults {
    /// Whose settings they are.
    subcommand: &'static str,
    all: Vec<String>,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.all.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} setting{plural} at fault")?;
        self.all.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

impl Faults {
    /// None yet, of the settings of a subcommand.
    pub(super) fn of(subcommand: &'static str) -> Self {
        Self { subcommand, all: Vec::new() }
    }

    /// The settings, unless there is a fault; without any, there are settings.
    pub(super) fn unless_any<T>(self, settings: Option<T>) -> Result<T, Self> {
        settings.filter(|_| self.all.is_empty()).ok_or(self)
    }

    /// The value, or a stand-in for it that is never used, since a fault is noted.
    pub(super) fn take<T: Default>(&mut self, id: &str, given: Given<T>) -> T {
        self.take_any(id, Some(given)).unwrap_or_default()
    }

    /// The value, if there is one and it can be read.
    pub(super) fn take_any<T>(&mut self, id: &str, given: Option<Given<T>>) -> Option<T> {
        let noted = given?.0.map_err(|fault| self.note_of(id, &fault));
        noted.ok()
    }

    /// Notes a fault of what is called `name`.
    pub(super) fn note(&mut self, name: &str, fault: &str) {
        self.all.push(format!("{name}: {fault}"));
    }

    /// Whether anything is noted of a setting whose name begins so.
    pub(super) fn is_noted(&self, name: &str) -> bool {
        self.all.iter().any(|fault| fault.starts_with(name))
    }

    /// Notes a fault of the setting `id`.
    pub(super) fn note_of(&mut self, id: &str, fault: &str) {
        self.note(&names_in(self.subcommand, id), fault);
    }

    /// Notes that the setting `missing` is not given, though `given`, which needs it, is.
    pub(super) fn require(&mut self, missing: &str, given: &str) {
        let [missing, given] = [missing, given].map(|id| names_in(self.subcommand, id));
        self.note(&missing, &format!("not given, though {given} is"));
    }
}

/// Flag and variable of a setting of `serve`, from its one definition.
#[must_use]
pub fn names(id: &str) -> String {
    names_in("serve", id)
}

/// Flag and variable of a setting of a subcommand.
fn names_in(subcommand: &str, id: &str) -> String {
    let command = Cli::command();
    let subcommand = command.find_subcommand(subcommand).expect("settings are those of a subcommand");
    let setting = subcommand.get_arguments().find(|argument| argument.get_id() == id);
    let setting = setting.expect("every setting is an argument of its subcommand");
    let flag = setting.get_long().unwrap_or(id);
    match setting.get_env() {
        Some(variable) => format!("--{flag} ({})", variable.display()),
        None => format!("--{flag}"),
    }
}
