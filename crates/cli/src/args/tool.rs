//! `tool`: what agents can do beside talking.

use clap::{Args, Subcommand};

/// What to do with tools.
#[derive(Debug, Clone, Subcommand)]
pub enum ToolCommand {
    /// List the tools of the agent's next run, and which it may use
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  dromia tool list\n  dromia tool list --agent dev\n  dromia tool list --agent dev --json=name,granted"
    )]
    List,
    /// Show a tool's arguments, rights and limits
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  dromia tool show exec\n  dromia tool show exec --agent dev"
    )]
    Show(ToolName),
    /// Call a tool by hand, as a run without a model
    #[command(
        after_help = "The server judges and journals the call like that of an agent. Exits with 1 if the tool failed, with 4 if the gate denied the call, and with 124 if the call waits for a person.\n\nExamples:\n  dromia tool call file.list --agent dev\n  dromia tool call exec --agent dev -d '{\"argv\":[\"ls\",\"-l\"]}'\n  dromia tool call file.write --agent dev -d - < arguments.json"
    )]
    Call(CallTool),
    /// Test the built-in tools on this machine, in a temporary home
    #[command(
        after_help = "The test touches no agent and no data. It does not call your own tools; it only checks that their servers answer. Exits with 1 if a tool does not work.\n\nExamples:\n  dromia tool test\n  dromia tool test exec\n  dromia tool test --json=name,ok,fix"
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
    /// A repeated command with the same key makes one call
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// Which tools to test.
#[derive(Debug, Clone, Args)]
pub struct TestTool {
    /// Test only this tool, such as exec
    pub name: Option<String>,
}
