//! The environment variables of the process, read once and handed on as a value, so that tests have their own. Nothing sets one.

use std::collections::BTreeMap;

/// Variables by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct EnvironmentVariables(BTreeMap<String, String>);

impl EnvironmentVariables {
    /// Takes the environment of this process.
    pub(crate) fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    /// Finds the value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The same with one more variable.
    pub(crate) fn with_variable(&self, name: &str, value: &str) -> Self {
        let mut all = self.0.clone();
        all.insert(name.to_owned(), value.to_owned());
        Self(all)
    }

    /// Lists the variables.
    pub(crate) fn variable_names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for EnvironmentVariables {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}
