//! A parser of server-sent events that takes its bytes in any pieces.
//!
//! It gives out the data of each event and ignores names, ids and retry times, which the format does not use.
//! An event that the stream's end cuts off is dropped, as the standard says. Line and event length are bounded,
//! so an endless line cannot fill the memory.

/// The most bytes of one line and of one event's data.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

/// Says why a stream is no stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A line or an event is longer than [`EVENT_BYTES_MAX`].
    #[error("an event is longer than {EVENT_BYTES_MAX} bytes")]
    TooLong,
    /// An event is not text.
    #[error("an event is not UTF-8")]
    NotText,
}

/// Reads events from chunks.
#[derive(Debug, Default)]
pub struct SseParser {
    /// The beginning of a line whose end is in a later chunk.
    line: Vec<u8>,
    /// The data lines of the event so far, each with a line feed behind it.
    data: Vec<u8>,
    /// The last chunk ended with `\r`; a `\n` at the beginning of the next belongs to it.
    after_return: bool,
    /// The byte order mark can only be at the very beginning.
    begun: bool,
}

impl SseParser {
    /// Takes the next chunk and gives out the data of every event that it completes.
    pub fn push_chunk<E: From<SseError>>(
        &mut self,
        mut chunk: &[u8],
        mut on_data: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.after_return && !chunk.is_empty() {
            self.after_return = false;
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(end) = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (head, tail) = (&chunk[..end], &chunk[end + 1..]);
            let returned = chunk[end] == b'\r';
            self.after_return = returned && tail.is_empty();
            chunk = if returned { tail.strip_prefix(b"\n").unwrap_or(tail) } else { tail };
            if self.line.is_empty() {
                if head.len() > EVENT_BYTES_MAX {
                    return Err(SseError::TooLong.into());
                }
                self.take_line(head, &mut on_data)?;
            } else {
                self.buffer_bytes(head)?;
                let mut line = std::mem::take(&mut self.line);
                self.take_line(&line, &mut on_data)?;
                line.clear();
                self.line = line;
            }
        }
        self.buffer_bytes(chunk)?;
        Ok(())
    }

    fn buffer_bytes(&mut self, piece: &[u8]) -> Result<(), SseError> {
        if self.line.len() + piece.len() > EVENT_BYTES_MAX {
            return Err(SseError::TooLong);
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    fn take_line<E: From<SseError>>(
        &mut self,
        line: &[u8],
        on_data: &mut impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let line = if self.begun { line } else { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) };
        self.begun = true;
        if line.is_empty() {
            let Some((_, data)) = self.data.split_last() else { return Ok(()) };
            let given = std::str::from_utf8(data).map_err(|_| SseError::NotText.into()).and_then(on_data);
            self.data.clear();
            return given;
        }
        let value = match line.strip_prefix(b"data") {
            Some([]) => &[][..],
            Some([b':', b' ', value @ ..] | [b':', value @ ..]) => value,
            // Another field, or a comment.
            Some(_) | None => return Ok(()),
        };
        if self.data.len() + value.len() > EVENT_BYTES_MAX {
            return Err(SseError::TooLong.into());
        }
        self.data.extend_from_slice(value);
        self.data.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(chunks: &[&[u8]]) -> Result<Vec<String>, SseError> {
        let mut parser = SseParser::default();
        let mut found = Vec::new();
        for chunk in chunks {
            parser.push_chunk(chunk, |data| {
                found.push(data.to_owned());
                Ok::<_, SseError>(())
            })?;
        }
        Ok(found)
    }

    const STREAMS: &[(&str, &[&str])] = &[
        ("data: a\n\ndata: b\n\n", &["a", "b"]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]),
        ("data: a\r\rdata:b\r\r", &["a", "b"]),
        ("\u{feff}data: a\n\n", &["a"]),
        (": ping\n\nevent: x\nid: 3\ndata: a\n\n", &["a"]),
        ("data: a\ndata: b\ndata\n\n", &["a\nb\n"]),
        ("data:  a\n\ndatum: no\n\n", &[" a"]),
        ("data: {\"t\":\"äö🦀\"}\n\ndata: [DONE]\n\n", &["{\"t\":\"äö🦀\"}", "[DONE]"]),
        ("data: cut off\n", &[]),
    ];

    #[test]
    fn every_split_of_a_stream_gives_the_same_events() {
        for (stream, expected) in STREAMS {
            let bytes = stream.as_bytes();
            for at in 0..=bytes.len() {
                let (a, b) = bytes.split_at(at);
                assert_eq!(events(&[a, b]).unwrap(), *expected, "{stream:?} cut at {at}");
                assert_eq!(events(&[a, b"", b]).unwrap(), *expected, "{stream:?} cut at {at} with a pause");
            }
            let single: Vec<_> = bytes.chunks(1).collect();
            assert_eq!(events(&single).unwrap(), *expected, "{stream:?} byte by byte");
        }
    }

    #[test]
    fn an_endless_line_and_an_endless_event_are_refused() {
        let line = vec![b'a'; EVENT_BYTES_MAX / 2 + 1];
        assert_eq!(events(&[&line, &line]), Err(SseError::TooLong));
        let half = [b"data: ", &line[..], b"\n"].concat();
        assert_eq!(events(&[&half, &half]), Err(SseError::TooLong));
        let long = [b": ", &vec![b'a'; EVENT_BYTES_MAX][..], b"\n\n"].concat();
        assert_eq!(events(&[&long]), Err(SseError::TooLong), "in one piece as in two");
        assert_eq!(events(&[b"data: \xff\n\n"]), Err(SseError::NotText));
    }

    proptest! {
        #[test]
        fn any_chunking_of_any_bytes_gives_what_one_chunk_gives(
            stream in "(data: ?|[a-c:ä]|\r|\n|\r\n){0,24}",
            cuts in proptest::collection::vec(0_usize..64, 0..6),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&bytes[from..cut]);
                from = cut;
            }
            prop_assert_eq!(events(&chunks), events(&[bytes]));
        }
    }
}
