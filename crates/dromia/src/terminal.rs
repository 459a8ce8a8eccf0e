//! The state of the terminal, read and set. That is done here and nowhere below: libraries are handed what it said and
//! what can be done with it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt as _;
use std::time::Duration;

use dromia_cli::{EchoGuard, InputKind, KEYS_MAX, KeyStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::mpsc;

/// The most bytes that a terminal gives for one key; more at once was pasted.
const KEY_BYTES_MAX: usize = 64;

/// How soon the rest of a key follows that begins with an escape.
const ESCAPE_REST: Duration = Duration::from_millis(50);

const ESCAPE: u8 = 0x1b;

/// What Ctrl-Z sends where it is no signal.
const CTRL_Z: u8 = 0x1a;

/// Makes no key of the terminal a signal that suspends.
const NO_KEY: u8 = 0;

/// How long a process goes on at most after it has suspended itself: the signal may reach another thread first.
const SUSPEND_DELAY: Duration = Duration::from_millis(50);

/// How many columns a terminal has; nothing if this is none, or if it does not know.
pub(crate) fn terminal_columns(terminal: impl AsFd) -> Option<u16> {
    let size = tcgetwinsize(terminal).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

/// Has the terminal that is standard input show nothing of what is typed, line breaks apart, until what this returns is
/// dropped. What was typed before is thrown away, since it was shown; so is what is left behind the line that was read, which
/// the shell would take for a command.
pub(crate) fn hide_typing() -> io::Result<EchoGuard> {
    // Before anything is asked, so that no suspension falls between.
    let continued = match tokio::runtime::Handle::try_current() {
        Ok(_) => Some(signal(SignalKind::from_raw(Signal::CONT.as_raw()))?),
        Err(_) => None,
    };
    let before = tcgetattr(io::stdin())?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    quiet.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
    let hiding = continued.map(|continued| tokio::spawn(hide_again(quiet, continued)));
    Ok(EchoGuard::restore_with(move || {
        if let Some(hiding) = hiding {
            hiding.abort();
        }
        // A terminal that is gone by then shows nothing any more.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    }))
}

/// Hides again what is typed whenever the process is continued: the shell showed it meanwhile.
async fn hide_again(quiet: Termios, mut continued: SignalStream) {
    while continued.recv().await.is_some() {
        // A terminal that is gone by then shows nothing any more.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Flush, &quiet);
    }
}

/// Makes Ctrl-Z a key instead of a signal, so that the terminal is restored before the process stops.
pub(crate) fn take_suspend_key(modes: &mut Termios) {
    modes.special_codes[SpecialCodeIndex::VSUSP] = NO_KEY;
}

/// Suspends the process group as Ctrl-Z does, and comes back once it is continued. A group that no shell could continue is not
/// suspended.
pub(crate) fn suspend_process_group() -> io::Result<()> {
    kill_current_process_group(Signal::TSTP)?;
    std::thread::sleep(SUSPEND_DELAY);
    Ok(())
}

/// What standard input is, if it is no terminal.
pub(crate) fn input_kind() -> InputKind {
    let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    match file.and_then(|file| file.metadata()).map(|known| known.file_type()) {
        Ok(kind) if kind.is_fifo() => InputKind::Pipe,
        Ok(kind) if kind.is_file() => InputKind::File,
        Ok(_) | Err(_) => InputKind::Other,
    }
}

/// Has the terminal that is standard input give each key when it is pressed, and show none, until what this returns is
/// dropped. What was typed before is thrown away: it was no answer to what is asked now. Ctrl-C stays a signal; Ctrl-Z restores
/// the terminal, suspends, and comes as a key once the process is continued. Where the terminal cannot do that, lines come as
/// ever.
pub(crate) fn open_keys() -> io::Result<KeyStream> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
    let before = tcgetattr(&input)?;
    let mut immediate = before.clone();
    immediate.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
    take_suspend_key(&mut immediate);
    let is_immediate = tcsetattr(&input, OptionalActions::Flush, &immediate).is_ok();
    let (sender, keys) = mpsc::channel(KEYS_MAX);
    let modes = is_immediate.then(|| (before.clone(), immediate));
    let send = move || send_keys(input, modes.as_ref(), &stopped, &sender);
    std::thread::Builder::new().name("keys".to_owned()).spawn(send)?;
    let guard = EchoGuard::restore_with(move || {
        // The thread ends with this end of the pipe, so that it takes nothing of what is typed later.
        drop(stop);
        if is_immediate {
            // A terminal that is gone by then has no mode any more.
            let _gone = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
        }
    });
    Ok(KeyStream::from_receiver(keys, is_immediate, guard))
}

/// Reads keys until the other end of the pipe is closed, or nothing more can be typed. The modes are those of before, and those
/// that give single keys.
fn send_keys(
    mut input: File,
    modes: Option<&(Termios, Termios)>,
    stopped: &impl AsFd,
    sender: &mpsc::Sender<Vec<u8>>,
) {
    loop {
        let mut looked = [PollFd::new(&input, PollFlags::IN), PollFd::new(stopped, PollFlags::IN)];
        if poll(&mut looked, None).is_err() || !looked[1].revents().is_empty() {
            return;
        }
        let mut key = vec![0; KEY_BYTES_MAX];
        let Ok(length @ 1..) = input.read(&mut key) else { return };
        key.truncate(length);
        if key == [ESCAPE] {
            read_escape(&mut input, &mut key);
        }
        if let Some((before, immediate)) = modes.filter(|_| key == [CTRL_Z]) {
            let suspended = tcsetattr(&input, OptionalActions::Now, before)
                .map_err(io::Error::from)
                .and_then(|()| suspend_process_group())
                .and_then(|()| Ok(tcsetattr(&input, OptionalActions::Flush, immediate)?));
            if suspended.is_err() {
                return;
            }
        }
        // A key is dropped when the channel is full: so many unread keys come from a paste or a stuck key.
        if let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send(key) {
            return;
        }
    }
}

/// Reads the rest of a key that begins with an escape, so that it is not taken for other keys.
fn read_escape(input: &mut File, key: &mut Vec<u8>) {
    let rest = Timespec { tv_sec: 0, tv_nsec: i64::from(ESCAPE_REST.subsec_nanos()) };
    let mut looked = [PollFd::new(&*input, PollFlags::IN)];
    if matches!(poll(&mut looked, Some(&rest)), Ok(1..)) {
        let mut more = [0; KEY_BYTES_MAX];
        let length = input.read(&mut more).unwrap_or_default();
        key.extend_from_slice(&more[..length]);
    }
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
