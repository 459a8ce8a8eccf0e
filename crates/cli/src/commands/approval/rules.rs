//! `approval rule`: answers given ahead, and which calls of before a rule would have answered.
//!
//! What a rule means and which may stand is not decided here: the server decides it, and the words come from the contract.

use dromia_api::approval::{Approval, ApprovalRule, SetApprovalRule};
use dromia_api::tool::Tool;
use dromia_api::{List, Rule, RuleAnswer, RuleTool, shown};

use super::{newest, print};
use crate::args;
use crate::client::encoded;
use crate::commands::handles::Handles;
use crate::commands::{Cli, print_list};
use crate::error::{Error, Outcome};
use crate::exit::Exit;
use crate::output::{Output, time};

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::ApprovalRule,
    output: &mut Output<'_>,
) -> Outcome<Exit> {
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
            print(cli, &list, output).await
        }
    }
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
}
