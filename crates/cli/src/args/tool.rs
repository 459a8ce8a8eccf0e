//! `tool`: what agents can do beside talking.

use clap::{Args, Subcommand};

/// What to do with tools.
#[derive(Debug, Clone, Subcommand)]
pub enum Tool {
    /// List tools, and which of them the agent may use
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia tool list\n  dromia tool list --agent dev\n  dromia tool list --agent dev --json=name,granted"
    )]
    List,
    /// Show a tool: what it takes, what it may do, and the limits that are in force
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia tool show exec\n  dromia tool show exec --agent dev"
    )]
    Show(ToolName),
    /// Call a tool by hand; it is judged, run and journaled as a run without a model
    #[command(
        after_help = "Examples:\n  dromia tool call file.list --agent dev\n  dromia tool call exec --agent dev -d '{\"argv\":[\"ls\",\"-l\"]}'\n  dromia tool call file.write --agent dev -d - < arguments.json\n\nExits with 1 if the tool failed, with 4 if the gate refused the call, and with 124 if the call waits for a person."
    )]
    Call(CallTool),
    /// Call tools on this machine, in a home of their own that goes away, and say which do not work
    #[command(
        after_help = "Examples:\n  dromia tool test\n  dromia tool test exec\n  dromia tool test --json=name,ok,fix\n\nNo agent and no data is touched. A tool of your own is not called; its server is asked whether it answers. Exits with 1 if a tool does not work."
    )]
    Test(TestTool),
}

/// A tool, by name.
#[derive(Debug, Clone, Args)]
pub struct ToolName {
    /// Its name, such as file.read
    pub name: String,
}

/// A call by hand.
#[derive(Debug, Clone, Args)]
pub struct CallTool {
    /// The tool's name, such as file.read
    pub name: String,
    /// Its arguments as a JSON object, or - for those on stdin
    #[arg(long, short, value_name = "JSON", default_value = "{}")]
    pub data: String,
    /// Makes a repeated command one call
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// Which tools to test.
#[derive(Debug, Clone, Args)]
pub struct TestTool {
    /// Only this one, such as exec
    pub name: Option<String>,
}
