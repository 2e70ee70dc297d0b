//! Reads a configuration file and has it checked. How its mistakes are shown is the caller's matter.

use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::config::{Config, Mistakes, limits};

/// Why there is no configuration: the file cannot be read, or what is in it is wrong.
#[derive(Debug)]
pub enum LoadError {
    File(std::io::Error),
    Mistakes(Mistakes),
}

impl fmt::Display for LoadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::File(error) => write!(out, "the configuration cannot be read: {error}"),
            LoadError::Mistakes(mistakes) => write!(out, "{}", mistakes.render(false).trim_end()),
        }
    }
}

impl std::error::Error for LoadError {}

/// Reads and checks a configuration file.
///
/// # Errors
/// The file cannot be read, or every mistake in it.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    load_text(path).map(|(_, config)| config)
}

/// As [`load`], with the text itself.
///
/// # Errors
/// As [`load`].
pub fn load_text(path: &Path) -> Result<(String, Config), LoadError> {
    // One byte more than allowed is enough for `check` to refuse it: the path may be a device without end.
    let most = limits::CONFIG_FILE_BYTES_MAX as u64 + 1;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(LoadError::File)?;
    file.take(most).read_to_string(&mut text).map_err(LoadError::File)?;
    let config = crate::config::check(&path.display().to_string(), &text).map_err(LoadError::Mistakes)?;
    Ok((text, config))
}
