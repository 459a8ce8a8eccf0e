//! Where each value comes from: a flag, the environment, the file or the program.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::positions::TextPosition;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ValueOrigin {
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Env(String),
    /// A line of the file.
    File {
        /// The file's name, without its directory.
        name: String,
        /// The line, counted from 1.
        line: u64,
    },
    /// The built-in price table of a day.
    Prices(&'static str),
    /// The program.
    Default,
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Prices(day) => write!(f, "built-in prices of {day}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The origins of all values of one configuration.
#[derive(Debug, Clone)]
pub(crate) struct ValueOrigins {
    file: PathBuf,
    places: BTreeMap<String, TextPosition>,
    above: BTreeMap<String, ValueOrigin>,
}

impl ValueOrigins {
    /// The origins of what one file says.
    pub(crate) fn of_file(file: &Path, places: BTreeMap<String, TextPosition>) -> Self {
        Self { file: file.to_owned(), places, above: BTreeMap::new() }
    }

    /// Returns the directory of the file, which is the home.
    pub(crate) fn home_dir(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// Notes that a value comes from above the file.
    pub(crate) fn set_override(&mut self, key: &str, origin: ValueOrigin) {
        self.above.insert(key.to_owned(), origin);
    }

    /// Finds where the value of a key comes from.
    pub(crate) fn origin_of(&self, key: &str) -> ValueOrigin {
        if let Some(origin) = self.above.get(key) {
            return origin.clone();
        }
        self.places.get(key).map_or(ValueOrigin::Default, |place| ValueOrigin::File {
            name: self.file.file_name().unwrap_or(self.file.as_os_str()).display().to_string(),
            line: place.line,
        })
    }

    /// Says where a key must be fixed. A key that is not written is fixed where what it belongs to is.
    pub(crate) fn location_text(&self, key: &str) -> String {
        match self.above.get(key) {
            Some(ValueOrigin::Env(name)) => return name.clone(),
            Some(ValueOrigin::Flag(flag)) => return (*flag).to_owned(),
            _ => {}
        }
        match self.place_in_file(key) {
            Some(TextPosition { line, column }) => format!("{}:{line}:{column}", self.file.display()),
            None => self.file.display().to_string(),
        }
    }

    /// Finds the place in the file where a key must be fixed; none where it comes from above the file.
    pub(crate) fn place_in_file(&self, key: &str) -> Option<TextPosition> {
        if matches!(self.above.get(key), Some(ValueOrigin::Env(_) | ValueOrigin::Flag(_))) {
            return None;
        }
        let mut path = key;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(*place);
            }
            path = path.rsplit_once('.')?.0;
        }
    }
}
