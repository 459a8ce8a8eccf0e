//! What a person sees at a terminal, over a real one: tables that are as wide as it is.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::home::Home;

/// A list that needs no server, with texts that are longer than a narrow terminal.
const LIST: [&str; 2] = ["help", "commands"];

/// Opens a terminal of so many columns: the end of whoever looks, and the end of whoever writes.
fn terminal(columns: u16) -> (File, OwnedFd) {
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
fn a_table_is_as_wide_as_the_terminal_unless_columns_says_it() {
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
