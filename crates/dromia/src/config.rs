//! `dromia.yaml`: what was written, what lies above it, and what it means.
//!
//! The way of a configuration: the text is read ([`written`]), the environment and the flags are laid over it
//! ([`layers`]), and the whole is resolved and checked ([`resolve`]) once, at the start, before any port is bound. Each
//! value knows where it comes from ([`origin`]), so a mistake names its line and column, or its variable.

mod approvals;
mod bounds;
mod budgets;
mod channels;
mod egress;
mod external;
mod form;
mod irreversible;
mod layers;
mod origin;
mod permissions;
mod places;
mod problem;
mod providers;
mod resolve;
mod roles;
mod schema;
mod tools;
mod unfit;
mod variables;
mod written;

pub(crate) mod edit;
pub(crate) mod names;
pub(crate) mod reference;
pub(crate) mod show;

use std::fs;
use std::path::Path;

pub(crate) use self::egress::Reachable;
pub(crate) use self::external::External;
pub(crate) use self::layers::{Environment, Flag, SetArguments};
pub(crate) use self::origin::Origins;
pub(crate) use self::problem::{Problem, Problems, did_you_mean};
pub(crate) use self::providers::{Refused, Route, SCRIPTED, filled, host, route, secret, vault_name};
pub(crate) use self::resolve::Resolved;
pub(crate) use self::schema::{Key, keys, text as schema_text};
pub(crate) use self::tools::{Named, Said};
use self::unfit::Unfit;
pub(crate) use self::variables::misspelt;
pub(crate) use self::written::{Kind, Minimum, Written, WrittenModel, WrittenPrice, WrittenProvider};

use crate::home::Home;
use crate::system::Exit;

/// The address that is served where nothing else is said.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:7700";

/// A configuration whose form is right, with the origin of each value.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) written: Written,
    pub(crate) origins: Origins,
}

impl Loaded {
    /// Resolves it.
    pub(crate) fn resolve(&self, environment: &Environment) -> Result<Resolved, Problems> {
        resolve::resolve(&self.written, &self.origins, environment)
    }

    /// Resolves what may be reached, for a command that needs nothing else of it.
    pub(crate) fn reachable(&self) -> Result<Reachable, Problems> {
        let mut check = resolve::Check::new(&self.origins);
        let reachable = egress::resolve(&self.written.egress, &mut check);
        check.into_result().map(|()| reachable)
    }
}

/// Reads and resolves the configuration of a home.
pub(crate) fn load(home: &Home, flags: &[Flag]) -> anyhow::Result<Resolved> {
    let environment = Environment::of_process();
    let path = home.config();
    let understood = understand(&path, &text(home)?, &environment, flags).map_err(Exit::usage_of)?;
    Ok(understood.1)
}

/// Reads the text of a home's configuration.
pub(crate) fn text(home: &Home) -> anyhow::Result<String> {
    let path = home.config();
    let bytes = fs::read(&path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            let root = home.root().display();
            if home.store().is_dir() {
                return Exit::usage(format!(
                    "{root} has a store and no dromia.yaml; put the file back, or have `dromia init` write a new one, which \
                     keeps the store and the token"
                ));
            }
            return Exit::usage(format!("there is no home at {root}; make one with `dromia init`"));
        }
        Exit::usage(format!("failed to read {}: {error}", path.display()))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count();
        let last = good.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = String::from_utf8_lossy(last).chars().count() + 1;
        Exit::usage(format!("{}:{line}:{column}: the text is not UTF-8", path.display()))
    })
}

/// Reads a configuration with what lies above it, and resolves it. Tells everything that is wrong with it: where the form
/// is, also what is wrong with the meaning of the rest, as far as that cannot follow from what has no form.
pub(crate) fn understand(
    path: &Path,
    text: &str,
    environment: &Environment,
    flags: &[Flag],
) -> Result<(Loaded, Resolved), Problems> {
    let first = match parse(path, text) {
        Ok(written) => {
            let loaded = lay_over(path, text, written, environment, flags)?;
            let resolved = loaded.resolve(environment)?;
            return Ok((loaded, resolved));
        }
        Err(first) => first,
    };
    let Unfit { mut problems, rest, left_out } = unfit::look(path, text, first);
    if let Some(rest) = rest {
        let meant = lay_over(path, text, rest, environment, flags)
            .and_then(|loaded| loaded.resolve(environment))
            .err();
        let meant = meant.map_or_else(Vec::new, |Problems(found)| found).into_iter();
        problems.extend(meant.filter(|problem| unfit::stands_by_itself(problem, &left_out)));
    }
    Err(Problems::of(problems))
}

/// Reads a configuration with what lies above it. Tells everything that is wrong with its form.
pub(crate) fn read(
    path: &Path,
    text: &str,
    environment: &Environment,
    flags: &[Flag],
) -> Result<Loaded, Problems> {
    let written = parse(path, text).map_err(|first| Problems::of(unfit::look(path, text, first).problems))?;
    lay_over(path, text, written, environment, flags)
}

fn lay_over(
    path: &Path,
    text: &str,
    written: Written,
    environment: &Environment,
    flags: &[Flag],
) -> Result<Loaded, Problems> {
    let mut origins = Origins::of_file(path, places::places(text));
    let written = layers::overlay(written, environment, flags, &mut origins)?;
    Ok(Loaded { written, origins })
}

/// Reads the text of a configuration file, and nothing beside it; tells the first that is wrong with its form.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Written, Problem> {
    let options = places::options(serde_saphyr::DuplicateKeyPolicy::Error);
    let read = serde_saphyr::from_str_with_options::<Option<Written>>(text, options);
    read.map(Option::unwrap_or_default).map_err(|error| form::problem(path, text, &error))
}

/// Reads a text with nothing above it; returns what is wrong with its meaning.
pub(crate) fn check(text: &str) -> Result<Vec<Problem>, Problem> {
    let path = Path::new("dromia.yaml");
    let written = parse(path, text)?;
    let origins = Origins::of_file(path, places::places(text));
    let resolved = Loaded { written, origins }.resolve(&Environment::default());
    Ok(resolved.err().map_or_else(Vec::new, |Problems(problems)| problems))
}

#[cfg(test)]
mod tests;
