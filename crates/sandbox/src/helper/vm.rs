//! A virtual machine around a program: made by Firecracker through its jailer, and talked to over one socket.
//!
//! The warden makes the jail (`jail`), describes the machine (`document`), starts the monitor, and waits for the guest to
//! call. Then it sends what the program gets, passes on what it says, and puts down what changed (`talk`). The guest's
//! first process is this program once more (`boot`, `agent`), from the operator's root image. What both say are frames
//! (`frame`); trees go over file by file (`scan`, `unpack`), because no kernel of this machine shall read a file system
//! that a guest wrote.
//!
//! The warden is process 1 of a process namespace without a network: its end is the end of the monitor, and of all that the
//! guest is. So a kill ends a machine at once, and what it had changed is not brought back.

mod agent;
mod boot;
mod conversation;
mod document;
mod frame;
mod guest_setup;
mod jail;
mod link;
mod local_guest;
mod process_usage;
mod scan;
mod unpack;

use std::io::{self, PipeReader, Read as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dromia_contracts::sandbox::ProcessExit;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::conversation::HostTrees;
use self::jail::MachineJail;
use crate::firecracker::FirecrackerParts;
use crate::order::HelperOrder;

pub(crate) use self::boot::run_boot as run_machine;
pub(crate) use self::local_guest::serve_rehearsal as run_rehearsal;
pub use self::local_guest::{RehearsalResult, rehearse_guest};

/// How long a machine may take until its first process calls.
const BOOT_WAIT: Duration = Duration::from_secs(30);

/// How often it is looked whether the monitor still runs.
const TICK: Duration = Duration::from_millis(20);

/// How long the end of what the monitor says may take to come once it has ended.
const WORDS_WAIT: Duration = Duration::from_secs(2);

/// How much of what monitor and kernel say is kept: the end of it.
const WORDS_BYTES_MAX: usize = 2 << 10;

/// Runs the program of an order in a machine. What fails before it began is a problem.
pub(super) fn run_in_machine(order: &HelperOrder, monitor: &FirecrackerParts) -> Result<ProcessExit, String> {
    let spec = &order.spec;
    let trees = HostTrees::scan_spec(spec)?;
    let described = document::machine_document(&spec.limits, trees.shown_bytes);
    let jail = MachineJail::make_jail(spec, monitor, &described)
        .map_err(|(place, problem)| format!("{place}: {problem}"))?;
    let mut started = MonitorProcess::start_monitor(jail.jailer_command())
        .map_err(|problem| format!("{}: {problem}", monitor.jailer.display()))?;
    let line = started.accept_guest(&jail.listener, BOOT_WAIT)?;
    let ended = conversation::run_conversation(line, spec, &trees, (&mut io::stdout(), &mut io::stderr()));
    ended.map_err(|problem| format!("{problem}{}", started.last_words()))
}

/// A monitor that was started. Dropping it ends it.
struct MonitorProcess {
    child: Child,
    words: Arc<Mutex<Vec<u8>>>,
    /// Closed when there is no more to hear.
    heard: Receiver<()>,
}

impl MonitorProcess {
    /// Starts it. However much it says, it is read, and the end of it kept.
    fn start_monitor(mut command: Command) -> io::Result<Self> {
        let (heard, said) = io::pipe()?;
        let child = command.stdout(said.try_clone()?).stderr(said).spawn()?;
        // The command holds the other end, too.
        drop(command);
        let words = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&words);
        let (ends, ended) = mpsc::channel();
        std::thread::Builder::new().spawn(move || {
            keep_last_words(heard, &kept);
            drop(ends);
        })?;
        Ok(Self { child, words, heard: ended })
    }

    /// Waits for the guest to call.
    fn accept_guest(&mut self, listener: &UnixListener, patience: Duration) -> Result<UnixStream, String> {
        let end = Instant::now() + patience;
        let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
        loop {
            let mut watched = [PollFd::new(listener, PollFlags::IN)];
            let called = match poll(&mut watched, Some(&tick)) {
                Ok(count) => count > 0,
                Err(rustix::io::Errno::INTR) => false,
                Err(problem) => return Err(format!("the guest's socket: {problem}")),
            };
            if called {
                let accepted = listener.accept().map(|(line, _)| line);
                return accepted.map_err(|problem| format!("the guest's socket: {problem}"));
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                // Whatever else holds its output open is not waited for.
                let _ended = self.heard.recv_timeout(WORDS_WAIT);
                return Err(format!(
                    "the machine monitor ended before its guest called ({status}){}",
                    self.last_words()
                ));
            }
            if Instant::now() >= end {
                let seconds = patience.as_secs_f32();
                return Err(format!("no guest connected within {seconds} s{}", self.last_words()));
            }
        }
    }

    /// The last line that it or the guest's kernel said.
    fn last_words(&self) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&words);
        let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let line: String = line.chars().filter(|letter| !letter.is_control()).take(400).collect();
        if line.is_empty() { line } else { format!("; its last output: {line}") }
    }
}

impl Drop for MonitorProcess {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads to the end, and keeps the last of it.
fn keep_last_words(mut heard: PipeReader, kept: &Mutex<Vec<u8>>) {
    let mut piece = [0; WORDS_BYTES_MAX];
    loop {
        let count = match heard.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => count,
            Err(problem) if problem.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut words = kept.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(&piece[..count]);
        let over = words.len().saturating_sub(WORDS_BYTES_MAX);
        words.drain(..over);
    }
}

#[cfg(test)]
mod tests;
