//! `dromia approval`: calls that wait for a person, and rules that answer ahead.

use clap::{Args, Subcommand};
use dromia_api::{ApprovalId, RuleAnswer, SessionId};

use super::value::{parse_lifetime, rule_answer};
use super::{IdReference, PageArguments};

/// What to do with approvals.
#[derive(Debug, Clone, Subcommand)]
pub enum ApprovalCommand {
    /// List calls that wait for an answer
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia approval list\n  dromia approvals ls --all --json=id,state,tool,answered_by"
    )]
    List(ListApprovals),
    /// Show exactly what a call would run and where its arguments come from
    #[command(visible_alias = "get", after_help = "Examples:\n  dromia approval show 3f9a1c72")]
    Show(ApprovalName),
    /// Approve a call, or several of one run
    #[command(
        after_help = "Examples:\n  dromia approval approve 3f9a1c72\n  dromia approval approve 3f9a1c72 88d07b1e\n  dromia approval approve 3f9a1c72 --session\n  dromia approval approve 3f9a1c72 --always 'file.write path=notes/**'"
    )]
    Approve(ApproveCall),
    /// Deny a call, or several of one run
    #[command(after_help = "Examples:\n  dromia approval deny 3f9a1c72 --reason 'not on a Friday'")]
    Deny(DenyCall),
    /// Manage rules that answer calls for you
    #[command(
        subcommand,
        after_help = "Examples:\n  dromia approval rule list\n  dromia approval rule add notes 'file.write path=notes/**'"
    )]
    Rule(ApprovalRuleCommand),
    /// Suggest rules for calls that you approve again and again
    #[command(after_help = "Examples:\n  dromia approval suggest\n  dromia approval suggest --json")]
    Suggest,
}

/// Which approvals to list.
#[derive(Debug, Clone, Args)]
pub struct ListApprovals {
    /// Also list calls that need no answer any more
    #[arg(long)]
    pub all: bool,
    /// The page
    #[command(flatten)]
    pub page: PageArguments,
}

/// An approval, by id.
#[derive(Debug, Clone, Args)]
pub struct ApprovalName {
    /// Its id, the first or last digits of it, or @last
    #[arg(value_name = "ID")]
    pub id: IdReference<ApprovalId>,
}

/// Calls to approve.
#[derive(Debug, Clone, Args)]
pub struct ApproveCall {
    /// The approval's id, or the first or last digits of it; several of one run are approved together, all or none
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<IdReference<ApprovalId>>,
    /// Approve this one call, which is the default
    #[arg(long, conflicts_with_all = ["session", "always"])]
    pub once: bool,
    /// Approve this call and every identical one in this session, for 90 days
    #[arg(long, conflicts_with = "always")]
    pub session: bool,
    /// Approve this call and every call of its agent that matches this rule, for 90 days
    #[arg(long, value_name = "RULE")]
    pub always: Option<String>,
}

/// Calls to refuse.
#[derive(Debug, Clone, Args)]
pub struct DenyCall {
    /// The approval's id, or the first or last digits of it; several of one run are denied together, all or none
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<IdReference<ApprovalId>>,
    /// Give the agent and people this reason
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// What to do with rules.
#[derive(Debug, Clone, Subcommand)]
pub enum ApprovalRuleCommand {
    /// List rules
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia approval rule list")]
    List,
    /// Add a rule, or change one
    #[command(
        visible_alias = "new",
        after_help = "A rule is a tool and NAME=PATTERN for each argument: * matches anything but a /, ** matches anything. NAME:=JSON matches a number, true, false or null.\n\nExamples:\n  dromia approval rule add notes 'file.write path=notes/**'\n  dromia approval rule add status 'exec argv=[\"git\",\"status\"]' --expires 30d\n  dromia approval rule add no-push 'exec argv=[\"git\",\"push\"]' --answer deny"
    )]
    Add(AddRule),
    /// Remove a rule
    #[command(visible_alias = "rm", after_help = "Examples:\n  dromia approval rule remove notes")]
    Remove(RuleName),
    /// Show which earlier calls a rule would have answered
    #[command(after_help = "Examples:\n  dromia approval rule test 'file.write path=notes/**'")]
    Test(TestRule),
}

/// A rule to add.
#[derive(Debug, Clone, Args)]
pub struct AddRule {
    /// Its name, of a-z, 0-9, - and _
    pub name: String,
    /// The calls that it answers
    pub rule: String,
    /// Answer allow or deny
    #[arg(long, value_name = "ANSWER", default_value = "allow", value_parser = rule_answer)]
    pub answer: RuleAnswer,
    /// Answer only in this session
    #[arg(long, value_name = "ID")]
    pub session: Option<IdReference<SessionId>>,
    /// Answer for this long, such as 12h, 30d or 8w [default and maximum: 90d]
    #[arg(long, value_name = "TIME", value_parser = parse_lifetime)]
    pub expires: Option<u64>,
}

/// A rule, by name.
#[derive(Debug, Clone, Args)]
pub struct RuleName {
    /// Its name
    pub name: String,
}

/// A rule to try.
#[derive(Debug, Clone, Args)]
pub struct TestRule {
    /// The rule
    pub rule: String,
}
