//! `tool`: list tools, show one, call one by hand. Tests are made by the program itself, without a server.

use std::time::Duration;

use dromia_api::event::{EventAccepted, EventAnswered};
use dromia_api::list::LIMIT_MAX;
use dromia_api::quantity::{size, time};
use dromia_api::run::JournalPage;
use dromia_api::tool::{CallResult, CallTool, Granted, Tool, ToolCalled, ToolLimits, ToolNetwork};
use dromia_api::{
    ArgumentRole, CallStatus, EffectClass, ErrorCode, List, Network, Problem, RunId, RunStatus, Sink,
};
use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::event::{followed, moment_ms};
use super::sending::Sending;
use super::{Cli, print_list, said};
use crate::args;
use crate::client::{encoded, parse};
use crate::error::{Error, Outcome};
use crate::exit::Exit;
use crate::output::{Output, pairs, table};

/// How long to wait for a result when the command line does not say; a program may take ten minutes, if it asks to.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the server may take beyond the wait itself.
const MARGIN: Duration = Duration::from_secs(10);

pub(super) async fn run(cli: &Cli<'_>, command: args::Tool, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::Tool::List => {
            let list = listed(cli).await?;
            print_list(output, &list, &["name", "effect", "result", "granted", "about"], row)
        }
        args::Tool::Show(tool) => {
            let path = format!("/v1/tools/{}{}", encoded(&tool.name), in_hands_of(cli.agent().as_deref()));
            let tool: Tool = cli.client.get(&path).await?;
            let columns = output.context().columns;
            output.show(&tool, |tool| text(columns, tool))?;
            Ok(Exit::Done)
        }
        args::Tool::Call(wanted) => call(cli, wanted, output).await,
        args::Tool::Test(_) => {
            Err(Error::Usage("tools are tested by `dromia` itself, on the machine that has them".to_owned()))
        }
    }
}

/// Asks for a tool, or all of them, in the hands of an agent.
fn in_hands_of(agent: Option<&str>) -> String {
    agent.map(|agent| format!("?agent={}", encoded(agent))).unwrap_or_default()
}

/// Lists the tools, and what of them the agent that is meant may use.
async fn listed(cli: &Cli<'_>) -> Outcome<List<Tool>> {
    let agent = cli.agent_or_default().await?;
    let path = format!("/v1/tools{}", in_hands_of(agent.as_deref()));
    let list: Outcome<List<Tool>> = cli.client.get(&path).await;
    let is_absent =
        |error: &Error| error.problem().and_then(Problem::error_code) == Some(ErrorCode::AgentNotFound);
    match list {
        // Nobody named the agent of the configuration: a tenant without it has its tools all the same.
        Err(error) if cli.agent().is_none() && is_absent(&error) => cli.client.get("/v1/tools").await,
        list => list,
    }
}

/// What a call by hand came to.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "ToolCallWaited")]
pub(super) enum Waited {
    /// Its run has ended.
    Called(ToolCalled),
    /// The wait ended first.
    Accepted(EventAccepted),
}

async fn call(cli: &Cli<'_>, wanted: args::CallTool, output: &mut Output<'_>) -> Outcome<Exit> {
    let agent = cli.some_agent().await?;
    let text = said(wanted.data, output).await?;
    let arguments = serde_json::from_str(&text)
        .map_err(|error| Error::Usage(format!("the arguments are no JSON object: {error}")))?;
    let (patience, began) = (cli.patience(PATIENCE), Instant::now());
    let body = CallTool { arguments, wait_ms: Some(moment_ms(patience)) };
    let path = format!("/v1/agents/{}/tools/{}/call", encoded(&agent), encoded(&wanted.name));
    let sending = Sending::of_call(wanted.idempotency_key, output);
    let (status, bytes) = sending.post_to(&path, &body, cli, (patience, MARGIN), output).await?;
    let called: ToolCalled = if status == StatusCode::OK {
        parse(&bytes)?
    } else {
        let mut accepted: EventAccepted = parse(&bytes)?;
        let left = patience.saturating_sub(began.elapsed());
        let Some(answered) = followed(cli, &mut accepted, left, output).await? else {
            return in_vain(accepted, output);
        };
        let EventAnswered { run, session, status, failure, .. } = answered;
        ToolCalled { run, session, status, result: result(cli, run).await?, failure }
    };
    let waited = Waited::Called(called);
    output.show(&waited, told)?;
    let Waited::Called(called) = waited else { return Ok(Exit::Done) };
    if called.status != RunStatus::Completed {
        let why = called.failure.map(|failure| format!(": {}", failure.message)).unwrap_or_default();
        output.notice(&format!("{} is {}{why}", called.run, called.status.as_str()))?;
        return Ok(Exit::RunFailed);
    }
    let status = called.result.map(|result| result.status);
    if status == Some(CallStatus::Awaiting) {
        output.notice("the call waits for a person; once it is approved, it runs by itself")?;
        output.notice("hint: `dromia approval list` shows it")?;
    }
    Ok(status.map_or(Exit::Failed, ended))
}

/// Tells how the command ends for what came of the call.
const fn ended(status: CallStatus) -> Exit {
    match status {
        CallStatus::Ok => Exit::Done,
        CallStatus::Denied => Exit::Denied,
        // What was asked for is stored, and the answer did not come in time.
        CallStatus::Awaiting => Exit::TimedOut,
        CallStatus::Error | CallStatus::Unknown | CallStatus::Cancelled => Exit::Failed,
    }
}

/// Reads the result of the one call off the journal of its run.
async fn result(cli: &Cli<'_>, run: RunId) -> Outcome<Option<CallResult>> {
    let (mut after, mut found) = (0, None);
    loop {
        let path = format!("/v1/runs/{run}/journal?after={after}&limit={LIMIT_MAX}");
        let page: JournalPage = cli.client.get(&path).await?;
        let Some(last) = page.entries.last() else { return Ok(found) };
        after = last.seq;
        for entry in &page.entries {
            if let ("tool_finished" | "tool_refused", Some(body)) = (entry.kind.as_str(), &entry.body) {
                let Given { status, parts } = parse(body.get().as_bytes())?;
                let texts: Vec<_> = parts.into_iter().filter_map(|part| part.text).collect();
                found = Some(CallResult { status, text: texts.join("\n") });
            }
        }
    }
}

/// What is read of the body of a call that has a result.
#[derive(Debug, Deserialize)]
struct Given {
    status: CallStatus,
    #[serde(default)]
    parts: Vec<Part>,
}

/// A part of it; a picture has no text.
#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
}

/// Says where a call goes on whose result did not come in time.
fn in_vain(accepted: EventAccepted, output: &mut Output<'_>) -> Outcome<Exit> {
    let next = match accepted.run {
        Some(run) => format!("dromia run watch {run}"),
        None => format!("dromia session show {}", accepted.session),
    };
    if output.is_json() {
        output.document(&Waited::Accepted(accepted))?;
    }
    output.notice("the result did not come in time; the call is stored")?;
    output.notice(&format!("hint: go on with `{next}`"))?;
    Ok(Exit::TimedOut)
}

/// What the tool said, and nothing else.
fn told(waited: &Waited) -> String {
    match waited {
        Waited::Called(ToolCalled { result: Some(result), .. }) => result.text.clone(),
        Waited::Called(_) | Waited::Accepted(_) => String::new(),
    }
}

fn row(tool: &Tool) -> Vec<String> {
    vec![
        tool.name.clone(),
        effect(tool.effect).to_owned(),
        tool.result_label.clone(),
        tool.granted.as_ref().map(granted).unwrap_or_default(),
        tool.description.clone(),
    ]
}

fn granted(granted: &Granted) -> String {
    format!("{} ({})", if granted.allowed { "yes" } else { "no" }, granted.rule)
}

const fn effect(effect: EffectClass) -> &'static str {
    match effect {
        EffectClass::Pure => "pure",
        EffectClass::Idempotent => "idempotent",
        EffectClass::Keyed => "keyed",
        EffectClass::Transactional => "transactional",
        EffectClass::Unkeyed => "unkeyed",
    }
}

const fn role(role: ArgumentRole) -> &'static str {
    match role {
        ArgumentRole::Amount => "amount",
        ArgumentRole::Credential => "credential",
        ArgumentRole::Destination => "destination",
        ArgumentRole::Object => "object",
        ArgumentRole::Payload => "payload",
    }
}

fn text(columns: Option<u16>, tool: &Tool) -> String {
    let privileged = if tool.privileged { "yes: it takes the operator's word beside a grant" } else { "no" };
    let mut text = pairs(&[
        ("tool", tool.name.clone()),
        ("about", tool.description.clone()),
        ("effect", effect(tool.effect).to_owned()),
        ("sink", sink(tool)),
        ("result", tool.result_label.clone()),
        ("granted", tool.granted.as_ref().map(granted).unwrap_or_default()),
        ("privileged", privileged.to_owned()),
        ("walls", tool.sandbox.map(|level| format!("{} at least", level.as_str())).unwrap_or_default()),
        ("net", tool.net.join(", ")),
        ("network", tool.network.as_ref().map(network).unwrap_or_default()),
        ("limits", tool.limits.map(limits).unwrap_or_default()),
    ]);
    let arguments = tool.arguments["properties"].as_object();
    let rows: Vec<_> = arguments
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let takes = schema["type"].as_str().unwrap_or("any").to_owned();
            let role = tool.roles.get(name).copied().map(role).unwrap_or_default().to_owned();
            let about = schema["description"].as_str().unwrap_or_default().to_owned();
            vec![name.clone(), takes, role, about]
        })
        .collect();
    if !rows.is_empty() {
        text.push_str("\n\n");
        text.push_str(&table(columns, &["argument", "takes", "role", "about"], rows));
    }
    text
}

/// Tells where what a tool does is seen, and why that is so where a tool runs programs.
fn sink(tool: &Tool) -> String {
    let sink = match tool.sink {
        Sink::Inside => "inside",
        Sink::Outside => "outside",
    };
    match tool.network.as_ref().map(|network| network.way) {
        Some(Network::None) => format!("{sink}: its programs have no way out"),
        Some(Network::Proxy) => format!("{sink}: its programs have a way out"),
        None => sink.to_owned(),
    }
}

/// Tells what programs may reach, and by what right.
fn network(network: &ToolNetwork) -> String {
    let ToolNetwork { way, grants, capabilities } = network;
    let held = capabilities.then(|| "what the agent holds in capabilities".to_owned());
    let by: Vec<_> = grants.iter().cloned().chain(held).collect();
    match way {
        Network::None => "none".to_owned(),
        Network::Proxy if by.is_empty() => {
            "the guarded proxy, to what an agent's net: grants cover".to_owned()
        }
        Network::Proxy => format!("the guarded proxy, to what is covered by {}", by.join(", ")),
    }
}

/// Tells the limits of one call in one line.
fn limits(limits: ToolLimits) -> String {
    let ToolLimits { wall_ms, cpu_ms, memory_bytes, disk_bytes, output_bytes, processes } = limits;
    format!(
        "{} of time, {} of processors, {} of memory, {} on disk, {} of output, {processes} processes",
        time(wall_ms),
        time(cpu_ms),
        size(memory_bytes),
        size(disk_bytes),
        size(output_bytes)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_call_that_the_gate_refused_or_that_waits_does_not_look_like_one_that_failed() {
        let exits = [
            (CallStatus::Ok, Exit::Done),
            (CallStatus::Denied, Exit::Denied),
            (CallStatus::Awaiting, Exit::TimedOut),
            (CallStatus::Error, Exit::Failed),
            (CallStatus::Unknown, Exit::Failed),
            (CallStatus::Cancelled, Exit::Failed),
        ];
        for (status, exit) in exits {
            assert_eq!(ended(status), exit, "{status:?}");
        }
    }

    #[test]
    fn a_tool_is_shown_with_its_limits_and_arguments() {
        let tool = Tool {
            name: "exec".to_owned(),
            description: "Run a program.".to_owned(),
            effect: EffectClass::Unkeyed,
            sink: Sink::Inside,
            roles: BTreeMap::from([("argv".to_owned(), ArgumentRole::Payload)]),
            result_label: "untrusted/agent".to_owned(),
            arguments: serde_json::json!({"properties": {
                "argv": {"type": "array", "description": "Program and arguments."},
                "timeout_s": {"type": "integer"},
            }}),
            privileged: true,
            net: Vec::new(),
            network: Some(ToolNetwork { way: Network::None, grants: Vec::new(), capabilities: false }),
            sandbox: Some(dromia_api::Level::Strict),
            limits: Some(ToolLimits {
                wall_ms: 30_000,
                cpu_ms: 1_500,
                memory_bytes: 512 << 20,
                disk_bytes: 1 << 30,
                output_bytes: 1 << 20,
                processes: 128,
            }),
            granted: Some(Granted { allowed: false, rule: "privileged".to_owned() }),
        };
        insta::assert_snapshot!(text(None, &tool), @r"
        tool        exec
        about       Run a program.
        effect      unkeyed
        sink        inside: its programs have no way out
        result      untrusted/agent
        granted     no (privileged)
        privileged  yes: it takes the operator's word beside a grant
        walls       strict at least
        network     none
        limits      30 s of time, 1500 ms of processors, 512 MiB of memory, 1 GiB on disk, 1 MiB of output, 128 processes

        ARGUMENT   TAKES    ROLE     ABOUT
        argv       array    payload  Program and arguments.
        timeout_s  integer
        ");
    }

    #[test]
    fn a_way_out_is_told_with_the_right_that_opens_it() {
        let said = |way, grants: &[&str], capabilities| {
            let grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
            network(&ToolNetwork { way, grants, capabilities })
        };
        assert_eq!(said(Network::None, &[], false), "none");
        let nobody = said(Network::Proxy, &[], false);
        assert_eq!(nobody, "the guarded proxy, to what an agent's net: grants cover");
        let both = said(Network::Proxy, &["net:docs.rs", "net.read:crates.io"], true);
        assert_eq!(
            both,
            "the guarded proxy, to what is covered by net:docs.rs, net.read:crates.io, what the agent holds in capabilities"
        );
    }
}
