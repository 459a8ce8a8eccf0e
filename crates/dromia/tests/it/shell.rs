//! What a newcomer reads and a shell loads, as the binary prints it.

use std::process::{Command, Output, Stdio};
use std::time::Instant;

use crate::home::{DEADLINE, Home, stderr};

fn dromia(line: &[&str]) -> Output {
    command().args(line).output().expect("the program runs")
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dromia"));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "DROMIA_HOME", "DROMIA_LISTEN"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("stdout is text")
}

#[test]
fn a_closed_output_pipe_does_not_change_the_exit_code() {
    let home = Home::new();
    // So that there is an audit to verify.
    home.serve().terminate();
    let unknown = home.path().join("unknown.yaml");
    std::fs::write(&unknown, "nonsense: 1\n").expect("it is written");
    let unknown = unknown.to_str().expect("a path of ours");
    for (line, code, says) in [
        (&["audit", "verify"][..], 0, ""),
        (&["policy", "show"], 0, ""),
        (&["policy", "test"], 0, ""),
        (&["explain"], 0, ""),
        (&["explain", "unplanned"], 0, ""),
        (&["config", "explain"], 0, ""),
        (&["completions", "bash"], 0, ""),
        (&["config", "validate", "--file", unknown, "--json"], 2, "nonsense"),
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = home.command().args(line).stdout(writer).output().expect("the program runs");
        let told = stderr(&ended);
        assert_eq!(ended.status.code(), Some(code), "{line:?}: {told}");
        assert!(
            told.contains(says) && !told.contains("pipe") && told.is_empty() == says.is_empty(),
            "{line:?}: {told}"
        );
    }
}

#[test]
fn help_of_a_command_is_the_page_of_its_flag() {
    for (words, flag) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "run", "list"], &["run", "list", "--help"]),
        (&["help", "runs"], &["run", "--help"]),
    ] {
        let (by_word, by_flag) = (dromia(words), dromia(flag));
        assert!(by_word.status.success(), "{words:?}: {}", stderr(&by_word));
        assert_eq!(text(&by_word).trim(), text(&by_flag).trim(), "{words:?}");
    }
    let refused = dromia(&["help", "enviroment"]);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(
        stderr(&refused),
        "error: there is no command or topic \"enviroment\"; did you mean `environment`?\n"
    );
    let alone = dromia(&[]);
    assert_eq!(
        (alone.status.code(), text(&alone).as_str()),
        (Some(2), ""),
        "help on stderr where nothing is said"
    );
}

#[test]
fn a_usage_names_missing_arguments_but_no_environment_values() {
    let output = command()
        .args(["capability", "grant", "scribe"])
        .env("DROMIA_HOME", "/nowhere")
        .output()
        .expect("the program runs");
    let told = stderr(&output);
    assert!(told.contains("Usage: dromia capability grant <NAME> <RIGHT>..."), "{told}");
    let help =
        text(&command().args(["help", "options"]).env("DROMIA_HOME", "/nowhere").output().expect("it runs"));
    assert!(help.contains("--home <DIR>") && help.contains("$DROMIA_HOME"), "{help}");
    // An empty variable names no home, in particular not the directory that one stands in.
    let empty = command()
        .args(["status"])
        .env("DROMIA_HOME", "")
        .env("HOME", "/nowhere")
        .output()
        .expect("the program runs");
    assert!(stderr(&empty).contains("there is no home at /nowhere/.dromia\n"), "{}", stderr(&empty));
}

#[test]
fn a_configuration_that_is_a_directory_names_the_way_on() {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(home.path().join("dromia.yaml")).expect("a directory");
    for line in [["up"].as_slice(), &["config", "show"], &["config", "validate"]] {
        let output = command().args(line).env("DROMIA_HOME", home.path()).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{line:?}");
        let told = stderr(&output);
        assert!(told.contains("dromia.yaml is a directory; move it away"), "{line:?}: {told}");
        assert!(told.contains("`dromia init`"), "{line:?}: {told}");
    }
}

#[test]
fn the_help_topics_print_their_pages() {
    insta::assert_snapshot!(text(&dromia(&["help", "exit-codes"])), @r#"
    The exit codes of every command:

        0  done            the command succeeded
        1  failed          the command failed; `dromia explain CODE` explains the code in the message
        2  not valid       the command line, a file or the request is not valid; the same command fails again
        4  denied          the caller lacks the right, or the gate denied the action
        5  no server       no server answers, or it is stopping; start one with `dromia up`
        6  conflict        the request conflicts with the state: a name is taken, a run has ended, the home is in use, the audit log was changed
        7  the run failed  the run failed, was cancelled, or reached its limit; see `dromia run why`
        8  needs a person  `ask` ended while its run waits for an approval; answer it with `dromia approval`, and the run continues
        9  budget          a budget stopped the run; `dromia run why` names it and how to continue
      124  not in time     the wait ended before the run did, or a call waits for a person; the run continues
      130  interrupted     you pressed Ctrl-C; the server continues what it accepted

    With --json, a command that fails prints {"error": {…, "exit": N}} on stdout.
    "#);
    let options = text(&dromia(&["help", "options"]));
    for option in [
        "-T, --tenant <HANDLE>",
        "--json[=<FIELD,…>]",
        "--jsonl ",
        "--home <DIR>",
        "-h, --help ",
        "-V, --version ",
    ] {
        assert!(options.contains(option), "{option} is not in\n{options}");
    }
    let environment = text(&dromia(&["help", "environment"]));
    assert!(environment.contains("DROMIA_HOME") && environment.contains("env:NAME"), "{environment}");
    let commands = text(&dromia(&["help", "commands"]));
    assert!(commands.lines().count() > 30 && commands.contains("run watch"), "{commands}");
    let schema = text(&dromia(&["help", "schemas", "run", "list"]));
    assert!(schema.contains("https://json-schema.org/draft/2020-12/schema"), "{schema}");
}

#[test]
fn a_code_is_explained_without_a_server() {
    let explained = text(&dromia(&["explain", "outcome_unknown"]));
    assert!(explained.contains("same idempotency key"), "{explained}");
    assert!(text(&dromia(&["explain"])).lines().count() > 20);
    let refused = dromia(&["explain", "run_not_fuond"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("did you mean `run_not_found`?"), "{}", stderr(&refused));
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = dromia(&["completions", shell]);
        assert!(output.status.success(), "{shell}: {}", stderr(&output));
        let script = text(&output);
        assert!(
            script.contains("dromia") && script.contains("doctor") && !script.contains('\u{1b}'),
            "{shell}"
        );
        if shell == "bash" {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), &script).expect("the script is written");
            let checked = Command::new("bash").arg("-n").arg(file.path()).output().expect("bash is there");
            assert!(checked.status.success(), "{}", stderr(&checked));
        }
    }
    assert_eq!(dromia(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn bash_completes_server_names_and_works_without_the_server() {
    let home = Home::new();
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), dromia(&["completions", "bash"]).stdout).expect("it is written");
    // What bash does when somebody presses the key: the function fills COMPREPLY.
    let completed = |words: &[&str]| -> Vec<String> {
        let output = Command::new("bash")
            .args(["--norc", "--noprofile", "-c"])
            .arg(
                "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
                 _dromia_live \"$1\" \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; \
                 printf '%s\\n' \"${COMPREPLY[@]}\"",
            )
            .arg("bash")
            .arg(script.path())
            .arg(env!("CARGO_BIN_EXE_dromia"))
            .args(words)
            .env("DROMIA_HOME", home.path())
            .stdin(Stdio::null())
            .output()
            .expect("bash is there");
        assert_eq!(stderr(&output), "", "{words:?}");
        text(&output).lines().map(str::to_owned).collect()
    };
    assert!(
        completed(&["agent", "sho"]).contains(&"show".to_owned()),
        "what the shell knows by itself stays"
    );
    assert!(!completed(&["agent", "show", "as"]).contains(&"assistant".to_owned()), "no server, no names");
    assert_eq!(completed(&["model", "test", "scr"]), ["scripted"], "the configuration needs no server");

    let server = home.serve();
    let asked = home.run(&["ask", "hello", "--json"]);
    let asked: serde_json::Value = serde_json::from_slice(&asked.stdout).expect("a document");
    let of = |field: &str| asked[field].as_str().expect("an id").to_owned();
    assert!(home.run(&["token", "create", "laptop"]).status.success());
    assert!(home.run(&["tenant", "create", "acme"]).status.success());
    let cases: [(&[&str], String); 7] = [
        (&["agent", "show", "as"], "assistant".to_owned()),
        (&["ask", "hello", "--agent", ""], "assistant".to_owned()),
        (&["runs", "get", ""], of("run")),
        (&["session", "show", "ses_"], of("session")),
        (&["token", "revoke", "lap"], "laptop".to_owned()),
        (&["--tenant", "a"], "acme".to_owned()),
        (&["-T", "default", "agent", "pause", ""], "assistant".to_owned()),
    ];
    for (words, name) in cases {
        // A server that is busy may miss the short deadline; the next press of the key finds it.
        let until = Instant::now() + DEADLINE;
        while completed(words) != [name.as_str()] {
            assert!(Instant::now() < until, "{words:?} gives {:?}, not {name}", completed(words));
        }
    }
    drop(server);
    assert!(!completed(&["agent", "show", "as"]).contains(&"assistant".to_owned()));
}

/// A command line, the variables it is given, and whether it is coloured.
type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], bool);

#[test]
fn colour_is_used_only_where_it_is_wanted() {
    let has_escape = |output: &Output| output.stdout.contains(&0x1b) || output.stderr.contains(&0x1b);
    let cases: [Case; 9] = [
        (&["--help"], &[], false),
        (&["--help"], &[("CLICOLOR_FORCE", "1")], true),
        (&["--help"], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&["--color", "always", "--help"], &[("NO_COLOR", "1")], true),
        (&["--color=never", "--help"], &[("CLICOLOR_FORCE", "1")], false),
        (&["explain"], &[("CLICOLOR_FORCE", "1")], true),
        (&["explain", "--json"], &[("CLICOLOR_FORCE", "1")], false),
        (&["explain", "nothing_like_it", "--color", "always"], &[], true),
        (&["explain", "nothing_like_it"], &[], false),
    ];
    for (line, env, colored) in cases {
        let output = command().args(line).envs(env.iter().copied()).output().expect("the program runs");
        assert_eq!(has_escape(&output), colored, "{line:?} {env:?}: {}{}", text(&output), stderr(&output));
    }
}

#[test]
fn a_question_leaves_its_usage_and_its_events() {
    let home = Home::new();
    let server = home.serve();
    let file = home.path().join("used.json");
    let used = || -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(&file).expect("it is written")).expect("it is JSON")
    };
    let line = ["ask", "@say forty-two", "--jsonl", "--usage-file", file.to_str().expect("text")];
    let output = home.run(&line);
    assert!(output.status.success(), "{}", stderr(&output));
    let lines: Vec<serde_json::Value> =
        text(&output).lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["run_started", "model_called", "model_replied", "run_completed", "answer"]);
    let answer = lines.last().expect("an answer");
    assert_eq!((&answer["reply"], &answer["status"]), (&"forty-two".into(), &"completed".into()));
    let found = used();
    assert_eq!((&found["run"], &found["status"]), (&answer["run"], &"completed".into()));
    assert_eq!((&found["usage"], &found["model_calls"]), (&answer["usage"], &1.into()));

    let failed = home.run(&[&["ask", "@fail rejected"][..], &line[2..]].concat());
    assert_eq!(failed.status.code(), Some(7), "{}", stderr(&failed));
    assert_eq!(used()["status"], "failed");
    assert!(text(&failed).lines().last().expect("an answer").contains("\"failure\":{"), "{}", text(&failed));
    drop(server);

    let unreachable = home.run(&line);
    assert_eq!(unreachable.status.code(), Some(5));
    assert!(used()["run"].is_null() && used()["error"]["exit"] == 5, "{}", used());
}

#[test]
fn ask_fails_unless_the_answer_satisfies_the_schema() {
    let home = Home::new();
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).expect("it is written");
        path.to_str().expect("text").to_owned()
    };
    let schema = file(
        "person.json",
        r#"{"type": "object", "required": ["name"], "properties": {"age": {"type": "integer"}}}"#,
    );
    // Without a server: a schema that is none is found before anything is sent.
    for (name, text, place) in
        [("cut.json", "{\n  \"type\":", ":2:"), ("none.json", r#"{"type": 5}"#, "at /type")]
    {
        let refused = home.run(&["ask", "@say 1", "--schema", &file(name, text)]);
        assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
        assert!(stderr(&refused).contains(name) && stderr(&refused).contains(place), "{}", stderr(&refused));
    }
    let _server = home.serve();
    let good = home.run(&["ask", r#"@say {"name": "Ada", "age": 36}"#, "--schema", &schema]);
    assert!(good.status.success(), "{}", stderr(&good));
    assert_eq!(text(&good), "{\"name\": \"Ada\", \"age\": 36}\n");
    let used = home.path().join("used.json").to_str().expect("text").to_owned();
    let line = ["ask", r#"@say {"name": "Ada", "age": "old"}"#, "--schema", &schema, "--usage-file", &used];
    let bad = home.run(&line);
    assert_eq!((bad.status.code(), text(&bad).as_str()), (Some(1), ""), "{}", stderr(&bad));
    assert!(stderr(&bad).contains("does not satisfy the schema: at /age: "), "{}", stderr(&bad));
    assert!(stderr(&bad).contains("hint: read the answer with `dromia run export run_"), "{}", stderr(&bad));
    let found: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&used).expect("it is written")).expect("it is JSON");
    assert_eq!(
        (&found["status"], &found["error"]["unfit"][0]["path"]),
        (&"completed".into(), &"/age".into())
    );
    let document = home.run(&[&line[..], &["--json"]].concat());
    let document: serde_json::Value = serde_json::from_slice(&document.stdout).expect("a document");
    let error = &document["error"];
    assert_eq!((&error["exit"], &error["unfit"][0]["path"]), (&1.into(), &"/age".into()), "{document}");
    let prose = home.run(&["ask", "@say Ada is 36.", "--schema", &schema, "--jsonl"]);
    assert_eq!(prose.status.code(), Some(1), "{}", stderr(&prose));
    assert!(!text(&prose).contains("\"kind\":\"answer\""), "{}", text(&prose));
    // A run that failed is that, and not an answer of the wrong shape.
    let failed = home.run(&["ask", "@fail rejected", "--schema", &schema]);
    assert_eq!(failed.status.code(), Some(7), "{}", stderr(&failed));
}

#[test]
fn the_version_is_one_line_and_one_document() {
    assert_eq!(text(&dromia(&["version"])), format!("dromia {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(text(&dromia(&["version"])), text(&dromia(&["--version"])));
}

#[test]
fn a_reader_who_has_gone_is_no_failure() {
    let home = Home::new();
    let _server = home.serve();
    for form in [&[][..], &["--json"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = home.command().args(["agent", "list"]).args(form).stdout(writer).output();
        let ended = ended.expect("the program runs");
        assert_eq!((ended.status.code(), stderr(&ended).as_str()), (Some(0), ""), "{form:?}");
    }
}
