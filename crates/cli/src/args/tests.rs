//! The command line as it is typed and as it is shown.

use clap::{CommandFactory, Parser};
use dromia_api::TokenScope;

use super::*;

#[derive(Debug, Parser)]
#[command(name = "dromia")]
struct Cli {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: ClientCommand,
}

const RUN: &str = "run_0199c0de000000000000000000000000";

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("dromia").chain(line.split(' ')))
}

#[test]
fn the_command_line_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn plurals_and_short_verbs_are_taken() {
    for line in [
        "agents ls",
        "agent new ops",
        "agent get ops",
        "agent rm ops --yes",
        "agent kill ops",
        "agent spawn ops --task count --wait --idempotency-key k",
        "agent tasks ops --state paused --limit 3",
        "tenants new acme",
        "tokens new ci --scope read --scope invoke --expires 30d",
        "tokens ls",
        "token rm ci",
        "budgets ls",
        "budget set strangers --per actor --measure calls --period hour --limit 20",
        "budget rm daily",
        "whoami",
        "sessions ls --agent ops",
        "runs ls --status running",
        "events send hello",
        "costs summary --since 24h --by day",
    ] {
        assert!(parsed(line).is_ok(), "{line}: {:?}", parsed(line).err());
    }
    assert!(matches!(
        parsed(&format!("runs kill {RUN}")).unwrap().command,
        ClientCommand::Run(RunCommand::Terminate(_))
    ));
}

#[test]
fn an_invalid_argument_is_a_usage_error() {
    for line in [
        "run show ses_0199c0de000000000000000000000000",
        "run list --status asleep",
        "run cancel",
        "run terminate",
        "run resume",
        "run show abc",
        "run show ses_0199",
        "capability revoke",
        "token revoke",
        "run show run_0199c0de000000000000000000000000 --step 1",
        "run show run_0199c0de000000000000000000000000 --request",
        "run show run_0199c0de000000000000000000000000 --attempt 1",
        "run show run_0199c0de000000000000000000000000 --step 0 --request",
        "run show run_0199c0de000000000000000000000000 --step 1 --request --json",
        "run show run_0199c0de000000000000000000000000 --step 1 --request -o json",
        "run show run_0199c0de000000000000000000000000 --step 1 --request --jsonl",
        "run list --limit 0",
        "cost summary --by moon",
        "cost show ses_0199c0de000000000000000000000000",
        "agent create Ops",
        "agent spawn ops",
        "agent tasks ops --state asleep",
        "agent kill ops --run ses_0199c0de000000000000000000000000",
        "agent kill ops --run run_0199c0de000000000000000000000000 --session ses_0199c0de000000000000000000000000",
        "ask hello --timeout 0s",
        "ask hello --json=reply --jsonl",
        "status --color sometimes",
        "status -o xml",
        "ask hello --timeout 5d",
        "event send hello --session ses_0199c0de000000000000000000000000 --channel x",
        "token create",
        "token create ci --scope root",
        "budget set daily",
        "budget set daily --limit 5 --per nobody",
        "budget set daily --limit 5 --period week",
        "token create ci --expires 30",
        "token create ci --expires 0d",
        "token create ci --expires 3y",
        "token create ci --expires 3651d",
        "capability grant ops tool:time.now --expires 3651d",
    ] {
        let refused = parsed(line).err().map(|error| error.exit_code());
        assert_eq!(refused, Some(2), "{line}");
    }
}

#[test]
fn a_token_talks_and_reads_unless_scopes_are_named() {
    let created = |line: &str| match parsed(line).unwrap().command {
        ClientCommand::Token(TokenCommand::Create(new)) => new,
        other => panic!("{other:?}"),
    };
    let plain = created("token create ci");
    assert_eq!((plain.scopes, plain.expires), (vec![TokenScope::Read, TokenScope::Invoke], None));
    let named = created("token create ci --scope admin --expires 8w");
    assert_eq!((named.scopes, named.expires), (vec![TokenScope::Admin], Some(8 * 7 * 86_400)));
    let seconds =
        ["90s", "5m", "12h", "30d"].map(|time| created(&format!("token new x --expires {time}")).expires);
    assert_eq!(seconds, [Some(90), Some(300), Some(43_200), Some(2_592_000)]);
}

#[test]
fn an_expiry_too_far_ahead_names_the_typed_flag() {
    for line in ["token create ci", "capability grant ops tool:time.now"] {
        let refused = parsed(&format!("{line} --expires 3651d")).unwrap_err().to_string();
        assert!(
            refused.contains("--expires") && refused.contains("must not be longer than 3650d"),
            "{refused}"
        );
        assert!(parsed(&format!("{line} --expires 3650d")).is_ok(), "{line}");
    }
}

#[test]
fn json_is_a_flag_that_may_name_fields() {
    let fields = |line: &str| {
        let json = parsed(line).unwrap().global.json;
        json.map(|fields| fields.field_names().join(" "))
    };
    assert_eq!(fields("run list"), None);
    assert_eq!(fields("run list --json"), Some(String::new()));
    assert_eq!(fields("--json run list"), Some(String::new()));
    assert_eq!(fields("run list --json=id,status --limit 3"), Some("id status".to_owned()));
    // What follows the bare flag is never its value.
    assert_eq!(fields("ask --json hello"), Some(String::new()));
}

#[test]
fn every_command_takes_the_jsonl_flag_in_any_position() {
    let by_line = |line: &str| parsed(line).unwrap().global.jsonl;
    assert!(!by_line("run list"));
    for line in [
        "run list --jsonl",
        "--jsonl run list",
        "run list --jsonl --json=id",
        "agent show ops --jsonl",
        "status --jsonl",
        // Those that say in words of their own what their lines are.
        "ask hello --jsonl",
        "--jsonl ask hello",
        "audit tail --jsonl",
    ] {
        assert!(by_line(line), "{line}");
    }
}

#[test]
fn every_page_ends_with_an_example() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        command.get_subcommands().for_each(|command| check(command, &path));
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let last = help.rsplit("\n\n").next().unwrap_or_default();
        let is_example = last.starts_with("Examples:\n  ") || last.starts_with("Example:\n  ");
        assert!(is_example, "{path} does not end with an example");
    }
    Cli::command().get_subcommands().for_each(|command| check(command, "dromia"));
}

#[test]
fn the_help_of_ask_says_what_it_prints() {
    let mut command = Cli::command();
    // The flags of every command come to it only then.
    command.build();
    let help = command.find_subcommand_mut("ask").unwrap().render_help().to_string();
    for part in [
        "Ask an agent and print its answer",
        "[OPTIONS] [TEXT]...",
        "The question, in one word or several; a pipe or a file on stdin joins it",
        "--detach ",
        "-c, --continue ",
        "--session <ID>",
        "--jsonl ",
        "--usage-file <FILE>",
        "dromia ask what is due today\n",
    ] {
        assert!(help.contains(part), "{part:?} is not in\n{help}");
    }
    // Options of every command have a page of their own.
    assert!(!help.contains("--json[") && !help.contains("--tenant"), "{help}");
}
