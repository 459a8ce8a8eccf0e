//! `tool`: list tools, show one, call one by hand. Tests are made by the program itself, without a server.

use std::time::Duration;

use dromia_api::event::{EventAccepted, EventAnswered};
use dromia_api::list::LIMIT_MAX;
use dromia_api::quantity::{format_bytes, format_millis};
use dromia_api::run::JournalPage;
use dromia_api::tool::{CallResult, CallTool, ToolCalled, ToolGrant, ToolLimits, ToolNetwork, ToolResource};
use dromia_api::{
    ArgumentRole, CallStatus, EffectClass, EffectSink, ErrorCode, ListPage, NetworkAccess, ProblemDetails,
    RecordFields, RunId, RunStatus, Sensitivity,
};
use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::event::{follow_to_answer, moment_ms};
use super::followed_run::InterruptAction;
use super::submit::EventSubmission;
use super::{Cli, print_list, read_text_argument};
use crate::args;
use crate::client::{parse_answer, percent_encode};
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, draw_pairs, draw_table};

/// How long to wait for a result when the command line does not say; a program may take ten minutes, if it asks to.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the server may take beyond the wait itself.
const MARGIN: Duration = Duration::from_secs(10);

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::ToolCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::ToolCommand::List => {
            let list = list_tools(cli).await?;
            print_list(output, &list, &["name", "effect", "result", "granted", "about"], tool_row)
        }
        args::ToolCommand::Show(tool) => {
            let path = format!(
                "/v1/tools/{}{}",
                percent_encode(&tool.name),
                in_hands_of(cli.selected_agent().as_deref())
            );
            let tool: ToolResource = cli.client.get(&path).await?;
            let columns = output.context_mut().columns;
            output.print_result(&tool, |tool| tool_text(columns, tool))?;
            Ok(CommandExit::Done)
        }
        args::ToolCommand::Call(wanted) => call_tool(cli, wanted, output).await,
        args::ToolCommand::Test(_) => Err(Error::Usage(
            "`tool test` runs the tools itself: run it with `dromia` on the server's machine".to_owned(),
        )),
    }
}

/// Asks for a tool, or all of them, in the hands of an agent.
fn in_hands_of(agent: Option<&str>) -> String {
    agent.map(|agent| format!("?agent={}", percent_encode(agent))).unwrap_or_default()
}

/// Lists the tools, and what of them the agent that is meant may use.
async fn list_tools(cli: &Cli<'_>) -> Outcome<ListPage<ToolResource>> {
    let agent = cli.agent_or_default().await?;
    let path = format!("/v1/tools{}", in_hands_of(agent.as_deref()));
    let list: Outcome<ListPage<ToolResource>> = cli.client.get(&path).await;
    let is_absent = |error: &Error| {
        error.server_problem().and_then(ProblemDetails::error_code) == Some(ErrorCode::AgentNotFound)
    };
    match list {
        // The agent comes from the configuration: a tenant without that agent has its tools all the same.
        Err(error) if cli.selected_agent().is_none() && is_absent(&error) => {
            cli.client.get("/v1/tools").await
        }
        list => list,
    }
}

/// What a call by hand came to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "ToolCallWaited")]
pub(super) enum ToolWaitResult {
    /// Its run has ended.
    Called(ToolCalled),
    /// The wait ended first.
    Accepted(EventAccepted),
}

async fn call_tool(
    cli: &Cli<'_>,
    wanted: args::CallTool,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    let agent = cli.some_agent().await?;
    let text = read_text_argument(wanted.data, output).await?;
    let arguments = serde_json::from_str(&text)
        .map_err(|error| Error::Usage(format!("the arguments are not a JSON object: {error}")))?;
    let (patience, began) = (cli.answer_timeout(PATIENCE), Instant::now());
    let body = CallTool { arguments, wait_ms: Some(moment_ms(patience)) };
    let path = format!("/v1/agents/{}/tools/{}/call", percent_encode(&agent), percent_encode(&wanted.name));
    let sending = EventSubmission::of_call(wanted.idempotency_key, output);
    let (status, bytes) = sending.post_to(&path, &body, cli, (patience, MARGIN), output).await?;
    let called: ToolCalled = if status == StatusCode::OK {
        parse_answer(&bytes)?
    } else {
        let mut accepted: EventAccepted = parse_answer(&bytes)?;
        let left = patience.saturating_sub(began.elapsed());
        let Some(answered) =
            follow_to_answer(cli, &mut accepted, left, InterruptAction::EndsCommand, output).await?
        else {
            return in_vain(accepted, output);
        };
        let EventAnswered { run, session, status, failure, .. } = answered;
        ToolCalled { run, session, status, result: fetch_call_result(cli, run).await?, failure }
    };
    let waited = ToolWaitResult::Called(called);
    output.print_result(&waited, result_text)?;
    let ToolWaitResult::Called(called) = waited else { return Ok(CommandExit::Done) };
    if called.status != RunStatus::Completed {
        let why = called.failure.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        output.print_notice(&format!("{} is {}{why}", called.run, called.status.as_str()))?;
        return Ok(CommandExit::RunFailed);
    }
    let status = called.result.map(|result| result.status);
    if status == Some(CallStatus::Awaiting) {
        output.print_notice("the call waits for a person; it runs by itself after the approval")?;
        output.print_notice("hint: `dromia approval list` shows it")?;
    }
    Ok(status.map_or(CommandExit::Failed, exit_for_call))
}

/// Tells how the command ends for what came of the call.
const fn exit_for_call(status: CallStatus) -> CommandExit {
    match status {
        CallStatus::Ok => CommandExit::Done,
        CallStatus::Denied => CommandExit::Denied,
        // What was asked for is stored, and the answer did not come in time.
        CallStatus::Awaiting => CommandExit::TimedOut,
        CallStatus::Error | CallStatus::Unknown | CallStatus::Cancelled => CommandExit::Failed,
    }
}

/// Reads the result of the one call off the journal of its run.
async fn fetch_call_result(cli: &Cli<'_>, run: RunId) -> Outcome<Option<CallResult>> {
    let (mut after, mut found) = (0, None);
    loop {
        let path = format!("/v1/runs/{run}/journal?after={after}&limit={LIMIT_MAX}");
        let page: JournalPage = cli.client.get(&path).await?;
        let Some(last) = page.entries.last() else { return Ok(found) };
        after = last.seq;
        for entry in &page.entries {
            if let ("tool_finished" | "tool_refused", Some(body)) = (entry.kind.as_str(), &entry.body) {
                let CallResultBody { status, parts } = parse_answer(body.get().as_bytes())?;
                let texts: Vec<_> = parts.into_iter().filter_map(|part| part.text).collect();
                found = Some(CallResult { status, text: texts.join("\n") });
            }
        }
    }
}

/// What is read of the body of a call that has a result.
#[derive(Debug, Deserialize)]
struct CallResultBody {
    status: CallStatus,
    #[serde(default)]
    parts: Vec<CallResultPart>,
}

/// A part of it; a picture has no text.
#[derive(Debug, Deserialize)]
struct CallResultPart {
    #[serde(default)]
    text: Option<String>,
}

/// Says where a call goes on whose result did not come in time.
fn in_vain(accepted: EventAccepted, output: &mut CommandOutput<'_>) -> Outcome<CommandExit> {
    let next = match accepted.run {
        Some(run) => format!("dromia run watch {run}"),
        None => format!("dromia session show {}", accepted.session),
    };
    if output.is_json() {
        output.print_document(&ToolWaitResult::Accepted(accepted))?;
    }
    output.print_notice("the wait ended before the result came; the server stored the call")?;
    output.print_notice(&format!("hint: continue with `{next}`"))?;
    Ok(CommandExit::TimedOut)
}

/// What the tool said, and nothing else.
fn result_text(waited: &ToolWaitResult) -> String {
    match waited {
        ToolWaitResult::Called(ToolCalled { result: Some(result), .. }) => result.text.clone(),
        ToolWaitResult::Called(_) | ToolWaitResult::Accepted(_) => String::new(),
    }
}

fn tool_row(tool: &ToolResource) -> Vec<String> {
    vec![
        tool.name.clone(),
        effect_word(tool.effect).to_owned(),
        tool.result_label.clone(),
        tool.granted.as_ref().map(granted_text).unwrap_or_default(),
        tool.description.clone(),
    ]
}

fn granted_text(granted: &ToolGrant) -> String {
    format!("{} ({})", if granted.allowed { "yes" } else { "no" }, granted.rule)
}

const fn effect_word(effect: EffectClass) -> &'static str {
    match effect {
        EffectClass::Pure => "pure",
        EffectClass::Idempotent => "idempotent",
        EffectClass::Keyed => "keyed",
        EffectClass::Transactional => "transactional",
        EffectClass::Unkeyed => "unkeyed",
    }
}

const fn sensitivity_word(sensitivity: Sensitivity) -> &'static str {
    match sensitivity {
        Sensitivity::Low => "",
        Sensitivity::High => "high: its result leaves the agent only as planned",
    }
}

fn records_text(records: &RecordFields) -> String {
    format!("named by {}, content in {}", records.names.join(", "), records.keys.join(", "))
}

const fn argument_role_word(role: ArgumentRole) -> &'static str {
    match role {
        ArgumentRole::Amount => "amount",
        ArgumentRole::Credential => "credential",
        ArgumentRole::Destination => "destination",
        ArgumentRole::Object => "object",
        ArgumentRole::Payload => "payload",
    }
}

fn tool_text(columns: Option<u16>, tool: &ToolResource) -> String {
    let privileged = if tool.privileged {
        "yes: besides a grant, the operator must allow it in dromia.yaml"
    } else {
        "no"
    };
    let mut text = draw_pairs(&[
        ("tool", tool.name.clone()),
        ("about", tool.description.clone()),
        ("effect", effect_word(tool.effect).to_owned()),
        ("sink", sink_text(tool)),
        ("result", tool.result_label.clone()),
        ("sensitive", sensitivity_word(tool.sensitivity).to_owned()),
        ("records", tool.records.as_ref().map(records_text).unwrap_or_default()),
        ("granted", tool.granted.as_ref().map(granted_text).unwrap_or_default()),
        ("privileged", privileged.to_owned()),
        ("sandbox", tool.sandbox.map(|level| format!("{} at least", level.as_str())).unwrap_or_default()),
        ("net", tool.net.join(", ")),
        ("network", tool.network.as_ref().map(network_text).unwrap_or_default()),
        ("limits", tool.limits.map(limits_text).unwrap_or_default()),
    ]);
    let arguments = tool.arguments["properties"].as_object();
    let rows: Vec<_> = arguments
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let takes = schema["type"].as_str().unwrap_or("any").to_owned();
            let role = tool.roles.get(name).copied().map(argument_role_word).unwrap_or_default().to_owned();
            let about = schema["description"].as_str().unwrap_or_default().to_owned();
            vec![name.clone(), takes, role, about]
        })
        .collect();
    if !rows.is_empty() {
        text.push_str("\n\n");
        text.push_str(&draw_table(columns, &["argument", "takes", "role", "about"], rows));
    }
    text
}

/// Tells where what a tool does is seen, and why that is so where a tool runs programs.
fn sink_text(tool: &ToolResource) -> String {
    let sink = match tool.sink {
        EffectSink::Inside => "inside",
        EffectSink::Outside => "outside",
    };
    match tool.network.as_ref().map(|network| network.way) {
        Some(NetworkAccess::None) => format!("{sink}: its programs have no network access"),
        Some(NetworkAccess::Proxy) => format!("{sink}: its programs have network access"),
        None => sink.to_owned(),
    }
}

/// Tells what programs may reach, and by what right.
fn network_text(network: &ToolNetwork) -> String {
    let ToolNetwork { way, grants, capabilities } = network;
    let held = capabilities.then(|| "the agent's capabilities".to_owned());
    let by: Vec<_> = grants.iter().cloned().chain(held).collect();
    match way {
        NetworkAccess::None => "none".to_owned(),
        NetworkAccess::Proxy if by.is_empty() => {
            "the guarded proxy, to hosts in the agent's net: grants".to_owned()
        }
        NetworkAccess::Proxy => format!("the guarded proxy, to hosts in {}", by.join(", ")),
    }
}

/// Tells the limits of one call in one line.
fn limits_text(limits: ToolLimits) -> String {
    let ToolLimits { wall_ms, cpu_ms, memory_bytes, disk_bytes, output_bytes, processes } = limits;
    format!(
        "{} of time, {} of processors, {} of memory, {} on disk, {} of output, {processes} processes",
        format_millis(wall_ms),
        format_millis(cpu_ms),
        format_bytes(memory_bytes),
        format_bytes(disk_bytes),
        format_bytes(output_bytes)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn denied_waiting_and_failed_calls_have_different_exit_codes() {
        let exits = [
            (CallStatus::Ok, CommandExit::Done),
            (CallStatus::Denied, CommandExit::Denied),
            (CallStatus::Awaiting, CommandExit::TimedOut),
            (CallStatus::Error, CommandExit::Failed),
            (CallStatus::Unknown, CommandExit::Failed),
            (CallStatus::Cancelled, CommandExit::Failed),
        ];
        for (status, exit) in exits {
            assert_eq!(exit_for_call(status), exit, "{status:?}");
        }
    }

    #[test]
    fn a_tool_is_shown_with_its_limits_and_arguments() {
        let tool = ToolResource {
            name: "exec".to_owned(),
            description: "Run a program.".to_owned(),
            effect: EffectClass::Unkeyed,
            sink: EffectSink::Inside,
            roles: BTreeMap::from([("argv".to_owned(), ArgumentRole::Payload)]),
            result_label: "untrusted/agent".to_owned(),
            sensitivity: Sensitivity::Low,
            records: None,
            arguments: serde_json::json!({"properties": {
                "argv": {"type": "array", "description": "Program and arguments."},
                "timeout_s": {"type": "integer"},
            }}),
            privileged: true,
            net: Vec::new(),
            network: Some(ToolNetwork { way: NetworkAccess::None, grants: Vec::new(), capabilities: false }),
            sandbox: Some(dromia_api::IsolationLevel::Strict),
            limits: Some(ToolLimits {
                wall_ms: 30_000,
                cpu_ms: 1_500,
                memory_bytes: 512 << 20,
                disk_bytes: 1 << 30,
                output_bytes: 1 << 20,
                processes: 128,
            }),
            granted: Some(ToolGrant { allowed: false, rule: "privileged".to_owned() }),
        };
        insta::assert_snapshot!(tool_text(None, &tool), @r"
        tool        exec
        about       Run a program.
        effect      unkeyed
        sink        inside: its programs have no network access
        result      untrusted/agent
        granted     no (privileged)
        privileged  yes: besides a grant, the operator must allow it in dromia.yaml
        sandbox     strict at least
        network     none
        limits      30 s of time, 1500 ms of processors, 512 MiB of memory, 1 GiB on disk, 1 MiB of output, 128 processes

        ARGUMENT   TAKES    ROLE     ABOUT
        argv       array    payload  Program and arguments.
        timeout_s  integer
        ");
    }

    #[test]
    fn network_access_is_shown_with_its_grants() {
        let said = |way, grants: &[&str], capabilities| {
            let grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
            network_text(&ToolNetwork { way, grants, capabilities })
        };
        assert_eq!(said(NetworkAccess::None, &[], false), "none");
        let nobody = said(NetworkAccess::Proxy, &[], false);
        assert_eq!(nobody, "the guarded proxy, to hosts in the agent's net: grants");
        let both = said(NetworkAccess::Proxy, &["net:docs.rs", "net.read:crates.io"], true);
        assert_eq!(
            both,
            "the guarded proxy, to hosts in net:docs.rs, net.read:crates.io, the agent's capabilities"
        );
    }
}
