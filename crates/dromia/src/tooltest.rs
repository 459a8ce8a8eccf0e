//! `dromia tool test`: each tool is really called once, in a home of its own that goes away again.
//!
//! It touches no agent, no data and no server of others: `http.request` gets a host that is not granted and must refuse
//! it. A tool of the operator's own is not called, because the effect is unknown; its server is asked whether it
//! answers, with a GET that carries nothing. What the file says about tools, the sandbox and other hosts counts.
//!
//! A new tool needs its calls in `tooltest/steps.rs`; a test sees to it.

mod steps;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dromia_api::ListPage;
use dromia_cli::{CommandContext, CommandExit, CommandOutput, GlobalOptions};
use dromia_contracts::agent::AgentConfig;
use dromia_contracts::content::{ContentPart, ToolCall, parts_text};
use dromia_contracts::egress::Egress as _;
use dromia_contracts::label::Label;
use dromia_contracts::redacted_history::RedactedHistory;
use dromia_contracts::runs::{EnginePort as _, NewAgent};
use dromia_contracts::session::SessionKey;
use dromia_contracts::store::{CommitOutcome, Mutation, SessionOpen, Store as _, WriteBatch};
use dromia_contracts::tool::{DiscardProgress, ToolContext, ToolOutput};
use dromia_contracts::workspace::RunWorkspace;
use dromia_contracts::{Actor, CallId};
use dromia_tools::Toolbox;
use schemars::JsonSchema;
use serde::Serialize;

use self::steps::{ExpectedOutcome, ToolTrialStep, trial_for_tool};
use crate::config::{
    self, EnvironmentVariables, ExternalToolConfig, LoadedConfig, ResolvedConfig, WrittenConfig, did_you_mean,
};
use crate::home::Home;
use crate::home_services::{self, HomeServices};
use crate::{egress_client, runtime, system};

/// How long one call may take; programs and requests have shorter deadlines of their own.
const PATIENCE: Duration = Duration::from_mins(1);

/// The most characters of what a tool said that are shown.
const SAID_CHARS_MAX: usize = 400;

/// The state of a tool on this machine.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ToolTested")]
pub(crate) struct ToolTestRow {
    /// The tool.
    name: String,
    /// Whether it did what it should.
    ok: bool,
    /// How long that took, in milliseconds.
    took_ms: u64,
    /// What it said instead; nothing if it is well.
    problem: Option<String>,
    /// What to do about it; nothing if it is well.
    fix: Option<String>,
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    name: Option<&str>,
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let mut output = CommandOutput::of_local(context, global);
    output.check_format()?;
    let loaded = tool_settings(home)?;
    let resolved =
        loaded.resolve_all(&EnvironmentVariables::default()).map_err(system::ExitError::usage_of)?;
    let is_wanted = |known: &str| name.is_none_or(|name| name == known);
    let wanted: Vec<_> = Toolbox::builtin_names().into_iter().filter(|known| is_wanted(known)).collect();
    let external: Vec<_> =
        resolved.calls.external.iter().filter(|external| is_wanted(external.tool.name())).collect();
    if let (true, true, Some(name)) = (wanted.is_empty(), external.is_empty(), name) {
        let own = resolved.calls.external.iter().map(|external| external.tool.name());
        let names: Vec<_> = Toolbox::builtin_names().into_iter().chain(own).collect();
        let near = did_you_mean(name, names.iter().copied());
        let known = names.join(", ");
        return Err(system::ExitError::usage_error(format!(
            "there is no tool {name:?}{near}; the tools are {known}"
        )));
    }
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let items = tokio.block_on(async {
        let bench = Box::pin(ToolTestBench::new(&resolved)).await?;
        let mut items = Vec::new();
        for name in wanted {
            items.push(bench.test_tool(name).await);
        }
        for external in external {
            items.push(bench.test_external_tool(external).await);
        }
        anyhow::Ok(items)
    })?;
    let is_sound = items.iter().all(|tested| tested.ok);
    let list = ListPage { items, next: None };
    if output.is_json() {
        output.print_document(&list)?;
    } else {
        let rows = list.items.iter().map(test_row).collect();
        output.print_table(&["tool", "state", "ms"], rows)?;
        for tested in list.items.iter().filter(|tested| !tested.ok) {
            let problem = tested.problem.as_deref().unwrap_or_default();
            output.print_line(&format!("{}: {problem}", tested.name))?;
            output.print_line(&format!("  fix: {}", tested.fix.as_deref().unwrap_or_default()))?;
        }
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(CommandExit::Failed.exit_code()) })
}

fn test_row(tested: &ToolTestRow) -> Vec<String> {
    let state = if tested.ok { "ok" } else { "failed" };
    vec![tested.name.clone(), state.to_owned(), tested.took_ms.to_string()]
}

/// Takes what the home's file says about tools, and nothing else of it; without a home, the defaults.
fn tool_settings(home: &Home) -> anyhow::Result<LoadedConfig> {
    let path = home.config_path();
    let text = if path.exists() { config::read_config_text(home)? } else { String::new() };
    let environment = EnvironmentVariables::of_process();
    let LoadedConfig { written, origins } =
        config::parse_layered(&path, &text, &environment, &[]).map_err(system::ExitError::usage_of)?;
    let WrittenConfig { sandbox, tools, agents, egress, .. } = written;
    let written = WrittenConfig { sandbox, tools, agents, egress, ..WrittenConfig::default() };
    Ok(LoadedConfig { written, origins })
}

/// A directory that goes away.
struct ScratchDirectory(PathBuf);

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        // What stays is small, and its name says what it is.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A home with one agent and one session, which no server serves.
struct ToolTestBench {
    services: HomeServices,
    context: ToolContext,
    // Dropped last: the services have files open in it.
    _scratch: ScratchDirectory,
}

impl ToolTestBench {
    async fn new(resolved: &ResolvedConfig) -> anyhow::Result<Self> {
        let runtime = runtime::real_runtime();
        let name = format!("dromia-tool-test-{}", runtime.ids.new_uuid().simple());
        let scratch = ScratchDirectory(std::env::temp_dir().join(name));
        std::fs::DirBuilder::new().mode(0o700).create(&scratch.0).map_err(|error| {
            let place = scratch.0.display();
            system::ExitError::failed_error(format!(
                "failed to create {place}: {error}; name another directory with TMPDIR"
            ))
        })?;
        let services = home_services::open_services(&Home::locate_home(Some(scratch.0.as_path())), resolved)?;
        let told = |fault: dromia_contracts::Fault| anyhow::anyhow!("{fault}");
        let operator = services.authority.issue_operator();
        let (tenant, _) = services
            .engine
            .tenant_create(operator, static_handle("tool-test"), "test".to_owned())
            .await
            .map_err(told)?;
        let scope = services.authority.issue_scope(tenant.id, Actor::new("tool-test"));
        let config = AgentConfig { model: config::SCRIPTED.to_owned(), ..AgentConfig::default() };
        let agent = NewAgent {
            handle: static_handle("tool-test"),
            display_name: "Tool test".to_owned(),
            labels: std::collections::BTreeMap::new(),
            config,
        };
        let agent = services.engine.agent_create(scope.clone(), agent).await.map_err(told)?.id;
        let (session, at) = (runtime.session_id(), runtime.clock.now());
        let key = SessionKey {
            platform: "cli".to_owned(),
            channel: "tool-test".to_owned(),
            actor: scope.actor().clone(),
        };
        let open = Mutation::SessionOpen(SessionOpen {
            session,
            agent,
            key,
            at,
            believes: false,
            importing: false,
            origin: None,
        });
        match services.store.commit(WriteBatch::new(tenant.id).with_mutation(open)).await {
            CommitOutcome::Done(_) => {}
            other => {
                return Err(anyhow::anyhow!("{other:?}")).context("failed to open a session for the test");
            }
        }
        let author = scope.actor().clone();
        let (run, key) = (runtime.run_id(), String::new());
        // No grant: what is called here is called by the operator, and nothing is let out.
        let grants = Vec::new();
        let label = Label::ACTOR_TEXT;
        let mut past = RedactedHistory::default();
        past.insert_content(steps::HANDLE.to_owned(), vec![ContentPart::new_text("one", Label::OUTSIDE)]);
        let past = Arc::new(past);
        let workspace = RunWorkspace::Home;
        let context = ToolContext {
            scope,
            agent,
            author,
            grants,
            hops: 0,
            run,
            session,
            origin: None,
            position: 1,
            label,
            past,
            key,
            workspace,
        };
        Ok(Self { services, context, _scratch: scratch })
    }

    /// Calls a tool, and what it takes to see that it did what it should.
    async fn test_tool(&self, name: &'static str) -> ToolTestRow {
        let began = Instant::now();
        let trial = trial_for_tool(name, self.context.session);
        let mut problem = None;
        for (index, step) in (0..).zip(&trial.steps) {
            problem = self.call_problem(index, step).await;
            if problem.is_some() {
                break;
            }
        }
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let fix = problem.is_some().then(|| trial.fix.to_owned());
        ToolTestRow { name: name.to_owned(), ok: problem.is_none(), took_ms, problem, fix }
    }

    /// Asks the server of a tool of the operator's own whether it answers, whatever it answers.
    async fn test_external_tool(&self, external: &ExternalToolConfig) -> ToolTestRow {
        let (began, name, url) = (Instant::now(), external.tool.name(), external.tool.server_url());
        let problem = match self.services.egress.open_client(external.egress_plan()) {
            Ok(line) => match line.send_request(egress_client::get_request(url.to_owned(), Vec::new())).await
            {
                Ok(_) => None,
                Err(error) => Some(format!("its server: {error}")),
            },
            Err(error) => Some(error.to_string()),
        };
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let fix =
            format!("start the server, or correct tools.external.{name}.url or `egress` in dromia.yaml");
        let fix = problem.is_some().then_some(fix);
        ToolTestRow { name: name.to_owned(), ok: problem.is_none(), took_ms, problem, fix }
    }

    /// Makes one call; says what is wrong with what came back.
    async fn call_problem(&self, index: u32, step: &ToolTrialStep) -> Option<String> {
        let id = CallId { step: 1, index };
        let call = ToolCall { id, tool: step.tool.to_owned(), arguments: step.arguments.clone() };
        let call = match self.services.tools.prepare_call(&self.services.tools.shared_catalogue(), &call) {
            Ok(call) => call,
            Err(error) => return Some(error.to_string()),
        };
        let context = ToolContext { key: id.idempotency_key(self.context.run), ..self.context.clone() };
        match tokio::time::timeout(
            PATIENCE,
            self.services.tools.execute_call(context, call, &DiscardProgress),
        )
        .await
        {
            Ok(output) => step.expected.mismatch(step.tool, &output),
            Err(_) => Some(format!("{} did not end within {} s", step.tool, PATIENCE.as_secs())),
        }
    }
}

impl ExpectedOutcome {
    /// Says what is wrong with what a tool said, if anything is.
    fn mismatch(&self, tool: &str, output: &ToolOutput) -> Option<String> {
        let said = parts_text(&output.parts);
        let is_good = match self {
            Self::Says(text) => !output.failed && said.contains(text),
            Self::Sends => !output.failed && output.sends.len() == 1,
            Self::Refuses(text) => output.failed && said.contains(text),
        };
        let shown: String = said.chars().take(SAID_CHARS_MAX).collect();
        (!is_good).then(|| format!("{tool} failed: {shown}"))
    }
}

fn static_handle(text: &'static str) -> dromia_contracts::agent::HandleSlug {
    text.parse().unwrap_or_else(|_| unreachable!("the literal is a handle"))
}

#[cfg(test)]
mod tests {
    use dromia_contracts::SessionId;

    use super::*;

    #[test]
    fn every_builtin_tool_has_a_trial_and_a_fix() {
        for name in Toolbox::builtin_names() {
            let trial = trial_for_tool(name, SessionId::from_bytes([1; 16]));
            assert!(trial.steps.iter().any(|step| step.tool == name), "{name} is not tested");
            assert!(!trial.fix.is_empty(), "{name} has no fix");
        }
    }

    #[test]
    fn a_trial_compares_a_tools_output_with_the_expected_outcome() {
        let says = |failed: bool, text: &str| ToolOutput {
            failed,
            parts: vec![ContentPart::new_text(text, Label::PUBLIC_FACT)],
            ..ToolOutput::default()
        };
        let problem = |expected: ExpectedOutcome, output: &ToolOutput| expected.mismatch("exec", output);
        assert_eq!(problem(ExpectedOutcome::Says("code 0"), &says(false, "exit code 0")), None);
        assert_eq!(problem(ExpectedOutcome::Refuses("refused"), &says(true, "refused: no")), None);
        for (expected, output) in [
            (ExpectedOutcome::Says("code 0"), says(true, "exit code 0")),
            (ExpectedOutcome::Says("code 0"), says(false, "nothing")),
            (ExpectedOutcome::Refuses("refused"), says(false, "refused: no")),
            (ExpectedOutcome::Sends, says(false, "sent")),
        ] {
            let told = problem(expected, &output).expect("it is noticed");
            assert!(told.starts_with("exec failed: "), "{told}");
        }
    }
}
