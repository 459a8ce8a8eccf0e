//! `approval rule`: answers given ahead, and which earlier calls a rule would have answered.
//!
//! The server decides what a rule means and which rules are valid; the words come from the contract.

use dromia_api::approval::{ApprovalResource, ApprovalRuleResource, SetApprovalRule};
use dromia_api::tool::ToolResource;
use dromia_api::{ListPage, ParsedRule, RuleAnswer, RuleTool, escape_hidden};

use super::{newest_approvals, print_approvals};
use crate::args;
use crate::client::percent_encode;
use crate::commands::agent_names::AgentHandles;
use crate::commands::{Cli, print_list};
use crate::error::{Error, Outcome};
use crate::exit::CommandExit;
use crate::output::{CommandOutput, format_time};

pub(super) async fn run(
    cli: &Cli<'_>,
    command: args::ApprovalRuleCommand,
    output: &mut CommandOutput<'_>,
) -> Outcome<CommandExit> {
    match command {
        args::ApprovalRuleCommand::List => {
            let list: ListPage<ApprovalRuleResource> = cli.client.get("/v1/approval-rules").await?;
            let heads = ["name", "answer", "agent", "owner", "until", "set in", "rule"];
            let handles = AgentHandles::fetch_page(cli, output).await;
            let done = print_list(output, &list, &heads, |rule| rule_row(rule, &handles))?;
            if !output.is_json() && !list.items.is_empty() {
                let tools: ListPage<ToolResource> = cli.client.get("/v1/tools").await?;
                for text in list.items.iter().filter_map(|rule| unused_rule_warning(rule, &tools.items)) {
                    output.print_notice(&text)?;
                }
            }
            Ok(done)
        }
        args::ApprovalRuleCommand::Add(add) => {
            let session = cli.resolve_option(add.session, output).await?;
            let body = SetApprovalRule {
                answer: add.answer,
                rule: add.rule,
                agent: cli.global.agent.clone(),
                session,
                expires_in_seconds: add.expires,
            };
            let path = format!("/v1/approval-rules/{}", percent_encode(&add.name));
            let set: ApprovalRuleResource = cli.client.put_json(&path, &body).await?;
            let handles = AgentHandles::fetch_page(cli, output).await;
            output.print_result(&set, |set| {
                let whose = rule_scope_text(set, &handles);
                format!(
                    "{}: {} `{}` of {whose} until {}",
                    set.name,
                    set.answer,
                    set.rule,
                    format_time(set.expires_at)
                )
            })?;
            Ok(CommandExit::Done)
        }
        args::ApprovalRuleCommand::Remove(name) => {
            let path = format!("/v1/approval-rules/{}", percent_encode(&name.name));
            let removed: ApprovalRuleResource = cli.client.delete(&path).await?;
            output.print_result(&removed, |removed| format!("{} is removed", removed.name))?;
            Ok(CommandExit::Done)
        }
        args::ApprovalRuleCommand::Test(test) => {
            let rule = ParsedRule::parse(&test.rule).map_err(|error| Error::Usage(error.to_string()))?;
            let tools: ListPage<ToolResource> = cli.client.get("/v1/tools").await?;
            // What answers no call would be taken for a rule for which no call has come yet.
            if let Some(problem) = never_answers(&rule, &tools.items) {
                return Err(Error::Usage(problem));
            }
            let known = newest_approvals(cli).await?;
            let fits = |approval: &ApprovalResource| {
                rule.matches_call(&approval.judged.tool, &approval.judged.arguments)
            };
            let list = ListPage { items: known.into_iter().filter(fits).collect(), next: None };
            print_approvals(cli, &list, output).await
        }
    }
}

/// Says why a rule answers no call at all, whatever it answers, and what to write instead.
fn never_answers(rule: &ParsedRule, tools: &[ToolResource]) -> Option<String> {
    let Some(tool) = tools.iter().find(|tool| tool.name == rule.tool_name()) else {
        return Some(format!("there is no tool {:?}; `dromia tool list` lists them", rule.tool_name()));
    };
    let known = RuleTool { parameters: &tool.arguments, roles: &[], runs_programs: false };
    // A rule that denies may be as wide as it likes, so nothing else bars it.
    let barred = rule.find_rejection(RuleAnswer::Deny, &known)?;
    let hint = barred.hint.map(|hint| format!("; {hint}"));
    Some(format!("{}{}", barred.problem, hint.unwrap_or_default()))
}

/// Warns about a rule that answers no call: its tool is gone, or takes other arguments now.
fn unused_rule_warning(rule: &ApprovalRuleResource, tools: &[ToolResource]) -> Option<String> {
    let read = ParsedRule::parse(&rule.rule).ok()?;
    let problem = never_answers(&read, tools)?;
    Some(format!("{} answers nothing: {}", rule.name, escape_hidden(&problem)))
}

fn rule_row(rule: &ApprovalRuleResource, handles: &AgentHandles) -> Vec<String> {
    vec![
        rule.name.clone(),
        rule.answer.to_string(),
        rule_scope_text(rule, handles),
        if rule.declared { String::new() } else { rule.owner.clone() },
        if rule.declared { String::new() } else { format_time(rule.expires_at) },
        // No command changes one of the file.
        if rule.declared { "dromia.yaml" } else { "" }.to_owned(),
        escape_hidden(&rule.rule),
    ]
}

/// Says for whose calls a rule answers.
fn rule_scope_text(rule: &ApprovalRuleResource, handles: &AgentHandles) -> String {
    let agent = rule.agent.map_or_else(|| "every agent".to_owned(), |agent| handles.display_name(agent));
    match rule.session {
        Some(session) => format!("{agent} in {session}"),
        None => agent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_rule_that_matches_no_call_is_reported() {
        let tool = serde_json::json!({
            "name": "exec", "description": "Runs.", "effect": "unkeyed", "roles": {},
            "result_label": "untrusted/agent", "privileged": false,
            "arguments": {"type": "object", "properties": {"argv": {"type": "array"}, "cwd": {"type": "string"}}},
        });
        let tools: Vec<ToolResource> = vec![serde_json::from_value(tool).expect("a tool")];
        let told = |text: &str| {
            let rule = serde_json::json!({
                "name": "n4", "answer": "deny", "rule": text, "owner": "cli:0",
                "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z",
            });
            unused_rule_warning(&serde_json::from_value(rule).expect("a rule"), &tools)
        };
        assert_eq!(told(r#"exec argv=["git","push"]"#), None);
        assert_eq!(told("exec cwd=5"), None, "what was stored means the text, too");
        let never = told("exec argv=git*").expect("it is told");
        assert!(never.starts_with("n4 answers nothing: argv of exec is a list"), "{never}");
        assert!(told("nope x=y").is_some_and(|never| never.contains("there is no tool")));
    }
}
