//! [`Faults`]: all faults of the settings of a subcommand, each with the names of its setting.

use std::fmt;

use super::given::Given;

/// All faults of the settings, each with the names of its flag and variable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults(Vec<String>);

/// The name of a variable, and the fault of its value.
pub type Fault = (&'static str, String);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} setting{plural} at fault")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for Faults {}

impl Faults {
    /// The settings, or the faults if any is noted. `settings` may be `None` only if a fault is noted.
    pub(super) fn unless_any<T>(self, settings: Option<T>) -> Result<T, Self> {
        settings.filter(|_| self.0.is_empty()).ok_or(self)
    }

    /// The value. If it cannot be read, its fault is noted, and the returned default is never used.
    pub(super) fn take<T: Clone + Default>(&mut self, given: &Given<T>) -> T {
        self.take_valid(given).unwrap_or_default()
    }

    /// The value, or `None` for a value that cannot be read, whose fault is noted.
    pub(super) fn take_valid<T: Clone>(&mut self, given: &Given<T>) -> Option<T> {
        let value = given.value.as_ref().map_err(|fault| self.note(&given.name, fault));
        value.ok().cloned()
    }

    /// Notes a fault of the setting or variable that is called `name`.
    pub(super) fn note(&mut self, name: impl fmt::Display, fault: impl fmt::Display) {
        self.0.push(format!("{name}: {fault}"));
    }

    /// Notes a fault of a variable.
    pub(super) fn note_variable(&mut self, (name, fault): Fault) {
        self.note(name, fault);
    }

    /// Notes that the setting `missing` is not given, though `given`, which needs it, is.
    pub(super) fn require<A, B>(&mut self, missing: &Given<A>, given: &Given<B>) {
        self.note(&missing.name, format_args!("not given, though {} is", given.name));
    }
}
