//! `dromia.yaml`: that it is valid, and that what it refers to is there.

use serde_json::Value;

use super::edge::{resolved_config, unchecked_result};
use super::{CheckContext, CheckResult, DoctorCheck, ServerProbe, error_result, ok_result, warning_result};
use crate::config::{self, references};

pub(super) const CHECKS: &[DoctorCheck] = &[
    DoctorCheck { id: "config.valid", run: check_valid },
    DoctorCheck { id: "config.counts", run: check_counts },
    DoctorCheck { id: "config.version", run: check_version },
    DoctorCheck { id: "config.references", run: check_references },
    DoctorCheck { id: "config.variables", run: check_variables },
    DoctorCheck { id: "config.default_model", run: default_model },
    DoctorCheck { id: "config.default_agent", run: default_agent },
    DoctorCheck { id: "config.names", run: check_names },
];

/// The version of the file's form that this program reads.
const VERSION: u64 = 1;

/// The most names in one line.
const NAMES_TOLD: usize = 8;

/// The agent that answers where the file names none.
const AGENT_DEFAULT: &str = "assistant";

/// What to do where a variable is missing in this shell, and a server that needs it runs.
const OF_ANOTHER_SHELL: &str = "nothing, if the server's own shell sets it; export it here too if you start \
                                servers from this shell";

/// What to do about a variable that no server has yet.
const SET_VARIABLE: &str =
    "set it before `dromia up`; until then calls of these models and channels fail, and others work";

fn check_valid(scene: &CheckContext<'_>) -> CheckResult {
    if !scene.home.config_path().is_file() {
        return ok_result("there is no dromia.yaml to check");
    }
    let environment = config::EnvironmentVariables::of_process();
    let read = |text: &str| config::parse_and_resolve(&scene.home.config_path(), text, &environment, &[]);
    match config::read_config_text(scene.home).map(|text| read(&text)) {
        Ok(Ok((_, resolved))) if resolved.references.missing_keys.is_empty() => {
            ok_result("dromia.yaml is valid")
        }
        Ok(Ok((_, resolved))) => {
            let missing =
                resolved.references.missing_keys.iter().map(ToString::to_string).collect::<Vec<_>>();
            let next = if is_served(scene) { OF_ANOTHER_SHELL } else { SET_VARIABLE };
            warning_result(missing.join("\n"), next)
        }
        Ok(Err(problems)) => error_result(problems.to_string(), "correct that place in dromia.yaml"),
        Err(problem) => error_result(format!("{problem:#}"), "correct that place in dromia.yaml"),
    }
}

/// Whether the running server uses the file as it is.
fn check_counts(scene: &CheckContext<'_>) -> CheckResult {
    let ServerProbe::Answers(answers) = scene.world.server_probe() else {
        return ok_result("no server runs that could use another configuration");
    };
    let Some(config) = &answers.status.config else { return ok_result("the server does not say") };
    let revision = config.revision;
    if let Some(refused) = &config.refused {
        return error_result(
            format!("the server ignores dromia.yaml and uses revision {revision}: {}", refused.problem),
            format!("correct the file, or go back with `dromia config revert {revision}`"),
        );
    }
    if !config.pending.is_empty() {
        let waiting = config.pending.join(", ");
        return warning_result(
            format!("{waiting} changed, and the server has not applied it"),
            "restart the server",
        );
    }
    if !config.disabled.is_empty() {
        return warning_result(
            format!("the server disabled what has no key: {}", config.disabled.join("; ")),
            "set the variable where the server starts, and start it again with `dromia up`",
        );
    }
    ok_result(format!("the server uses dromia.yaml as revision {revision}"))
}

/// Tells whether a server runs, whose own environment may be another than this one.
fn is_served(scene: &CheckContext<'_>) -> bool {
    matches!(scene.world.server_probe(), ServerProbe::Answers(_))
}

fn check_version(scene: &CheckContext<'_>) -> CheckResult {
    match scene.raw_config().and_then(|written| written.get("version")).map(Value::as_u64) {
        None | Some(Some(VERSION)) => ok_result(format!("version {VERSION}")),
        Some(other) => error_result(
            format!("dromia.yaml has version {}", other.map_or("?".to_owned(), |found| found.to_string())),
            format!(
                "this program reads version {VERSION}: change the number, or use the program that wrote the \
                 file"
            ),
        ),
    }
}

/// Calls `take` with every text of a document and the path to it.
pub(crate) fn visit_texts<'doc>(value: &'doc Value, path: &str, take: &mut dyn FnMut(&str, &'doc str)) {
    match value {
        Value::String(text) => take(path, text),
        Value::Array(items) => items.iter().for_each(|item| visit_texts(item, path, take)),
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                visit_texts(value, &path, take);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn check_references(scene: &CheckContext<'_>) -> CheckResult {
    let (mut found, mut missing) = (0, Vec::new());
    if let Some(written) = scene.raw_config() {
        visit_texts(written, "", &mut |path, text| {
            let Some(name) = text.strip_prefix("env:") else { return };
            found += 1;
            if (scene.env)(name).is_none_or(|value| value.is_empty()) {
                missing.push(format!("{path} needs {name}"));
            }
        });
    }
    if found == 0 {
        return ok_result("dromia.yaml refers to no variables");
    }
    if missing.is_empty() {
        return ok_result(format!("dromia.yaml refers to {found} variables, and all are set"));
    }
    if is_served(scene) {
        let text =
            format!("this shell does not set variables that dromia.yaml refers to: {}", missing.join(", "));
        return warning_result(text, OF_ANOTHER_SHELL);
    }
    let names: Vec<_> = missing.iter().filter_map(|text| text.rsplit(' ').next()).collect();
    error_result(
        format!("variables that dromia.yaml refers to are not set: {}", missing.join(", ")),
        format!("export {} in the shell that starts `dromia up`, or remove the entry", names.join(" and ")),
    )
}

/// Variables that look like a key's and are none. Those of this process are looked at, as a server that it starts would.
fn check_variables(scene: &CheckContext<'_>) -> CheckResult {
    let text = config::read_config_text(scene.home).unwrap_or_default();
    let found = config::misspelt_variables(&config::EnvironmentVariables::of_process(), &text);
    if found.is_empty() {
        return ok_result("every DROMIA_ variable sets a key");
    }
    let told: Vec<_> = found.iter().take(NAMES_TOLD).map(ToString::to_string).collect();
    warning_result(
        told.join("; "),
        "unset the variable, or set the right one; `dromia config explain` lists them",
    )
}

fn default_model(scene: &CheckContext<'_>) -> CheckResult {
    let Some(written) = scene.raw_config() else { return ok_result("there is no dromia.yaml to check") };
    match written.get("models").and_then(Value::as_object) {
        Some(models) if models.contains_key("default") => ok_result("the alias `default` exists"),
        Some(models) if !models.is_empty() => warning_result(
            "no model has the alias `default`, which agents use that name no model",
            "add one under models in dromia.yaml, or create agents with --model",
        ),
        _ => error_result(
            "dromia.yaml has no models, so no agent can answer",
            "add one: models: { default: { kind: scripted } } uses the built-in model",
        ),
    }
}

/// The agent that is meant where none is named.
pub(super) fn default_agent_of(scene: &CheckContext<'_>) -> String {
    let named = scene.raw_config().and_then(|written| written.get("default_agent")).and_then(Value::as_str);
    named.unwrap_or(AGENT_DEFAULT).to_owned()
}

fn default_agent(scene: &CheckContext<'_>) -> CheckResult {
    let agent = default_agent_of(scene);
    let found = match scene.world.server_probe() {
        ServerProbe::Answers(_) => scene.world.has_agent(&agent),
        ServerProbe::Absent => {
            let store = scene.offline_inspector();
            store.and_then(|store| store.has_agent(dromia_api::TENANT_DEFAULT, &agent).ok().flatten())
        }
        ServerProbe::Mute(_) => None,
    };
    match found {
        Some(true) => ok_result(format!("{agent} answers requests that name no agent")),
        None => ok_result("the server does not answer, so this was not checked"),
        Some(false) => warning_result(
            format!("the default agent {agent} does not exist in the tenant {}", dromia_api::TENANT_DEFAULT),
            format!(
                "create it with `dromia agent create {agent}`, or set another default_agent in dromia.yaml"
            ),
        ),
    }
}

/// Checks for names that match nothing: settings for them have no effect. The default agent has a check of its own.
fn check_names(scene: &CheckContext<'_>) -> CheckResult {
    let Some(mut mentions) = resolved_config(scene).map(|resolved| resolved.references.mentions) else {
        return unchecked_result(scene);
    };
    mentions.retain(|mention| mention.key != references::DEFAULT_AGENT);
    let platforms = references::mentioned_platforms(&mentions);
    let found = match scene.world.server_probe() {
        ServerProbe::Answers(_) => scene.world.known_names(&platforms),
        ServerProbe::Absent => {
            scene.offline_inspector().and_then(|store| store.list_names(&platforms).ok().flatten())
        }
        ServerProbe::Mute(_) => None,
    };
    let unmatched = references::unmatched_names(&mentions, found.as_ref());
    if unmatched.is_empty() {
        return ok_result(match found {
            _ if mentions.is_empty() => "dromia.yaml refers to no tenant, agent or token".to_owned(),
            None => "the server does not answer, so the names in dromia.yaml were not checked".to_owned(),
            Some(_) => format!("all {} names in dromia.yaml exist", mentions.len()),
        });
    }
    let mut told: Vec<_> = unmatched.iter().take(NAMES_TOLD).map(ToString::to_string).collect();
    if unmatched.len() > NAMES_TOLD {
        told.push(format!("and {} more", unmatched.len() - NAMES_TOLD));
    }
    warning_result(
        told.join("; "),
        "correct the name, or create what it names; until then the setting has no effect",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::super::test_home::PlantedHome;
    use super::*;

    #[test]
    fn an_invalid_configuration_is_an_error_with_its_place() {
        let planted = PlantedHome::healthy_home();
        planted.write_config("version: 1\nlisten: [\n");
        assert_eq!(planted.severity_of("config.valid"), Severity::Error);
        planted.write_config("version: 1\nmodls: {}\n");
        let verdict = planted.result_of("config.valid");
        assert!(verdict.message.contains("dromia.yaml:2:1"), "{verdict:?}");
    }

    #[test]
    fn a_newer_configuration_version_is_an_error() {
        let planted = PlantedHome::healthy_home();
        planted.write_config("version: 9\n");
        assert_eq!(planted.severity_of("config.version"), Severity::Error);
    }

    #[test]
    fn an_unset_environment_reference_is_named() {
        let mut planted = PlantedHome::healthy_home();
        planted.write_config("models: { default: { kind: openai, base_url: 'http://127.0.0.1:9', model: m, key: 'env:MY_KEY' } }");
        // The server that runs has an environment of its own.
        assert_eq!(planted.severity_of("config.references"), Severity::Warning);
        assert_eq!(planted.severity_of("config.valid"), Severity::Warning);
        planted.world.server = ServerProbe::Absent;
        assert_eq!(planted.severity_of("config.valid"), Severity::Warning, "it starts without it");
        let verdict = planted.result_of("config.references");
        assert_eq!(verdict.severity, Severity::Error);
        assert!(verdict.message.ends_with("models.default.key needs MY_KEY"), "{verdict:?}");
        planted.env.insert("MY_KEY".to_owned(), "x".to_owned());
        assert_eq!(planted.severity_of("config.references"), Severity::Ok);
    }

    #[test]
    fn a_home_without_models_or_a_default_model_is_reported() {
        let planted = PlantedHome::healthy_home();
        planted.write_config("version: 1\n");
        assert_eq!(planted.severity_of("config.default_model"), Severity::Error);
        planted.write_config("models: { fast: { kind: scripted } }");
        assert_eq!(planted.severity_of("config.default_model"), Severity::Warning);
    }

    #[test]
    fn a_missing_default_agent_is_reported_by_server_and_store() {
        let mut planted = PlantedHome::healthy_home();
        planted.write_config("default_agent: ghost\n");
        assert_eq!(planted.severity_of("config.default_agent"), Severity::Warning);
        planted.world.server = ServerProbe::Absent;
        assert_eq!(planted.severity_of("config.default_agent"), Severity::Warning);
    }

    #[test]
    fn an_unknown_name_is_reported_by_server_and_store() {
        let mut planted = PlantedHome::healthy_home();
        assert_eq!(planted.severity_of("config.names"), Severity::Ok);
        planted.write_config("agents: { asistant: { permissions: { deny: [file.write] } } }\n");
        let verdict = planted.result_of("config.names");
        assert_eq!(verdict.severity, Severity::Warning);
        let says = "dromia.yaml:1:11: agents.asistant: the tenant default has no agent `asistant`; did you mean `assistant`?";
        assert!(verdict.message.contains(says), "{verdict:?}");
        planted.write_config("agents: { assistant: { permissions: { deny: [file.write] } } }\n");
        assert_eq!(planted.severity_of("config.names"), Severity::Ok);
        // The store of this home is empty, and without anybody to ask only the file tells.
        planted.world.server = ServerProbe::Absent;
        assert_eq!(planted.severity_of("config.names"), Severity::Warning);
        planted.world.server = ServerProbe::Mute("it hangs".to_owned());
        assert_eq!(planted.severity_of("config.names"), Severity::Ok);
        planted.write_config("approvals: { approvers: [bob] }\n");
        assert_eq!(planted.severity_of("config.names"), Severity::Warning);
    }
}
