//! How many bytes a value has as JSON, without writing it.

use serde::Serialize;

/// Counts the bytes of a value as JSON.
pub(crate) fn count_bytes(value: &impl Serialize) -> usize {
    struct ByteCount(usize);
    impl std::io::Write for ByteCount {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = ByteCount(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        // A value that cannot be written has no size, and is too large for every bound.
        Err(_) => usize::MAX >> 8,
    }
}
