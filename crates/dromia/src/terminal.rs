//! The state of the terminal, read and set. That is done here and nowhere below: libraries are handed what it said and
//! what can be done with it.

use std::io;
use std::os::fd::AsFd;

use dromia_cli::EchoGuard;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};

/// How many columns a terminal has; nothing if this is none, or if it does not know.
pub(crate) fn terminal_columns(terminal: impl AsFd) -> Option<u16> {
    let size = tcgetwinsize(terminal).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

/// Has the terminal that is standard input show nothing of what is typed, line breaks apart, until what this returns is
/// dropped. What was typed before is thrown away, since it was shown; so is what is left behind the line that was read, which
/// the shell would take for a command.
pub(crate) fn hide_typing() -> io::Result<EchoGuard> {
    let before = tcgetattr(io::stdin())?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    quiet.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
    Ok(EchoGuard::restore_with(move || {
        // A terminal that is gone by then shows nothing any more.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_terminal_has_no_columns() {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert_eq!(terminal_columns(file), None);
    }
}
