//! Terminals that are narrow, resized, suspended or without UTF-8, and keys that are control characters.

use std::time::{Duration, Instant};

use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use serde_json::json;

use crate::approvals::document;
use crate::asking::{CLERK, home_with_approvals, piped, question};
use crate::chat::{ChatPerson, sent_texts};
use crate::egress::create;
use crate::home::{DEADLINE, Home, stderr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_dromia");
const CTRL_Z: &str = "\x1a";
const CTRL_C: &str = "\x03";

/// A shell that continues a command each time that it was suspended, when a line is typed. It leaves the terminal as it is.
const SHELL: &str = "set -m; \"$@\"; for n in 1 2; do printf 'stopped> '; read go; fg; done";

/// Starts a command in that shell.
fn start_in_shell(home: &Home, words: &[&str]) -> ChatPerson {
    ChatPerson::start(home, 80, &[&["sh", "-c", SHELL, "sh"][..], words].concat(), "C.UTF-8")
}

fn local_modes(person: &ChatPerson) -> LocalModes {
    tcgetattr(&person.theirs).expect("it is a terminal").local_modes
}

/// Suspends the command and looks at the terminal that it leaves.
fn suspend(person: &mut ChatPerson) {
    person.types(CTRL_Z);
    person.sees("stopped> ");
    let modes = local_modes(person);
    assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG), "{modes:?}");
}

/// Continues it, and waits until the terminal does not have some modes.
fn resume(person: &mut ChatPerson, without: LocalModes) {
    person.types("go\r");
    assert!(loses_modes(person, without, DEADLINE), "{:?}", local_modes(person));
}

fn loses_modes(person: &ChatPerson, modes: LocalModes, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    while local_modes(person).intersects(modes) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

#[test]
fn a_suspended_chat_restores_the_terminal_and_loses_nothing() {
    let home = Home::new();
    let server = home.serve();
    let mut person = start_in_shell(&home, &[PROGRAM, "chat"]);
    person.sees(" > ");
    person.types("@say one");
    person.sees("@say one");
    suspend(&mut person);
    assert!(person.seen.ends_with("\x1b[?2004l\r\nstopped> ") || person.seen.contains("\x1b[?2004l"));
    resume(&mut person, LocalModes::ECHO | LocalModes::ICANON);
    person.sees("\x1b[?2004h");
    person.sees("@say one");
    person.types(" two\r");
    person.sees("\none two");
    person.sees(" ctx > ");
    // In the middle of an answer, with the next message half typed.
    person.begins_slow_turn();
    person.types("@say la");
    suspend(&mut person);
    resume(&mut person, LocalModes::ECHO | LocalModes::ICANON);
    person.types("ter\r");
    person.sees("waits for the end of this turn: @say later");
    person.types(CTRL_C);
    person.sees("cancelled after ");
    person.sees("\nlater");
    person.sees(" ctx > ");
    assert_eq!(sent_texts(&server), ["@say one two", "@slow 60000", "@say later"]);
    person.types("/quit\r");
    assert!(person.ends().success(), "{}", person.seen);
}

#[test]
fn a_suspended_approval_prompt_asks_again() {
    let home = home_with_approvals();
    let _server = home.serve();
    document(&home, &CLERK);
    let mut person = start_in_shell(&home, &[PROGRAM, "ask", &question("a"), "--agent", "clerk"]);
    person.sees("[d]eny  [?] ");
    suspend(&mut person);
    resume(&mut person, LocalModes::ECHO | LocalModes::ICANON);
    person.types("a");
    person.sees("allow once");
    person.sees("all done");
    // The shell goes on: the command has ended.
    person.sees("stopped> ");
}

/// Suspends a command that reads a hidden value, and tells whether the terminal hides what is typed once it goes on. The shell
/// shows what is typed meanwhile, as shells with line editing do.
fn check_hidden_again(words: &[&str], question: &str, patience: Duration) -> bool {
    let home = Home::new();
    let mut person = start_in_shell(&home, words);
    person.sees(question);
    assert!(loses_modes(&person, LocalModes::ECHO, DEADLINE));
    person.types(CTRL_Z);
    person.sees("stopped> ");
    let mut modes = tcgetattr(&person.theirs).expect("it is a terminal");
    modes.local_modes.insert(LocalModes::ECHO);
    tcsetattr(&person.theirs, OptionalActions::Now, &modes).expect("the shell sets it");
    person.types("go\r");
    let is_hidden = loses_modes(&person, LocalModes::ECHO, patience);
    person.types(CTRL_C);
    is_hidden
}

#[test]
fn a_suspended_secret_prompt_hides_what_is_typed_after_it() {
    let words = [PROGRAM, "secret", "set", "bank", "--host", "bank.example", "--placement", "bearer"];
    assert!(check_hidden_again(&words, "which is not echoed", DEADLINE));
}

/// Planted fault: the command hides typing once, and not again when it is continued.
#[test]
fn a_secret_shown_after_a_suspension_is_caught() {
    let words = ["sh", "-c", "stty -echo; printf 'value: '; read value; read value"];
    assert!(!check_hidden_again(&words, "value: ", Duration::from_secs(2)));
}

/// Talks in a locale; returns what the terminal got.
fn talk_in(locale: &str) -> String {
    let home = Home::new();
    let server = home.serve();
    let said = "@say gr\u{fc}\u{df}e \u{2014} \u{201c}x\u{201d} \u{65e5} END";
    let mut person = ChatPerson::start(&home, 80, &[PROGRAM, "chat"], locale);
    person.sees(" > ");
    person.types(&format!("{said}\r"));
    person.sees("END\r\r\n");
    person.sees("END\r\n");
    person.sees(" ctx > ");
    person.types("/quit\r");
    assert!(person.ends().success(), "{}", person.seen);
    assert_eq!(sent_texts(&server), [said], "what is sent is whole");
    let mut asked = ChatPerson::start(&home, 80, &[PROGRAM, "ask", said], locale);
    asked.sees("END");
    assert!(asked.ends().success(), "{}", asked.seen);
    let mut listed = ChatPerson::start(&home, 40, &[PROGRAM, "run", "list"], locale);
    listed.sees("completed");
    assert!(listed.ends().success());
    person.seen + &asked.seen + &listed.seen
}

#[test]
fn a_terminal_without_utf8_gets_ascii_alone() {
    let seen = talk_in("C");
    assert!(seen.is_ascii(), "{seen}");
    assert!(seen.contains("gr??e - \"x\" ?? END"), "{seen}");
}

#[test]
fn characters_beyond_ascii_at_such_a_terminal_are_caught() {
    assert!(!talk_in("C.UTF-8").is_ascii());
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let home = Home::new();
    let server = home.serve();
    let mut person = ChatPerson::start(&home, 80, &[PROGRAM, "chat"], "C.UTF-8");
    person.sees(" > ");
    person.pastes("a\x1b]0;title\x07b\x1b[2Jc\u{9b}5nd\x1b[6n");
    person.types("e\x1b]52;c;x\x1b\\f");
    person.types("\r");
    person.sees("Hello! You said");
    person.sees(" ctx > ");
    person.types("/quit\r");
    assert!(person.ends().success(), "{}", person.seen);
    let mut asked =
        ChatPerson::start(&home, 80, &[PROGRAM, "ask", "@say x\x1b[2Jy\x07\u{9b}2Jz END"], "C.UTF-8");
    asked.sees("END");
    assert!(asked.ends().success());
    let seen = person.seen + &asked.seen;
    for raw in ["\x1b]", "\x07", "\x1b[2J", "\u{9b}", "\x1b[6n"] {
        assert!(!seen.contains(raw), "{raw:?} in {seen:?}");
    }
    assert_eq!(sent_texts(&server)[0], "a]0;titleb[2Jc5nd[6ne52;c;xf");
}

/// The longest line of a text, in characters; a line that is drawn again begins anew.
fn widest(text: &str) -> usize {
    text.split(['\n', '\r']).map(|line| line.chars().count()).max().unwrap_or_default()
}

fn set_columns(person: &ChatPerson, columns: u16) {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&person.ours, size).expect("it has a size");
}

#[test]
fn a_resized_terminal_gets_lines_of_its_new_width() {
    let home = Home::new();
    let _server = home.serve();
    let mut person = ChatPerson::start(&home, 80, &[PROGRAM, "chat"], "C.UTF-8");
    person.sees(" > ");
    // In the middle of a message.
    let words = (0..40).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ");
    person.pastes(&format!("@slow 2000\n{words}"));
    person.sees("word39");
    let before = person.printed().len();
    set_columns(&person, 20);
    person.types(" END");
    person.sees("END");
    assert!(widest(&person.printed()[before..]) <= 20, "{}", &person.printed()[before..]);
    set_columns(&person, 80);
    // In the middle of an answer.
    person.types("\r");
    person.sees("I take");
    set_columns(&person, 20);
    let before = person.printed().len();
    person.sees("model, not an LLM.");
    let printed = person.printed();
    let after = printed[before..].split_once('\n').expect("several lines").1;
    assert!(widest(after) <= 20, "{after}");
    person.sees("> ");
    person.types("/quit\r");
    assert!(person.ends().success(), "{}", person.seen);
}

#[test]
fn an_ask_in_a_narrow_terminal_breaks_no_word_of_its_answer() {
    let home = Home::new();
    let _server = home.serve();
    let words: Vec<_> = (100..130).map(|number| format!("word{number}")).collect();
    let said = format!("@say {} END", words.join(" "));
    let mut person = ChatPerson::start(&home, 20, &[PROGRAM, "ask", &said], "C.UTF-8");
    person.sees("END");
    let printed = person.printed();
    let answer = printed.split_once("END").expect("it ends").0;
    assert!(widest(answer) <= 20, "{answer}");
    let lines: Vec<_> = answer.split(['\n', '\r']).collect();
    let broken: Vec<_> = words.iter().filter(|word| !lines.iter().any(|line| line.contains(*word))).collect();
    assert!(broken.is_empty(), "{broken:?} in {answer}");
}

#[test]
fn ctrl_c_stops_the_program_that_an_ask_waits_for() {
    let home = Home::new();
    let server = home.serve();
    create(&home, "dev", &["shell.execute".to_owned()]);
    let call = json!({"command": "sleep 120", "timeout_s": 120});
    let asked = format!("@tool shell.execute {call}\n@say done");
    let mut person = ChatPerson::start(&home, 80, &[PROGRAM, "ask", &asked, "--agent", "dev"], "C.UTF-8");
    person.sees("\u{2192} shell.execute");
    let begun = Instant::now();
    person.types(CTRL_C);
    person.sees("cancelled run");
    assert!(!person.ends().success());
    assert!(begun.elapsed() < Duration::from_mins(1), "it waited for the program");
    server.terminate();
}

#[test]
fn another_terminal_reaches_the_first_turn_of_a_session() {
    let home = Home::new();
    let _server = home.serve();
    let mut first = ChatPerson::start(&home, 80, &[PROGRAM, "ask", "@slow 60000"], "C.UTF-8");
    first.sees("thinking");
    let mut second = ChatPerson::start(
        &home,
        80,
        &[PROGRAM, "ask", "-c", "--when-busy", "interrupt", "@say instead"],
        "C.UTF-8",
    );
    second.sees("instead");
    assert!(second.ends().success());
    assert!(!first.ends().success(), "{}", first.seen);
    // Now nothing runs.
    let mut third =
        ChatPerson::start(&home, 80, &[PROGRAM, "ask", "-c", "--when-busy", "steer", "@say late"], "C.UTF-8");
    third.sees("no turn of the session was running");
    third.sees("late");
    assert!(third.ends().success());
}

#[test]
fn a_line_of_two_mebibytes_from_a_pipe_is_refused_with_its_bound() {
    let home = Home::new();
    let _server = home.serve();
    let line = "x".repeat(2 << 20);
    for command in ["chat", "ask"] {
        let ended = piped(&home, &[command], &line);
        assert_eq!(ended.status.code(), Some(2), "{command}: {}", stderr(&ended));
        assert!(stderr(&ended).contains("512 KiB"), "{command}: {}", stderr(&ended));
    }
}
