//! The side of a process that this program sees: the helper's socket and the two outputs.
//!
//! Nothing is buffered here: who does not ask for the next event makes the process wait. Dropping it closes the
//! lifeline, and the helper ends everything.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use dromia_contracts::BoxFuture;
use dromia_contracts::sandbox::{
    LimitKind, NetworkAccess, OutputStream, PIECE_BYTES_MAX, ProcessEvent, ProcessExit, SandboxError,
    SandboxProcess,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::Instant;

use crate::order::{HelperOrder, HelperReport};
use crate::{AHEAD_FLAG, HELPER_NAME, proxy_socket};

/// How long after the last moment that a process may have its helper may take to say so.
const GRACE: Duration = Duration::from_secs(10);

/// How long output may take to end once the process has.
const DRAIN: Duration = Duration::from_secs(2);

/// How long the helper may take to read its order.
const ORDER_WAIT: Duration = Duration::from_secs(10);

/// How long the helper may take to send the proxy socket.
const DOOR_WAIT: Duration = Duration::from_secs(10);

/// The longest report that is read.
const REPORT_BYTES_MAX: usize = 64 << 10;

/// A process, through its helper.
#[derive(Debug)]
pub(crate) struct RunningProcess {
    helper: Child,
    control: UnixStream,
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    report: Vec<u8>,
    has_report: bool,
    /// What ends it, where this side knows better than the helper.
    cause: Option<ProcessExit>,
    /// How much it may still write.
    left: u64,
    deadline: Instant,
    is_over: bool,
    /// Where the process's connections to its proxy are accepted.
    listener: Option<TcpListener>,
}

/// A helper that waits for its order, and has nothing so far but the socket by which that comes.
#[derive(Debug)]
pub(crate) struct WaitingHelper {
    helper: Child,
    control: UnixStream,
}

impl WaitingHelper {
    /// Starts the helper; `ahead`, it prepares for the strict backend in no control group, and can do nothing else.
    pub(crate) fn start_helper(helper: &Path, ahead: bool) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let helper = Command::new(helper)
            .arg0(HELPER_NAME)
            .args(ahead.then_some(AHEAD_FLAG))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        ours.set_nonblocking(true)?;
        Ok(Self { helper, control: UnixStream::from_std(ours)? })
    }

    /// Returns whether it is still there.
    pub(crate) fn is_there(&mut self) -> bool {
        matches!(self.helper.try_wait(), Ok(None))
    }

    /// Hands it the order.
    pub(crate) async fn hand_order(self, order: &HelperOrder) -> Result<RunningProcess, SandboxError> {
        self.try_begin(order).await.map_err(|problem| SandboxError::Start { problem: problem.to_string() })
    }

    async fn try_begin(self, order: &HelperOrder) -> io::Result<RunningProcess> {
        let Self { mut helper, mut control } = self;
        let limits = order.spec.limits;
        let text = order.encode()?;
        let told = tokio::time::timeout(ORDER_WAIT, control.write_all(&text));
        told.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let (listener, report) = match order.spec.network {
            NetworkAccess::None => (None, Vec::new()),
            NetworkAccess::Proxy => {
                let handed = tokio::time::timeout(DOOR_WAIT, proxy_socket::receive_proxy_socket(&control));
                handed.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
            }
        };
        let (out, err) = (helper.stdout.take(), helper.stderr.take());
        Ok(RunningProcess {
            helper,
            control,
            out,
            err,
            report,
            has_report: false,
            cause: None,
            left: limits.output_bytes,
            deadline: Instant::now()
                + Duration::from_millis(limits.wall_ms)
                + order.walls.startup_time()
                + GRACE,
            is_over: false,
            listener,
        })
    }
}

impl RunningProcess {
    /// Starts the helper and hands it the order.
    pub(crate) async fn start(helper: &Path, order: &HelperOrder) -> Result<Self, SandboxError> {
        let waiting = WaitingHelper::start_helper(helper, false)
            .map_err(|problem| SandboxError::Start { problem: problem.to_string() })?;
        waiting.hand_order(order).await
    }

    async fn next_event(&mut self) -> Option<ProcessEvent> {
        while !self.is_over {
            if self.has_report && self.out.is_none() && self.err.is_none() {
                return Some(self.end_event());
            }
            tokio::select! {
                // Output that is there is taken before the time is checked, however late the caller asks.
                biased;
                piece = read_piece(&mut self.out), if self.out.is_some() => match piece {
                    Some(bytes) => return Some(self.output_event(OutputStream::Out, bytes)),
                    None => self.out = None,
                },
                piece = read_piece(&mut self.err), if self.err.is_some() => match piece {
                    Some(bytes) => return Some(self.output_event(OutputStream::Err, bytes)),
                    None => self.err = None,
                },
                read = self.control.read_buf(&mut self.report), if !self.has_report => {
                    let is_whole = !matches!(read, Ok(count) if count > 0);
                    if is_whole || self.report.len() > REPORT_BYTES_MAX {
                        self.has_report = true;
                        self.deadline = Instant::now() + DRAIN;
                    }
                },
                () = tokio::time::sleep_until(self.deadline) => self.give_up(),
            }
        }
        None
    }

    /// Counts a piece of output; the last one is cut where the limit is, and ends the process.
    fn output_event(&mut self, stream: OutputStream, mut bytes: Bytes) -> ProcessEvent {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        if bytes.len() > most {
            bytes.truncate(most);
            // A piece that comes too late to end the process was written before its end all the same.
            self.cause.get_or_insert(ProcessExit::Killed { limit: LimitKind::Output });
            (self.out, self.err) = (None, None);
            self.call_off();
        }
        self.left -= bytes.len() as u64;
        ProcessEvent::Output { stream, bytes }
    }

    fn end_event(&mut self) -> ProcessEvent {
        self.is_over = true;
        let told = HelperReport::parse(&self.report).map_or(ProcessExit::Lost, |report| report.ending);
        // It is dead, so this buries it; were it not, the runtime would, later.
        drop(self.helper.try_wait());
        ProcessEvent::Ended(self.cause.take().unwrap_or(told))
    }

    /// The helper does not do what it is there for, or a process outside holds the outputs.
    fn give_up(&mut self) {
        if !self.has_report {
            self.cause.get_or_insert(ProcessExit::Lost);
            // What it started dies with it.
            drop(self.helper.start_kill());
        }
        self.has_report = true;
        (self.out, self.err) = (None, None);
    }

    fn call_off(&mut self) {
        // A helper that the word cannot reach is dead already, or dies when the socket closes.
        drop(self.control.try_write(b"s"));
    }
}

/// Reads what is there; nothing at the end. A future that is dropped has read nothing.
async fn read_piece<R: AsyncRead + Unpin>(from: &mut Option<R>) -> Option<Bytes> {
    let reader = from.as_mut()?;
    let mut bytes = BytesMut::with_capacity(PIECE_BYTES_MAX);
    match reader.read_buf(&mut bytes).await {
        Ok(count) if count > 0 => Some(bytes.freeze()),
        Ok(_) | Err(_) => None,
    }
}

impl SandboxProcess for RunningProcess {
    fn next(&mut self) -> BoxFuture<'_, Option<ProcessEvent>> {
        Box::pin(self.next_event())
    }

    fn stop(&mut self) {
        self.call_off();
    }

    fn take_proxy_socket(&mut self) -> Option<TcpListener> {
        self.listener.take()
    }
}
