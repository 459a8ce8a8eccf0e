//! `dromia.yaml`: what was written, and what it means.
//!
//! Unknown keys and wrong types are errors that name line, column and the nearest key. Everything is resolved and
//! checked once, at the start, before any port is bound.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use dromia_contracts::agent::Handle;
use dromia_contracts::store::TailLimits;
use dromia_engine::EngineConfig;
use dromia_models::{Format, HttpConfig, ModelsConfig, Provider, Secret};
use serde::Deserialize;

use crate::home::Home;
use crate::system::Exit;

/// The address that is served where nothing else is said.
pub(crate) const LISTEN_DEFAULT: &str = "127.0.0.1:7700";

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Written {
    /// The version of the file's form.
    version: u32,
    /// The TCP address; loopback only.
    pub(crate) listen: SocketAddr,
    /// The agent that answers where none is named.
    pub(crate) default_agent: Handle,
    /// Model aliases.
    models: BTreeMap<String, WrittenModel>,
    engine: WrittenEngine,
    context: WrittenContext,
    pub(crate) limits: WrittenLimits,
    tools: WrittenTools,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            version: 1,
            listen: SocketAddr::from(([127, 0, 0, 1], 7700)),
            default_agent: "assistant".parse().unwrap_or_else(|_| unreachable!("the literal is a handle")),
            models: BTreeMap::new(),
            engine: WrittenEngine::default(),
            context: WrittenContext::default(),
            limits: WrittenLimits::default(),
            tools: WrittenTools::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum WrittenModel {
    /// The built-in scripted model.
    Scripted {},
    /// A server of the OpenAI chat completions format.
    Openai {
        base_url: String,
        model: String,
        /// `env:NAME` takes the key from the environment.
        #[serde(default)]
        key: Option<String>,
        #[serde(default = "yes")]
        stream: bool,
    },
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the keys of the file, and each is a bound")]
struct WrittenEngine {
    active_max: usize,
    model_calls_max: u32,
    output_tokens_max: u32,
}

impl Default for WrittenEngine {
    fn default() -> Self {
        let engine = EngineConfig::default();
        Self {
            active_max: engine.active_max,
            model_calls_max: engine.model_calls_max,
            output_tokens_max: engine.output_tokens_max,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenContext {
    items_max: usize,
    bytes_max: usize,
}

impl Default for WrittenContext {
    fn default() -> Self {
        let TailLimits { items, bytes } = EngineConfig::default().context;
        Self { items_max: items, bytes_max: bytes }
    }
}

/// Bounds of the HTTP edge.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenLimits {
    /// The longest request body.
    pub(crate) body_bytes_max: usize,
    /// The most requests at a time.
    pub(crate) requests_max: usize,
    /// The most connections at a time.
    pub(crate) connections_max: usize,
    /// The longest drain.
    pub(crate) drain_ms: u64,
}

impl Default for WrittenLimits {
    fn default() -> Self {
        Self { body_bytes_max: 1 << 20, requests_max: 4096, connections_max: 8192, drain_ms: 4_000 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenTools {
    /// Slows every call down, for demonstrations.
    pace_ms: u64,
    /// The most messages between agents in a row.
    message_hops_max: u32,
}

impl Default for WrittenTools {
    fn default() -> Self {
        Self { pace_ms: 0, message_hops_max: 16 }
    }
}

/// What the file means.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) listen: SocketAddr,
    pub(crate) default_agent: Handle,
    pub(crate) models: ModelsConfig,
    pub(crate) engine: EngineConfig,
    pub(crate) limits: WrittenLimits,
    pub(crate) tool_pace: Option<Duration>,
    pub(crate) message_hops_max: u32,
}

/// Reads and resolves the configuration of a home.
pub(crate) fn load(home: &Home) -> anyhow::Result<Resolved> {
    let path = home.config();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Exit::usage(format!(
                "there is no home at {}; make one with `dromia init`",
                home.root().display()
            )));
        }
        Err(error) => return Err(Exit::usage(format!("failed to read {}: {error}", path.display()))),
    };
    resolve_here(parse(&path, &text)?)
        .map_err(|problem| Exit::usage(format!("{}: {problem}", path.display())))
}

/// Resolves a configuration in this process's environment.
pub(crate) fn resolve_here(written: Written) -> Result<Resolved, String> {
    resolve(written, &|name| std::env::var(name).ok())
}

/// Reads the text of a configuration file.
pub(crate) fn parse(path: &Path, text: &str) -> anyhow::Result<Written> {
    serde_saphyr::from_str::<Option<Written>>(text).map(Option::unwrap_or_default).map_err(|error| {
        let place = error.location().map_or_else(
            || path.display().to_string(),
            |at| format!("{}:{}:{}", path.display(), at.line(), at.column()),
        );
        let plain = error.without_snippet().to_string();
        let first = plain.lines().next().unwrap_or_default();
        let problem = first.split(" at line").next().unwrap_or_default().trim_end_matches(':');
        let problem = problem.rsplit_once("error: ").map_or(problem, |(_, rest)| rest);
        Exit::usage(format!("{place}: {problem}{}", suggestion(problem)))
    })
}

/// Names the key that was probably meant, from a message such as "unknown field `a`, expected one of b, c".
fn suggestion(problem: &str) -> String {
    let Some((unknown, expected)) = problem.split_once(", expected ") else { return String::new() };
    let Some(unknown) = unknown.split('`').nth(1).filter(|_| unknown.starts_with("unknown")) else {
        return String::new();
    };
    expected
        .trim_start_matches("one of ")
        .split(", ")
        .map(|known| known.trim_matches('`'))
        .map(|known| (strsim::damerau_levenshtein(unknown, known), known))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"))
}

fn resolve(written: Written, env: &dyn Fn(&str) -> Option<String>) -> Result<Resolved, String> {
    if written.version != 1 {
        return Err(format!("version: this program reads version 1, not {}", written.version));
    }
    let mut models = ModelsConfig::default();
    for (alias, model) in written.models {
        let provider = match model {
            WrittenModel::Scripted {} => Provider::Scripted,
            WrittenModel::Openai { base_url, model, key, stream } => {
                let mut openai = HttpConfig::new(Format::OpenAiChat, base_url, model);
                openai.stream = stream;
                openai.key = key.map(|key| secret(&alias, &key, env)).transpose()?;
                Provider::Http(openai)
            }
        };
        models.models.insert(alias, provider);
    }
    let at_least_one = |key: &str, value: u64| match value {
        0 => Err(format!("{key}: must be at least 1")),
        _ => Ok(()),
    };
    at_least_one("engine.active_max", written.engine.active_max as u64)?;
    at_least_one("engine.model_calls_max", written.engine.model_calls_max.into())?;
    at_least_one("engine.output_tokens_max", written.engine.output_tokens_max.into())?;
    at_least_one("context.items_max", written.context.items_max as u64)?;
    at_least_one("context.bytes_max", written.context.bytes_max as u64)?;
    Ok(Resolved {
        listen: written.listen,
        default_agent: written.default_agent,
        models,
        engine: EngineConfig {
            active_max: written.engine.active_max,
            model_calls_max: written.engine.model_calls_max,
            output_tokens_max: written.engine.output_tokens_max,
            context: TailLimits { items: written.context.items_max, bytes: written.context.bytes_max },
        },
        limits: written.limits,
        tool_pace: (written.tools.pace_ms > 0).then(|| Duration::from_millis(written.tools.pace_ms)),
        message_hops_max: written.tools.message_hops_max,
    })
}

/// Resolves a key; a literal key in the file is refused, so that the file can be shown to anybody.
fn secret(alias: &str, written: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Secret, String> {
    let name = written
        .strip_prefix("env:")
        .ok_or_else(|| format!("models.{alias}.key: write env:NAME, so that no key stands in the file"))?;
    env(name).map(Secret::new).ok_or_else(|| format!("models.{alias}.key: the environment has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        parse(Path::new("dromia.yaml"), text).expect_err("the text is wrong").to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_key() {
        let text = problem("version: 1\nlisten: 127.0.0.1:1\ndefault_agnet: x\n");
        assert!(text.starts_with("dromia.yaml:3:1: "), "{text}");
        assert!(text.ends_with("did you mean `default_agent`?"), "{text}");
    }

    #[test]
    fn a_wrong_type_is_named_with_its_place() {
        let text = problem("engine:\n  active_max: many\n");
        assert!(text.starts_with("dromia.yaml:2:"), "{text}");
    }

    #[test]
    fn an_empty_file_means_every_default() {
        let written = parse(Path::new("dromia.yaml"), "# nothing\n").expect("nothing is said");
        let resolved = resolve(written, &|_| None).expect("the defaults are good");
        assert_eq!(resolved.listen.to_string(), LISTEN_DEFAULT);
        assert_eq!(resolved.engine, EngineConfig::default());
        assert_eq!(resolved.message_hops_max, 16);
    }

    #[test]
    fn a_key_comes_from_the_environment_and_from_nowhere_else() {
        let with = |key: &str| {
            let text =
                format!("models: {{ a: {{ kind: openai, base_url: 'http://x', model: m, key: '{key}' }} }}");
            parse(Path::new("dromia.yaml"), &text).expect("the form is right")
        };
        let env = |name: &str| (name == "THERE").then(|| "s3cret".to_owned());
        assert!(resolve(with("env:THERE"), &env).is_ok());
        let missing = resolve(with("env:GONE"), &env).expect_err("it is not set");
        assert_eq!(missing, "models.a.key: the environment has no GONE");
        assert!(resolve(with("sk-literal"), &env).expect_err("it stands in the file").contains("env:NAME"));
        let shown = format!("{:?}", resolve(with("env:THERE"), &env).expect("it is set").models);
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn a_bound_of_zero_is_refused_by_its_key() {
        let written =
            parse(Path::new("dromia.yaml"), "engine: { active_max: 0 }").expect("the form is right");
        assert_eq!(resolve(written, &|_| None).expect_err("zero"), "engine.active_max: must be at least 1");
    }
}
