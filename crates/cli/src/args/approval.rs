//! `dromia approval`: calls that wait for a person, and rules that answer ahead.

use clap::{Args, Subcommand};
use dromia_api::{RuleAnswer, SessionId};

use super::Listing;
use super::value::{lifetime, rule_answer};

/// What to do with approvals.
#[derive(Debug, Clone, Subcommand)]
pub enum Approval {
    /// List calls that wait for an answer
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia approval list\n  dromia approvals ls --all --json=id,state,tool,answered_by"
    )]
    List(ListApprovals),
    /// Show a call: exactly what would run, and where its arguments come from
    #[command(visible_alias = "get", after_help = "Examples:\n  dromia approval show apr_0199c0de…")]
    Show(ApprovalName),
    /// Approve a call, or several of one run
    #[command(
        after_help = "Examples:\n  dromia approval approve apr_0199c0de…\n  dromia approval approve apr_0199c0de… apr_0199c0df…\n  dromia approval approve apr_0199c0de… --session\n  dromia approval approve apr_0199c0de… --always 'file.write path=notes/**'"
    )]
    Approve(ApproveCall),
    /// Refuse a call, or several of one run
    #[command(after_help = "Examples:\n  dromia approval deny apr_0199c0de… --reason 'not on a Friday'")]
    Deny(DenyCall),
    /// Keep rules that answer in your place
    #[command(subcommand)]
    Rule(ApprovalRule),
    /// Propose rules for what was approved again and again
    #[command(after_help = "Examples:\n  dromia approval suggest\n  dromia approval suggest --json")]
    Suggest,
}

/// Which approvals to list.
#[derive(Debug, Clone, Args)]
pub struct ListApprovals {
    /// Those that need no answer any more, too
    #[arg(long)]
    pub all: bool,
    /// The page
    #[command(flatten)]
    pub page: Listing,
}

/// An approval, by id.
#[derive(Debug, Clone, Args)]
pub struct ApprovalName {
    /// Its id
    pub id: String,
}

/// Calls to approve.
#[derive(Debug, Clone, Args)]
pub struct ApproveCall {
    /// The approval's id; several of one run are approved together, all of them or none
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// This one call, which is meant if nothing else is said
    #[arg(long, conflicts_with_all = ["session", "always"])]
    pub once: bool,
    /// This call, and the very same one as often as it comes in this session, for 90 days
    #[arg(long, conflicts_with = "always")]
    pub session: bool,
    /// This call, and whatever this rule matches of its agent, for 90 days
    #[arg(long, value_name = "RULE")]
    pub always: Option<String>,
}

/// Calls to refuse.
#[derive(Debug, Clone, Args)]
pub struct DenyCall {
    /// The approval's id; several of one run are refused together, all of them or none
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    /// Why, for the agent and for people
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// What to do with rules.
#[derive(Debug, Clone, Subcommand)]
pub enum ApprovalRule {
    /// List rules, as they match
    #[command(visible_alias = "ls", after_help = "Examples:\n  dromia approval rule list")]
    List,
    /// Add a rule, or change one
    #[command(
        visible_alias = "new",
        after_help = "Examples:\n  dromia approval rule add notes 'file.write path=notes/**'\n  dromia approval rule add status 'exec argv=[\"git\",\"status\"]' --agent ops --expires 30d\n  dromia approval rule add no-push 'exec argv=[\"git\",\"push\"]' --answer deny\n\nA rule is a tool and NAME=PATTERN for its arguments: * is anything but a /, ** is anything; NAME:=JSON is a number, true, false or null."
    )]
    Add(AddRule),
    /// Remove a rule
    #[command(visible_alias = "rm", after_help = "Examples:\n  dromia approval rule remove notes")]
    Remove(RuleName),
    /// Show which calls of before a rule would have answered
    #[command(after_help = "Examples:\n  dromia approval rule test 'file.write path=notes/**'")]
    Test(TestRule),
}

/// A rule to add.
#[derive(Debug, Clone, Args)]
pub struct AddRule {
    /// What it is called: a-z, 0-9, - and _
    pub name: String,
    /// Which calls it answers
    pub rule: String,
    /// What it answers: allow or deny
    #[arg(long, value_name = "ANSWER", default_value = "allow", value_parser = rule_answer)]
    pub answer: RuleAnswer,
    /// Only in this session
    #[arg(long, value_name = "ID")]
    pub session: Option<SessionId>,
    /// How long it answers, such as 12h, 30d or 8w; 90 days at most, and if nothing is said
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
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
