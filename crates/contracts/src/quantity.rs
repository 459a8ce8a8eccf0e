//! Times and sizes in words, as every crate writes them for people.

/// Writes a time: in seconds where it is so many whole ones, else in milliseconds.
pub fn format_millis(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

/// Writes a size in the greatest unit of which it is so many whole ones.
pub fn format_bytes(bytes: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes} bytes"), |(unit, name)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_written_in_the_largest_exact_unit() {
        assert_eq!([0, 7, 1_500, 30_000].map(format_millis), ["0 s", "7 ms", "1500 ms", "30 s"]);
        let sizes = [0, 7, 1_024, 1_536, 512 << 20, 1 << 30, 3 << 40];
        let words = ["0 bytes", "7 bytes", "1 KiB", "1536 bytes", "512 MiB", "1 GiB", "3 TiB"];
        assert_eq!(sizes.map(format_bytes), words);
    }
}
