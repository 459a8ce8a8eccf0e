//! What the gate judged is what the kernel executed: the server runs below strace, which writes down every program that
//! the kernel is asked to execute, and the journal says what was judged.
//!
//! The words of each execution are made into an action again, and its digest must be the one in the journal.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::home::{Home, append, block_on, count, stderr};

/// The name of a helper, behind which its program comes.
const HELPER: &str = "dromia-sandbox-helper";

const NEEDS: &str = "strace writes down what is executed: `apt-get install strace`, and let it trace";

/// Begins a command line whose executions are written to a file, each word as the numbers of its bytes.
fn traced(log: &Path) -> Command {
    let mut command = Command::new("strace");
    // Without -v a list of many words would be cut.
    command.args(["-f", "-v", "-xx", "-s", "1048576", "-e", "trace=execve", "-o"]).arg(log);
    // What is traced dies with strace, however that ends.
    command.args(["setpriv", "--pdeathsig", "KILL"]);
    command
}

/// The words of each program that the kernel did execute, in order.
fn executed(log: &str) -> Vec<Vec<String>> {
    let (mut begun, mut all) = (Vec::<(&str, Vec<String>)>::new(), Vec::new());
    for line in log.lines() {
        let Some((process, event)) = line.split_once(' ') else { continue };
        let event = event.trim_start();
        if let Some(call) = event.strip_prefix("execve(") {
            let words = words(call);
            if event.ends_with("<unfinished ...>") {
                begun.push((process, words));
            } else if event.ends_with(" = 0") {
                all.push(words);
            }
        } else if event.starts_with("<... execve resumed>")
            && let Some(at) = begun.iter().position(|(who, _)| *who == process)
        {
            let (_, words) = begun.remove(at);
            if event.ends_with(" = 0") {
                all.push(words);
            }
        }
    }
    all
}

/// Reads the words between the brackets.
fn words(call: &str) -> Vec<String> {
    let (_, words) = call.split_once(", [").expect("a list of words");
    let (words, _) = words.split_once(']').expect("it ends");
    let texts = words.split(", ").filter(|word| !word.is_empty());
    texts
        .map(|text| {
            assert!(!text.ends_with("..."), "a word is cut");
            let bytes = text.trim_matches('"').split("\\x").skip(1);
            let bytes = bytes.map(|byte| u8::from_str_radix(byte, 16).expect("the number of a byte"));
            String::from_utf8(bytes.collect()).expect("a text")
        })
        .collect()
}

/// Makes the digest of an action, as the gate is given it.
fn action(tool: &str, argv: &[String]) -> String {
    let arguments = match (tool, argv) {
        ("shell.execute", [shell, flag, command]) if (shell.as_str(), flag.as_str()) == ("/bin/sh", "-c") => {
            json!({"command": command, "cwd": ".", "timeout_s": 60})
        }
        _ => json!({"argv": argv, "cwd": ".", "timeout_s": 60}),
    };
    blake3::hash(format!("{tool}\0{arguments}").as_bytes()).to_hex().to_string()
}

/// Compares what was judged, tool and digest, with what was executed; says where they differ.
fn compare(judged: &[(String, String)], executed: &[Vec<String>]) -> Result<(), String> {
    if judged.len() != executed.len() {
        return Err(format!("{} actions were judged, and these executed: {executed:?}", judged.len()));
    }
    for ((tool, digest), argv) in judged.iter().zip(executed) {
        if action(tool, argv) != *digest {
            return Err(format!("{tool} executed {argv:?}, which nobody judged"));
        }
    }
    Ok(())
}

/// What was judged in a run.
fn judged(entries: &[Value]) -> Vec<(String, String)> {
    let text = |entry: &Value, name: &str| entry["fields"][name].as_str().expect("a text").to_owned();
    let started = entries.iter().filter(|entry| entry["kind"] == "tool_started");
    started.map(|entry| (text(entry, "tool"), text(entry, "action"))).collect()
}

#[test]
fn the_kernel_executes_exactly_the_program_the_gate_judged() {
    let home = Home::new();
    append(
        &home.path().join("dromia.yaml"),
        "agents: { dev: { permissions: { allow: [exec, shell.execute] } } }\n",
    );
    let log = home.path().with_file_name("executed");
    let mut command = traced(&log);
    command.arg(env!("CARGO_BIN_EXE_dromia")).env("DROMIA_HOME", home.path()).stdin(Stdio::null());
    assert!(Command::new("strace").arg("--version").output().is_ok(), "{NEEDS}");
    let server = home.serve_by(command);
    let grants = ["model", "reply", "exec", "shell.execute"].map(|grant| ["--grant", grant]).concat();
    let created = home.run(&[&["agent", "create", "dev"][..], &grants].concat());
    assert!(created.status.success(), "{}", stderr(&created));

    let shell = "echo \"$((1 + 1)) $HOME\"; /usr/bin/env true 'a  b'";
    let calls = [
        // The first one is behind the trials of the machine's walls.
        ("exec", json!({"argv": ["/usr/bin/env", "true"]})),
        (
            "exec",
            json!({"argv": ["/usr/bin/printf", "%s|", "a  b", "$HOME; echo x", "*", "", "\"ü\"\n\t\\]"]}),
        ),
        ("exec", json!({"argv": ["printf", "%s", "--", "`id`", "$(id)", "&&", "id"]})),
        ("exec", json!({"argv": ["/bin/sh", "-c", "exit 3"]})),
        ("shell.execute", json!({"command": shell})),
        ("exec", json!({"argv": ["/no/such/program"]})),
    ];
    let lines: Vec<_> = calls.iter().map(|(tool, arguments)| format!("@tool {tool} {arguments}")).collect();
    let entries = block_on(async {
        let event = json!({"text": lines.join("\n"), "agent": "dev", "wait": true});
        let (status, answer) = server.event(&event).await;
        assert_eq!((status, answer["status"].as_str()), (200, Some("completed")), "{answer}");
        let session = answer["session"].as_str().expect("a session");
        server.journal_until(session, |entries| count(entries, "run_completed") == 1).await
    });
    let log = std::fs::read_to_string(&log).expect("strace wrote it");
    drop(server);

    let judged = judged(&entries);
    assert_eq!(judged.len(), calls.len());
    let all = executed(&log);
    let first = |words: &Vec<String>| action("exec", words) == judged[0].1;
    let begin = all.iter().position(first).unwrap_or_else(|| panic!("it was not executed: {all:?}"));
    // The next helper is started while a program runs, so it may stand anywhere; the programs run one after another.
    let (helpers, ran): (Vec<_>, Vec<_>) =
        all.into_iter().enumerate().partition(|(_, words)| words.first().is_some_and(|word| word == HELPER));
    assert!(helpers.len() >= calls.len(), "{helpers:?}");
    let ran: Vec<_> = ran.into_iter().filter(|(at, _)| *at >= begin).map(|(_, words)| words).collect();
    // What programs executed themselves stands behind them. The last program is not there, so nothing was executed.
    let word = |text: &str| text.to_owned();
    let of_env = vec![word("true")];
    let of_shell = [["/usr/bin/env", "true", "a  b"].map(word).to_vec(), vec![word("true"), word("a  b")]];
    assert_eq!(ran.len(), 8, "{ran:?}");
    assert_eq!((&ran[1], &ran[6..]), (&of_env, &of_shell[..]));
    let of_tools = [&ran[..1], &ran[2..6]].concat();
    assert_eq!(compare(&judged[..calls.len() - 1], &of_tools), Ok(()));
}

/// The planted fault: the same words through a shell that nobody asked for.
#[test]
fn a_shell_between_the_gate_and_the_kernel_is_caught() {
    let argv = ["/usr/bin/printf", "%s", "a  b"].map(str::to_owned);
    let judged = [("exec".to_owned(), action("exec", &argv))];
    let dir = tempfile::tempdir().expect("a directory");
    for (number, line) in [
        &["/usr/bin/printf", "%s", "a  b"][..],
        &["/bin/sh", "-c", "/usr/bin/printf %s a  b; true"],
        &["/usr/bin/printf", "%s", "a", "b"],
    ]
    .into_iter()
    .enumerate()
    {
        let log = dir.path().join(number.to_string());
        let output = traced(&log).args(line).output().unwrap_or_else(|problem| panic!("{problem}; {NEEDS}"));
        assert!(output.status.success(), "{}; {NEEDS}", stderr(&output));
        let all = executed(&std::fs::read_to_string(&log).expect("strace wrote it"));
        // Behind the program that ties it to strace.
        let found = compare(&judged, &all[1..]);
        assert_eq!(found.is_ok(), number == 0, "{found:?}");
    }
}
