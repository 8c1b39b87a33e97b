//! Small text files that settings name. Certificates and keys are read by [`Pem`](crate::server::Pem).

use std::{fs, io, path::Path};

/// Maximum size of a file, in bytes. A callers file of 1,000 callers with 100 instances each has about this
/// size. A larger file is probably the wrong file, and is refused.
const BYTES_MAX: u64 = 4 << 20;

/// The text of a file.
///
/// # Errors
///
/// When it cannot be read, is not UTF-8, begins with a byte order mark, or is too long.
pub fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot read the file ({error})");
    if fs::metadata(path).map_err(cannot)?.len() > BYTES_MAX {
        return Err(format!("the file has more than {BYTES_MAX} bytes; is it the right one?"));
    }
    let text = fs::read_to_string(path).map_err(cannot)?;
    // Some editors write it, and in a secret it would be part of the text.
    if text.starts_with('\u{feff}') {
        return Err("begins with a byte order mark (BOM); save the file without it".to_owned());
    }
    Ok(text)
}

/// Reads a file with `parse`, whose faults get the path of the file.
///
/// # Errors
///
/// The faults of `parse`, or the one of [`read`].
pub fn parse<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, Vec<String>>) -> Result<T, Vec<String>> {
    let parsed = read(path).map_err(|fault| vec![fault]).and_then(|text| parse(&text));
    parsed.map_err(|faults| faults.iter().map(|fault| format!("{}: {fault}", path.display())).collect())
}
