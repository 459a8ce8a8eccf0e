//! A parser of server-sent events that takes its bytes in any pieces, for streams of model providers and of our own server.
//!
//! It gives out the name and the data of each event. It ignores ids and retry times: our clients resume from what the data
//! says. It drops an event that the stream's end cuts off, as the standard says. It bounds lines and events, so that an
//! endless line cannot fill the memory: the crate eventsource-stream has no bound and scans a long event again for every piece.

/// Why a stream is no stream of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A line or an event is longer than the parser's bound.
    #[error("an event is longer than {0} bytes")]
    TooLong(usize),
    /// An event is not text.
    #[error("an event is not UTF-8")]
    NotText,
}

/// One event of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The value of its last `event` field; empty where it has none.
    pub name: &'a str,
    /// The values of its `data` fields, joined by line feeds.
    pub data: &'a str,
}

/// Reads events from chunks.
#[derive(Debug)]
pub struct SseParser {
    /// The most bytes of one line, and of one event's data.
    event_bytes_max: usize,
    /// The beginning of a line whose end is in a later chunk.
    line: Vec<u8>,
    /// The name of the event so far.
    name: Vec<u8>,
    /// The data lines of the event so far, each with a line feed behind it.
    data: Vec<u8>,
    /// The last chunk ended with `\r`; a `\n` at the beginning of the next belongs to it.
    after_return: bool,
    /// The byte order mark can only be at the very beginning.
    has_begun: bool,
}

impl SseParser {
    /// Makes a parser that refuses lines and events of more bytes than the bound.
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            line: Vec::new(),
            name: Vec::new(),
            data: Vec::new(),
            after_return: false,
            has_begun: false,
        }
    }

    /// Takes the next chunk and gives out every event that it completes.
    pub fn push_chunk<E: From<SseError>>(
        &mut self,
        mut chunk: &[u8],
        mut on_event: impl FnMut(SseEvent<'_>) -> Result<(), E>,
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
                if head.len() > self.event_bytes_max {
                    return Err(SseError::TooLong(self.event_bytes_max).into());
                }
                self.take_line(head, &mut on_event)?;
            } else {
                self.buffer_bytes(head)?;
                let mut line = std::mem::take(&mut self.line);
                self.take_line(&line, &mut on_event)?;
                line.clear();
                self.line = line;
            }
        }
        self.buffer_bytes(chunk)?;
        Ok(())
    }

    fn buffer_bytes(&mut self, piece: &[u8]) -> Result<(), SseError> {
        if self.line.len() + piece.len() > self.event_bytes_max {
            return Err(SseError::TooLong(self.event_bytes_max));
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    fn take_line<E: From<SseError>>(
        &mut self,
        line: &[u8],
        on_event: &mut impl FnMut(SseEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let line = if self.has_begun { line } else { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) };
        self.has_begun = true;
        if line.is_empty() {
            let result = self.dispatch_event(on_event);
            self.name.clear();
            self.data.clear();
            return result;
        }
        if let Some(name) = field_value(line, b"event") {
            self.name.clear();
            self.name.extend_from_slice(name);
            return Ok(());
        }
        // Another field, or a comment.
        let Some(value) = field_value(line, b"data") else { return Ok(()) };
        if self.data.len() + value.len() > self.event_bytes_max {
            return Err(SseError::TooLong(self.event_bytes_max).into());
        }
        self.data.extend_from_slice(value);
        self.data.push(b'\n');
        Ok(())
    }

    /// Gives out the event that a blank line ends, unless it has no data.
    fn dispatch_event<E: From<SseError>>(
        &self,
        on_event: &mut impl FnMut(SseEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((_, data)) = self.data.split_last() else { return Ok(()) };
        let name = std::str::from_utf8(&self.name).map_err(|_| SseError::NotText)?;
        let data = std::str::from_utf8(data).map_err(|_| SseError::NotText)?;
        on_event(SseEvent { name, data })
    }
}

/// Returns the value of a line's field if it has this name.
fn field_value<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(field)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENT_BYTES_MAX: usize = 1 << 20;

    fn events(chunks: &[&[u8]]) -> Result<Vec<String>, SseError> {
        Ok(named_events(chunks)?.into_iter().map(|(_, data)| data).collect())
    }

    fn named_events(chunks: &[&[u8]]) -> Result<Vec<(String, String)>, SseError> {
        let mut parser = SseParser::new(EVENT_BYTES_MAX);
        let mut found = Vec::new();
        for chunk in chunks {
            parser.push_chunk(chunk, |event| {
                found.push((event.name.to_owned(), event.data.to_owned()));
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
        assert_eq!(events(&[&line, &line]), Err(SseError::TooLong(EVENT_BYTES_MAX)));
        let half = [b"data: ", &line[..], b"\n"].concat();
        assert_eq!(events(&[&half, &half]), Err(SseError::TooLong(EVENT_BYTES_MAX)));
        let long = [b": ", &vec![b'a'; EVENT_BYTES_MAX][..], b"\n\n"].concat();
        assert_eq!(events(&[&long]), Err(SseError::TooLong(EVENT_BYTES_MAX)), "in one piece as in two");
        assert_eq!(events(&[b"data: \xff\n\n"]), Err(SseError::NotText));
    }

    #[test]
    fn names_belong_to_their_event_only() {
        let text = b"id: 1\nevent: entry\ndata: {\ndata: }\n\n: keep-alive\n\nevent: end\r\ndata: x\r\n\r\ndata: y\n\nevent: lost\n\ndata: z\n\n";
        let expected = [("entry", "{\n}"), ("end", "x"), ("", "y"), ("", "z")];
        for cut in 0..text.len() {
            let events = named_events(&[&text[..cut], &text[cut..]]).unwrap();
            let events: Vec<_> = events.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect();
            assert_eq!(events, expected, "cut at {cut}");
        }
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
