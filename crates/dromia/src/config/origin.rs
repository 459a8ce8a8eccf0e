//! Where each value comes from: a flag, the environment, the file or the program.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::places::Place;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
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

impl fmt::Display for Origin {
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
pub(crate) struct Origins {
    file: PathBuf,
    places: BTreeMap<String, Place>,
    above: BTreeMap<String, Origin>,
}

impl Origins {
    /// The origins of what one file says.
    pub(crate) fn of_file(file: &Path, places: BTreeMap<String, Place>) -> Self {
        Self { file: file.to_owned(), places, above: BTreeMap::new() }
    }

    /// Notes that a value comes from above the file.
    pub(crate) fn overlay(&mut self, key: &str, origin: Origin) {
        self.above.insert(key.to_owned(), origin);
    }

    /// Finds where the value of a key comes from.
    pub(crate) fn of(&self, key: &str) -> Origin {
        if let Some(origin) = self.above.get(key) {
            return origin.clone();
        }
        self.places.get(key).map_or(Origin::Default, |place| Origin::File {
            name: self.file.file_name().unwrap_or(self.file.as_os_str()).display().to_string(),
            line: place.line,
        })
    }

    /// Says where a key must be mended. A key that is not written is mended where what it belongs to is.
    pub(crate) fn at(&self, key: &str) -> String {
        match self.above.get(key) {
            Some(Origin::Env(name)) => return name.clone(),
            Some(Origin::Flag(flag)) => return (*flag).to_owned(),
            _ => {}
        }
        match self.place(key) {
            Some(Place { line, column }) => format!("{}:{line}:{column}", self.file.display()),
            None => self.file.display().to_string(),
        }
    }

    /// Finds the place in the file where a key must be mended; none where it comes from above the file.
    pub(crate) fn place(&self, key: &str) -> Option<Place> {
        if matches!(self.above.get(key), Some(Origin::Env(_) | Origin::Flag(_))) {
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
