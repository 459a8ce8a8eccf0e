//! `dromia policy`: what the built-in policy says, and the tests of every layer, for which no server is needed; and who
//! decided about a call, which a server reads off its journal.

mod directory;
mod folder;
mod summary;

use std::process::ExitCode;

use dromia_api::approval::ApprovalResource;
use dromia_api::list::LIMIT_MAX;
use dromia_api::run::{CallDecision, DecidedBy, RunResource};
use dromia_api::{
    ApprovalState, CallId, ListPage, NetworkAccess, RunId, TENANT_DEFAULT, escape_hidden, status,
};
use dromia_cli::output::{draw_pairs, format_time};
use dromia_cli::{ApiClient, CommandContext, CommandExit, CommandOutput, GlobalOptions};
use dromia_guard::policy::{
    DEFAULT, DEFAULT_TESTS, PolicyEvaluator, PolicyProblem, PolicyText, PolicyWorkers, VERSION,
};
use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use self::folder::{PolicyTexts, follow_folder};
pub(crate) use self::summary::{FileRow, file_rows};
use crate::home::Home;
use crate::system;

/// Commands about the policy.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum PolicyCommand {
    /// Print the built-in policy and list the policies of the home.
    #[command(
        after_help = "The server also asks the files in policies/ of the home. They can forbid what the built-in policy allows; they cannot allow what it forbids. If a server answers, the command prints what that server uses.\n\nExamples:\n  dromia policy show\n  dromia policy show --json"
    )]
    Show,
    /// Check every policy of the home and run its tests.
    #[command(
        after_help = "A test is a rule whose name begins with test_, in a file whose name ends with _test.rego beside the policies that it tests. The command lists each file of the home with the number of its rules, and warns about a file that forbids nothing. Exits with 1 if a test fails, and with 2 if it cannot read a policy.\n\nExamples:\n  dromia policy test\n  dromia policy test --json"
    )]
    Test,
    /// Explain which rule decided about a call of a run, and why.
    #[command(
        after_help = "The server reads the decision from the journal of the run and does not judge again. `dromia run show` names the calls.\n\nExamples:\n  dromia policy explain run_0199c0de… call_1_0\n  dromia policy explain run_0199c0de… call_1_0 --json"
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
pub(crate) struct PolicyDocument {
    /// The version of what a policy is asked.
    question: u32,
    /// The text, in Rego.
    text: &'static str,
    /// The files of the home beside it.
    files: Vec<FileRow>,
    /// Why what lies in the home cannot count, if it cannot.
    problem: Option<String>,
    /// What the server says that counts; nothing if none answers.
    counts: Option<status::PolicyStatus>,
}

/// How the tests ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PolicyTestReport {
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
    global: &GlobalOptions,
    context: &mut CommandContext,
) -> anyhow::Result<ExitCode> {
    let mut output = CommandOutput::of_local(context, global);
    output.check_format()?;
    match command {
        PolicyCommand::Show => {
            output.print_result(&show_policy(home, global)?, shown_text)?;
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Explain(asked) => {
            let explained = explain_call(home, asked, global)?;
            output.print_result(&explained, DecisionExplanation::explanation_text)?;
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Test => {
            let tested = test_policies(home).map_err(system::ExitError::usage_of)?;
            let is_sound = tested.items.iter().all(|row| row.holds);
            if output.is_json() {
                output.print_document(&tested)?;
            } else {
                let row = |row: &TestRow| {
                    let end = if row.holds { "holds" } else { "FAILS" };
                    let problem = row.problem.clone().unwrap_or_default();
                    vec![row.layer.clone(), row.test.clone(), end.to_owned(), problem]
                };
                output.print_table(
                    &["layer", "test", "end", "problem"],
                    tested.items.iter().map(row).collect(),
                )?;
                if !tested.files.is_empty() {
                    output.print_line("")?;
                    output.print_table(
                        &summary::HEADS,
                        tested.files.iter().map(FileRow::table_cells).collect(),
                    )?;
                }
            }
            Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(CommandExit::Failed.exit_code()) })
        }
    }
}

/// Reads what lies in the home, and asks the server what counts, if one answers.
fn show_policy(home: &Home, global: &GlobalOptions) -> anyhow::Result<PolicyDocument> {
    let read = PolicyTexts::read_folder(home).and_then(|texts| {
        let files = file_rows(home, &texts)?;
        Ok((files, texts.compile_layers(&worker_evaluator()).err()))
    });
    let (files, problem) = read.unwrap_or_else(|problem| (Vec::new(), Some(problem)));
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = tokio.block_on(server_client(home, global).get::<status::NodeStatus>("/v1/status"));
    let counts = status.ok().and_then(|status| status.policy);
    let problem = problem.map(|problem| problem.to_string());
    Ok(PolicyDocument { question: VERSION, text: DEFAULT, files, problem, counts })
}

/// Says what is wrong with the policies of a home, if anything is.
pub(crate) fn check_policies(home: &Home) -> Result<(), PolicyProblem> {
    PolicyTexts::read_folder(home)?.compile_layers(&worker_evaluator()).map(drop)
}

/// Evaluates the policies of a home for a command: in worker processes, not in its own.
pub(crate) fn worker_evaluator() -> PolicyEvaluator {
    PolicyEvaluator::Apart(PolicyWorkers::of_this_program())
}

/// Writes the built-in policy and, as remarks behind it, what counts beside it.
fn shown_text(policy: &PolicyDocument) -> String {
    let mut lines = vec![policy.text.trim_end().to_owned()];
    let mut remark = |text: String| lines.push(format!("# {}", escape_hidden(&text)));
    for row in &policy.files {
        remark(row.warning_line().unwrap_or_else(|| format!("{} is in policies/", row.file)));
    }
    if let Some(problem) = &policy.problem {
        remark(format!("The files in policies/ are not valid: {problem}"));
    }
    if let Some(status::PolicyStatus { digest, files, refused }) = &policy.counts {
        let beside = if files.is_empty() { "nothing".to_owned() } else { files.join(", ") };
        remark(format!("The server uses this policy together with {beside}: digest {digest}"));
        if let Some(refused) = refused {
            let (since, problem) = (format_time(refused.since), &refused.problem);
            remark(format!("The server has ignored the files in policies/ since {since}: {problem}"));
        }
    }
    lines.join("\n")
}

/// What is known of a call.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "PolicyExplained")]
pub(crate) enum DecisionExplanation {
    /// What was decided.
    Decided(Box<CallDecision>),
    /// What it waits for: nothing is decided so far.
    Waits(Box<ApprovalResource>),
}

impl DecisionExplanation {
    fn explanation_text(&self) -> String {
        match self {
            Self::Decided(decision) => decision_text(decision),
            Self::Waits(approval) => waiting_text(approval),
        }
    }
}

/// Asks the server what its journal says of a call. Of one that was tried more than once, the last decision counts; one that
/// nothing was decided about may wait for approval, or for its turn behind one that does.
fn explain_call(
    home: &Home,
    asked: &ExplainCall,
    global: &GlobalOptions,
) -> anyhow::Result<DecisionExplanation> {
    let client = server_client(home, global);
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut found, mut after) = (None, "0".to_owned());
    loop {
        let path = format!("/v1/runs/{}/decisions?limit={LIMIT_MAX}&after={after}", asked.run);
        let page: ListPage<CallDecision> = tokio.block_on(client.get(&path))?;
        found = page.items.into_iter().rfind(|decision| decision.call == asked.call).or(found);
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    if let Some(decision) = found {
        return Ok(DecisionExplanation::Decided(Box::new(decision)));
    }
    let run: RunResource = tokio.block_on(client.get(&format!("/v1/runs/{}", asked.run)))?;
    // The newest come first: those that the agent asked for since the run began, each id minted after the run's.
    let listed = format!("/v1/approvals?agent={}&limit={LIMIT_MAX}", run.agent);
    let mut path = listed.clone();
    loop {
        let page: ListPage<ApprovalResource> = tokio.block_on(client.get(&path))?;
        let is_it = |approval: &ApprovalResource| {
            (approval.source.run, approval.source.call) == (asked.run, asked.call)
        };
        let is_older = |last: &ApprovalResource| last.id.as_bytes() < asked.run.as_bytes();
        let is_last = page.items.last().is_none_or(is_older);
        if let Some(approval) = page.items.into_iter().find(is_it) {
            return Ok(DecisionExplanation::Waits(Box::new(approval)));
        }
        match page.next.filter(|_| !is_last) {
            Some(next) => path = format!("{listed}&after={next}"),
            None => break,
        }
    }
    Err(system::ExitError::failed_error(format!(
        "there is no decision about a call {} of {}, and no person is asked about it; `dromia run show {1}` \
         lists its calls",
        asked.call, asked.run
    )))
}

fn waiting_text(approval: &ApprovalResource) -> String {
    let by = escape_hidden(approval.answer.answered_by.as_deref().unwrap_or("no one"));
    let verdict = match (approval.state, approval.deadlines.cools_until) {
        (ApprovalState::Holding | ApprovalState::Waiting, None) => {
            "none yet: the call waits for a person".to_owned()
        }
        (ApprovalState::Holding | ApprovalState::Waiting, Some(at)) => {
            format!(
                "none yet: the call is delayed until {}, and a person may deny it until then",
                format_time(at)
            )
        }
        (ApprovalState::Approved | ApprovalState::Used, _) => {
            format!("none yet: {by} approved it, and the gate judges it again before it starts")
        }
        (ApprovalState::Denied, _) => format!("none yet: {by} denied it, and its run gets the answer next"),
        (ApprovalState::Withdrawn | ApprovalState::Expired, _) => {
            "none: the call did not start, and its approval is closed".to_owned()
        }
    };
    draw_pairs(&[
        ("call", format!("{} {}", approval.source.call, escape_hidden(&approval.judged.tool))),
        ("verdict", verdict),
        ("by", DecidedBy::Approval.as_str().to_owned()),
        ("rule", escape_hidden(&approval.rule)),
        ("why", escape_hidden(&approval.reason)),
        ("approval", format!("{} ({})", approval.id, approval.state)),
        ("next", format!("dromia approval show {}", approval.id)),
    ])
}

/// A client of the server of a home.
pub(crate) fn server_client(home: &Home, global: &GlobalOptions) -> ApiClient {
    let socket = global.socket.clone().unwrap_or_else(|| home.socket_path());
    let tenant = global.tenant.as_ref().map_or(TENANT_DEFAULT, |tenant| tenant.as_str()).to_owned();
    ApiClient::new(socket, tenant, global.timeout)
}

fn decision_text(decision: &CallDecision) -> String {
    let plan = match decision.in_plan {
        Some(true) => "in the frozen plan",
        Some(false) => "outside the frozen plan",
        None => "",
    };
    let sink = match decision.network {
        Some(NetworkAccess::None) => "inside: its program would have no network access",
        Some(NetworkAccess::Proxy) => "outside: its program would have network access",
        None => "",
    };
    let is_delayed = decision.rule.as_deref().is_some_and(|rule| rule.starts_with("delay "));
    let waits = decision.waits.map(|approval| format!(" as {approval}")).unwrap_or_default();
    let verdict = match (decision.allowed, decision.by, &decision.rule) {
        (true, _, _) => "allowed".to_owned(),
        (false, DecidedBy::Approval, None) => {
            format!("waits for a person{waits}; the run continued without the call")
        }
        (false, _, _) if decision.waits.is_some() && is_delayed => {
            format!(
                "delayed{waits}; it starts by itself unless a person denies it; the run continued without the \
                 call"
            )
        }
        (false, _, _) if decision.waits.is_some() => {
            format!("waits for a person{waits}; the run continued without the call")
        }
        (false, _, _) => "refused".to_owned(),
    };
    draw_pairs(&[
        ("call", format!("{} {}", decision.call, escape_hidden(&decision.tool))),
        ("verdict", verdict),
        ("by", decision.by.as_str().to_owned()),
        ("rule", decision.rule.as_deref().map(escape_hidden).unwrap_or_default()),
        ("why", escape_hidden(&decision.why)),
        ("sink", sink.to_owned()),
        ("plan", plan.to_owned()),
        ("context", decision.context.map(|label| label.to_string()).unwrap_or_default()),
        ("endorsed", escape_hidden(&decision.endorsed.join(", "))),
        (
            "opinion",
            decision.opinion.as_ref().map(|told| escape_hidden(&told.opinion_text())).unwrap_or_default(),
        ),
        ("policy", decision.policy.map(|policy| policy.to_string()).unwrap_or_default()),
        ("entry", decision.entry.to_string()),
        ("at", format_time(decision.at)),
    ])
}

/// Compiles what a server would ask, then runs the tests of each layer.
fn test_policies(home: &Home) -> Result<PolicyTestReport, PolicyProblem> {
    let texts = PolicyTexts::read_folder(home)?;
    let workers = PolicyWorkers::of_this_program();
    texts.compile_layers(&PolicyEvaluator::Apart(workers.clone()))?;
    let files = file_rows(home, &texts)?;
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
        for end in workers.run_tests(&layer, &files)? {
            let (holds, problem) = (end.problem.is_none(), end.problem);
            rows.push(TestRow { layer: layer.clone(), test: end.name, holds, problem });
        }
    }
    Ok(PolicyTestReport { items: rows, files })
}
