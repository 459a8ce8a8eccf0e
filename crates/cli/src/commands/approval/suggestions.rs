//! `approval suggest`: rules that would have answered what people approved again and again.
//!
//! It adds none: each comes with the command that does.

use dromia_api::approval::{ApprovalResource, ApprovalRuleResource};
use dromia_api::tool::ToolResource;
use dromia_api::{
    AgentId, AnsweredCall, ApprovalState, ListPage, ParsedRule, RuleAnswer, RuleTool, escape_hidden,
    suggest_rules,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::newest_approvals;
use crate::commands::agent_names::AgentHandles;
use crate::commands::{Cli, print_list};
use crate::error::Outcome;
use crate::exit::CommandExit;
use crate::output::CommandOutput;

/// A rule that would have answered earlier calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::commands) struct RuleProposal {
    /// The agent whose calls it would have answered.
    agent: String,
    /// The rule, as it would match.
    rule: String,
    /// How many calls it would have answered.
    times: usize,
    /// The command that adds it.
    command: String,
}

/// Proposes rules from the newest approvals, under names that are free.
pub(super) async fn propose_rules(cli: &Cli<'_>, output: &mut CommandOutput<'_>) -> Outcome<CommandExit> {
    let known = newest_approvals(cli).await?;
    let agents: Vec<String> = known.iter().map(|approval| approval.source.agent.to_string()).collect();
    let seen: Vec<AnsweredCall<'_>> = known
        .iter()
        .zip(&agents)
        // Approvals without an answer, or with one of the server itself, say nothing of what people want.
        .filter(|(approval, _)| approval.answer.answered_by.is_some() && !began_by_itself(approval))
        .map(|(approval, agent)| AnsweredCall {
            agent: agent.as_str(),
            tool: approval.judged.tool.as_str(),
            arguments: approval.judged.arguments.as_str(),
            approved: approval.state != ApprovalState::Denied,
        })
        .collect();
    let tools: ListPage<ToolResource> = cli.client.get("/v1/tools").await?;
    let rules: ListPage<ApprovalRuleResource> = cli.client.get("/v1/approval-rules").await?;
    // A rule of the same name would be written over.
    let is_free = |name: &String| rules.items.iter().all(|known| known.name != *name);
    let names = (1_u64..).map(|number| format!("rule-{number}")).filter(is_free);
    let found = suggest_rules(&seen, |rule| may_stand(rule, &tools.items));
    let items = found.into_iter().zip(names).map(|(found, name)| RuleProposal {
        command: format!(
            "dromia approval rule add {name} '{}' --agent {}",
            found.rule.replace('\'', "'\\''"),
            found.agent
        ),
        agent: found.agent,
        rule: found.rule,
        times: found.times,
    });
    let list = ListPage { items: items.collect(), next: None };
    let handles = AgentHandles::fetch_page(cli, output).await;
    // The command holds the rule.
    let row = |found: &RuleProposal| {
        let agent = found.agent.parse::<AgentId>();
        let agent = agent.map_or_else(|_| found.agent.clone(), |id| handles.display_name(id));
        vec![found.times.to_string(), agent, escape_hidden(&found.command)]
    };
    print_list(output, &list, &["times", "agent", "add the rule with"], row)
}

/// Tells whether the server would take a rule that allows.
pub(in crate::commands) fn may_stand(rule: &ParsedRule, tools: &[ToolResource]) -> bool {
    let Some(tool) = tools.iter().find(|tool| tool.name == rule.tool_name()) else { return false };
    let roles: Vec<_> = tool.roles.iter().map(|(name, role)| (name.clone(), *role)).collect();
    let known = RuleTool { parameters: &tool.arguments, roles: &roles, runs_programs: tool.limits.is_some() };
    rule.find_rejection(RuleAnswer::Allow, &known).is_none()
}

/// Tells whether the end of the delay allowed a call, and not a person.
fn began_by_itself(approval: &ApprovalResource) -> bool {
    approval
        .deadlines
        .cools_until
        .is_some_and(|until| approval.answer.answered_at.is_some_and(|at| at >= until))
}
