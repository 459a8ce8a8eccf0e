//! The proof that `dromia init` ends in: one real call to the model that was chosen, before anything is saved, so that a key
//! that its provider refuses leaves nothing behind. It is made for a person at a terminal only, since it may cost money.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dromia_api::TENANT_DEFAULT;
use dromia_cli::{CommandExit, CommandOutput, read_hidden_line};
use dromia_contracts::store::Store as _;
use dromia_contracts::vault::{NewSecret, SecretValue, Vault as _};
use dromia_contracts::{Actor, ErrorCode};

use super::detect::{DetectedModel, TypedKey};
use super::file;
use crate::config::{self, EnvironmentVariables, ProviderKind, WrittenProvider};
use crate::home_services::HomeServices;
use crate::model::{self, ModelTrial};
use crate::secret_command;
use crate::system::ExitError;

/// How long the model may take: a server on this machine may have to load it first.
const WAIT: Duration = Duration::from_mins(2);

/// The variable that holds a typed key for the call, in no environment but the one of the call.
const TYPED_VARIABLE: &str = "DROMIA_INIT_TYPED_KEY";

/// What one call came to.
pub(super) enum ModelProof {
    /// It answered.
    Answered(Box<ModelTrial>),
    /// It did not, for a reason that may pass.
    Silent(String),
}

/// Asks for the key of a provider; it is not shown.
pub(super) async fn read_key(provider: &str, output: &mut CommandOutput<'_>) -> anyhow::Result<TypedKey> {
    let prompt = format!("the key of {provider}, which is not echoed");
    tokio::select! {
        line = read_hidden_line(&prompt, output) => {
            let key = line?.trim().to_owned();
            // What the vault refuses is refused before anything is created.
            SecretValue::new(key.clone())
                .map_err(|error| ExitError::usage_error(format!("{error}; init created nothing")))?;
            Ok(TypedKey(key))
        }
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            let code = CommandExit::Interrupted.exit_code();
            Err(ExitError { code, message: "you typed no key, so init created nothing".to_owned() }.into())
        }
    }
}

/// Makes one call. A key that the provider refuses is an error; nothing was saved then.
pub(super) async fn prove_choice(
    path: &Path,
    chosen: Option<&DetectedModel>,
    environment: &EnvironmentVariables,
) -> anyhow::Result<ModelProof> {
    let mut asked = chosen.cloned();
    let mut environment = environment.clone();
    if let Some(found) = &mut asked
        && let Some(TypedKey(key)) = found.typed.take()
    {
        environment = environment.with_variable(TYPED_VARIABLE, &key);
        found.key = Some(TYPED_VARIABLE.to_owned());
    }
    let text = file::config_yaml(asked.as_ref());
    let (loaded, resolved) =
        config::parse_and_resolve(path, &text, &environment, &[]).map_err(ExitError::usage_of)?;
    match model::prove_model(&loaded, resolved, "default", WAIT).await {
        Ok(Ok(trial)) => Ok(ModelProof::Answered(Box::new(trial))),
        Ok(Err(error)) if error.code == ErrorCode::ModelRejected => Err(ExitError {
            code: CommandExit::Denied.exit_code(),
            message: refusal_text(chosen, &error.message),
        }
        .into()),
        Ok(Err(error)) => Ok(ModelProof::Silent(error.message)),
        Err(problem) => Ok(ModelProof::Silent(format!("{problem:#}"))),
    }
}

/// Says whose key was refused, why, and what to do.
fn refusal_text(chosen: Option<&DetectedModel>, reason: &str) -> String {
    let Some(found) = chosen else { return format!("the scripted model failed: {reason}") };
    let (name, model) = (&found.name, found.models.first().map_or("", String::as_str));
    let reason = reason.replace(TYPED_VARIABLE, "the key that you typed");
    let (what, next) = match (&found.key, &found.typed) {
        (Some(variable), _) => (
            format!(" with the key in {variable}"),
            format!("set a valid key with `export {variable}=…` and run `dromia init` again"),
        ),
        (None, Some(_)) => (
            format!(" with the key that you typed, which would have become the secret {name}"),
            "run `dromia init` again with a valid key".to_owned(),
        ),
        (None, None) => (String::new(), "choose another model with `dromia init`".to_owned()),
    };
    format!("{name} does not answer as {model}{what}: {reason}; init created nothing: {next}")
}

/// Puts a typed key into the vault of the first tenant, for its provider's server alone.
pub(super) async fn store_key(services: &HomeServices, found: &DetectedModel) -> anyhow::Result<()> {
    let Some(TypedKey(key)) = &found.typed else { return Ok(()) };
    let written = WrittenProvider { kind: found.kind, ..WrittenProvider::default() };
    let url = config::fill_provider_defaults(&written).base_url.unwrap_or_default();
    let slot = found.kind.wire_format().map(dromia_models::WireFormat::key_slot);
    let Some(slot) = slot.filter(|_| found.kind != ProviderKind::Scripted) else { return Ok(()) };
    let operator = services.authority.issue_operator();
    let tenant = services.store.tenant_by_handle(&operator, &TENANT_DEFAULT.parse()?).await?;
    let Some(tenant) = tenant else { anyhow::bail!("there is no tenant {TENANT_DEFAULT} for the key") };
    let new = NewSecret {
        name: found.name.clone(),
        value: SecretValue::new(key.clone())?,
        host: secret_command::secret_host(&url),
        placement: secret_command::placement_for_slot(slot),
    };
    let scope = services.authority.issue_scope(tenant.id, Actor::new("init"));
    let vault = Arc::clone(&services.vault);
    vault
        .set_secret(scope, new)
        .await
        .map_err(|fault| anyhow::anyhow!("the key cannot be stored: {fault}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider_probe::tests::server;

    fn at(address: std::net::SocketAddr, key: Option<&str>, typed: Option<&str>) -> DetectedModel {
        DetectedModel {
            name: "hub".to_owned(),
            kind: ProviderKind::Openai,
            base_url: Some(format!("http://{address}/v1")),
            key: key.map(str::to_owned),
            typed: typed.map(|key| TypedKey(key.to_owned())),
            models: vec!["small".to_owned()],
            title: String::new(),
        }
    }

    async fn proved(found: &DetectedModel) -> anyhow::Result<ModelProof> {
        let environment = EnvironmentVariables::from([("HUB_KEY", "sk-canary-env")]);
        prove_choice(Path::new("dromia.yaml"), Some(found), &environment).await
    }

    #[tokio::test]
    async fn a_refused_key_is_named_with_its_provider_but_not_shown() {
        let refusing = server("401 Unauthorized", r#"{"error":{"message":"bad key"}}"#).await;
        for (found, says) in [
            (at(refusing, Some("HUB_KEY"), None), "the key in HUB_KEY"),
            (at(refusing, None, Some("sk-canary-typed")), "would have become the secret hub"),
        ] {
            let refused = proved(&found).await.err().expect("the key is refused").to_string();
            assert!(refused.contains(says) && refused.contains("hub does not answer"), "{refused}");
            assert!(refused.contains("401") && refused.contains("init created nothing"), "{refused}");
            assert!(!refused.contains("canary") && !refused.contains(TYPED_VARIABLE), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_server_that_answers_is_proved_and_a_busy_one_is_no_error() {
        let reply = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ready\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        let answering = server("200 OK", reply).await;
        let Ok(ModelProof::Answered(trial)) = proved(&at(answering, None, None)).await else {
            panic!("it answers")
        };
        let text = trial.summary_text();
        assert!(text.starts_with("hub/small answered in ") && text.ends_with(": ready"), "{text}");
        let busy = server("503 Service Unavailable", "").await;
        assert!(matches!(proved(&at(busy, None, None)).await, Ok(ModelProof::Silent(_))));
    }
}
