//! Gathers the mistakes of a configuration, each with the place of its key. It decides none.

use std::path::Path;

use dromia_contracts::active_config::VaultReference;
use dromia_contracts::agent::HandleSlug;
use dromia_contracts::vault::SecretPlacement;

use super::origin::ValueOrigins;
use super::problem::{ConfigProblem, ConfigProblems};
use crate::secret_command::set_command;

/// Gathers mistakes, each with the place of its key.
pub(crate) struct ProblemCollector<'origins> {
    origins: &'origins ValueOrigins,
    problems: Vec<ConfigProblem>,
    pub(super) missing: Vec<ConfigProblem>,
    pub(super) in_vault: Vec<VaultReference>,
}

impl<'origins> ProblemCollector<'origins> {
    /// Begins with no mistake.
    pub(super) fn new(origins: &'origins ValueOrigins) -> Self {
        Self { origins, problems: Vec::new(), missing: Vec::new(), in_vault: Vec::new() }
    }

    /// Ends with what was noted, if anything was.
    pub(super) fn into_result(self) -> Result<(), ConfigProblems> {
        if self.problems.is_empty() { Ok(()) } else { Err(ConfigProblems::from_list(self.problems)) }
    }

    /// Returns the home of the configuration, below which relative paths are meant.
    pub(super) fn home_dir(&self) -> &Path {
        self.origins.home_dir()
    }

    /// Notes a mistake at a key.
    pub(crate) fn add_problem(&mut self, key: &str, message: impl std::fmt::Display) {
        let problem = self.problem_at(key, message);
        self.problems.push(problem);
    }

    /// Notes a key that the environment does not give. That disables whom the key is for and nothing else, so it is no
    /// mistake of the file.
    pub(crate) fn add_missing_key(&mut self, key: &str, message: impl std::fmt::Display, variable: String) {
        let problem = self.problem_at(key, message);
        self.missing.push(ConfigProblem { unset: Some(variable), ..problem });
    }

    /// Notes a key that is to be a secret of a tenant, and the server and the place that the secret is for.
    pub(crate) fn note_vault_key(
        &mut self,
        key: &str,
        tenant: &HandleSlug,
        secret: &str,
        (url, placement): (&str, &SecretPlacement),
    ) {
        let set = set_command(tenant.as_str(), secret, url, placement);
        let missing =
            self.problem_at(key, format!("the secret {secret} is not in the vault; set it with `{set}`"));
        let (secret, missing) = (secret.to_owned(), missing.to_string());
        self.in_vault.push(VaultReference { tenant: tenant.clone(), secret, missing });
    }

    fn problem_at(&self, key: &str, message: impl std::fmt::Display) -> ConfigProblem {
        ConfigProblem {
            key: Some(key.to_owned()),
            place: self.origins.place_in_file(key),
            ..ConfigProblem::new(
                self.origins.location_text(key),
                format!("{}: {message}", printable_key(key)),
            )
        }
    }

    /// Notes a bound of zero.
    pub(crate) fn at_least_one(&mut self, key: &str, value: u64) {
        if value == 0 {
            self.add_problem(key, "must be at least 1");
        }
    }
}

/// Writes a key as a terminal may print it: a name in the file may have any character.
fn printable_key(key: &str) -> String {
    let mut printed = String::new();
    for c in key.chars() {
        if c.is_control() {
            printed.extend(c.escape_default());
        } else {
            printed.push(c);
        }
    }
    printed
}
