//! `dromia init`: makes a home. It writes the configuration last, so a home that has one is whole.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use dromia_cli::Global;
use dromia_contracts::agent::AgentConfig;
use dromia_contracts::runs::{NewAgent, NewToken, Runs as _};
use dromia_contracts::store::{Page, Store as _};
use dromia_contracts::token::TokenScopes;
use dromia_contracts::{Actor, Fault};

use crate::config;
use crate::home::Home;
use crate::system::{self, Exit};
use crate::up;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  dromia init\n  dromia init --defaults --no-input")]
pub(crate) struct InitArguments {
    /// Ask nothing and take every default.
    #[arg(long)]
    defaults: bool,
}

/// What the agent of a new home may do: everything built in that stays inside its workspace.
const GRANTS: [&str; 5] = ["model", "reply", "time.now", "file.*", "message.send"];

/// Makes a home.
pub(crate) fn run(home: &Home, arguments: &InitArguments, global: &Global) -> anyhow::Result<ExitCode> {
    if home.config().exists() {
        return Err(Exit::conflict(format!(
            "{} is a home already; serve it with `dromia up`, or choose another with --home",
            home.root().display()
        )));
    }
    home.checked_socket()?;
    let model = choose(arguments.defaults || global.no_input)?;
    let text = yaml(&model);
    let written = config::parse(&home.config(), &text)?;
    let resolved = config::resolve_here(written).map_err(Exit::usage)?;
    system::private_dir(home.root())?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let token = tokio.block_on(async {
        let house = up::build(home, &resolved)?;
        register(&house).await.map_err(|fault: Fault| anyhow::anyhow!("{fault}"))
    })?;
    if let Some(token) = token {
        system::private_file(&home.token(), &format!("{token}\n"))?;
    }
    system::private_file(&home.config(), &text)?;
    anstream::println!("{} is ready.\n", home.root().display());
    anstream::println!("  dromia.yaml   the configuration; the model is {}", model.name());
    anstream::println!("  token         the bearer token for HTTP, readable by you only\n");
    anstream::println!("Next: `dromia up`, and in another terminal `dromia ask \"hello\"`.");
    Ok(ExitCode::SUCCESS)
}

/// Registers tenant, token and agent. A crash before the configuration is written leaves some of them; a second
/// `init` finds those and makes the rest.
async fn register(house: &up::House) -> Result<Option<String>, Fault> {
    let operator = house.authority.operator();
    let known = house.store.tenants(&operator, Page::first(1)).await;
    let known = known
        .map_err(|error| Fault::new(dromia_contracts::ErrorCode::StoreUnavailable, error.to_string()))?;
    let name = "init".to_owned();
    let (tenant, token) = if let Some(tenant) = known.into_iter().next() {
        (tenant.id, None)
    } else {
        let (tenant, token) = house.engine.tenant_create(operator, handle("default"), name.clone()).await?;
        (tenant.id, Some(token))
    };
    let scope = house.authority.scope(tenant, Actor::new("init"));
    let token = match token {
        Some(token) => token,
        None => {
            let new = NewToken { name, scopes: TokenScopes::ADMIN, expires_at: None };
            house.engine.token_create(scope.clone(), new).await?.1
        }
    };
    let agent = NewAgent {
        handle: handle("assistant"),
        display_name: "Assistant".to_owned(),
        labels: std::collections::BTreeMap::new(),
        config: AgentConfig {
            model: "default".to_owned(),
            instructions: "You are a helpful assistant. Be brief and say what you do not know.".to_owned(),
            grants: GRANTS.map(str::to_owned).to_vec(),
            model_calls_max: None,
        },
    };
    match house.engine.agent_create(scope, agent).await {
        Ok(_) => {}
        Err(fault) if fault.code == dromia_contracts::ErrorCode::HandleTaken => {}
        Err(fault) => return Err(fault),
    }
    Ok(Some(token))
}

fn handle(text: &'static str) -> dromia_contracts::agent::Handle {
    text.parse().unwrap_or_else(|_| unreachable!("the literal is a handle"))
}

/// Which model the home begins with.
enum Choice {
    Scripted,
    OpenAi { base_url: String, model: String },
}

impl Choice {
    fn name(&self) -> String {
        match self {
            Self::Scripted => "the built-in scripted one, which is not an LLM".to_owned(),
            Self::OpenAi { base_url, model } => format!("{model} at {base_url}"),
        }
    }
}

/// Takes what the environment offers; asks, at a terminal, before it is used.
fn choose(silent: bool) -> anyhow::Result<Choice> {
    if std::env::var_os("OPENAI_API_KEY").is_none() {
        return Ok(Choice::Scripted);
    }
    let base_url =
        std::env::var("OPENAI_BASE_URL").unwrap_or_else(|_| "https://api.openai.com/v1".to_owned());
    let model = std::env::var("OPENAI_MODEL").unwrap_or_else(|_| "gpt-5-mini".to_owned());
    let found = Choice::OpenAi { base_url, model };
    if silent {
        return Ok(found);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Exit::usage(
            "init would ask a question and there is no terminal; add --defaults or --no-input",
        ));
    }
    anstream::print!("OPENAI_API_KEY is set. Use {}? [Y/n] ", found.name());
    std::io::stdout().flush().context("failed to ask")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("failed to read the answer")?;
    Ok(if answer.trim().eq_ignore_ascii_case("n") { Choice::Scripted } else { found })
}

fn yaml(model: &Choice) -> String {
    let model = match model {
        Choice::Scripted => "{ kind: scripted }   # built in, offline, not an LLM".to_owned(),
        Choice::OpenAi { base_url, model } => format!(
            "{{ kind: openai, base_url: {}, model: {}, key: \"env:OPENAI_API_KEY\" }}",
            serde_json::json!(base_url),
            serde_json::json!(model)
        ),
    };
    format!(
        "# The configuration of this Dromia home. Every key is optional; unknown keys are errors.\n\
         version: 1\n\
         listen: {listen}        # loopback only\n\
         default_agent: assistant      # answers where no agent is named\n\
         models:\n  default: {model}\n\
         engine:\n  active_max: 1024            # runs at work at once\n  \
         model_calls_max: 50         # per run; then it yields\n\
         context:\n  items_max: 64               # how much of a session's past a model is sent\n",
        listen = config::LISTEN_DEFAULT
    )
}
