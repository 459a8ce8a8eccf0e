//! What the terminal itself says. It is asked here and nowhere below: libraries are handed what it said.

use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// How many columns a terminal has; nothing if this is none, or if it does not know.
pub(crate) fn columns(terminal: impl AsFd) -> Option<u16> {
    let size = tcgetwinsize(terminal).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_terminal_has_no_columns() {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        assert_eq!(columns(file), None);
    }
}
