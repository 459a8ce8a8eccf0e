//! Remembers, outside the log, how far the log was acknowledged.
//!
//! SQLite reads its log up to the first frame that does not match its checksum and takes the rest for what a crash left. So a
//! damaged frame drops acknowledged commits without an error, and so does a log that is gone. After each commit, before it is
//! acknowledged, a small file gets the salts of the log and the number of its frames, and a start compares. Once all of a log is in
//! the main file, the record is cleared.
//!
//! A commit does not sync that file. After a power cut it may be older, which asks for fewer frames; it is never newer, because
//! the log is synced first. A record that does not match its check value asks for nothing. Before the log is emptied the record
//! is cleared and synced, so an empty log beside a record is never our own work.
//!
//! Another program that closes the database last copies the log and removes it, after the index (`-shm`). So a log that is gone
//! while the index is there was lost. Where both are gone, nothing here can tell the one from the other, and the start only
//! warns.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::config::StoreConfig;
use crate::log_hold;
use crate::open_error::OpenError;

/// Bytes of the log's header, of the header of a frame, and of the record.
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
const RECORD: usize = 20;
/// The sizes that a page of SQLite can have.
const PAGE_SIZES: std::ops::RangeInclusive<usize> = 512..=65_536;

/// What is missing of a log of which more was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogLoss {
    /// Acknowledged commits are gone: what is missing, and what to do.
    Lost(String),
    /// The log is gone, and another program may have copied it into the main file before: what is known.
    Unproven(String),
}

/// Which log, and how many of its frames are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LogEnd {
    salts: [u8; 8],
    frames: u32,
}

impl LogEnd {
    fn write(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.salts);
        bytes[8..12].copy_from_slice(&self.frames.to_be_bytes());
        let check = blake3::hash(&bytes[..12]);
        bytes[12..].copy_from_slice(&check.as_bytes()[..8]);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let salts = bytes.get(..8)?.try_into().ok()?;
        let frames = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
        let end = Self { salts, frames };
        (end.write() == bytes && frames > 0).then_some(end)
    }
}

/// The file that has the record, as the writer keeps it.
#[derive(Debug)]
pub(crate) struct AcknowledgedEnd {
    file: File,
    log: PathBuf,
    /// What the file says.
    present: Option<LogEnd>,
    /// Whether the last write of the file failed; the process's log says so once.
    is_failing: bool,
}

impl AcknowledgedEnd {
    pub(crate) fn open(config: &StoreConfig) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(config.acknowledged_path())?;
        let mut bytes = Vec::new();
        (&file).take(RECORD as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Self { file, log: config.wal_path(), present: LogEnd::read(&bytes), is_failing: false })
    }

    /// Remembers that so many frames of the log are acknowledged. Where that fails, damage of the log may go unnoticed, and
    /// nothing else.
    pub(crate) fn reach(&mut self, frames: u64) {
        let written = self.write_end(u32::try_from(frames).unwrap_or(u32::MAX));
        self.warn_once(written);
    }

    fn write_end(&mut self, frames: u32) -> io::Result<()> {
        let salts = match self.present {
            Some(present) if present.frames < frames => present.salts,
            // SQLite may have restarted the log with other salts.
            _ => read_salts(&self.log)?,
        };
        let end = LogEnd { salts, frames };
        self.file.write_all_at(&end.write(), 0)?;
        self.present = Some(end);
        Ok(())
    }

    /// Whether a copy of the database holds the log.
    pub(crate) fn is_held(&self) -> bool {
        log_hold::is_log_held(&self.file)
    }

    /// Clears the record: all of the log is in the main file.
    pub(crate) fn clear(&mut self) {
        if self.present.take().is_some() {
            let written = self.file.write_all_at(&[0; RECORD], 0);
            self.warn_once(written);
        }
    }

    /// Clears the record durably, before the log is emptied: a power cut may then leave an empty log.
    pub(crate) fn clear_durably(&mut self) {
        self.present = None;
        let written = self.file.write_all_at(&[0; RECORD], 0).and_then(|()| self.file.sync_data());
        self.warn_once(written);
    }

    fn warn_once(&mut self, written: io::Result<()>) {
        match written {
            Ok(()) => self.is_failing = false,
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!(%error, "failed to write the record of the acknowledged end of the log");
            }
            Err(_) => {}
        }
    }
}

fn read_salts(log: &Path) -> io::Result<[u8; 8]> {
    let mut salts = [0; 8];
    File::open(log)?.read_exact_at(&mut salts, 16)?;
    Ok(salts)
}

/// How many bytes of the log are acknowledged and not yet copied, for a page of SQLite's usual size.
pub(crate) fn log_bytes(config: &StoreConfig) -> u64 {
    let record = fs::read(config.acknowledged_path()).ok().and_then(|bytes| LogEnd::read(&bytes));
    record.map_or(0, |end| u64::from(end.frames) * (FRAME_HEADER as u64 + 4_096))
}

/// Says what is missing of the log of a store that no process has open, if anything is.
pub(crate) fn log_loss(config: &StoreConfig) -> io::Result<Option<LogLoss>> {
    let record = match fs::read(config.acknowledged_path()) {
        Ok(bytes) => LogEnd::read(&bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let Some(LogEnd { salts, frames }) = record else { return Ok(None) };
    let log = match File::open(config.wal_path()) {
        Ok(log) if log.metadata()?.len() > 0 => LogPrefix::read(log)?,
        Ok(_) => return Ok(Some(judge_missing_log(config, frames))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Ok(Some(judge_missing_log(config, frames)));
        }
        Err(error) => return Err(error),
    };
    Ok(match log {
        None => Some(lost_commits(
            config,
            &format!("the header of the log is damaged, and {frames} frames were acknowledged"),
        )),
        // SQLite restarts a log only after all frames of the previous one are in the main file.
        Some(log) if log.salts != salts => None,
        Some(log) if log.frames < frames => {
            let whole = log.frames;
            Some(lost_commits(
                config,
                &format!("the log is damaged after frame {whole}, and {frames} were acknowledged"),
            ))
        }
        Some(_) => None,
    })
}

/// Judges a log that is empty or not there.
fn judge_missing_log(config: &StoreConfig, frames: u32) -> LogLoss {
    let gone = format!("the log is missing, but {frames} frames of it were acknowledged");
    // SQLite itself removes the index before it removes the log.
    if config.index_path().exists() {
        return lost_commits(config, &gone);
    }
    LogLoss::Unproven(format!(
        "{gone}; if another program closed the database after the server ended, it copied the log first and \
         nothing is lost, otherwise the last commits are lost"
    ))
}

fn lost_commits(config: &StoreConfig, problem: &str) -> LogLoss {
    let record = config.acknowledged_path();
    LogLoss::Lost(format!(
        "{problem}; restore a backup, or remove {} to continue without the lost commits",
        record.display()
    ))
}

/// Refuses a log that ends before what was acknowledged, and warns of one that is gone and may have been copied.
pub(crate) fn check_log(config: &StoreConfig) -> Result<(), OpenError> {
    match log_loss(config)? {
        None => Ok(()),
        Some(LogLoss::Lost(problem)) => Err(OpenError::Damaged { problem }),
        Some(LogLoss::Unproven(problem)) => {
            tracing::warn!(problem, "the log of the database is missing");
            Ok(())
        }
    }
}

/// The part of a log that SQLite would read.
struct LogPrefix {
    salts: [u8; 8],
    /// Frames up to the last commit before the first frame that does not match.
    frames: u32,
}

impl LogPrefix {
    /// Reads a log; nothing where its header does not match.
    fn read(log: File) -> io::Result<Option<Self>> {
        let mut log = BufReader::new(log);
        let mut header = [0; LOG_HEADER];
        if !fill_buffer(&mut log, &mut header)? {
            return Ok(None);
        }
        let Some((mut sum, page)) = header_sum(&header) else { return Ok(None) };
        let mut salts = [0; 8];
        salts.copy_from_slice(&header[16..24]);
        let (mut frames, mut number) = (0, 0);
        let mut frame = vec![0; FRAME_HEADER + page];
        while fill_buffer(&mut log, &mut frame)? {
            let (head, content) = frame.split_at(FRAME_HEADER);
            sum.add(&head[..8]);
            sum.add(content);
            if head[8..16] != salts || sum.words != (header_word(head, 16), header_word(head, 20)) {
                break;
            }
            number += 1;
            // The frame that ends a commit has the length of the main file.
            if header_word(head, 4) > 0 {
                frames = number;
            }
        }
        Ok(Some(Self { salts, frames }))
    }
}

/// Returns the checksum of a header that matches it, and the size of a page.
fn header_sum(header: &[u8; LOG_HEADER]) -> Option<(LogSum, usize)> {
    let is_big = match header_word(header, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return None,
    };
    let page = usize::try_from(header_word(header, 8)).ok().filter(|page| PAGE_SIZES.contains(page))?;
    let mut sum = LogSum { words: (0, 0), is_big };
    sum.add(&header[..24]);
    (sum.words == (header_word(header, 24), header_word(header, 28)) && page.is_power_of_two())
        .then_some((sum, page))
}

/// Fills a buffer; false where the file ends before.
fn fill_buffer(log: &mut BufReader<File>, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The checksum of a log, over pairs of words.
struct LogSum {
    words: (u32, u32),
    is_big: bool,
}

impl LogSum {
    fn add(&mut self, bytes: &[u8]) {
        for pair in bytes.chunks_exact(8) {
            let word = |at: usize| {
                let word = [pair[at], pair[at + 1], pair[at + 2], pair[at + 3]];
                if self.is_big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
            };
            let first = self.words.0.wrapping_add(word(0)).wrapping_add(self.words.1);
            let second = self.words.1.wrapping_add(word(4)).wrapping_add(first);
            self.words = (first, second);
        }
    }
}

/// A word of a header, which is big-endian.
fn header_word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_end_round_trips_unless_it_is_torn() {
        let end = LogEnd { salts: [7; 8], frames: 3 };
        let bytes = end.write();
        assert_eq!(LogEnd::read(&bytes), Some(end));
        for at in 0..RECORD {
            let mut torn = bytes;
            torn[at] ^= 1;
            assert_eq!(LogEnd::read(&torn), None, "byte {at}");
        }
        assert_eq!(LogEnd::read(&bytes[..RECORD - 1]), None);
        assert_eq!(LogEnd::read(&[0; RECORD]), None);
    }
}
