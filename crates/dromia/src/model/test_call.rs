//! `dromia model test`: one real call through the same adapters that a server uses, with a tiny question.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dromia_cli::CommandOutput;
use dromia_cli::output::draw_pairs;
use dromia_contracts::client::SamplingOptions;
use dromia_contracts::content::{ContentPart, InputMessage};
use dromia_contracts::label::Label;
use dromia_contracts::model::{
    DeltaSink, FinishReason, LanguageModel as _, ModelError, ModelReply, ModelRequest, TokenUsage,
    UsageDetail,
};
use dromia_contracts::transcript::Transcript;
use dromia_contracts::{Actor, ErrorCode};
use dromia_models::{ModelRegistry, ModelsError};
use schemars::JsonSchema;
use serde::Serialize;

use super::{all_aliases, format_money, resolve_route, route_location, unknown_alias_error};
use crate::config::{self, EnvironmentVariables, LoadedConfig, ModelRoute, ResolvedConfig};
use crate::egress_client;
use crate::home::Home;
use crate::runtime;
use crate::system::ExitError;

/// What is asked.
const QUESTION: &str = "Reply with the single word: ready";
/// The most tokens of the answer; a model that thinks first needs some for that.
const OUTPUT_TOKENS_MAX: u32 = 512;
/// The most characters of the answer that are shown.
const ANSWER_CHARS_MAX: usize = 200;
/// The most characters of it in one sentence.
const SUMMARY_CHARS: usize = 40;

/// What one real call came to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelTrial {
    /// The alias that was called.
    alias: String,
    /// Where the answer comes from: the provider or host and the model's id there.
    answers: String,
    /// The beginning of what it said.
    answer: String,
    /// When its first piece came, in milliseconds; nothing where nothing was said.
    first_token_ms: Option<u64>,
    /// When it was whole, in milliseconds.
    total_ms: u64,
    /// Why it stopped.
    finish: FinishReason,
    /// What it used.
    usage: TokenUsage,
    /// What the tokens were, as far as the provider says.
    detail: UsageDetail,
    /// What it cost, in millionths of the currency unit; nothing where the price is unknown.
    cost_micros: Option<u64>,
}

/// Notes when the first token came.
struct FirstTokenTimer {
    began: Instant,
    after: OnceLock<Duration>,
}

impl DeltaSink for FirstTokenTimer {
    fn push_delta(&self, _text: &str) {
        // Only the first one is kept.
        let _later = self.after.set(self.began.elapsed());
    }
}

/// Runs the command.
pub(crate) fn run_trial(
    home: &Home,
    alias: &str,
    wait: Option<Duration>,
    output: &mut CommandOutput<'_>,
) -> anyhow::Result<()> {
    let environment = EnvironmentVariables::of_process();
    let loaded =
        config::parse_layered(&home.config_path(), &config::read_config_text(home)?, &environment, &[])
            .map_err(ExitError::usage_of)?;
    let all = all_aliases(&loaded.written);
    if !all.contains(&alias) {
        return Err(unknown_alias_error(&all, alias));
    }
    let resolved = loaded.resolve_all(&environment).map_err(ExitError::usage_of)?;
    let route = resolve_route(&loaded.written, alias).map_err(ExitError::usage_error)?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = tokio.block_on(make_call(resolved, alias, wait));
    let (outcome, first, total) = made.map_err(|problem| match problem.downcast::<ModelsError>() {
        Ok(error) => ExitError::usage_error(format!("{}: {error}", home.config_path().display())),
        Err(problem) => problem,
    })?;
    let reply = outcome.map_err(|error| trial_error(alias, &route, &error))?;
    output.print_result(&trial_result(alias, &route, &reply, first, total), trial_text)?;
    Ok(())
}

/// What one call came to: the answer or why there is none, when its first piece came, and how long all of it took.
type CallOutcome = (Result<ModelReply, ModelError>, Option<Duration>, Duration);

/// Makes one call to a model of a configuration that need not be that of any file.
async fn make_call(
    resolved: ResolvedConfig,
    alias: &str,
    wait: Option<Duration>,
) -> anyhow::Result<CallOutcome> {
    let egress = egress_client::guarded_egress(resolved.calls.reachable.opened.clone());
    let models = ModelRegistry::new(resolved.models, &runtime::real_runtime().clock, &egress)?;
    let request = trial_request(alias);
    let first = FirstTokenTimer { began: Instant::now(), after: OnceLock::new() };
    let prepared = match models.prepare_attempt(&request) {
        Ok(prepared) => prepared,
        Err(error) => return Ok((Err(error), None, first.began.elapsed())),
    };
    let call = models.call_model(&request, &prepared, &first);
    let outcome = match wait {
        None => call.await,
        Some(wait) => match tokio::time::timeout(wait, call).await {
            Ok(outcome) => outcome,
            Err(_) => {
                return Err(ExitError {
                    code: 124,
                    message: format!("{alias} did not answer in time; the call is cancelled"),
                }
                .into());
            }
        },
    };
    Ok((outcome, first.after.get().copied(), first.began.elapsed()))
}

/// Makes one call for a command that has no file yet. Returns how long it took and what it cost, where its price is known, or
/// the provider's reason.
pub(crate) async fn prove_model(
    loaded: &LoadedConfig,
    resolved: ResolvedConfig,
    alias: &str,
    wait: Duration,
) -> anyhow::Result<Result<ModelTrial, ModelError>> {
    let route = resolve_route(&loaded.written, alias).map_err(ExitError::usage_error)?;
    let (outcome, first, total) = make_call(resolved, alias, Some(wait)).await?;
    Ok(outcome.map(|reply| trial_result(alias, &route, &reply, first, total)))
}

impl ModelTrial {
    /// Says in one sentence what the call came to.
    pub(crate) fn summary_text(&self) -> String {
        let cost = match self.cost_micros {
            None => "for an unknown price".to_owned(),
            Some(0) => "free of charge".to_owned(),
            Some(cost) => format!("for {}", format_money(cost)),
        };
        let mut answer = self.answer.split_whitespace().collect::<Vec<_>>().join(" ");
        if answer.chars().count() > SUMMARY_CHARS {
            answer = answer.chars().take(SUMMARY_CHARS - 1).chain(['…']).collect();
        }
        format!("{} answered in {} ms, {cost}: {answer}", self.answers, self.total_ms)
    }
}

fn trial_request(alias: &str) -> ModelRequest {
    let mut transcript = Transcript::default();
    transcript.push_input(InputMessage {
        hops: 0,
        author: Actor::new("operator"),
        parts: vec![ContentPart::new_text(QUESTION, Label::ACTOR_TEXT)],
    });
    ModelRequest {
        model: alias.to_owned(),
        system: Arc::from("You are being tested. Be brief."),
        transcript,
        tools: Vec::new().into(),
        output_tokens_max: OUTPUT_TOKENS_MAX,
        wishes: SamplingOptions::default(),
        key: "model-test".to_owned(),
    }
}

fn trial_result(
    alias: &str,
    route: &ModelRoute,
    reply: &ModelReply,
    first: Option<Duration>,
    total: Duration,
) -> ModelTrial {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let is_priced = route.target.as_ref().is_none_or(|target| target.price.is_some());
    ModelTrial {
        alias: alias.to_owned(),
        answers: route_location(route),
        answer: reply.text.trim().chars().take(ANSWER_CHARS_MAX).collect(),
        first_token_ms: first.map(ms),
        total_ms: ms(total),
        finish: reply.finish,
        usage: reply.usage,
        detail: reply.detail,
        cost_micros: is_priced.then_some(reply.cost_micros),
    }
}

fn trial_text(trial: &ModelTrial) -> String {
    draw_pairs(&[
        ("model", trial.alias.clone()),
        ("answers", trial.answers.clone()),
        ("answer", trial.answer.replace('\n', " ")),
        ("first token", trial.first_token_ms.map(|ms| format!("{ms} ms")).unwrap_or_default()),
        ("total", format!("{} ms", trial.total_ms)),
        ("tokens", format!("{} in, {} out", trial.usage.input_tokens, trial.usage.output_tokens)),
        ("cost", trial.cost_micros.map_or_else(|| "unpriced".to_owned(), format_money)),
    ])
}

/// Says what failed and what to do about it.
fn trial_error(alias: &str, route: &ModelRoute, error: &ModelError) -> anyhow::Error {
    let key = route.target.as_ref().and_then(|target| target.server.key.as_deref());
    let in_vault = key.is_some_and(|key| config::vault_name(key).is_some());
    let next = match (&route.provider, error.code) {
        // No command but one that a server answers can use it.
        (_, ErrorCode::ModelRejected) if in_vault => {
            "start a server and `dromia ask` an agent that uses this model; `dromia doctor --only vault.named` \
             checks the secret"
                .to_owned()
        }
        (Some(provider), ErrorCode::ModelUnavailable) => {
            format!("check it with `dromia provider test {provider}`")
        }
        (Some(provider), ErrorCode::ModelRejected) => {
            format!("check models.{alias}.model and the key with `dromia provider test {provider}`")
        }
        (None, ErrorCode::ModelUnavailable) => format!("check whether the server of models.{alias}.base_url \
                                                        is running"),
        (None, ErrorCode::ModelRejected) => format!("check models.{alias} in dromia.yaml"),
        _ => "try again; the server may be busy".to_owned(),
    };
    let place = route_location(route);
    ExitError::failed_error(format!("{alias} ({place}) does not answer: {error} ({}); {next}", error.code))
}
