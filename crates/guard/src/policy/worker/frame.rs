//! What goes to a worker and comes back: a length of four bytes, and so much JSON.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use crate::policy::layer::{PolicyText, RuleVerdict};
use crate::policy::problem::PolicyProblem;

/// The most bytes of a frame, above every layer with its tests.
const FRAME_MAX: usize = 128 << 20;

/// What a worker is asked to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::policy) enum WorkerRequest<'a> {
    /// Compile a layer and keep it.
    Load { digest: Cow<'a, str>, name: Cow<'a, str>, files: Cow<'a, [PolicyText]> },
    /// Ask a layer that is loaded.
    Ask { digest: Cow<'a, str>, question: Cow<'a, serde_json::Value> },
    /// Compile files with tests in the place of those before.
    LoadTests { name: Cow<'a, str>, files: Cow<'a, [PolicyText]> },
    /// Run one of their tests.
    Test { name: Cow<'a, str> },
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::policy) enum WorkerResponse {
    /// Whether a layer is loaded.
    Loaded(Result<(), PolicyProblem>),
    /// What the layer says.
    Said(Result<Vec<RuleVerdict>, PolicyProblem>),
    /// The names of the tests.
    Tests(Result<Vec<String>, PolicyProblem>),
    /// What went wrong with a test, if it does not hold.
    Tested(Option<String>),
}

/// Reads the length of a frame.
pub(in crate::policy) fn read_length(head: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_le_bytes(head)).map_err(io::Error::other)?;
    if length > FRAME_MAX {
        return Err(io::Error::other("a frame is too long"));
    }
    Ok(length)
}

/// Writes a frame.
pub(in crate::policy) fn write_frame(to: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= FRAME_MAX);
    let length = length.ok_or_else(|| io::Error::other("a frame is too long"))?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(body);
    to.write_all(&frame)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_up_to_its_bound() {
        for (length, is_read) in [(0, true), (FRAME_MAX, true), (FRAME_MAX + 1, false)] {
            let head = u32::try_from(length).expect("four bytes").to_le_bytes();
            assert_eq!(read_length(head).ok(), is_read.then_some(length));
        }
    }
}
