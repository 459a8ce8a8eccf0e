//! `approval`: calls that wait for a person, or for a time until which a person may refuse them. What is shown of a call is
//! what would be executed, with everything that could hide in it spelled out, and each argument painted by where it comes
//! from.

mod together;
mod unrun;

use anstyle::{AnsiColor, Style};
use dromia_api::approval::{
    AnswerApproval, Approval, ApprovalRule, ArgumentOrigin, ReachKind, SetApprovalRule,
};
use dromia_api::list::LIMIT_MAX;
use dromia_api::tool::Tool;
use dromia_api::{
    AgentId, ApprovalId, ApprovalState, BoundFiles, Contents, List, Origin, Rule, RuleAnswer, RuleTool, Seen,
    shown, suggest,
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::handles::Handles;
use super::{Cli, listing, print_list};
use crate::args;
use crate::client::encoded;
use crate::error::{Error, Outcome};
use crate::exit::Exit;
use crate::output::{Output, pairs, time};

use self::together::{Steps, also_told, cut, others, told};
use self::unrun::unrun;

/// What stands word for word in what somebody trusted said.
const SAID: Style = AnsiColor::Green.on_default();
/// What the model wrote.
const WRITTEN: Style = AnsiColor::Yellow.on_default();
/// What stands in something that nobody vouches for.
const FOUND: Style = AnsiColor::Red.on_default().bold();

/// The columns of a listing; what has no bound of its own comes last.
const HEADS: [&str; 6] = ["id", "state", "agent", "answer until", "step", "call"];

/// How many characters a call has in a list; `approval show` has all of it.
const CALL_SHOWN: usize = 40;

/// A rule that would have answered calls of before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Proposed {
    /// The agent whose calls it would have answered.
    agent: String,
    /// The rule, as it would match.
    rule: String,
    /// How many calls it would have answered.
    times: usize,
    /// The command that adds it.
    command: String,
}

pub(super) async fn run(cli: &Cli<'_>, command: args::Approval, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::Approval::List(list) => {
            let filters =
                [("agent", cli.global.agent.clone()), ("open", (!list.all).then(|| "true".to_owned()))];
            let path = listing("/v1/approvals", &list.page, &filters);
            let list: List<Approval> = cli.client.get(&path).await?;
            let (handles, steps) = (Handles::read(cli, output).await, Steps::of(&list.items));
            print_list(output, &list, &HEADS, |approval| row(approval, &handles, &steps))
        }
        args::Approval::Show(name) => {
            let approval: Approval = cli.client.get(&path(&name.id)).await?;
            let handles = Handles::read(cli, output).await;
            let unrun = unrun(cli, &approval).await;
            card(&approval, &handles, unrun, output)?;
            if !output.is_json()
                && let Some(text) = told(&approval, &others(cli, &approval).await?)
            {
                output.painted_lines(&format!(
                    "
{text}"
                ))?;
            }
            Ok(Exit::Done)
        }
        args::Approval::Approve(approve) => {
            let (reach, rule) = match approve.always {
                Some(rule) => (ReachKind::Always, Some(rule)),
                None if approve.session => (ReachKind::Session, None),
                None => (ReachKind::Once, None),
            };
            let body = AnswerApproval { approve: true, reach, rule, reason: None, also: Vec::new() };
            answer(cli, &approve.ids, body, output).await
        }
        args::Approval::Deny(deny) => {
            let (reach, reason) = (ReachKind::Once, deny.reason);
            let body = AnswerApproval { approve: false, reach, rule: None, reason, also: Vec::new() };
            answer(cli, &deny.ids, body, output).await
        }
        args::Approval::Rule(command) => rule(cli, command, output).await,
        args::Approval::Suggest => {
            let known = newest(cli).await?;
            let agents: Vec<String> = known.iter().map(|approval| approval.agent.to_string()).collect();
            let seen: Vec<Seen<'_>> = known
                .iter()
                .zip(&agents)
                // What nobody answered, or the server itself, says nothing of what people want.
                .filter(|(approval, _)| approval.answered_by.is_some() && !began_by_itself(approval))
                .map(|(approval, agent)| Seen {
                    agent: agent.as_str(),
                    tool: approval.tool.as_str(),
                    arguments: approval.arguments.as_str(),
                    approved: approval.state != ApprovalState::Denied,
                })
                .collect();
            let tools: List<Tool> = cli.client.get("/v1/tools").await?;
            let rules: List<ApprovalRule> = cli.client.get("/v1/approval-rules").await?;
            // A rule of the same name would be written over.
            let is_free = |name: &String| rules.items.iter().all(|known| known.name != *name);
            let names = (1_u64..).map(|number| format!("rule-{number}")).filter(is_free);
            let found = suggest(&seen, |rule| may_stand(rule, &tools.items));
            let items = found.into_iter().zip(names).map(|(found, name)| Proposed {
                command: format!(
                    "dromia approval rule add {name} '{}' --agent {}",
                    found.rule.replace('\'', "'\\''"),
                    found.agent
                ),
                agent: found.agent,
                rule: found.rule,
                times: found.times,
            });
            let list = List { items: items.collect(), next: None };
            let handles = Handles::read(cli, output).await;
            // The command holds the rule.
            let row = |found: &Proposed| {
                let agent = found.agent.parse::<AgentId>();
                let agent = agent.map_or_else(|_| found.agent.clone(), |id| handles.of(id));
                vec![found.times.to_string(), agent, shown(&found.command)]
            };
            print_list(output, &list, &["times", "agent", "add it with"], row)
        }
    }
}

/// Answers one approval, or several of one run by one request: all of them, or none.
async fn answer(
    cli: &Cli<'_>,
    ids: &[String],
    mut body: AnswerApproval,
    output: &mut Output<'_>,
) -> Outcome<Exit> {
    let Some((first, also)) = ids.split_first() else {
        return Err(Error::Usage("name an approval: `dromia approval list` has them".to_owned()));
    };
    if !also.is_empty() && body.reach == ReachKind::Always {
        let text = "--always goes with one approval: its rule answers calls that nobody saw";
        return Err(Error::Usage(text.to_owned()));
    }
    let also = also.iter().map(|id| id.parse::<ApprovalId>());
    body.also = also.collect::<Result<Vec<_>, _>>().map_err(|error| Error::Usage(error.to_string()))?;
    let answered: Approval = cli.client.post_json(&format!("{}/answer", path(first)), &body).await?;
    output.show(&answered, |answered| {
        let by = shown(answered.answered_by.as_deref().unwrap_or("nobody"));
        let (tool, with) = (shown(&answered.tool), also_told(&body.also));
        match answered.state {
            // The same answer again, after the call that it was about.
            ApprovalState::Used => {
                format!("{} was approved by {by}, and {tool} has begun{with}", answered.id)
            }
            state => format!("{} is {state} by {by}: {tool}{with}", answered.id),
        }
    })?;
    Ok(Exit::Done)
}

async fn rule(cli: &Cli<'_>, command: args::ApprovalRule, output: &mut Output<'_>) -> Outcome<Exit> {
    match command {
        args::ApprovalRule::List => {
            let list: List<ApprovalRule> = cli.client.get("/v1/approval-rules").await?;
            let heads = ["name", "answer", "agent", "owner", "until", "set in", "rule"];
            let handles = Handles::read(cli, output).await;
            let done = print_list(output, &list, &heads, |rule| rule_row(rule, &handles))?;
            if !output.is_json() && !list.items.is_empty() {
                let tools: List<Tool> = cli.client.get("/v1/tools").await?;
                for text in list.items.iter().filter_map(|rule| dead(rule, &tools.items)) {
                    output.notice(&text)?;
                }
            }
            Ok(done)
        }
        args::ApprovalRule::Add(add) => {
            let body = SetApprovalRule {
                answer: add.answer,
                rule: add.rule,
                agent: cli.global.agent.clone(),
                session: add.session,
                expires_in_seconds: add.expires,
            };
            let path = format!("/v1/approval-rules/{}", encoded(&add.name));
            let set: ApprovalRule = cli.client.put_json(&path, &body).await?;
            let handles = Handles::read(cli, output).await;
            output.show(&set, |set| {
                let whose = whose(set, &handles);
                format!(
                    "{}: {} `{}` of {whose} until {}",
                    set.name,
                    set.answer,
                    set.rule,
                    time(set.expires_at)
                )
            })?;
            Ok(Exit::Done)
        }
        args::ApprovalRule::Remove(name) => {
            let path = format!("/v1/approval-rules/{}", encoded(&name.name));
            let removed: ApprovalRule = cli.client.delete(&path).await?;
            output.show(&removed, |removed| format!("{} is removed", removed.name))?;
            Ok(Exit::Done)
        }
        args::ApprovalRule::Test(test) => {
            let rule = Rule::parse(&test.rule).map_err(|error| Error::Usage(error.to_string()))?;
            let tools: List<Tool> = cli.client.get("/v1/tools").await?;
            // What answers no call would be taken for a rule for which no call has come yet.
            if let Some(problem) = never_answers(&rule, &tools.items) {
                return Err(Error::Usage(problem));
            }
            let known = newest(cli).await?;
            let fits = |approval: &Approval| rule.matches(&approval.tool, &approval.arguments);
            let list = List { items: known.into_iter().filter(fits).collect(), next: None };
            let (handles, steps) = (Handles::read(cli, output).await, Steps::of(&list.items));
            print_list(output, &list, &HEADS, |approval| row(approval, &handles, &steps))
        }
    }
}

/// Tells whether the server would take a rule that allows.
fn may_stand(rule: &Rule, tools: &[Tool]) -> bool {
    let Some(tool) = tools.iter().find(|tool| tool.name == rule.tool()) else { return false };
    let roles: Vec<_> = tool.roles.iter().map(|(name, role)| (name.clone(), *role)).collect();
    let known = RuleTool { parameters: &tool.arguments, roles: &roles, runs_programs: tool.limits.is_some() };
    rule.barred(RuleAnswer::Allow, &known).is_none()
}

/// Says why a rule answers no call at all, whatever it answers, and what to write instead.
fn never_answers(rule: &Rule, tools: &[Tool]) -> Option<String> {
    let Some(tool) = tools.iter().find(|tool| tool.name == rule.tool()) else {
        return Some(format!("there is no tool {:?}; `dromia tool list` lists them", rule.tool()));
    };
    let known = RuleTool { parameters: &tool.arguments, roles: &[], runs_programs: false };
    // A rule that denies may be as wide as it likes, so nothing else bars it.
    let barred = rule.barred(RuleAnswer::Deny, &known)?;
    let hint = barred.hint.map(|hint| format!("; {hint}"));
    Some(format!("{}{}", barred.problem, hint.unwrap_or_default()))
}

/// Says that a rule which stands answers no call, as one may that was added before such were refused, or whose tool is gone.
fn dead(rule: &ApprovalRule, tools: &[Tool]) -> Option<String> {
    let read = Rule::stored(&rule.rule).ok()?;
    let problem = never_answers(&read, tools)?;
    Some(format!("{} answers nothing: {}", rule.name, shown(&problem)))
}

/// The newest approvals, whether they need an answer or not.
async fn newest(cli: &Cli<'_>) -> Outcome<Vec<Approval>> {
    let list: List<Approval> = cli.client.get(&format!("/v1/approvals?limit={LIMIT_MAX}")).await?;
    Ok(list.items)
}

fn path(id: &str) -> String {
    format!("/v1/approvals/{}", encoded(id))
}

/// Shows the exact call.
fn card(approval: &Approval, handles: &Handles, unrun: Option<String>, output: &mut Output<'_>) -> Outcome {
    if output.is_json() {
        return output.document(approval);
    }
    let answered = approval.answered_by.as_ref().map(|by| {
        let at = approval.answered_at.map(|at| format!(", {}", time(at))).unwrap_or_default();
        let reason = approval.answer_reason.as_deref().map(|why| format!(": {}", shown(why)));
        format!("{}{at}{}", shown(by), reason.unwrap_or_default())
    });
    let who = if approval.approvers.is_empty() {
        "whoever has the scope `approve`".to_owned()
    } else {
        shown(&approval.approvers.join(", "))
    };
    // What is over waits for nobody, and takes no answer.
    let while_open = |text: String| if approval.state.is_open() { text } else { String::new() };
    let refused = "at once: nobody attends the session that asked (approvals.unattended)";
    let text = pairs(&[
        ("approval", approval.id.to_string()),
        ("state", approval.state.to_string()),
        ("agent", handles.whole(approval.agent)),
        ("for", shown(&approval.author)),
        ("run", format!("{} {}", approval.run, approval.call)),
        ("asked by", format!("{}: {}", shown(&approval.rule), shown(&approval.reason))),
        ("second opinion", approval.opinion.as_ref().map(|told| shown(&told.text())).unwrap_or_default()),
        ("refused", if approval.unattended { refused.to_owned() } else { String::new() }),
        ("run waits", while_open(format!("until {}", time(approval.holds_until)))),
        (
            "begins by itself",
            while_open(approval.cools_until.map(|at| begins(at, approval)).unwrap_or_default()),
        ),
        ("answer", while_open(format!("until {}, by {who}", time(approval.expires_at)))),
        ("answered", answered.unwrap_or_default()),
        ("did not run", unrun.unwrap_or_default()),
        ("call began", approval.used_by.map(|run| run.to_string()).unwrap_or_default()),
        ("files", approval.contents.map(held).unwrap_or_default()),
        ("action", approval.action.to_string()),
    ]);
    let mut lines = vec![text, String::new(), shown(&approval.tool)];
    if let Ok(fields) = serde_json::from_str::<Map<String, Value>>(&approval.arguments) {
        for (name, value) in &fields {
            let origin = approval.origins.iter().find(|known| known.name == *name);
            lines.push(argument(name, value, origin, output));
        }
    } else {
        // What is no object is shown as it stands.
        lines.push(format!("  {}", shown(&approval.arguments)));
    }
    lines.push(String::new());
    let context = output.context();
    let columns = context.columns.filter(|_| context.out_is_terminal);
    lines.push(legend(columns, &|style, word| output.paint(style, word)));
    output.painted_lines(&lines.join("\n"))
}

/// Says what the words behind the arguments mean; on a terminal as many of them in a line as there is place for.
fn legend(columns: Option<u16>, paint: &dyn Fn(Style, &str) -> String) -> String {
    const BETWEEN: &str = " · ";
    let words = [
        (SAID, "[default]", "what the tool takes by itself"),
        (SAID, "[said]", "said by somebody trusted"),
        (WRITTEN, "[written]", "written by the model"),
        (FOUND, "[found]", "found in something nobody vouches for"),
    ];
    let (mut told, mut column) = (String::new(), 0);
    for (style, word, meaning) in words {
        // What paints a word takes no place.
        let length = word.len() + 1 + meaning.len();
        let between = BETWEEN.chars().count();
        let fits = columns.is_none_or(|columns| column + between + length <= usize::from(columns));
        match column {
            0 => {}
            _ if fits => {
                told.push_str(BETWEEN);
                column += between;
            }
            _ => {
                told.push('\n');
                column = 0;
            }
        }
        told.extend([paint(style, word).as_str(), " ", meaning]);
        column += length;
    }
    told
}

/// Says to which files the approval of a program is bound.
fn held(contents: Contents) -> String {
    let Contents { files, extent, .. } = contents;
    match (extent, files) {
        (BoundFiles::All, 0) => "none, as long as the workspace stays empty".to_owned(),
        (BoundFiles::All, 1) => "the 1 of the workspace, as it was when it was asked for".to_owned(),
        (BoundFiles::All, _) => format!("all {files} of the workspace, as they were when it was asked for"),
        (BoundFiles::Named, 0) => {
            "none: the call names none, and no others are held to (approvals.files)".to_owned()
        }
        (BoundFiles::Named, _) => {
            format!(
                "{files} that the call names, as they were when it was asked for; no others (approvals.files)"
            )
        }
    }
}

/// Says when a delayed call begins, and how long that is while it waits.
fn begins(at: Timestamp, approval: &Approval) -> String {
    let left = approval.cools_in_seconds.map(|seconds| format!(", in {}", span(seconds)));
    format!("{}{}", time(at), left.unwrap_or_default())
}

/// Writes a span of time in its two greatest units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// Tells whether time allowed a call and nobody did.
fn began_by_itself(approval: &Approval) -> bool {
    approval.cools_until.is_some_and(|until| approval.answered_at.is_some_and(|at| at >= until))
}

fn argument(name: &str, value: &Value, origin: Option<&ArgumentOrigin>, output: &Output<'_>) -> String {
    let text = match value {
        Value::String(text) => shown(text),
        value => shown(&value.to_string()),
    };
    let (style, word) = match origin.map(|known| known.origin) {
        Some(Origin::Default) => (SAID, "default"),
        Some(Origin::Said) => (SAID, "said"),
        Some(Origin::Found) => (FOUND, "found"),
        Some(Origin::Written) | None => (WRITTEN, "written"),
    };
    let label = origin.map(|known| format!(" {}", known.label)).unwrap_or_default();
    // On a line of its own, which no value can begin: line breaks are spelled out.
    let quote = origin.and_then(|known| known.quote.as_deref());
    let quote = quote.map(|quote| format!("\n      it stands in: {}", shown(quote))).unwrap_or_default();
    // The mark goes first: behind the value, a value could end with a mark of its own.
    format!("  [{word}{label}]  {}  {}{quote}", shown(name), output.paint(style, &text))
}

fn row(approval: &Approval, handles: &Handles, steps: &Steps) -> Vec<String> {
    let call = cut(&format!("{} {}", shown(&approval.tool), shown(&approval.arguments)), CALL_SHOWN);
    let until = match approval.cools_in_seconds {
        // Until then it may be refused.
        Some(seconds) => format!("begins in {}", span(seconds)),
        None if approval.state.is_open() => time(approval.expires_at),
        None => String::new(),
    };
    let (id, state) = (approval.id.to_string(), approval.state.to_string());
    // Calls of one step have one mark.
    vec![id, state, handles.of(approval.agent), until, steps.mark(approval), call]
}

fn rule_row(rule: &ApprovalRule, handles: &Handles) -> Vec<String> {
    vec![
        rule.name.clone(),
        rule.answer.to_string(),
        whose(rule, handles),
        if rule.declared { String::new() } else { rule.owner.clone() },
        if rule.declared { String::new() } else { time(rule.expires_at) },
        // No command changes one of the file.
        if rule.declared { "dromia.yaml" } else { "" }.to_owned(),
        shown(&rule.rule),
    ]
}

/// Says for whose calls a rule answers.
fn whose(rule: &ApprovalRule, handles: &Handles) -> String {
    let agent = rule.agent.map_or_else(|| "every agent".to_owned(), |agent| handles.of(agent));
    match rule.session {
        Some(session) => format!("{agent} in {session}"),
        None => agent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_before_that_answers_no_call_is_told() {
        let tool = serde_json::json!({
            "name": "exec", "description": "Runs.", "effect": "unkeyed", "roles": {},
            "result_label": "untrusted/agent", "privileged": false,
            "arguments": {"type": "object", "properties": {"argv": {"type": "array"}, "cwd": {"type": "string"}}},
        });
        let tools: Vec<Tool> = vec![serde_json::from_value(tool).expect("a tool")];
        let told = |text: &str| {
            let rule = serde_json::json!({
                "name": "n4", "answer": "deny", "rule": text, "owner": "cli:0",
                "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z",
            });
            dead(&serde_json::from_value(rule).expect("a rule"), &tools)
        };
        assert_eq!(told(r#"exec argv=["git","push"]"#), None);
        assert_eq!(told("exec cwd=5"), None, "what was stored means the text, too");
        let never = told("exec argv=git*").expect("it is told");
        assert!(never.starts_with("n4 answers nothing: argv of exec is a list"), "{never}");
        assert!(told("nope x=y").is_some_and(|never| never.contains("there is no tool")));
    }

    #[test]
    fn a_span_is_told_in_its_two_greatest_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m 0s"), (599, "9m 59s"), (3_660, "1h 1m"), (90_000, "1d 1h")]
        {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn the_legend_keeps_to_the_width_of_a_terminal_whatever_is_painted() {
        let plain = |_: Style, word: &str| word.to_owned();
        let wide = "[default] what the tool takes by itself · [said] said by somebody trusted · [written] written by the \
                    model · [found] found in something nobody vouches for";
        assert_eq!(legend(None, &plain), wide, "nothing is broken for a pipe");
        let painted = |_: Style, word: &str| format!("\u{1b}[1;31m{word}\u{1b}[0m");
        for (columns, lines) in [(160, 1), (80, 2), (50, 4)] {
            let told = legend(Some(columns), &plain);
            assert!(told.lines().all(|line| line.chars().count() <= usize::from(columns)), "{told}");
            assert_eq!(told.replace('\n', " · "), wide);
            assert_eq!(told.lines().count(), lines, "{told}");
            assert_eq!(legend(Some(columns), &painted).lines().count(), lines);
        }
    }
}
