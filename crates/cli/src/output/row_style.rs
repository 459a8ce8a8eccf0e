//! How ids and times are written in a table: short where a person reads it on a terminal, and whole for everything else.
//!
//! Nothing is lost by that: `-o wide`, a pipe and every document have them whole, and commands take the short ids.

use std::fmt::Display;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::format_time;
use crate::context::LocalTime;

/// How many of an id's last characters are shown; they are random, while its first ones are its time.
const SHORT: usize = 8;

/// A time that is longer ago is written as a date.
const DAYS_SHOWN: i64 = 30;

/// The style of one table.
#[derive(Debug, Clone)]
pub(crate) struct RowStyle {
    /// The reader's time, where ids and times are short.
    pub(super) reader: Option<LocalTime>,
}

impl RowStyle {
    /// Writes everything whole.
    pub(crate) const fn whole() -> Self {
        Self { reader: None }
    }

    /// Writes the id of a record of the audit, which may be an entry of a run.
    pub(crate) fn format_record(&self, id: &str) -> String {
        match id.split_once(':').filter(|(owner, _)| owner.starts_with("run_")) {
            Some((run, entry)) => format!("{}:{entry}", self.format_id(run)),
            None => id.to_owned(),
        }
    }

    /// Writes an id.
    pub(crate) fn format_id(&self, id: impl Display) -> String {
        let id = id.to_string();
        match self.reader {
            Some(_) => id[id.len().saturating_sub(SHORT)..].to_owned(),
            None => id,
        }
    }

    /// Writes a time that was.
    pub(crate) fn format_time(&self, at: Timestamp) -> String {
        match &self.reader {
            Some(LocalTime { now, zone }) => format_ago(*now, at, zone),
            None => format_time(at),
        }
    }

    /// Writes a time among others of the same page, as clocks of the reader show it.
    pub(crate) fn format_clock(&self, at: Timestamp) -> String {
        match &self.reader {
            Some(LocalTime { zone, .. }) => at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string(),
            None => format_time(at),
        }
    }

    /// Writes a time of a page about one thing: as clocks of the reader show it, and how long ago that was.
    pub(crate) fn format_moment(&self, at: Timestamp) -> String {
        match &self.reader {
            Some(LocalTime { now, zone }) => {
                let there = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
                format!("{there} ({})", format_ago(*now, at, zone))
            }
            None => format_time(at),
        }
    }
}

/// Writes how long ago a time was, or in how long it is.
fn format_ago(now: Timestamp, at: Timestamp, zone: &TimeZone) -> String {
    let seconds = now.duration_since(at).as_secs();
    let (minutes, hours, days) = (seconds.abs() / 60, seconds.abs() / 3_600, seconds.abs() / 86_400);
    let span = match (days, hours, minutes) {
        (0, 0, 0) if seconds.abs() < 5 => return "now".to_owned(),
        (0, 0, 0) => format!("{} s", seconds.abs()),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, _) => format!("{hours} h"),
        (1, ..) => "1 day".to_owned(),
        (days, ..) if days <= DAYS_SHOWN => format!("{days} days"),
        _ => return at.to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string(),
    };
    if seconds >= 0 { format!("{span} ago") } else { format!("in {span}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> RowStyle {
        let now = "2026-03-02T03:04:05Z".parse().expect("a time");
        RowStyle { reader: Some(LocalTime { now, zone: TimeZone::fixed(jiff::tz::offset(2)) }) }
    }

    #[test]
    fn a_terminal_shows_how_long_ago_a_time_was() {
        for (at, shown) in [
            ("2026-03-02T03:04:02Z", "now"),
            ("2026-03-02T03:03:15Z", "50 s ago"),
            ("2026-03-02T03:01:04Z", "3 min ago"),
            ("2026-03-02T00:05:05Z", "2 h ago"),
            ("2026-03-01T02:05:05Z", "1 day ago"),
            ("2026-02-01T03:04:05Z", "29 days ago"),
            ("2026-01-01T23:04:05Z", "2026-01-02"),
            ("2026-03-02T03:14:05Z", "in 10 min"),
        ] {
            assert_eq!(reader().format_time(at.parse().expect("a time")), shown, "{at}");
        }
        let at = "2026-03-02T03:01:04Z".parse().expect("a time");
        assert_eq!(reader().format_moment(at), "2026-03-02 05:01:04 (3 min ago)");
        assert_eq!(RowStyle::whole().format_moment(at), "2026-03-02 03:01:04Z");
    }

    #[test]
    fn a_terminal_shows_the_random_end_of_an_id() {
        let id = "run_0199c0de0199c0de0199c0decafe1234";
        assert_eq!(reader().format_id(id), "cafe1234");
        assert_eq!(RowStyle::whole().format_id(id), id);
    }
}
