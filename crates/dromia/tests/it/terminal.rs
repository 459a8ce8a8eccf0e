//! What a person sees at a terminal, over a real one: tables that are as wide as it is, nothing of a secret that he types, and
//! that a command which waits for his next line is left like any other.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::home::{DEADLINE, Home};

/// A list that needs no server, with texts that are longer than a narrow terminal.
const LIST: [&str; 2] = ["help", "commands"];

/// Opens a terminal of so many columns: the end of whoever looks, and the end of whoever writes.
pub(crate) fn terminal(columns: u16) -> (File, OwnedFd) {
    // No other child of these tests may hold an end open.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).expect("a terminal is opened");
    grantpt(&ours).expect("it is ours");
    unlockpt(&ours).expect("it is unlocked");
    let name = ptsname(&ours, Vec::<u8>::new()).expect("it has a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = open(&name, flags, Mode::empty()).expect("its other end is opened");
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&ours, size).expect("it has a size");
    (File::from(ours), theirs)
}

/// Starts the list with this output, and with what `COLUMNS` says.
fn list(home: &Home, output: Stdio, variable: Option<&str>) -> Child {
    let mut command = home.command();
    command.args(LIST).env("NO_COLOR", "1").env_remove("COLUMNS").stdout(output);
    if let Some(columns) = variable {
        command.env("COLUMNS", columns);
    }
    command.spawn().expect("the program runs")
}

/// How long the longest line of the list is at a terminal of so many columns.
fn widest_at(home: &Home, columns: u16, variable: Option<&str>) -> usize {
    let (mut ours, theirs) = terminal(columns);
    let mut child = list(home, theirs.into(), variable);
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match ours.read(&mut piece) {
            Ok(length) if length > 0 => seen.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Nobody writes there any more.
            Ok(_) | Err(_) => break,
        }
    }
    assert!(child.wait().expect("it ends").success());
    widest(&seen)
}

fn widest(text: &[u8]) -> usize {
    let text = String::from_utf8_lossy(text);
    assert!(text.contains("COMMAND") && text.contains("completions"), "{text}");
    text.lines().map(|line| line.trim_end().chars().count()).max().unwrap_or_default()
}

#[test]
fn a_table_fits_the_terminal_unless_columns_is_set() {
    let home = Home::new();
    let piped = list(&home, Stdio::piped(), None).wait_with_output().expect("it ends");
    let whole = widest(&piped.stdout);
    assert!(whole > 70, "the list is too narrow to show anything: {whole}");
    assert!(widest_at(&home, 60, None) <= 60, "the terminal is asked");
    assert_eq!(widest_at(&home, 400, None), whole, "a wide terminal has room");
    assert_eq!(widest_at(&home, 60, Some("400")), whole, "the variable goes first");
    assert_eq!(widest_at(&home, 0, None), whole, "a terminal that does not know its size bounds nothing");
    let narrow = list(&home, Stdio::piped(), Some("60")).wait_with_output().expect("it ends");
    assert!(widest(&narrow.stdout) <= 60, "the variable counts where no terminal is");
}

const CANARY: &str = "CanaryAtTheTerminal-4711";

/// A person who is asked to type something.
pub(crate) struct Asked {
    ours: File,
    /// Held so that how the terminal stands can be asked after the command has ended.
    theirs: OwnedFd,
    pub(crate) child: Child,
    pieces: Receiver<Vec<u8>>,
    pub(crate) seen: String,
}

impl Asked {
    /// Begins to ask for a secret. No server runs, so whatever is typed is sent nowhere.
    fn begin(home: &Home) -> Self {
        let line = ["secret", "set", "bank", "--host", "bank.example", "--placement", "bearer"];
        Self::of(home, &line, "which is not echoed")
    }

    /// Begins a command at a terminal, and waits until it asks so.
    pub(crate) fn of(home: &Home, line: &[&str], question: &str) -> Self {
        let (ours, theirs) = terminal(200);
        let end = || Stdio::from(theirs.try_clone().expect("another handle"));
        let mut command = home.command();
        command.args(line);
        command.env("NO_COLOR", "1").env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().expect("the program runs");
        let (tell, pieces) = channel();
        let mut reader = ours.try_clone().expect("another handle");
        // It ends with the terminal.
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                if tell.send(piece[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut asked = Self { ours, theirs, child, pieces, seen: String::new() };
        asked.sees(question);
        asked
    }

    /// Waits until a text is seen.
    pub(crate) fn sees(&mut self, text: &str) {
        self.sees_one_of(&[text]);
    }

    /// Waits until one of several texts is seen.
    pub(crate) fn sees_one_of(&mut self, texts: &[&str]) {
        while !texts.iter().any(|text| self.seen.contains(text)) {
            let piece = self.pieces.recv_timeout(DEADLINE);
            let piece = piece.unwrap_or_else(|_| panic!("none of {texts:?} in {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    /// Types, and waits until the terminal has taken it: that is done beside, and what it takes later is shown or not as it
    /// stands then. A look at whether something can be read waits for it.
    pub(crate) fn types(&mut self, text: &str) {
        self.ours.write_all(text.as_bytes()).expect("it is typed");
        let mut looked = [PollFd::new(&self.theirs, PollFlags::IN)];
        poll(&mut looked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("it is looked at");
    }

    /// Whether the terminal shows what is typed.
    pub(crate) fn shows(&self) -> bool {
        tcgetattr(&self.theirs).expect("it is a terminal").local_modes.contains(LocalModes::ECHO)
    }

    pub(crate) fn signalled(&mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
        self.child.wait().expect("it ends")
    }
}

#[test]
fn a_typed_secret_is_hidden_and_its_length_reported() {
    let home = Home::new();
    let mut asked = Asked::begin(&home);
    assert!(!asked.shows(), "the terminal shows nothing while a value is typed");
    asked.types(&format!("{CANARY}\n"));
    asked.sees(&format!("{} bytes taken", CANARY.len()));
    asked.sees("error:");
    assert_eq!(asked.child.wait().expect("it ends").code(), Some(5), "no server answers: {}", asked.seen);
    assert!(asked.shows(), "and shows again afterwards");
    assert!(!asked.seen.contains("Canary"), "{}", asked.seen);
    // What is typed where nothing hides it is seen by this test.
    asked.types("CanaryInTheOpen\n");
    asked.sees("CanaryInTheOpen");
}

#[test]
fn the_terminal_echo_returns_however_the_prompt_ends() {
    let home = Home::new();
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 1), (Signal::HUP, 1), (Signal::QUIT, 1)] {
        let mut asked = Asked::begin(&home);
        assert!(!asked.shows());
        asked.types("Canary");
        let ended = asked.signalled(signal);
        assert_eq!(ended.code(), Some(code), "{signal:?}: {}", asked.seen);
        assert!(asked.shows(), "after {signal:?}");
        // What came before this was seen before it.
        asked.types("-over-\n");
        asked.sees("-over-");
        assert!(!asked.seen.contains("Canary"), "{}", asked.seen);
    }
    let mut asked = Asked::begin(&home);
    asked.types("\u{4}");
    assert_eq!(asked.child.wait().expect("it ends").code(), Some(2), "{}", asked.seen);
    assert!(asked.shows(), "after the end of the input");
}

#[test]
fn an_interrupted_chat_ends_at_once_and_names_its_continuation() {
    let home = Home::new();
    let mut asked = Asked::of(&home, &["chat"], "> ");
    let ended = asked.signalled(Signal::INT);
    assert_eq!(ended.code(), Some(130), "before anything was said: {}", asked.seen);

    let _server = home.serve();
    let mut asked = Asked::of(&home, &["chat"], "> ");
    asked.types("@say forty-two is it\n");
    // What is typed stands there too, behind the mark; the answer has a line of its own, and the next mark follows it.
    asked.sees("\nforty-two is it\r\n");
    asked.sees(" ctx > ");
    let ended = asked.signalled(Signal::INT);
    assert_eq!(ended.code(), Some(130), "{}", asked.seen);
    asked.sees("hint: continue with `dromia chat --session ses_");
}

#[test]
fn an_interrupted_question_ends_at_once_as_a_no() {
    let home = Home::new();
    let mut asked = Asked::of(&home, &["agent", "delete", "nobody"], "[y/N]");
    let ended = asked.signalled(Signal::INT);
    assert_eq!(ended.code(), Some(130), "{}", asked.seen);
    asked.sees("you did not confirm, so the command changed nothing");
}
