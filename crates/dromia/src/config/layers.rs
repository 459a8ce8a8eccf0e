//! What lies above the file: flags first, then the environment.
//!
//! Each scalar key that has one place in the file can be set by `--set KEY=VALUE` and by a variable named after it:
//! `engine.active_max` is `DROMIA_ENGINE_ACTIVE_MAX`. A value that does not fit is an error that names the variable
//! or the flag; it is never passed over.

use serde_json::Value;

use super::environment::EnvironmentVariables;
use super::file::WrittenConfig;
use super::origin::{ValueOrigin, ValueOrigins};
use super::problem::{ConfigProblem, ConfigProblems, did_you_mean};
use super::schema::{self, ConfigKey};
use super::type_words;

/// One value of the command line.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFlag {
    /// How the flag is called.
    pub(crate) name: &'static str,
    /// The key that it sets.
    pub(crate) key: String,
    /// The value.
    pub(crate) value: String,
}

/// Flags that set keys.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SetArguments {
    /// Set one key for this command only, such as engine.active_max=8; overrides the environment and the file
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_flag_assignment)]
    set: Vec<(String, String)>,
}

impl SetArguments {
    /// Lists what is set.
    pub(crate) fn config_flags(&self) -> Vec<ConfigFlag> {
        let flag = |(key, value): &(String, String)| ConfigFlag {
            name: "--set",
            key: key.clone(),
            value: value.clone(),
        };
        self.set.iter().map(flag).collect()
    }
}

fn parse_flag_assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("expected KEY=VALUE, found {text:?}"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Lays the environment and the flags over what the file says.
pub(crate) fn overlay_layers(
    mut written: WrittenConfig,
    environment: &EnvironmentVariables,
    flags: &[ConfigFlag],
    origins: &mut ValueOrigins,
) -> Result<WrittenConfig, ConfigProblems> {
    let keys = schema::list_keys();
    let mut problems = Vec::new();
    for flag in flags {
        if !keys.iter().any(|key| key.path == flag.key && key.variable.is_some()) {
            let settable = keys.iter().filter(|key| key.variable.is_some()).map(|key| key.path.as_str());
            let near = did_you_mean(&flag.key, settable);
            problems.push(ConfigProblem::new(
                flag.name,
                format!("there is no key `{}` that can be set{near}", flag.key),
            ));
        }
    }
    for key in &keys {
        let Some(variable) = &key.variable else { continue };
        let from_flag = flags.iter().rev().find(|flag| flag.key == key.path);
        let (value, origin, at) = match (from_flag, environment.get(variable)) {
            (Some(flag), _) => (flag.value.as_str(), ValueOrigin::Flag(flag.name), flag.name),
            (None, Some(value)) => (value, ValueOrigin::Env(variable.clone()), variable.as_str()),
            (None, None) => continue,
        };
        match set_key(&written, key, value) {
            Ok(with) => {
                written = with;
                origins.set_override(&key.path, origin);
            }
            Err(problem) => problems.push(ConfigProblem::new(at, format!("{}: {problem}", key.path))),
        }
    }
    if problems.is_empty() { Ok(written) } else { Err(ConfigProblems::from_list(problems)) }
}

/// Sets one key by its path.
pub(super) fn set_key(
    written: &WrittenConfig,
    key: &ConfigKey,
    value: &str,
) -> Result<WrittenConfig, String> {
    let mut document = serde_json::to_value(written).map_err(|error| error.to_string())?;
    let mut place = &mut document;
    for part in &key.parts {
        place = &mut place[part];
    }
    *place = if key.is_integer {
        let number: u64 = value.trim().parse().map_err(|_| format!("{value:?} is not a whole number"))?;
        Value::from(number)
    } else if key.is_boolean {
        let answer: bool =
            value.trim().parse().map_err(|_| format!("{value:?} is neither true nor false"))?;
        Value::from(answer)
    } else {
        Value::from(value)
    };
    serde_json::from_value(document).map_err(|error| {
        format!("{value:?} is not valid: {}", type_words::value_mismatch_text(&error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn laid(
        environment: &EnvironmentVariables,
        flags: &[(&str, &str)],
    ) -> Result<(WrittenConfig, ValueOrigins), ConfigProblems> {
        let text = "engine:\n  active_max: 2\n";
        let places = super::super::positions::key_positions(text);
        let mut origins = ValueOrigins::of_file(Path::new("dromia.yaml"), places);
        let mut written = WrittenConfig::default();
        written.engine.active_max = 2;
        let flag = |(key, value): &(&str, &str)| ConfigFlag {
            name: "--set",
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        let flags: Vec<_> = flags.iter().map(flag).collect();
        let written = overlay_layers(written, environment, &flags, &mut origins)?;
        Ok((written, origins))
    }

    #[test]
    fn a_flag_beats_environment_then_file_then_default() {
        let environment =
            EnvironmentVariables::from([("DROMIA_ENGINE_ACTIVE_MAX", "3"), ("DROMIA_LISTEN", "127.0.0.1:9")]);
        let (written, origins) = laid(&environment, &[("engine.active_max", "4")]).expect("good values");
        assert_eq!(written.engine.active_max, 4);
        assert_eq!(origins.origin_of("engine.active_max").to_string(), "flag --set");
        assert_eq!(written.listen.to_string(), "127.0.0.1:9");
        assert_eq!(origins.origin_of("listen").to_string(), "env DROMIA_LISTEN");

        let (written, origins) = laid(&environment, &[]).expect("good values");
        assert_eq!(written.engine.active_max, 3);
        assert_eq!(origins.origin_of("engine.active_max").to_string(), "env DROMIA_ENGINE_ACTIVE_MAX");

        let (written, origins) = laid(&EnvironmentVariables::default(), &[]).expect("good values");
        assert_eq!(written.engine.active_max, 2);
        assert_eq!(origins.origin_of("engine.active_max").to_string(), "dromia.yaml:2");
        assert_eq!(origins.origin_of("engine.model_calls_max").to_string(), "default");
    }

    /// Returns whether of two flags for one key the last one counts, where they are laid so.
    fn counts_the_last(
        laid: impl Fn(
            &EnvironmentVariables,
            &[(&str, &str)],
        ) -> Result<(WrittenConfig, ValueOrigins), ConfigProblems>,
    ) -> bool {
        let twice = [("engine.active_max", "4"), ("listen", "127.0.0.1:9"), ("engine.active_max", "5")];
        let (written, _) = laid(&EnvironmentVariables::default(), &twice).expect("good values");
        assert_eq!(written.listen.port(), 9, "every other flag counts too");
        written.engine.active_max == 5
    }

    #[test]
    fn of_two_flags_for_one_key_the_last_one_counts() {
        assert!(counts_the_last(laid));
    }

    /// Planted fault: the first of them wins.
    #[test]
    fn a_flag_that_wins_over_a_later_one_is_caught() {
        let first_wins = |environment: &EnvironmentVariables, flags: &[(&str, &str)]| {
            let reversed: Vec<_> = flags.iter().rev().copied().collect();
            laid(environment, &reversed)
        };
        assert!(!counts_the_last(first_wins), "nothing notices it");
    }

    #[test]
    fn every_variable_of_a_scalar_key_changes_its_value() {
        let default = WrittenConfig::default();
        for key in schema::list_keys() {
            let Some(variable) = &key.variable else { continue };
            let value = match key.path.as_str() {
                "listen" => "127.0.0.1:3",
                "default_agent" => "ops",
                _ if key.is_boolean => "true",
                _ => "77",
            };
            let environment = EnvironmentVariables::from([(variable.as_str(), value)]);
            let mut origins = ValueOrigins::of_file(Path::new("dromia.yaml"), BTreeMap::new());
            let written = overlay_layers(default.clone(), &environment, &[], &mut origins).expect("it fits");
            assert_ne!(written, default, "{variable}");
            assert_eq!(origins.origin_of(&key.path), ValueOrigin::Env(variable.clone()));
        }
    }

    #[test]
    fn a_wrong_value_names_its_variable_or_flag() {
        for (name, value, says) in [
            ("DROMIA_ENGINE_ACTIVE_MAX", "many", "engine.active_max: \"many\" is not a whole number"),
            (
                "DROMIA_ENGINE_MODEL_CALLS_MAX",
                "5000000000",
                "\"5000000000\" is not valid: it must be a whole number from 0 to 4294967295",
            ),
            ("DROMIA_EGRESS_HTTPS_ONLY", "perhaps", "\"perhaps\" is neither true nor false"),
            (
                "DROMIA_LISTEN",
                "nowhere",
                "listen: \"nowhere\" is not valid: it must be an IP address and a port",
            ),
            ("DROMIA_DEFAULT_AGENT", "No Handle", "default_agent"),
        ] {
            let problems = laid(&EnvironmentVariables::from([(name, value)]), &[]).expect_err("it is wrong");
            let text = problems.to_string();
            assert!(text.starts_with(&format!("{name}: ")) && text.contains(says), "{text}");
        }
        let text = laid(&EnvironmentVariables::default(), &[("engine.active_mx", "3")])
            .expect_err("no key")
            .to_string();
        assert_eq!(
            text,
            "--set: there is no key `engine.active_mx` that can be set; did you mean `engine.active_max`?"
        );
        assert!(laid(&EnvironmentVariables::default(), &[("models.a.model", "x")]).is_err());
    }
}
