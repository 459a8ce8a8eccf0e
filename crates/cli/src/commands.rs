//! One file per noun; here is what they share: the client, the names that are meant, and how a command ends.

mod activity;
mod agent;
mod agent_apply;
mod agent_change;
mod agent_document;
mod agent_edit;
mod agent_identity;
mod agent_names;
mod answer;
mod answer_text;
mod approval;
mod approval_prompt;
mod ask;
mod audit;
mod background;
mod budget;
mod capability;
mod chat;
mod context;
mod cost;
mod delivery;
mod documents;
mod event;
mod file;
mod followed_run;
mod ids;
mod live;
mod overview;
mod question;
mod retention;
mod run;
mod run_waits;
mod secret;
mod session;
mod status;
mod submit;
mod task;
mod template;
mod tenant;
mod terminal_input;
mod token;
mod tool;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use dromia_api::agent::AgentResource;
use dromia_api::session::SessionResource;
use dromia_api::token::WhoamiResponse;
use dromia_api::{AgentId, ErrorCode, ListPage, SessionId, TENANT_DEFAULT};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::yield_now;

use crate::args::{ClientCommand, GlobalOptions, PageArguments};
use crate::client::{ApiClient, percent_encode};
use crate::context::CommandContext;
use crate::contexts::{ServerChoice, choose_server};
use crate::error::{Error, Outcome, PendingStatus};
use crate::exit::CommandExit;
use crate::interrupt::InterruptSeam;
use crate::output::{ColumnShrink, CommandOutput};
use crate::settings::UserSettings;

pub use self::documents::published_schemas;
pub use self::terminal_input::read_hidden_line;

/// Runs one command. Errors are printed to stderr, and with `--json` to stdout too.
pub async fn run_command(
    command: ClientCommand,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> CommandExit {
    let mut output = CommandOutput::new(context, global);
    let interrupts = InterruptSeam::default();
    let ended = {
        let mut ctrl_c = signal(SignalKind::interrupt()).ok();
        let mut command = Box::pin(dispatch_command(command, global, interrupts.clone(), &mut output));
        loop {
            tokio::select! {
                ended = &mut command => break Some(ended),
                Some(()) = async { ctrl_c.as_mut()?.recv().await } => {
                    if !interrupts.hand_over() {
                        break None;
                    }
                }
            }
        }
    };
    match ended {
        Some(Ok(exit)) => exit,
        Some(Err(error)) if error.is_unread() => CommandExit::Done,
        Some(Err(error)) => {
            output.print_error(&error);
            error.command_exit()
        }
        None => {
            drop(output.show_live(None));
            output.report_interrupt();
            CommandExit::Interrupted
        }
    }
}

async fn dispatch_command(
    command: ClientCommand,
    global: &GlobalOptions,
    interrupts: InterruptSeam,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    output.check_format()?;
    if let ClientCommand::Context(command) = command {
        return context::run(command, global, output).await;
    }
    let cli = Cli::open(global, interrupts, output)?;
    let ended = match command {
        ClientCommand::Ask(ask) => ask::run(&cli, ask, output).await,
        ClientCommand::Chat(chat) => chat::run(&cli, chat, output).await,
        ClientCommand::Event(event) => event::run(&cli, event, output).await,
        ClientCommand::Agent(agent) => agent::run(&cli, agent, output).await,
        ClientCommand::Tenant(tenant) => tenant::run(&cli, tenant, output).await,
        ClientCommand::Session(session) => session::run(&cli, session, output).await,
        ClientCommand::Retention(retention) => retention::run(&cli, retention, output).await,
        ClientCommand::Template(template) => template::run(&cli, template, output).await,
        ClientCommand::Role(role) => template::run_role(&cli, role, output).await,
        ClientCommand::Worker(worker) => worker::run(&cli, worker, output).await,
        ClientCommand::Run(run) => run::run(&cli, run, output).await,
        ClientCommand::Token(token) => token::run(&cli, token, output).await,
        ClientCommand::Secret(secret) => secret::run(&cli, secret, output).await,
        ClientCommand::Capability(capability) => capability::run(&cli, capability, output).await,
        ClientCommand::Delivery(delivery) => delivery::run(&cli, delivery, output).await,
        ClientCommand::File(file) => file::run(&cli, file, output).await,
        ClientCommand::Tool(tool) => tool::run(&cli, tool, output).await,
        ClientCommand::Audit(audit) => audit::run(&cli, audit, output).await,
        ClientCommand::Cost(cost) => cost::run(&cli, cost, output).await,
        ClientCommand::Budget(budget) => budget::run(&cli, budget, output).await,
        ClientCommand::Approval(approval) => approval::run(&cli, approval, output).await,
        // It needs no server, and was done above.
        ClientCommand::Context(_) => Ok(CommandExit::Done),
        ClientCommand::Status(asked) if asked.node => status::run(&cli, output).await,
        ClientCommand::Status(asked) => overview::run(&cli, asked, output).await,
        ClientCommand::Whoami => token::show_whoami(&cli, output).await,
    };
    ended.map_err(|error| cli.blame_token(cli.blame_home(cli.blame_switch(error))))
}

/// What every command starts from.
struct Cli<'global> {
    client: ApiClient,
    global: &'global GlobalOptions,
    /// Where this user's choices are: the home, or the user's own directory for a server on the network.
    home: PathBuf,
    /// The tenant that is named to the socket; for a server on the network, what the user calls that.
    tenant: String,
    is_remote: bool,
    settings: UserSettings,
    /// What Ctrl-C does while a command has something else to do with it than to end.
    interrupts: InterruptSeam,
}

impl<'global> Cli<'global> {
    fn open(
        global: &'global GlobalOptions,
        interrupts: InterruptSeam,
        output: &mut CommandOutput<'_>,
    ) -> Outcome<Self> {
        let (client, home, tenant, is_remote) = match choose_server(global, output.context_mut())? {
            ServerChoice::Local { home, socket } => {
                let tenant =
                    global.tenant.as_ref().map_or(TENANT_DEFAULT, |tenant| tenant.as_str()).to_owned();
                (ApiClient::new(socket, tenant.clone(), global.timeout), home, tenant, false)
            }
            ServerChoice::Remote { name, server } => {
                if global.tenant.is_some() {
                    let text = format!(
                        "{name} is a server on the network, where the token says which tenant is meant; leave out --tenant"
                    );
                    return Err(Error::Usage(text));
                }
                let user_dir = output.context_mut().remote.user_dir.clone();
                (ApiClient::of_remote(server, global.timeout), user_dir, name, true)
            }
        };
        let settings = UserSettings::read(&home)?;
        Ok(Self { client, global, home, tenant, is_remote, settings, interrupts })
    }

    /// The agent that is meant: the one named, else the one this user switched to, else the server's.
    fn selected_agent(&self) -> Option<String> {
        self.global.agent.clone().or_else(|| self.settings.agents.get(&self.tenant).cloned())
    }

    /// Returns the selected agent, or the default agent of the server's configuration, which `ask` takes too.
    async fn agent_or_default(&self) -> Outcome<Option<String>> {
        if let Some(agent) = self.selected_agent() {
            return Ok(Some(agent));
        }
        let who: WhoamiResponse = self.client.get("/v1/whoami").await?;
        Ok(who.default_agent.map(|agent| agent.as_str().to_owned()))
    }

    /// The same for a command that cannot be without one.
    async fn some_agent(&self) -> Outcome<String> {
        self.agent_or_default().await?.ok_or_else(|| {
            Error::Usage("name the agent with --agent, or choose one with `dromia agent switch`".to_owned())
        })
    }

    /// Adds a hint to `agent_not_found` if `agent switch` chose the agent and the command line names none.
    fn blame_switch(&self, error: Error) -> Error {
        let chosen = self.settings.agents.get(&self.tenant).filter(|_| self.global.agent.is_none());
        match (error, chosen) {
            (Error::Problem(mut problem), Some(agent))
                if problem.error_code() == Some(ErrorCode::AgentNotFound)
                    && problem.detail.contains(&format!("{agent:?}")) =>
            {
                problem.hint = Some(format!(
                    "`dromia agent switch` chose {agent}; choose another one the same way, or name one with \
                     --agent"
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

    /// Says of a token that a server on the network refused how to give another one.
    fn blame_token(&self, error: Error) -> Error {
        match error {
            Error::Problem(mut problem)
                if self.is_remote && problem.error_code() == Some(ErrorCode::Unauthorized) =>
            {
                problem.hint = Some(format!(
                    "the server refuses the token; the server's operator makes another one with `dromia token create NAME`, which you \
                     keep with `dromia context add {} --replace --server URL --token-stdin`",
                    if self.global.server.is_some() { "NAME" } else { &self.tenant }
                ));
                Error::Problem(problem)
            }
            error => error,
        }
    }

    /// Refuses an agent beside a session, which has its own; the one that this user switched to is not meant then.
    fn check_session(&self, session: Option<SessionId>) -> Outcome {
        match (&self.global.agent, session) {
            (Some(_), Some(session)) => {
                Err(Error::Usage(format!("{session} belongs to one agent; leave out --agent or --session")))
            }
            _ => Ok(()),
        }
    }

    /// Asks the server whose session it is, and remembers it for `--continue`.
    async fn remember_session(&self, session: SessionId, output: &mut CommandOutput<'_>) -> Outcome {
        if !self.can_remember(session) {
            return Ok(());
        }
        // A server that does not say whose session it is has answered the question all the same.
        match self.client.get::<SessionResource>(&format!("/v1/sessions/{session}")).await {
            Ok(found) => self.remember_session_of(found.agent, session, output),
            Err(_) => Ok(()),
        }
    }

    /// Whether there is a home that does not name the session yet. A server of others may be reached without a home.
    fn can_remember(&self, session: SessionId) -> bool {
        let known = self.settings.sessions.get(&self.tenant);
        let is_known = known.is_some_and(|known| known.values().any(|known| *known == session));
        !is_known && self.home.is_dir()
    }

    /// Remembers the session of an agent for `--continue`. A file that cannot be written is said, and fails nothing.
    fn remember_session_of(
        &self,
        agent: AgentId,
        session: SessionId,
        output: &mut CommandOutput<'_>,
    ) -> Outcome {
        if !self.can_remember(session) {
            return Ok(());
        }
        let remember = |settings: &mut UserSettings| {
            settings.remember_session(&self.tenant, agent, session);
        };
        match UserSettings::update(&self.home, remember) {
            Ok(()) => Ok(()),
            Err(why) => output.print_notice(&format!("--continue will not find {session}: {why}")),
        }
    }

    /// The last session of this user with the selected agent.
    async fn last_session(&self) -> Outcome<SessionId> {
        let name = self.some_agent().await?;
        let agent: AgentResource = self.client.get(&format!("/v1/agents/{}", percent_encode(&name))).await?;
        let known = self.settings.sessions.get(&self.tenant).and_then(|known| known.get(&agent.id));
        known.copied().ok_or_else(|| {
            let handle = agent.handle;
            Error::Usage(format!(
                "there is no session with {handle} to continue: none was begun from this home; ask without \
                 --continue, or name one with --session"
            ))
        })
    }

    /// Says of a session that is gone that it was the one that `--continue` found.
    fn blame_continue(error: Error, session: SessionId) -> Error {
        match error {
            Error::Problem(mut problem) if problem.error_code() == Some(ErrorCode::SessionNotFound) => {
                problem.hint = Some(format!(
                    "--continue found {session}, your last session with the agent, and it is not there any \
                     more; ask without --continue to begin a new one"
                ));
                Error::Problem(problem)
            }
            error => error,
        }
    }

    /// How long to wait for an answer of an agent.
    fn answer_timeout(&self, default: Duration) -> Duration {
        self.global.timeout.unwrap_or(default)
    }

    /// Asks for a yes before something that cannot be undone. Ctrl-C is a no.
    async fn confirm(&self, question: &str, output: &mut CommandOutput<'_>) -> Outcome {
        if self.global.yes {
            return Ok(());
        }
        if self.global.no_input || !output.context_mut().input_is_terminal {
            return Err(Error::Usage(format!("{question} This command cannot ask here: confirm with --yes")));
        }
        let known = "you did not confirm, so the command changed nothing".to_owned();
        output
            .note_pending(Some(PendingStatus { known, next: "use --yes to confirm in advance".to_owned() }));
        // The yield lets the caller's `select!` register Ctrl-C before the question is printed.
        yield_now().await;
        output.print_notice(&format!("{question} [y/N]"))?;
        let answer = terminal_input::read_line("read the answer", output).await?;
        output.note_pending(None);
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Error::Usage("you did not confirm, so the command changed nothing".to_owned())),
        }
    }
}

/// Takes a text from the command line, or from stdin for `-`.
async fn read_text_argument(text: String, output: &mut CommandOutput<'_>) -> Outcome<String> {
    if text == "-" { terminal_input::read_all_text("read stdin", output).await } else { Ok(text) }
}

/// Builds a listing's path.
fn listing_path(path: &str, page: &PageArguments, filters: &[(&str, Option<String>)]) -> String {
    let mut path = format!("{path}?limit={}", page.limit);
    let after = ("after", page.after.clone());
    for (name, value) in filters.iter().chain([&after]) {
        if let Some(value) = value {
            path.extend(["&", name, "=", &percent_encode(value)]);
        }
    }
    path
}

/// Prints a listing and says where it goes on.
fn print_list<T: Serialize>(
    output: &mut CommandOutput<'_>,
    list: &ListPage<T>,
    heads: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> Outcome<CommandExit> {
    print_narrow(output, list, heads, &[], row)
}

/// The same for a listing whose table is narrowed where it is too wide for a terminal.
fn print_narrow<T: Serialize>(
    output: &mut CommandOutput<'_>,
    list: &ListPage<T>,
    heads: &[&str],
    ways: &[ColumnShrink],
    row: impl Fn(&T) -> Vec<String>,
) -> Outcome<CommandExit> {
    if output.is_json() {
        output.print_document(list)?;
        if !output.is_jsonl() {
            return Ok(CommandExit::Done);
        }
    } else if list.items.is_empty() {
        output.print_notice(if list.next.is_some() {
            "no records found so far"
        } else {
            "nothing to list"
        })?;
    } else {
        output.fitted_table(heads, ways, list.items.iter().map(row).collect())?;
    }
    if let Some(next) = &list.next {
        output.print_notice(&format!("this page may not be the last: continue with --after {next}"))?;
    }
    Ok(CommandExit::Done)
}
