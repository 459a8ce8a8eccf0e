//! What models are at hand: keys in the environment, and servers on the well known ports of this machine.
//!
//! Each port is asked once for its list of models, all at the same time and for a short time only. Whatever answers
//! with something else is not taken. No key is sent anywhere.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use dromia_guard::EgressConfig;

use crate::config::{EnvironmentVariables, ProviderKind};
use crate::egress_client;
use crate::provider_probe::{self, ProbeRequest};

/// How long a port may take.
const WAIT: Duration = Duration::from_millis(1_500);

/// A server that people run on their own machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocalServer {
    /// Its name as a provider.
    pub(super) name: &'static str,
    /// Its name as people know it.
    pub(super) title: &'static str,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// The command that gets it a model.
    pub(super) get_model: &'static str,
}

/// The well known ones with their own ports, best first.
pub(super) fn known_local_servers() -> [LocalServer; 4] {
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    [
        LocalServer {
            name: "ollama",
            title: "Ollama",
            address: at(11_434),
            get_model: "ollama pull qwen3:4b",
        },
        LocalServer {
            name: "lm_studio",
            title: "LM Studio",
            address: at(1_234),
            get_model: "lms get qwen/qwen3-4b",
        },
        LocalServer {
            name: "vllm",
            title: "vLLM",
            address: at(8_000),
            get_model: "vllm serve Qwen/Qwen3-4B",
        },
        LocalServer {
            name: "llama_cpp",
            title: "llama.cpp",
            address: at(8_080),
            get_model: "llama-server -hf ggml-org/Qwen3-4B-GGUF",
        },
    ]
}

/// A model that could be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DetectedModel {
    /// Its provider's name.
    pub(super) name: String,
    /// What its provider speaks.
    pub(super) kind: ProviderKind,
    /// Where, unless that follows from the kind.
    pub(super) base_url: Option<String>,
    /// The variable that holds the key.
    pub(super) key: Option<String>,
    /// The key itself, which a person types and which goes into the vault.
    pub(super) typed: Option<TypedKey>,
    /// The ids of the models to choose from, the first one taken by default.
    pub(super) models: Vec<String>,
    /// What was found, as people see it.
    pub(super) title: String,
}

/// A key that a person typed. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TypedKey(pub(super) String);

impl fmt::Debug for TypedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedKey")
    }
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DetectedModels {
    /// The models that could be used.
    pub(super) models: Vec<DetectedModel>,
    /// What else was found, and what to do to use it.
    pub(super) hints: Vec<String>,
}

impl DetectedModel {
    /// Tells whether it is a server on this machine, which needs no key.
    pub(super) fn is_local(&self) -> bool {
        self.key.is_none() && self.typed.is_none()
    }

    /// The providers whose keys a person may type.
    pub(super) fn with_typed_keys() -> [Self; 2] {
        let hosted = |name: &str, kind, model: &str, title: &str| Self {
            name: name.to_owned(),
            kind,
            base_url: None,
            key: None,
            typed: Some(TypedKey(String::new())),
            models: vec![model.to_owned()],
            title: format!("{title}, with a key that you type now"),
        };
        [
            hosted("anthropic", ProviderKind::Anthropic, "claude-sonnet-4-5", "Anthropic"),
            hosted("openai", ProviderKind::Openai, "gpt-5-mini", "OpenAI"),
        ]
    }
}

/// Looks at the environment and at the given servers; keys come first.
pub(super) async fn detect_models(
    environment: &EnvironmentVariables,
    locals: &[LocalServer],
) -> DetectedModels {
    let mut found = DetectedModels { models: models_from_keys(environment), hints: Vec::new() };
    let mut asked = Vec::new();
    for local in locals.iter().copied() {
        asked.push(tokio::spawn(ask_local_server(local)));
    }
    for answer in asked {
        match answer.await {
            Ok(Some(Ok(model))) => found.models.push(model),
            Ok(Some(Err(hint))) => found.hints.push(hint),
            Ok(None) | Err(_) => {}
        }
    }
    found
}

fn models_from_keys(environment: &EnvironmentVariables) -> Vec<DetectedModel> {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let mut found = Vec::new();
    if set("ANTHROPIC_API_KEY").is_some() {
        found.push(DetectedModel {
            name: "anthropic".to_owned(),
            kind: ProviderKind::Anthropic,
            base_url: None,
            key: Some("ANTHROPIC_API_KEY".to_owned()),
            typed: None,
            models: vec!["claude-sonnet-4-5".to_owned()],
            title: "Anthropic, with ANTHROPIC_API_KEY".to_owned(),
        });
    }
    if set("OPENAI_API_KEY").is_some() {
        let base_url = set("OPENAI_BASE_URL").map(str::to_owned);
        let model = set("OPENAI_MODEL").unwrap_or("gpt-5-mini");
        let place = base_url.clone().map_or_else(String::new, |base_url| format!(" at {base_url}"));
        found.push(DetectedModel {
            name: "openai".to_owned(),
            kind: ProviderKind::Openai,
            base_url,
            key: Some("OPENAI_API_KEY".to_owned()),
            typed: None,
            models: vec![model.to_owned()],
            title: format!("OpenAI, with OPENAI_API_KEY{place}"),
        });
    }
    found
}

/// Asks a server for its models. One without any gives the command that gets it one.
async fn ask_local_server(local: LocalServer) -> Option<Result<DetectedModel, String>> {
    let base_url = format!("http://{}/v1", local.address);
    let question = ProbeRequest { kind: ProviderKind::Openai, base_url: &base_url, key: None, wait: WAIT };
    // The address names itself, so nothing else has to be opened for it.
    let egress = egress_client::guarded_egress(EgressConfig::default());
    let answer = provider_probe::probe_models(&egress, &question).await.ok()?;
    if answer.models.is_empty() {
        let LocalServer { title, address, get_model, .. } = local;
        return Some(Err(format!(
            "{title} on {address} has no model; get one with `{get_model}`, then `dromia provider add {} --kind \
             openai --base-url {base_url}`",
            local.name
        )));
    }
    let count = answer.models.len();
    let title = format!(
        "{} on {} with {count} {}",
        local.title,
        local.address,
        if count == 1 { "model" } else { "models" }
    );
    Some(Ok(DetectedModel {
        name: local.name.to_owned(),
        kind: ProviderKind::Openai,
        base_url: Some(base_url),
        key: None,
        typed: None,
        models: answer.models,
        title,
    }))
}

/// The choice where no person is asked: a server of one's own costs nothing, so it comes before a key.
pub(super) fn first_choice(found: &[DetectedModel]) -> Option<&DetectedModel> {
    found.iter().find(|found| found.is_local()).or_else(|| found.first())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider_probe::tests::{LIST, server};

    fn names(found: &[DetectedModel]) -> Vec<&str> {
        found.iter().map(|found| found.name.as_str()).collect()
    }

    #[tokio::test]
    async fn detection_prefers_keys_and_takes_only_servers_listing_models() {
        let environment =
            EnvironmentVariables::from([("OPENAI_API_KEY", "s3cret"), ("ANTHROPIC_API_KEY", "")]);
        let local = |name, address| LocalServer { name, title: name, address, get_model: "get one" };
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let nobody = free.local_addr().expect("an address");
        drop(free);
        let locals = [
            local("ollama", nobody),
            local("vllm", server("200 OK", "<html>a web server</html>").await),
            local("empty", server("200 OK", r#"{"data":[]}"#).await),
            local("llama_cpp", server("200 OK", LIST).await),
        ];
        let DetectedModels { models: found, hints } = detect_models(&environment, &locals).await;
        assert_eq!(names(&found), ["openai", "llama_cpp"]);
        assert!(
            matches!(hints.as_slice(), [hint] if hint.starts_with("empty on 127.0.0.1:") && hint.contains("`get one`")),
            "{hints:?}"
        );
        assert_eq!(found[1].models, ["qwen3:8b", "x"]);
        assert!(!format!("{found:?}").contains("s3cret"));
        assert_eq!(first_choice(&found).map(|found| found.name.as_str()), Some("llama_cpp"));
        assert_eq!(first_choice(&found[..1]).map(|found| found.name.as_str()), Some("openai"));
        assert_eq!(first_choice(&[]), None);
    }

    #[tokio::test]
    async fn both_keys_are_found_and_anthropic_is_offered_first() {
        let environment = EnvironmentVariables::from([
            ("OPENAI_API_KEY", "a"),
            ("ANTHROPIC_API_KEY", "b"),
            ("OPENAI_BASE_URL", "http://h/v1"),
            ("OPENAI_MODEL", "m"),
        ]);
        let found = detect_models(&environment, &[]).await.models;
        assert_eq!(names(&found), ["anthropic", "openai"]);
        assert_eq!((found[1].base_url.as_deref(), found[1].models[0].as_str()), (Some("http://h/v1"), "m"));
    }

    #[test]
    fn the_well_known_ports_are_on_this_machine() {
        let ports = known_local_servers().map(|local| local.address.to_string());
        assert_eq!(ports, ["127.0.0.1:11434", "127.0.0.1:1234", "127.0.0.1:8000", "127.0.0.1:8080"]);
    }
}
