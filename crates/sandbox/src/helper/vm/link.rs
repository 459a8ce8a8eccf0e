//! A guest's end of the line: frames that are heard one by one, and frames that are said, at once or as far as they go.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;

use super::frame::{FrameDecoder, GuestFrame};

/// How much is read at a time.
const READ_BYTES: usize = 64 << 10;

/// The line to the helper, and what could not be sent yet.
pub(super) struct GuestLink {
    pub(super) line: File,
    decoder: FrameDecoder,
    pending: Vec<u8>,
    sent: usize,
}

impl GuestLink {
    pub(super) fn new(line: File) -> Self {
        Self { line, decoder: FrameDecoder::default(), pending: Vec::new(), sent: 0 }
    }

    /// Whether something is still to be sent.
    pub(super) fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Says something, however long that takes.
    pub(super) fn send_frame(&mut self, frame: &GuestFrame) -> io::Result<()> {
        self.queue_frame(frame)?;
        while self.is_behind() {
            self.flush()?;
            if self.is_behind() {
                let mut watched = [PollFd::new(&self.line, PollFlags::OUT)];
                match poll(&mut watched, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(problem) => return Err(problem.into()),
                }
            }
        }
        Ok(())
    }

    /// Notes something to be said.
    pub(super) fn queue_frame(&mut self, frame: &GuestFrame) -> io::Result<()> {
        let bytes = frame.encode().ok_or_else(|| io::Error::other("the message is too long"))?;
        self.pending.extend_from_slice(&bytes);
        Ok(())
    }

    /// Sends as much as goes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.pending.len() {
            match self.line.write(&self.pending[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(problem) => return Err(problem),
            }
        }
        self.pending.clear();
        self.sent = 0;
        Ok(())
    }

    /// Whether reading and writing return at once where nothing can be read or written.
    pub(super) fn wait_for_nothing(&self, is_so: bool) -> io::Result<()> {
        let flags = if is_so { OFlags::NONBLOCK } else { OFlags::empty() };
        Ok(rustix::fs::fcntl_setfl(&self.line, flags)?)
    }

    /// Waits for the next frame.
    pub(super) fn read_frame(&mut self) -> io::Result<GuestFrame> {
        loop {
            let frame = self.decoder.next_frame().map_err(|problem| io::Error::other(problem.to_string()))?;
            if let Some(frame) = frame {
                return Ok(frame);
            }
            let mut piece = vec![0; READ_BYTES];
            match self.line.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.decoder.push(&piece[..count]),
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Err(problem) => return Err(problem),
            }
        }
    }

    /// Waits until the other end hangs up: what was said last must not be lost with this machine.
    pub(super) fn wait_hang_up(&mut self) {
        let mut piece = vec![0; READ_BYTES];
        loop {
            match self.line.read(&mut piece) {
                Ok(count) if count > 0 => {}
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}
