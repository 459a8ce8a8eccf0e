//! What is called to see that a tool works, and what it must say.

use dromia_contracts::SessionId;
use serde_json::{Value, json};

/// The calls that show whether a tool works, in order.
pub(super) struct ToolTrial {
    pub(super) steps: Vec<ToolTrialStep>,
    /// What to do if one of them does not do what it should.
    pub(super) fix: &'static str,
}

/// One call.
pub(super) struct ToolTrialStep {
    pub(super) tool: &'static str,
    pub(super) arguments: String,
    pub(super) expected: ExpectedOutcome,
}

/// What must come of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum ExpectedOutcome {
    /// It does what it is asked, and says this among other things.
    Says(&'static str),
    /// It does what it is asked, and hands back one message to be sent.
    Sends,
    /// It refuses, and says this among other things.
    Refuses(&'static str),
}

use ExpectedOutcome::{Refuses, Says, Sends};

/// A handle for a result of an earlier turn.
pub(super) const HANDLE: &str = "1/call_1_0";

const DISK: &str = "check that the directory of TMPDIR is writable and has space";
const WALLS: &str = "check what is missing with `dromia doctor --only sandbox`";

/// Lists the calls for a tool; none for a name that is no tool's.
pub(super) fn trial_for_tool(name: &str, session: SessionId) -> ToolTrial {
    let step = |tool: &'static str, arguments: Value, expected: ExpectedOutcome| ToolTrialStep {
        tool,
        arguments: arguments.to_string(),
        expected,
    };
    // Each tool has a file of its own, so that the order of the tools does not matter.
    let path = format!("{name}.txt");
    let write = || step("file.write", json!({"path": path, "content": "one"}), Says("wrote 3 bytes"));
    let read = |text| step("file.read", json!({ "path": path }), Says(text));
    let (steps, fix) = match name {
        "exec" => {
            (vec![step("exec", json!({"argv": ["true"], "timeout_s": 20}), Says("exit code 0"))], WALLS)
        }
        "shell.execute" => {
            let arguments = json!({"command": "echo o$((1))k", "timeout_s": 20});
            (vec![step("shell.execute", arguments, Says("o1k"))], WALLS)
        }
        "file.append" => {
            let append = |text: &str| {
                step("file.append", json!({"path": path, "content": text}), Says("appended 3 bytes"))
            };
            (vec![append("one"), append("two"), read("onetwo")], DISK)
        }
        "file.delete" => {
            let delete = step("file.delete", json!({ "path": path }), Says("deleted"));
            let gone = step("file.read", json!({ "path": path }), Refuses("there is no"));
            (vec![write(), delete, gone], DISK)
        }
        "file.edit" => {
            let edit = step("file.edit", json!({"path": path, "old": "one", "new": "two"}), Says(""));
            (vec![write(), edit, read("two")], DISK)
        }
        "file.search" => {
            let needle = json!({"path": path, "content": "a needle"});
            let hidden = step("file.write", needle, Says("wrote 8 bytes"));
            let found = step("file.search", json!({"pattern": "needle"}), Says("file.search.txt"));
            (vec![hidden, found], DISK)
        }
        "file.list" => (vec![write(), step("file.list", json!({}), Says("file.list.txt"))], DISK),
        "file.read" | "file.write" => (vec![write(), read("one")], DISK),
        "http.request" => {
            // This host is not granted, so it is not even looked up.
            let asked = json!({"url": "https://tool-test.invalid/"});
            let fix = "the egress proxy must refuse a host without a grant; report it with `dromia status \
                       --all`";
            (vec![step("http.request", asked, Refuses("refused: "))], fix)
        }
        "message.send" => {
            let asked = json!({"session": session, "text": "hello"});
            (vec![step("message.send", asked, Sends)], DISK)
        }
        "past.read" => {
            let fix = "this call has no effect; report it with `dromia status --all`";
            (vec![step("past.read", json!({"handle": HANDLE}), Says("one"))], fix)
        }
        "plan.declare" => {
            let asked = json!({"tools": {"message.send": {"to": [session]}}});
            let fix = "this call has no effect; report it with `dromia status --all`";
            (vec![step("plan.declare", asked, Says("planned: 1 tools, 1 destinations"))], fix)
        }
        "branch" => (vec![step("branch", json!({"task": "hello"}), Sends)], DISK),
        "worker.cancel" => {
            let fix = "the session of this test is no worker, so the call must be refused; report it with `dromia status \
                       --all`";
            let asked = json!({"worker": session});
            (vec![step("worker.cancel", asked, Refuses("no such worker"))], fix)
        }
        "worker.route" => {
            let asked = json!({"text": "hello", "worker": session});
            let fix = "the session of this test is no worker, so the call must be refused; report it with `dromia status \
                       --all`";
            (vec![step("worker.route", asked, Refuses("no such worker"))], fix)
        }
        "worker.spawn" => (vec![step("worker.spawn", json!({"task": "hello"}), Sends)], DISK),
        "reply" => (vec![step("reply", json!({"text": "on it"}), Says("on it"))], DISK),
        "time.now" => {
            let fix = "check this machine's clock with `dromia doctor --only clock`";
            (vec![step("time.now", json!({}), Says("Z"))], fix)
        }
        _ => (Vec::new(), ""),
    };
    ToolTrial { steps, fix }
}
