//! Who may answer, and which rule a caller may make with an answer.
//!
//! The server decides both; this only keeps a person from being asked what would be refused.

use dromia_api::approval::ApprovalResource;
use dromia_api::token::WhoamiResponse;
use dromia_api::tool::ToolResource;
use dromia_api::{ListPage, ParsedRule, TokenScope};
use serde_json::{Map, Value};

use crate::commands::Cli;
use crate::commands::approval::may_stand;

/// Tells whether a caller may answer an approval.
pub(super) fn may_answer(who: &WhoamiResponse, approval: &ApprovalResource) -> bool {
    let token = who.token.map(|token| format!("token:{token}"));
    let is_named = |name: &String| *name == who.actor || Some(name) == token.as_ref();
    who.scopes.allows(TokenScope::Approve)
        && (approval.approvers.is_empty() || approval.approvers.iter().any(is_named))
}

/// The narrowest rule that would answer this call from now on, if the caller may make it and the server takes it.
pub(super) async fn find_rule(
    cli: &Cli<'_>,
    who: &WhoamiResponse,
    approval: &ApprovalResource,
) -> Option<String> {
    if !who.scopes.allows(TokenScope::Admin) {
        return None;
    }
    let tools: ListPage<ToolResource> = cli.client.get("/v1/tools").await.ok()?;
    let tool = tools.items.iter().find(|tool| tool.name == approval.judged.tool)?;
    let fits = |rule: &ParsedRule| {
        rule.matches_call(&approval.judged.tool, &approval.judged.arguments) && may_stand(rule, &tools.items)
    };
    let rules = target_rule(tool, &approval.judged.arguments).into_iter();
    let exact = ParsedRule::for_exact_call(&approval.judged.tool, &approval.judged.arguments);
    rules.chain(exact).find(fits).map(|rule| rule.to_string())
}

/// The rule for whatever a tool does at the targets of this call; nothing for one that runs programs, where each word
/// counts.
fn target_rule(tool: &ToolResource, arguments: &str) -> Option<ParsedRule> {
    let mut fields: Map<String, Value> = serde_json::from_str(arguments).ok()?;
    fields.retain(|name, _| tool.roles.get(name).is_some_and(|role| role.selects_target()));
    if fields.is_empty() || tool.limits.is_some() {
        return None;
    }
    let exact = ParsedRule::for_exact_call(&tool.name, &Value::Object(fields).to_string())?.to_string();
    // Other arguments, such as what is written, may be anything.
    ParsedRule::parse(exact.strip_suffix(" only")?).ok()
}
