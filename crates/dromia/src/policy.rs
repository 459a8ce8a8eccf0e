//! `dromia policy`: what the built-in policy says, and the tests of every layer, for which no server is needed; and who
//! decided about a call, which a server reads off its journal.

mod directory;
mod folder;
mod own;

use std::process::ExitCode;

use dromia_api::approval::Approval;
use dromia_api::list::LIMIT_MAX;
use dromia_api::run::{DecidedBy, Decision, Run};
use dromia_api::{ApprovalState, CallId, List, Network, RunId, TENANT_DEFAULT, shown, status};
use dromia_cli::output::{pairs, time};
use dromia_cli::{Client, Context, Exit, Global, Output};
use dromia_guard::policy::{DEFAULT, DEFAULT_TESTS, PolicyProblem, PolicyText, VERSION, run_tests};
use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use self::folder::{Texts, follow};
pub(crate) use self::own::{FileRow, files};
use crate::home::Home;
use crate::system;

/// Commands about the policy.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum PolicyCommand {
    /// Print the policy that every server has, and which files of the home count beside it.
    #[command(
        after_help = "Examples:\n  dromia policy show\n  dromia policy show --json\n\nFiles in policies/ of the home are asked beside it. They can forbid what it allows, and cannot allow what it forbids. What counts is said by the server, if one answers."
    )]
    Show,
    /// Check every policy of the home and run its tests.
    #[command(
        after_help = "Examples:\n  dromia policy test\n  dromia policy test --json\n\nA test is a rule whose name begins with test_, in a file whose name ends with _test.rego beside the policies it tests. Each file of the home is listed with the number of its rules, and a warning where it forbids nothing. Exits with 1 if one does not hold, and with 2 if a policy cannot be read."
    )]
    Test,
    /// Show who decided about a call of a run, by which rule and why.
    #[command(
        after_help = "Examples:\n  dromia policy explain run_0199c0de… call_1_0\n  dromia policy explain run_0199c0de… call_1_0 --json\n\nThe server reads it off the journal of the run, and judges nothing again. `dromia run show` names the calls."
    )]
    Explain(ExplainCall),
}

/// A call of a run.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainCall {
    /// The run's id
    run: RunId,
    /// The call's id, such as call_1_0
    call: CallId,
}

/// The policy that every server has.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Shown {
    /// The version of what a policy is asked.
    question: u32,
    /// The text, in Rego.
    text: &'static str,
    /// The files of the home beside it.
    files: Vec<FileRow>,
    /// Why what lies in the home cannot count, if it cannot.
    problem: Option<String>,
    /// What the server says that counts; nothing if none answers.
    counts: Option<status::Policy>,
}

/// How the tests ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Tested {
    /// The tests, by layer and name.
    items: Vec<TestRow>,
    /// The files of the home.
    files: Vec<FileRow>,
}

/// How one test ended.
#[derive(Debug, Serialize, JsonSchema)]
struct TestRow {
    /// The layer: built-in, policies, or policies/tenants and the tenant's id.
    layer: String,
    /// The rule.
    test: String,
    /// Whether it holds.
    holds: bool,
    /// What went wrong, if it does not.
    problem: Option<String>,
}

/// Runs the command.
pub(crate) fn run(
    home: &Home,
    command: &PolicyCommand,
    global: &Global,
    context: &mut Context,
) -> anyhow::Result<ExitCode> {
    let mut output = Output::of_local(context, global);
    output.check()?;
    match command {
        PolicyCommand::Show => {
            output.show(&show(home, global)?, shown_text)?;
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Explain(asked) => {
            let explained = decided(home, asked, global)?;
            output.show(&explained, Explained::text)?;
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Test => {
            let tested = test(home).map_err(system::Exit::usage_of)?;
            let is_sound = tested.items.iter().all(|row| row.holds);
            if output.is_json() {
                output.document(&tested)?;
            } else {
                let row = |row: &TestRow| {
                    let end = if row.holds { "holds" } else { "FAILS" };
                    let problem = row.problem.clone().unwrap_or_default();
                    vec![row.layer.clone(), row.test.clone(), end.to_owned(), problem]
                };
                output.table(&["layer", "test", "end", "problem"], tested.items.iter().map(row).collect())?;
                if !tested.files.is_empty() {
                    output.line("")?;
                    output.table(&own::HEADS, tested.files.iter().map(FileRow::cells).collect())?;
                }
            }
            Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(Exit::Failed.code()) })
        }
    }
}

/// Reads what lies in the home, and asks the server what counts, if one answers.
fn show(home: &Home, global: &Global) -> anyhow::Result<Shown> {
    let read = Texts::read(home).and_then(|texts| {
        let files = files(home, &texts)?;
        Ok((files, texts.compile().err()))
    });
    let (files, problem) = read.unwrap_or_else(|problem| (Vec::new(), Some(problem)));
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = tokio.block_on(client(home, global).get::<status::Status>("/v1/status"));
    let counts = status.ok().and_then(|status| status.policy);
    let problem = problem.map(|problem| problem.to_string());
    Ok(Shown { question: VERSION, text: DEFAULT, files, problem, counts })
}

/// Writes the built-in policy and, as remarks behind it, what counts beside it.
fn shown_text(policy: &Shown) -> String {
    let mut lines = vec![policy.text.trim_end().to_owned()];
    let mut remark = |text: String| lines.push(format!("# {}", shown(&text)));
    for row in &policy.files {
        remark(row.told().unwrap_or_else(|| format!("{} lies in the home", row.file)));
    }
    if let Some(problem) = &policy.problem {
        remark(format!("What lies in the home cannot count: {problem}"));
    }
    if let Some(status::Policy { digest, files, refused }) = &policy.counts {
        let beside = if files.is_empty() { "nothing".to_owned() } else { files.join(", ") };
        remark(format!("The server asks this policy and, beside it, {beside}: digest {digest}"));
        if let Some(refused) = refused {
            let (since, problem) = (time(refused.since), &refused.problem);
            remark(format!("What lies in the home does not count since {since}: {problem}"));
        }
    }
    lines.join("\n")
}

/// What is known of a call.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "PolicyExplained")]
pub(crate) enum Explained {
    /// What was decided.
    Decided(Box<Decision>),
    /// What it waits for: nothing is decided so far.
    Waits(Box<Approval>),
}

impl Explained {
    fn text(&self) -> String {
        match self {
            Self::Decided(decision) => explained(decision),
            Self::Waits(approval) => waiting(approval),
        }
    }
}

/// Asks the server what its journal says of a call. Of one that was tried more than once, the last decision counts; one that
/// nothing was decided about may wait for approval, or for its turn behind one that does.
fn decided(home: &Home, asked: &ExplainCall, global: &Global) -> anyhow::Result<Explained> {
    let client = client(home, global);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut found, mut after) = (None, "0".to_owned());
    loop {
        let path = format!("/v1/runs/{}/decisions?limit={LIMIT_MAX}&after={after}", asked.run);
        let page: List<Decision> = tokio.block_on(client.get(&path))?;
        found = page.items.into_iter().rfind(|decision| decision.call == asked.call).or(found);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    if let Some(decision) = found {
        return Ok(Explained::Decided(Box::new(decision)));
    }
    let run: Run = tokio.block_on(client.get(&format!("/v1/runs/{}", asked.run)))?;
    // The newest come first: those that the agent asked for since the run began, each id minted after the run's.
    let listed = format!("/v1/approvals?agent={}&limit={LIMIT_MAX}", run.agent);
    let mut path = listed.clone();
    loop {
        let page: List<Approval> = tokio.block_on(client.get(&path))?;
        let is_it = |approval: &Approval| (approval.run, approval.call) == (asked.run, asked.call);
        let is_older = |last: &Approval| last.id.as_bytes() < asked.run.as_bytes();
        let is_last = page.items.last().is_none_or(is_older);
        if let Some(approval) = page.items.into_iter().find(is_it) {
            return Ok(Explained::Waits(Box::new(approval)));
        }
        match page.next.filter(|_| !is_last) {
            Some(next) => path = format!("{listed}&after={next}"),
            None => break,
        }
    }
    Err(system::Exit::failed(format!(
        "nothing is decided of a call {} of {}, and it waits for nobody; `dromia run show {1}` names its calls",
        asked.call, asked.run
    )))
}

fn waiting(approval: &Approval) -> String {
    let by = shown(approval.answered_by.as_deref().unwrap_or("nobody"));
    let verdict = match (approval.state, approval.cools_until) {
        (ApprovalState::Holding | ApprovalState::Waiting, None) => {
            "none so far: it waits for a person".to_owned()
        }
        (ApprovalState::Holding | ApprovalState::Waiting, Some(at)) => {
            format!("none so far: it is put off until {}, and a person may refuse it", time(at))
        }
        (ApprovalState::Approved | ApprovalState::Used, _) => {
            format!("none so far: {by} allowed it, and it is judged again when its turn comes")
        }
        (ApprovalState::Denied, _) => format!("none so far: {by} refused it, and its run is told next"),
        (ApprovalState::Withdrawn | ApprovalState::Expired, _) => {
            "none: the call did not begin, and nobody is asked any more".to_owned()
        }
    };
    pairs(&[
        ("call", format!("{} {}", approval.call, shown(&approval.tool))),
        ("verdict", verdict),
        ("by", DecidedBy::Approval.as_str().to_owned()),
        ("rule", shown(&approval.rule)),
        ("why", shown(&approval.reason)),
        ("approval", format!("{} ({})", approval.id, approval.state)),
        ("next", format!("dromia approval show {}", approval.id)),
    ])
}

fn client(home: &Home, global: &Global) -> Client {
    let socket = global.socket.clone().unwrap_or_else(|| home.socket());
    let tenant = global.tenant.as_ref().map_or(TENANT_DEFAULT, |tenant| tenant.as_str()).to_owned();
    Client::new(socket, tenant, global.timeout)
}

fn explained(decision: &Decision) -> String {
    let plan = match decision.in_plan {
        Some(true) => "in the frozen plan",
        Some(false) => "outside of the frozen plan",
        None => "",
    };
    let sink = match decision.network {
        Some(Network::None) => "inside: its program was to be given no way out",
        Some(Network::Proxy) => "outside: its program was to be given a way out",
        None => "",
    };
    let is_delayed = decision.rule.as_deref().is_some_and(|rule| rule.starts_with("delay "));
    let waits = decision.waits.map(|approval| format!(" as {approval}")).unwrap_or_default();
    let verdict = match (decision.allowed, decision.by, &decision.rule) {
        (true, _, _) => "allowed".to_owned(),
        (false, DecidedBy::Approval, None) => {
            format!("put before a person{waits}; the run went on without it")
        }
        (false, _, _) if decision.waits.is_some() && is_delayed => {
            format!(
                "put off{waits}, to begin by itself unless a person refuses it; the run went on without it"
            )
        }
        (false, _, _) if decision.waits.is_some() => {
            format!("put before a person{waits}; the run went on without it")
        }
        (false, _, _) => "refused".to_owned(),
    };
    pairs(&[
        ("call", format!("{} {}", decision.call, shown(&decision.tool))),
        ("verdict", verdict),
        ("by", decision.by.as_str().to_owned()),
        ("rule", decision.rule.as_deref().map(shown).unwrap_or_default()),
        ("why", shown(&decision.why)),
        ("sink", sink.to_owned()),
        ("plan", plan.to_owned()),
        ("opinion", decision.opinion.as_ref().map(|told| shown(&told.text())).unwrap_or_default()),
        ("policy", decision.policy.map(|policy| policy.to_string()).unwrap_or_default()),
        ("entry", decision.entry.to_string()),
        ("at", time(decision.at)),
    ])
}

/// Compiles what a server would ask, then runs the tests of each layer.
fn test(home: &Home) -> Result<Tested, PolicyProblem> {
    let texts = Texts::read(home)?;
    texts.compile()?;
    let files = files(home, &texts)?;
    let text = |name: &str, text: &str| PolicyText { name: name.to_owned(), text: text.to_owned() };
    let built_in = vec![text("default.rego", DEFAULT), text("default_test.rego", DEFAULT_TESTS)];
    let mut layers = vec![("built-in".to_owned(), built_in)];
    if !texts.instance.is_empty() {
        layers.push(("policies".to_owned(), texts.instance));
    }
    let tenants = texts.tenants.into_iter().filter(|(_, files)| !files.is_empty());
    layers.extend(tenants.map(|(tenant, files)| (format!("policies/tenants/{tenant}"), files)));
    let mut rows = Vec::new();
    for (layer, files) in layers {
        for end in run_tests(&layer, &files)? {
            let (holds, problem) = (end.problem.is_none(), end.problem);
            rows.push(TestRow { layer: layer.clone(), test: end.name, holds, problem });
        }
    }
    Ok(Tested { items: rows, files })
}
