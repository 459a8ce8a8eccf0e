//! `dromia init`: makes a home. It writes the configuration last, so a home that has one is whole, unless its owner
//! wrote the file first: then it is kept as it is, and the rest is made beside it.

mod choice;
mod detect;
mod file;
mod proof;
mod vault_check;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use dromia_cli::{CommandContext, CommandOutput, GlobalOptions, wrap_text};
use dromia_contracts::agent::AgentConfig;
use dromia_contracts::runs::{EnginePort as _, NewAgent, NewToken};
use dromia_contracts::store::{PageRequest, Store as _};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Actor, Fault};
use dromia_models::KnownModels;
use dromia_store::{StoreConfig, StoreInspector};
use schemars::JsonSchema;
use serde::Serialize;

use self::choice::choose_model;
use self::detect::{DetectedModel, DetectedModels};
use self::proof::ModelProof;
use self::vault_check::KeyMismatch;
use crate::config::{self, EnvironmentVariables, ResolvedConfig};
use crate::home::{Home, StorePresence};
use crate::home_services::{self, HomeServices};
use crate::keyfile::KeyFile;
use crate::model::ModelTrial;
use crate::system::{self, ExitError};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  dromia init\n  dromia init --defaults --no-input\n  dromia init --defaults --model-source scripted"
)]
pub(crate) struct InitArguments {
    /// Take every default: a model server on this machine, else a key in the environment, else the built-in scripted
    /// model.
    #[arg(long)]
    defaults: bool,

    /// Detect a model server or a key, or take the built-in scripted model, which is not an LLM.
    #[arg(long, value_enum, default_value_t = ModelSource::Detect)]
    model_source: ModelSource,

    /// Keep a store whose vault.key is lost; `dromia secret reset` then discards its secrets.
    #[arg(long)]
    locked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ModelSource {
    /// Look for keys in the environment and for Ollama, LM Studio, vLLM and llama.cpp on their ports.
    Detect,
    /// Take the built-in scripted model, which is not an LLM, and look for nothing.
    Scripted,
}

/// What the agent of a new home may do: everything built in that stays inside its workspace.
const GRANTS: [&str; 5] = ["model", "reply", "time.now", "file.*", "message.send"];

/// A home that was made.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct InitResult {
    /// Its directory.
    home: String,
    /// The configuration.
    config: String,
    /// The file with the bearer token for HTTP, which only its owner reads.
    token: String,
    /// Where the first model comes from, in words.
    model: String,
    /// What was found that has models, in words.
    found: Vec<String>,
    /// What else was found, and what to do to use it.
    hints: Vec<String>,
    /// What one real call to the model came to; nothing where none was made, or it gave no answer.
    trial: Option<ModelTrial>,
    /// Why the call gave no answer, if one was made and did not.
    silent: Option<String>,
    /// The most that is spent on a day, where the model costs money.
    daily_limit: Option<String>,
}

impl InitResult {
    fn result_text(&self) -> String {
        let mut text = String::new();
        for found in &self.found {
            text.extend(["Found ", found.as_str(), ".\n"]);
        }
        for hint in &self.hints {
            text.extend([hint.as_str(), ".\n"]);
        }
        text.extend([
            format!("{} is ready.\n\n", self.home),
            format!("  dromia.yaml   the configuration; the model is {}\n", self.model),
            "  token         the bearer token for HTTP, readable by you only\n\n".to_owned(),
        ]);
        text.extend(self.trial.as_ref().map(|trial| trial.summary_text() + "\n"));
        text.extend(self.silent.as_ref().map(|reason| {
            format!(
                "The model gave no answer yet: {reason}. `dromia ask` asks it again once the server runs.\n"
            )
        }));
        text.extend(self.daily_limit.as_ref().map(|limit| {
            format!(
                "A budget stops runs at {limit} a day; `tenants.default.budgets` in dromia.yaml changes it.\n"
            )
        }));
        if self.trial.is_some() || self.silent.is_some() || self.daily_limit.is_some() {
            text.push('\n');
        }
        text.push_str("Next: `dromia up`, and in another terminal `dromia ask \"hello\"`.");
        text
    }
}

/// Makes a home.
pub(crate) fn run(
    home: &Home,
    arguments: &InitArguments,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let mut output = CommandOutput::of_local(context, global);
    output.check_format()?;
    let is_written = home.config_path().exists();
    if is_written && !is_unfinished(home)? {
        return Err(ExitError::conflict_error(format!(
            "{} is a home already; start its server with `dromia up`, or choose another home with --home",
            home.root_dir().display()
        )));
    }
    home.checked_socket()?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let environment = EnvironmentVariables::of_process();
    let found = match arguments.model_source {
        ModelSource::Detect if !is_written => {
            tokio.block_on(detect::detect_models(&environment, &detect::known_local_servers()))
        }
        ModelSource::Detect | ModelSource::Scripted => DetectedModels::default(),
    };
    // What is asked goes to stdout, where a program would take it for a part of the document.
    let can_ask = !output.is_json() && std::io::stdin().is_terminal();
    let is_silent = arguments.defaults || global.no_input;
    // What is not looked for is not asked about either.
    let can_choose = can_ask && !is_written && arguments.model_source == ModelSource::Detect;
    let mut model = choose_model(&found.models, is_silent, can_choose)?;
    if let Some(chosen) = model.as_mut().filter(|chosen| chosen.typed.is_some()) {
        match tokio.block_on(proof::read_key(&chosen.name, &mut output)) {
            Ok(key) => chosen.typed = Some(key),
            Err(problem) => {
                // A read of a terminal cannot be ended, so nothing waits for it.
                tokio.shutdown_background();
                return Err(problem);
            }
        }
    }
    let text = if is_written { config::read_config_text(home)? } else { file::config_yaml(model.as_ref()) };
    let loaded =
        config::parse_layered(&home.config_path(), &text, &environment, &[]).map_err(ExitError::usage_of)?;
    let resolved = loaded.resolve_all(&environment).map_err(ExitError::usage_of)?;
    let proof = if can_choose && !is_silent {
        output.print_notice("Asking the model one question …")?;
        let path = home.config_path();
        let proving = proof::prove_choice(&path, model.as_ref(), &environment);
        Some(tokio.block_on(proving)?)
    } else {
        None
    };
    system::private_dir(home.root_dir())?;
    // A home that lost its dromia.yaml has both: what was made then goes on to count, and nothing is made beside it.
    let is_adopted = home.store_presence() == StorePresence::Store;
    let has_token = std::fs::read(home.token_path()).is_ok_and(|token| !token.trim_ascii().is_empty());
    let (token, is_locked) = tokio.block_on(async {
        let services = home_services::open_services(home, &resolved)?;
        let locked = if is_adopted { KeyMismatch::find_mismatch(home)? } else { None };
        if let (Some(locked), false) = (&locked, arguments.locked) {
            return Err(locked.mismatch_error());
        }
        let token = register_defaults(&services, has_token, &resolved)
            .await
            .map_err(|fault: Fault| anyhow::anyhow!("{fault}"))?;
        if let Some(chosen) = model.as_ref().filter(|chosen| chosen.typed.is_some()) {
            KeyFile::new(home.vault_key(), crate::runtime::real_runtime().ids).create_if_missing()?;
            proof::store_key(&services, chosen).await?;
        }
        Ok((token, locked.is_some()))
    })?;
    if let Some(token) = token {
        system::private_file(&home.token_path(), &format!("{token}\n"))?;
    }
    if is_written {
        anstream::eprintln!("{} is unchanged.", home.config_path().display());
    } else if is_adopted {
        anstream::eprintln!("The store is unchanged, with its agents, tokens and runs.");
    }
    if is_locked {
        anstream::eprintln!(
            "Its secrets do not open: restore their vault.key, or discard them with `dromia secret reset` \
             while `dromia up` runs."
        );
    } else {
        KeyFile::new(home.vault_key(), crate::runtime::real_runtime().ids).create_if_missing()?;
    }
    system::private_file(&home.root_dir().join(file::SCHEMA), &config::schema_text())?;
    if !is_written {
        system::private_file(&home.config_path(), &text)?;
    }
    let (trial, silent) = match proof {
        Some(ModelProof::Answered(trial)) => (Some(*trial), None),
        Some(ModelProof::Silent(reason)) => (None, Some(reason)),
        None => (None, None),
    };
    let is_paid = model.as_ref().is_some_and(|chosen| !chosen.is_local()) && !is_written;
    let made = InitResult {
        home: home.root_dir().display().to_string(),
        config: home.config_path().display().to_string(),
        token: home.token_path().display().to_string(),
        model: if is_written { "what it says".to_owned() } else { model_label(model.as_ref()) },
        found: found.models.into_iter().map(|found| found.title).collect(),
        hints: found.hints,
        trial,
        silent,
        daily_limit: is_paid
            .then(|| format!("{} {}", file::DAILY_LIMIT, KnownModels::builtin_table().currency)),
    };
    let mut text = output.add_global_flags(&made.result_text()).into_owned();
    if let Some(columns) = output.context_mut().columns {
        text = wrap_text(&text, columns.into(), "");
    }
    output.print_result(&made, |_| text)?;
    Ok(ExitCode::SUCCESS)
}

/// How long a store may take to tell whether it has a tenant.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a home has a dromia.yaml and was never made: nothing was kept there yet, or an `init` broke off before it
/// registered a tenant. A home that lost its store is refused.
fn is_unfinished(home: &Home) -> anyhow::Result<bool> {
    match home.store_presence() {
        StorePresence::Nothing => Ok(true),
        StorePresence::Remains { .. } => home.check_store().map(|()| false),
        // An `init` that broke off.
        StorePresence::Store if !home.token_path().exists() && !home.vault_key().exists() => Ok(true),
        StorePresence::Store => {
            let found = StoreInspector::new(StoreConfig::new(home.store_dir()), PATIENCE).list_names(&[]);
            // The command that serves a store reports one that cannot be read.
            Ok(matches!(found, Ok(Some(names)) if names.tenants.is_empty()))
        }
    }
}

/// Registers tenant, token and agent. A crash before the configuration is written leaves some of them; a second
/// `init` finds those and makes the rest, but no second token beside one that its owner has.
async fn register_defaults(
    services: &HomeServices,
    has_token: bool,
    resolved: &ResolvedConfig,
) -> Result<Option<String>, Fault> {
    let operator = services.authority.issue_operator();
    let known = services.store.tenants(&operator, PageRequest::first_page(1)).await;
    let known = known
        .map_err(|error| Fault::new(dromia_contracts::ErrorCode::StoreUnavailable, error.to_string()))?;
    let name = "init".to_owned();
    let (tenant, token) = if let Some(tenant) = known.into_iter().next() {
        (tenant.id, None)
    } else {
        let (tenant, token) =
            services.engine.tenant_create(operator, static_handle("default"), name.clone()).await?;
        (tenant.id, Some(token))
    };
    let scope = services.authority.issue_scope(tenant, Actor::new("init"));
    let token = if token.is_some() || has_token {
        token
    } else {
        let new = NewToken { name, scopes: TokenScopes::ADMIN, expires_at: None };
        Some(services.engine.token_create(scope.clone(), new).await?.1)
    };
    let agent = NewAgent {
        handle: resolved.server.default_agent.clone(),
        display_name: "Assistant".to_owned(),
        labels: std::collections::BTreeMap::new(),
        config: AgentConfig {
            model: first_model(resolved),
            instructions: "You are a helpful assistant. Be brief and say what you do not know.".to_owned(),
            grants: GRANTS.map(str::to_owned).to_vec(),
            ..AgentConfig::default()
        },
    };
    match services.engine.agent_create(scope, agent).await {
        Ok(_) => {}
        Err(fault) if fault.code == dromia_contracts::ErrorCode::HandleTaken => {}
        Err(fault) => return Err(fault),
    }
    Ok(token)
}

/// The alias that the first agent names: a file that was written first may have others than `init` writes, or none.
fn first_model(resolved: &ResolvedConfig) -> String {
    let known = &resolved.models.models;
    let alias = known.get_key_value("default").or_else(|| known.first_key_value()).map(|(alias, _)| alias);
    alias.cloned().unwrap_or_else(|| "scripted".to_owned())
}

fn static_handle(text: &'static str) -> dromia_contracts::agent::HandleSlug {
    text.parse().unwrap_or_else(|_| unreachable!("the literal is a handle"))
}

/// Says which model the home begins with.
fn model_label(model: Option<&DetectedModel>) -> String {
    let id = |found: &DetectedModel| found.models.first().cloned().unwrap_or_default();
    model.map_or_else(
        || "the built-in scripted one, which is not an LLM".to_owned(),
        |found| format!("{} of {}", id(found), found.name),
    )
}
