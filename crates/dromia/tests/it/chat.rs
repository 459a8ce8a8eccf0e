//! `chat` at a terminal, through the real binary: keys as a person presses them, at 80 and 120 columns.
//!
//! Every wait is for something that is seen, or that the server says; nothing sleeps.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;

use crate::approvals::document;
use crate::asking::{CLERK, home_with_approvals, question};
use crate::home::{DEADLINE, Home, Server, block_on};
use crate::terminal::terminal;

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";

/// A person at a terminal that is the controlling one of a command.
pub(crate) struct ChatPerson {
    pub(crate) ours: File,
    /// Held so that how the terminal stands can be asked after the command has ended.
    pub(crate) theirs: OwnedFd,
    child: Child,
    pieces: Receiver<Vec<u8>>,
    /// What was printed, escapes included, and where the person looks on from.
    pub(crate) seen: String,
    looked: usize,
}

impl ChatPerson {
    pub(crate) fn begin(home: &Home, columns: u16, line: &[&str]) -> Self {
        Self::start(home, columns, &[&[env!("CARGO_BIN_EXE_dromia")][..], line].concat(), "C.UTF-8")
    }

    /// Starts any program at a terminal, with a locale.
    pub(crate) fn start(home: &Home, columns: u16, words: &[&str], locale: &str) -> Self {
        let (ours, theirs) = terminal(columns);
        let end = || Stdio::from(theirs.try_clone().expect("another handle"));
        // Ctrl-C is a signal only where the terminal is the controlling one.
        let mut command = Command::new("setsid");
        command.arg("--ctty").args(words);
        command.env("DROMIA_HOME", home.path()).env("TERM", "xterm").env("LC_ALL", locale);
        command.env_remove("NO_COLOR").env_remove("COLUMNS").env_remove("ACCESSIBLE");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("setsid runs");
        let (tell, pieces) = channel();
        let mut reader = ours.try_clone().expect("another handle");
        // It ends with the terminal.
        std::thread::spawn(move || {
            let mut piece = vec![0; 65_536];
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                if tell.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { ours, theirs, child, pieces, seen: String::new(), looked: 0 }
    }

    /// Begins a chat and waits for the prompt.
    fn chat(home: &Home, columns: u16) -> Self {
        let mut person = Self::begin(home, columns, &["chat"]);
        person.sees("> ");
        person
    }

    /// Waits until a text is printed behind what was seen before.
    pub(crate) fn sees(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen[self.looked..].find(text) {
                self.looked += at + text.len();
                return;
            }
            let piece = self.pieces.recv_timeout(DEADLINE);
            let piece = piece.unwrap_or_else(|_| panic!("no {text:?} in {:?}", &self.seen[self.looked..]));
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    /// Begins a turn that takes long, and waits until it has begun: the model says so, or is waited for.
    pub(crate) fn begins_slow_turn(&mut self) {
        self.types("@slow 60000\r");
        self.sees("@slow 60000\r\r\n");
        while !["thinking", "I take"].iter().any(|begun| self.seen[self.looked..].contains(begun)) {
            let piece = self.pieces.recv_timeout(DEADLINE).expect("the turn begins");
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).expect("it is typed");
    }

    pub(crate) fn pastes(&mut self, text: &str) {
        self.types(&format!("\x1b[200~{text}\x1b[201~"));
    }

    pub(crate) fn ends(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }

    /// What was printed as a screen has it: without escapes, each redrawing of a line on its own.
    pub(crate) fn printed(&self) -> String {
        let mut plain = String::new();
        let mut rest = self.seen.as_str();
        while let Some(at) = rest.find('\x1b') {
            plain.push_str(&rest[..at]);
            let sequence = &rest[at + 1..];
            let end = sequence.find(|c: char| c.is_ascii_alphabetic()).map_or(sequence.len(), |end| end + 1);
            rest = &sequence[end..];
        }
        plain + rest
    }
}

/// The inputs of all runs that the server has, oldest first.
pub(crate) fn sent_texts(server: &Server) -> Vec<String> {
    let (_, sessions) = block_on(server.get("/v1/sessions?limit=16"));
    let mut texts = Vec::new();
    for session in sessions["items"].as_array().expect("a list").iter().rev() {
        let path = format!("/v1/sessions/{}/transcript", session["id"].as_str().expect("an id"));
        let (_, page) = block_on(server.get(&path));
        let turns = page["turns"].as_array().expect("turns");
        let inputs = turns.iter().filter(|turn| turn["role"] == "input");
        texts.extend(inputs.map(|turn| turn["text"].as_str().unwrap_or_default().to_owned()));
    }
    texts
}

const CODE: &str = "fn double(x: u32) -> u32 {\n    // @say done\n    x * 2\n}";

/// Puts a function into a chat, and looks at what the server got.
fn check_paste(columns: u16, put: impl Fn(&mut ChatPerson)) -> Result<(), String> {
    let home = Home::new();
    let server = home.serve();
    let mut person = ChatPerson::chat(&home, columns);
    put(&mut person);
    person.types("\r");
    person.sees(" ctx > ");
    person.types(CTRL_D);
    assert!(person.ends().success(), "{}", person.seen);
    let sent = sent_texts(&server);
    if sent == [CODE] { Ok(()) } else { Err(format!("{sent:?}")) }
}

#[test]
fn a_pasted_function_is_one_turn() {
    for columns in [80, 120] {
        assert_eq!(check_paste(columns, |person| person.pastes(CODE)), Ok(()));
    }
}

#[test]
fn a_paste_split_into_several_turns_is_caught() {
    // A terminal that says nothing of pastes gives each line break as Enter.
    let split = check_paste(80, |person| {
        for line in CODE.replace('\n', "\r").split_inclusive('\r') {
            person.types(line);
            if line.ends_with('\r') {
                person.sees(" ctx > ");
            }
        }
    });
    assert!(split.is_err());
}

/// Presses Ctrl-C while a turn runs, and looks at what became of the run once the command is back or has ended.
fn check_interrupt(begin: impl Fn(&Home, &Server) -> ChatPerson) -> Result<(), String> {
    let home = Home::new();
    let server = home.serve();
    let mut person = begin(&home, &server);
    let status = || {
        let (_, runs) = block_on(server.get("/v1/runs?limit=1"));
        runs["items"][0]["status"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(status(), "running");
    person.types(CTRL_C);
    if person.seen.contains("@slow 60000") {
        person.sees("cancelled after ");
        person.sees("> ");
        // The chat goes on.
        person.types("@say still here\r");
        person.sees("\nstill here");
        // Ctrl-D leaves at the prompt, and not while the turn has yet to end.
        person.sees(" ctx > ");
        person.types(CTRL_D);
        assert!(person.ends().success());
        let (_, runs) = block_on(server.get("/v1/runs?limit=2"));
        let first = runs["items"][1]["status"].as_str().unwrap_or_default().to_owned();
        return if first == "cancelled" { Ok(()) } else { Err(first) };
    }
    person.ends();
    if status() == "cancelled" { Ok(()) } else { Err(status()) }
}

#[test]
fn ctrl_c_cancels_the_turn_and_stays_in_the_chat() {
    let ended = check_interrupt(|home, _| {
        let mut person = ChatPerson::chat(home, 80);
        person.begins_slow_turn();
        person
    });
    assert_eq!(ended, Ok(()));
}

#[test]
fn a_ctrl_c_that_leaves_the_run_running_is_caught() {
    // `run watch` looks on only: its Ctrl-C ends the command and not the run.
    let ended = check_interrupt(|home, server| {
        let (_, accepted) = block_on(server.event(&serde_json::json!({"text": "@slow 60000"})));
        let run = accepted["run"].as_str().expect("a run");
        let mut person = ChatPerson::begin(home, 80, &["run", "watch", run]);
        person.sees("model_called");
        person
    });
    assert_eq!(ended, Err("running".to_owned()));
}

#[test]
fn what_is_typed_during_a_turn_is_sent_after_it() {
    let home = Home::new();
    let server = home.serve();
    let mut person = ChatPerson::chat(&home, 80);
    person.begins_slow_turn();
    person.types("@say later\r");
    person.sees("waits for the end of this turn: @say later");
    person.types(CTRL_C);
    person.sees("cancelled after ");
    person.sees("> @say later");
    person.sees("\nlater");
    person.sees(" ctx > ");
    assert_eq!(sent_texts(&server), ["@slow 60000", "@say later"]);
    person.types("/quit\r");
    assert!(person.ends().success());
}

#[test]
fn ctrl_c_clears_the_line_and_leaves_when_pressed_twice() {
    let home = Home::new();
    let _server = home.serve();
    let mut person = ChatPerson::chat(&home, 80);
    person.types("abc");
    person.sees("abc");
    person.types(CTRL_C);
    person.types(CTRL_C);
    person.sees("press Ctrl-C again");
    person.types(CTRL_C);
    assert!(person.ends().success(), "{}", person.seen);
    let modes = tcgetattr(&person.theirs).expect("it is a terminal").local_modes;
    assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON), "the terminal is as it was");
}

#[test]
fn what_was_sent_is_in_the_history_of_the_home() {
    let home = Home::new();
    let server = home.serve();
    let mut person = ChatPerson::chat(&home, 80);
    person.types("first\\\rsecond\r");
    person.sees(" ctx > ");
    person.types(CTRL_D);
    person.sees("continue with `dromia chat --session ");
    assert!(person.ends().success());
    let file = home.path().join("chat_history");
    let mode = std::fs::metadata(&file).expect("it is written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut person = ChatPerson::chat(&home, 120);
    person.types(UP);
    person.sees("second");
    person.types("\r");
    person.sees(" ctx > ");
    person.types("\x12irst");
    person.sees("search: irst > ");
    person.types("\r");
    person.sees(" ctx > ");
    person.types(CTRL_D);
    assert!(person.ends().success());

    let mut person = ChatPerson::begin(&home, 80, &["chat", "-c"]);
    person.sees("$0 > ");
    person.types("fourth\r");
    person.sees(" ctx > ");
    assert_eq!(sent_texts(&server), ["first\nsecond", "first\nsecond", "first\nsecond", "fourth"]);
    let (_, sessions) = block_on(server.get("/v1/sessions?limit=16"));
    assert_eq!(sessions["items"].as_array().expect("a list").len(), 2, "the last one was continued");
}

#[test]
fn a_message_above_the_servers_bound_is_refused_whole() {
    let home = Home::new();
    let server = home.serve();
    let mut person = ChatPerson::chat(&home, 80);
    person.pastes(&"x".repeat(1023).chars().chain(['\n']).collect::<String>().repeat(2048));
    person.sees("[pasted 2049 lines]");
    person.types("\r");
    person.sees("takes at most 524288 (512 KiB)");
    person.types("@say small\r");
    person.sees("\nsmall");
    assert_eq!(sent_texts(&server), ["@say small"]);
}

#[test]
fn words_stay_whole_at_every_width() {
    let home = Home::new();
    let _server = home.serve();
    let words: Vec<String> =
        (0..60).map(|number| format!("word_{number:04}_{}", "x".repeat(number % 7))).collect();
    for columns in [20, 80, 120] {
        let mut person = ChatPerson::chat(&home, columns);
        person.pastes(&format!("@say {} END", words.join(" ")));
        person.types("\r");
        person.sees("END\r\n");
        person.sees("> ");
        let printed = person.printed();
        for word in &words {
            assert!(printed.matches(word.as_str()).count() >= 1, "{columns}: {word} is broken");
        }
        // A terminal that changes its size changes the lines from then on.
        let size = Winsize { ws_row: 24, ws_col: 50, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&person.ours, size).expect("it has a size");
        person.types("/quit\r");
        assert!(person.ends().success());
    }
}

#[test]
fn commands_of_the_chat_work_through_the_api() {
    let home = Home::new();
    let server = home.serve();
    let created = home.run(&["agent", "create", "ops", "--grant", "model", "--grant", "reply"]);
    assert!(created.status.success());
    let mut person = ChatPerson::chat(&home, 120);
    for (keys, text) in [
        ("/help\r", "Ctrl-R"),
        ("/hepl\r", "did you mean /help?"),
        ("/cost\r", "the session begins with your first message"),
        ("@say one\r", "\none"),
        ("/cost\r", "model calls"),
        ("/context\r", "room for the answer"),
        ("/compact\r", "nothing to summarize"),
        ("/model\r", "uses the model default"),
        ("/model nosuch\r", "there is no model"),
        ("/model defalt\r", "did you mean default?"),
        ("/model def\t\r", "uses the model default already"),
        ("/model default\r", "already"),
        ("/output\r", "no call of this chat has ended yet"),
        ("/approve\r", "no call waits for approval"),
        ("/agent\r", "ops"),
        ("/agent op\t\r", "new session of ops"),
        ("/new\r", "begins a new session"),
        ("@say two\r", "\ntwo"),
        ("/resume\r", "@say two"),
        ("/resume 1\r", "continuing ses_"),
    ] {
        person.types(keys);
        person.sees(text);
        person.sees(" > ");
    }
    let file = home.path().join("talk.session");
    person.types(&format!("/export {}\r", file.display()));
    person.sees(" > ");
    person.types(CTRL_D);
    assert!(person.ends().success(), "{}", person.seen);
    assert!(std::fs::metadata(&file).expect("it is exported").len() > 0);
    let (_, sessions) = block_on(server.get("/v1/sessions?limit=16"));
    let agents: Vec<&Value> =
        sessions["items"].as_array().expect("a list").iter().map(|one| &one["agent"]).collect();
    assert_eq!(agents.len(), 2);
    assert_ne!(agents[0], agents[1]);
}

#[test]
fn a_call_is_approved_in_the_chat_and_folds_to_a_line() {
    let home = home_with_approvals();
    let _server = home.serve();
    document(&home, &CLERK);
    let mut person = ChatPerson::begin(&home, 80, &["chat", "--agent", "clerk"]);
    person.sees("clerk > ");
    person.pastes(&question("a"));
    person.types("\r");
    person.sees("[a]llow once");
    person.sees("[d]eny  [?] ");
    person.types("a");
    // The key is the answer, and no text of the next message.
    person.sees("allow once");
    person.sees("file.append content=a path=log");
    person.sees("\nall done");
    person.sees(" ctx > ");
    person.types("/output\r");
    person.sees("(ok)");
    person.sees(" ctx > ");
    person.types(CTRL_D);
    assert!(person.ends().success(), "{}", person.seen);
}
