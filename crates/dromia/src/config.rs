//! `dromia.yaml`: what was written, what lies above it, and what it means.
//!
//! The way of a configuration: the text is read ([`file`]), the environment and the flags are laid over it
//! ([`layers`]), and the whole is resolved and checked ([`resolve`]) once, at the start, before any port is bound. Each
//! value knows where it comes from ([`origin`]), so a mistake names its line and column, or its variable.

mod approvals;
mod bounds;
mod budgets;
mod channels;
mod effect;
mod egress;
mod environment;
mod external;
mod file;
mod form_error;
mod irreversible;
mod layers;
mod mistakes;
mod origin;
mod permissions;
mod positions;
mod problem;
mod problem_collector;
mod prompts;
mod providers;
mod resolve;
mod retention;
mod roles;
mod schema;
mod tools;
mod type_words;
mod variables;
mod workspaces;

pub(crate) mod edit;
pub(crate) mod reference;
pub(crate) mod references;
pub(crate) mod show;

use std::fs;
use std::path::Path;

pub(crate) use self::effect::{changed_keys, pending_keys};
pub(crate) use self::egress::EgressRules;
pub(crate) use self::environment::EnvironmentVariables;
pub(crate) use self::external::ExternalToolConfig;
pub(crate) use self::file::{
    ProviderKind, WrittenConfig, WrittenModel, WrittenPrice, WrittenProvider, WrittenRoute,
};
pub(crate) use self::layers::{ConfigFlag, SetArguments};
use self::mistakes::MalformedConfig;
pub(crate) use self::origin::ValueOrigins;
pub(crate) use self::problem::{ConfigProblem, ConfigProblems, did_you_mean};
pub(crate) use self::prompts::PromptSettings;
pub(crate) use self::providers::{
    ModelRoute, ProviderKeyError, SCRIPTED, fill_provider_defaults, host_of_url, route_for_alias,
    secret_from_environment, vault_name,
};
pub(crate) use self::resolve::ResolvedConfig;
pub(crate) use self::schema::{ConfigKey, KeyEffect, list_keys, schema_text};
pub(crate) use self::tools::{Named, SandboxMinimum, ToolSettings};
pub(crate) use self::variables::misspelt_variables;
pub(crate) use self::workspaces::WorkspaceRootTable;

use crate::home::Home;
use crate::system::ExitError;

/// The address that is served where nothing else is said.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:7700";

/// A configuration whose form is right, with the origin of each value.
#[derive(Debug, Clone)]
pub(crate) struct LoadedConfig {
    pub(crate) written: WrittenConfig,
    pub(crate) origins: ValueOrigins,
}

impl LoadedConfig {
    /// Resolves it.
    pub(crate) fn resolve_all(
        &self,
        environment: &EnvironmentVariables,
    ) -> Result<ResolvedConfig, ConfigProblems> {
        resolve::resolve_config(&self.written, &self.origins, environment)
    }

    /// Resolves what may be reached, for a command that needs nothing else of it.
    pub(crate) fn resolve_egress(&self) -> Result<EgressRules, ConfigProblems> {
        let mut check = problem_collector::ProblemCollector::new(&self.origins);
        let reachable = egress::resolve_egress(&self.written.egress, &mut check);
        check.into_result().map(|()| reachable)
    }
}

/// Reads and resolves the configuration of a home.
pub(crate) fn load_resolved(home: &Home, flags: &[ConfigFlag]) -> anyhow::Result<ResolvedConfig> {
    let environment = EnvironmentVariables::of_process();
    let path = home.config_path();
    let understood = parse_and_resolve(&path, &read_config_text(home)?, &environment, flags)
        .map_err(ExitError::usage_of)?;
    Ok(understood.1)
}

/// Reads the text of a home's configuration.
pub(crate) fn read_config_text(home: &Home) -> anyhow::Result<String> {
    let path = home.config_path();
    let bytes = fs::read(&path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            let root = home.root_dir().display();
            if home.store_dir().is_dir() {
                return ExitError::usage_error(format!(
                    "{root} has a store but no dromia.yaml; restore the file, or run `dromia init`, which \
                     writes a new one and keeps the store and the token"
                ));
            }
            return ExitError::usage_error(format!(
                "there is no home at {root}; create one with `dromia init`"
            ));
        }
        if error.kind() == std::io::ErrorKind::IsADirectory {
            return ExitError::usage_error(format!(
                "{} is a directory; move it away, and restore the file or run `dromia init`",
                path.display()
            ));
        }
        ExitError::usage_error(format!("failed to read {}: {error}", path.display()))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count();
        let last = good.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = String::from_utf8_lossy(last).chars().count() + 1;
        ExitError::usage_error(format!("{}:{line}:{column}: the text is not UTF-8", path.display()))
    })
}

/// Reads a configuration with what lies above it, and resolves it. Tells everything that is wrong with it: where the form
/// is, also what is wrong with the meaning of the rest, as far as that cannot follow from what has no form.
pub(crate) fn parse_and_resolve(
    path: &Path,
    text: &str,
    environment: &EnvironmentVariables,
    flags: &[ConfigFlag],
) -> Result<(LoadedConfig, ResolvedConfig), ConfigProblems> {
    let first = match parse_config(path, text) {
        Ok(written) => {
            let loaded = lay_over(path, text, written, environment, flags)?;
            let resolved = loaded.resolve_all(environment)?;
            return Ok((loaded, resolved));
        }
        Err(first) => first,
    };
    let MalformedConfig { mut problems, rest, left_out } = mistakes::find_form_problems(path, text, first);
    if let Some(rest) = rest {
        let meant = lay_over(path, text, rest, environment, flags)
            .and_then(|loaded| loaded.resolve_all(environment))
            .err();
        let meant = meant.map_or_else(Vec::new, |ConfigProblems(found)| found).into_iter();
        problems.extend(meant.filter(|problem| mistakes::stands_by_itself(problem, &left_out)));
    }
    Err(ConfigProblems::from_list(problems))
}

/// Reads a configuration with what lies above it. Tells everything that is wrong with its form.
pub(crate) fn parse_layered(
    path: &Path,
    text: &str,
    environment: &EnvironmentVariables,
    flags: &[ConfigFlag],
) -> Result<LoadedConfig, ConfigProblems> {
    let written = parse_config(path, text).map_err(|first| {
        ConfigProblems::from_list(mistakes::find_form_problems(path, text, first).problems)
    })?;
    lay_over(path, text, written, environment, flags)
}

fn lay_over(
    path: &Path,
    text: &str,
    written: WrittenConfig,
    environment: &EnvironmentVariables,
    flags: &[ConfigFlag],
) -> Result<LoadedConfig, ConfigProblems> {
    let mut origins = ValueOrigins::of_file(path, positions::key_positions(text));
    let written = layers::overlay_layers(written, environment, flags, &mut origins)?;
    Ok(LoadedConfig { written, origins })
}

/// Reads the text of a configuration file, and nothing beside it; tells the first that is wrong with its form.
pub(crate) fn parse_config(path: &Path, text: &str) -> Result<WrittenConfig, ConfigProblem> {
    let options = positions::parser_options(serde_saphyr::DuplicateKeyPolicy::Error);
    let read = serde_saphyr::from_str_with_options::<Option<WrittenConfig>>(text, options);
    read.map(Option::unwrap_or_default).map_err(|error| form_error::form_problem(path, text, &error))
}

/// Reads a text with nothing above it; returns what is wrong with its meaning.
pub(crate) fn check_config_text(text: &str) -> Result<Vec<ConfigProblem>, ConfigProblem> {
    let path = Path::new("dromia.yaml");
    let written = parse_config(path, text)?;
    let origins = ValueOrigins::of_file(path, positions::key_positions(text));
    let resolved = LoadedConfig { written, origins }.resolve_all(&EnvironmentVariables::default());
    Ok(resolved.err().map_or_else(Vec::new, |ConfigProblems(problems)| problems))
}

#[cfg(test)]
mod tests;
