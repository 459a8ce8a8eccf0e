//! The configuration that a new home begins with.

use dromia_contracts::vault::GRANT;

use super::detect::DetectedModel;
use crate::config::edit::double_quote;
use crate::config::{self, WrittenModel, WrittenPrice};
use crate::model;

/// The name of the schema beside the configuration, for editors.
pub(super) const SCHEMA: &str = "dromia.schema.json";

/// What a home with a model that costs money may spend on a day, until its owner says otherwise.
pub(super) const DAILY_LIMIT: &str = "5.00";

/// Writes the configuration; without a model that was found the scripted one answers.
pub(super) fn config_yaml(found: Option<&DetectedModel>) -> String {
    let models = match found {
        None => "models:\n  default: { kind: scripted }   # built in, offline, not an LLM\n".to_owned(),
        Some(found) => providers_and_models(found),
    };
    format!(
        "# yaml-language-server: $schema=./{SCHEMA}\n# The configuration of this Dromia home. Every key is \
         optional; unknown keys are errors.\n# `dromia config explain KEY` describes a key; `dromia config \
         validate` checks the file.\nversion: 1\nlisten: {listen}        # another address needs \
         http.tls\ndefault_agent: assistant      # answers when you name no agent\n{models}engine:\n  \
         active_max: 1024            # runs active at once\n  model_calls_max: 50         # per run; then it \
         yields\ncontext:\n  window_tokens: 32768        # the window of models whose own is not known\n",
        listen = config::LISTEN_DEFAULT
    )
}

fn providers_and_models(found: &DetectedModel) -> String {
    let mut lines = vec![
        "providers:                    # servers of models; `dromia provider test NAME` asks one".to_owned(),
        format!("  {}:", found.name),
        format!("    kind: {}", found.kind.as_str()),
    ];
    lines.extend(found.base_url.as_ref().map(|base_url| format!("    base_url: {}", double_quote(base_url))));
    lines.extend(found.key.as_ref().map(|name| {
        format!("    key: {}   # taken from the environment", double_quote(&format!("env:{name}")))
    }));
    lines.extend(
        found.typed.as_ref().map(|_| {
            format!("    key: {}   # in the vault", double_quote(&format!("{GRANT}{}", found.name)))
        }),
    );
    lines.push("models:                       # the aliases that agents name".to_owned());
    let default = WrittenModel {
        provider: Some(found.name.clone()),
        model: found.models.first().cloned(),
        // What runs on this machine costs no money, and is known not to.
        price: found.is_local().then_some(WrittenPrice {
            input: 0,
            output: 0,
            cache_read: None,
            cache_write: None,
        }),
        ..WrittenModel::default()
    };
    lines.extend(model::entry_lines("default", &default).into_iter().map(|line| format!("  {line}")));
    if !found.is_local() {
        lines.push("tenants:".to_owned());
        lines.push("  default:".to_owned());
        lines.push("    budgets:                  # `dromia budget list` shows what is spent".to_owned());
        lines.push(format!(
            "      - {{ name: daily, per: tenant, measure: money, period: day, limit: \"{DAILY_LIMIT}\" }}"
        ));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{EnvironmentVariables, ProviderKind};

    fn means(text: &str) -> String {
        let environment = EnvironmentVariables::from([("ANTHROPIC_API_KEY", "k")]);
        let loaded = config::parse_layered(Path::new("dromia.yaml"), text, &environment, &[])
            .expect("its form is right");
        let resolved = loaded.resolve_all(&environment).expect("it can be served");
        format!("{:?}", resolved.models.models)
    }

    #[test]
    fn a_home_with_a_key_begins_with_its_provider() {
        let found = DetectedModel {
            name: "anthropic".to_owned(),
            kind: ProviderKind::Anthropic,
            base_url: None,
            key: Some("ANTHROPIC_API_KEY".to_owned()),
            typed: None,
            models: vec!["claude-sonnet-4-5".to_owned()],
            title: String::new(),
        };
        let text = config_yaml(Some(&found));
        assert!(means(&text).contains("AnthropicMessages"));
        insta::assert_snapshot!(text, @r#"
        # yaml-language-server: $schema=./dromia.schema.json
        # The configuration of this Dromia home. Every key is optional; unknown keys are errors.
        # `dromia config explain KEY` describes a key; `dromia config validate` checks the file.
        version: 1
        listen: 127.0.0.1:7700        # another address needs http.tls
        default_agent: assistant      # answers when you name no agent
        providers:                    # servers of models; `dromia provider test NAME` asks one
          anthropic:
            kind: anthropic
            key: "env:ANTHROPIC_API_KEY"   # taken from the environment
        models:                       # the aliases that agents name
          default:
            provider: anthropic
            model: "claude-sonnet-4-5"
        tenants:
          default:
            budgets:                  # `dromia budget list` shows what is spent
              - { name: daily, per: tenant, measure: money, period: day, limit: "5.00" }
        engine:
          active_max: 1024            # runs active at once
          model_calls_max: 50         # per run; then it yields
        context:
          window_tokens: 32768        # the window of models whose own is not known
        "#);
    }

    #[test]
    fn a_generated_configuration_is_valid_with_or_without_a_server() {
        let found = DetectedModel {
            name: "ollama".to_owned(),
            kind: ProviderKind::Openai,
            base_url: Some("http://127.0.0.1:11434/v1".to_owned()),
            key: None,
            typed: None,
            models: vec!["qwen3:8b".to_owned(), "x".to_owned()],
            title: String::new(),
        };
        assert!(means(&config_yaml(Some(&found))).contains("qwen3:8b"));
        assert!(means(&config_yaml(None)).contains("Scripted"));
    }
}
