//! `approval suggest`: rules that would have answered what people approved again and again.
//!
//! It adds none: each comes with the command that does.

use dromia_api::approval::{Approval, ApprovalRule};
use dromia_api::tool::Tool;
use dromia_api::{AgentId, ApprovalState, List, Rule, RuleAnswer, RuleTool, Seen, shown, suggest};
use schemars::JsonSchema;
use serde::Serialize;

use super::newest;
use crate::commands::handles::Handles;
use crate::commands::{Cli, print_list};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::output::Output;

/// A rule that would have answered calls of before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::commands) struct Proposed {
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
pub(super) async fn propose(cli: &Cli<'_>, output: &mut Output<'_>) -> Outcome<Exit> {
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

/// Tells whether the server would take a rule that allows.
fn may_stand(rule: &Rule, tools: &[Tool]) -> bool {
    let Some(tool) = tools.iter().find(|tool| tool.name == rule.tool()) else { return false };
    let roles: Vec<_> = tool.roles.iter().map(|(name, role)| (name.clone(), *role)).collect();
    let known = RuleTool { parameters: &tool.arguments, roles: &roles, runs_programs: tool.limits.is_some() };
    rule.barred(RuleAnswer::Allow, &known).is_none()
}

/// Tells whether time allowed a call and nobody did.
fn began_by_itself(approval: &Approval) -> bool {
    approval.cools_until.is_some_and(|until| approval.answered_at.is_some_and(|at| at >= until))
}
