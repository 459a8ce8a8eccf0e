//! One file per noun; here is what they share: the client, the names that are meant, and how a command ends.

mod agent;
mod answer;
mod approval;
mod ask;
mod audit;
mod budget;
mod capability;
mod chat;
mod cost;
mod delivery;
mod documents;
mod event;
mod handles;
mod live;
mod run;
mod secret;
mod sending;
mod session;
mod status;
mod task;
mod tenant;
mod token;
mod tool;
mod typed;
mod waits;

use std::path::PathBuf;
use std::time::Duration;

use dromia_api::token::Whoami;
use dromia_api::{ErrorCode, List, SessionId, TENANT_DEFAULT};
use serde::Serialize;
use tokio::task::yield_now;

use crate::args::{Command, Global, Listing};
use crate::client::{Client, encoded};
use crate::context::Context;
use crate::error::{Error, Outcome, Standing};
use crate::exit::Exit;
use crate::output::{Output, Way};
use crate::settings::Settings;

pub use self::documents::published;

/// Does one command. What went wrong is told on stderr, and with `--json` on stdout too.
pub async fn run(command: Command, global: &Global, context: &mut Context) -> Exit {
    let mut output = Output::new(context, global);
    let ended = tokio::select! {
        ended = Box::pin(done(command, global, &mut output)) => Some(ended),
        Ok(()) = tokio::signal::ctrl_c() => None,
    };
    match ended {
        Some(Ok(exit)) => exit,
        Some(Err(error)) if error.is_unread() => Exit::Done,
        Some(Err(error)) => {
            output.tell(&error);
            error.exit()
        }
        None => {
            output.leave();
            Exit::Interrupted
        }
    }
}

async fn done(command: Command, global: &Global, output: &mut Output<'_>) -> Outcome<Exit> {
    output.check()?;
    let cli = Cli::open(global, output)?;
    let ended = match command {
        Command::Ask(ask) => ask::run(&cli, ask, output).await,
        Command::Chat(chat) => chat::run(&cli, chat, output).await,
        Command::Event(event) => event::run(&cli, event, output).await,
        Command::Agent(agent) => agent::run(&cli, agent, output).await,
        Command::Tenant(tenant) => tenant::run(&cli, tenant, output).await,
        Command::Session(session) => session::run(&cli, session, output).await,
        Command::Run(run) => run::run(&cli, run, output).await,
        Command::Token(token) => token::run(&cli, token, output).await,
        Command::Secret(secret) => secret::run(&cli, secret, output).await,
        Command::Capability(capability) => capability::run(&cli, capability, output).await,
        Command::Delivery(delivery) => delivery::run(&cli, delivery, output).await,
        Command::Tool(tool) => tool::run(&cli, tool, output).await,
        Command::Audit(audit) => audit::run(&cli, audit, output).await,
        Command::Cost(cost) => cost::run(&cli, cost, output).await,
        Command::Budget(budget) => budget::run(&cli, budget, output).await,
        Command::Approval(approval) => approval::run(&cli, approval, output).await,
        Command::Status(_) => status::run(&cli, output).await,
        Command::Whoami => token::whoami(&cli, output).await,
    };
    ended.map_err(|error| cli.blame_home(cli.blame_switch(error)))
}

/// What every command starts from.
struct Cli<'global> {
    client: Client,
    global: &'global Global,
    home: PathBuf,
    tenant: String,
    settings: Settings,
}

impl<'global> Cli<'global> {
    fn open(global: &'global Global, output: &mut Output<'_>) -> Outcome<Self> {
        let home = global.home.clone().unwrap_or_else(|| output.context().home.clone());
        let socket = global.socket.clone().unwrap_or_else(|| home.join("run").join("dromia.sock"));
        let tenant = global.tenant.as_ref().map_or(TENANT_DEFAULT, |tenant| tenant.as_str()).to_owned();
        let client = Client::new(socket, tenant.clone(), global.timeout);
        let settings = Settings::read(&home)?;
        Ok(Self { client, global, home, tenant, settings })
    }

    /// The agent that is meant: the one named, else the one this user switched to, else the server's.
    fn agent(&self) -> Option<String> {
        self.global.agent.clone().or_else(|| self.settings.agents.get(&self.tenant).cloned())
    }

    /// The agent that is meant, and where nobody chose one that of the server's configuration, which `ask` means too.
    async fn agent_or_default(&self) -> Outcome<Option<String>> {
        if let Some(agent) = self.agent() {
            return Ok(Some(agent));
        }
        let who: Whoami = self.client.get("/v1/whoami").await?;
        Ok(who.default_agent.map(|agent| agent.as_str().to_owned()))
    }

    /// The same for a command that cannot be without one.
    async fn some_agent(&self) -> Outcome<String> {
        self.agent_or_default().await?.ok_or_else(|| {
            Error::Usage("name the agent with --agent, or choose one with `dromia agent switch`".to_owned())
        })
    }

    /// Says of an agent that is not there that it was switched to once, where nobody named it now.
    fn blame_switch(&self, error: Error) -> Error {
        let chosen = self.settings.agents.get(&self.tenant).filter(|_| self.global.agent.is_none());
        match (error, chosen) {
            (Error::Problem(mut problem), Some(agent))
                if problem.error_code() == Some(ErrorCode::AgentNotFound)
                    && problem.detail.contains(&format!("{agent:?}")) =>
            {
                problem.hint = Some(format!(
                    "{agent} was chosen by `dromia agent switch`; choose another so, or name one with --agent"
                ));
                Error::Problem(problem)
            }
            (error, _) => error,
        }
    }

    /// Says of a server that is not there that there is no home that one could serve, where that is so.
    fn blame_home(&self, error: Error) -> Error {
        let is_homeless = self.global.socket.is_none() && !self.home.exists();
        match error {
            Error::Unreachable { .. } if is_homeless => {
                Error::Homeless { home: self.home.display().to_string() }
            }
            error => error,
        }
    }

    /// Refuses an agent beside a session, which has its own; the one that this user switched to is not meant then.
    fn check_session(&self, session: Option<SessionId>) -> Outcome {
        match (&self.global.agent, session) {
            (Some(_), Some(session)) => {
                Err(Error::Usage(format!("{session} has its agent; leave --agent or --session out")))
            }
            _ => Ok(()),
        }
    }

    /// How long to wait for an answer of an agent.
    fn patience(&self, default: Duration) -> Duration {
        self.global.timeout.unwrap_or(default)
    }

    /// Asks for a yes before something that cannot be undone. Ctrl-C is a no.
    async fn confirm(&self, question: &str, output: &mut Output<'_>) -> Outcome {
        if self.global.yes {
            return Ok(());
        }
        if self.global.no_input || !output.context().input_is_terminal {
            return Err(Error::Usage(format!("{question} Nobody can be asked: say so with --yes")));
        }
        let known = "not confirmed, nothing was done".to_owned();
        output.goes_on(Some(Standing { known, next: "--yes says so beforehand".to_owned() }));
        // Whoever waits for this command listens for Ctrl-C from the next look at it on, and so before anybody is asked.
        yield_now().await;
        output.notice(&format!("{question} [y/N]"))?;
        let answer = typed::line("read the answer", output).await?;
        output.goes_on(None);
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Error::Usage("not confirmed, nothing was done".to_owned())),
        }
    }
}

/// Takes a text from the command line, or from stdin for `-`.
async fn said(text: String, output: &mut Output<'_>) -> Outcome<String> {
    if text == "-" { typed::whole("read stdin", output).await } else { Ok(text) }
}

/// Builds a listing's path.
fn listing(path: &str, page: &Listing, filters: &[(&str, Option<String>)]) -> String {
    let mut path = format!("{path}?limit={}", page.limit);
    let after = ("after", page.after.clone());
    for (name, value) in filters.iter().chain([&after]) {
        if let Some(value) = value {
            path.extend(["&", name, "=", &encoded(value)]);
        }
    }
    path
}

/// Prints a listing and says where it goes on.
fn print_list<T: Serialize>(
    output: &mut Output<'_>,
    list: &List<T>,
    heads: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> Outcome<Exit> {
    print_narrow(output, list, heads, &[], row)
}

/// The same for a listing whose table gives way where it is too wide for a terminal.
fn print_narrow<T: Serialize>(
    output: &mut Output<'_>,
    list: &List<T>,
    heads: &[&str],
    ways: &[Way],
    row: impl Fn(&T) -> Vec<String>,
) -> Outcome<Exit> {
    if output.is_json() {
        output.document(list)?;
        if !output.is_jsonl() {
            return Ok(Exit::Done);
        }
    } else if list.items.is_empty() {
        output.notice(if list.next.is_some() { "nothing found so far" } else { "nothing to list" })?;
    } else {
        output.fitted_table(heads, ways, list.items.iter().map(row).collect())?;
    }
    if let Some(next) = &list.next {
        output.notice(&format!("there may be more: --after {next}"))?;
    }
    Ok(Exit::Done)
}
