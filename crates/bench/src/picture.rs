//! Records the demo as a picture: the lines that the real program printed, each appearing when it did.
//!
//! The picture is one SVG without scripts or fonts of its own. Pauses are cut to a length that a reader waits for;
//! nothing else is changed, and a demo that fails gives no picture.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, timeout};

/// The demo promises to be done within half a minute.
const DEMO_TIME_MAX: Duration = Duration::from_mins(1);
/// The longest pause that is shown.
const PAUSE_MAX: Duration = Duration::from_millis(1500);
/// Columns of the drawn terminal; longer lines go on below.
const COLUMNS: usize = 100;
const LINE_PX: usize = 18;
const MARGIN_PX: usize = 16;
const BAR_PX: usize = 30;

#[derive(Debug, Args)]
pub(crate) struct PictureArguments {
    /// The `dromia` binary; the one beside this program by default.
    #[arg(long)]
    dromia: Option<PathBuf>,
    /// The picture to write.
    #[arg(long, default_value = "docs/demo.svg")]
    out: PathBuf,
}

/// A line of output and when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TimedLine {
    at: Duration,
    text: String,
}

/// Runs the demo and draws what it printed.
pub(crate) async fn record_demo(arguments: PictureArguments) -> anyhow::Result<()> {
    let beside = std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default();
    let dromia = arguments.dromia.unwrap_or_else(|| beside.join("dromia"));
    let lines = timeout(DEMO_TIME_MAX, run_demo(&dromia)).await.context("the demo took too long")??;
    std::fs::write(&arguments.out, draw_svg(&lines))
        .with_context(|| format!("failed to write {}", arguments.out.display()))
}

async fn run_demo(dromia: &Path) -> anyhow::Result<Vec<TimedLine>> {
    let mut demo = Command::new(dromia);
    // The demo proposes commands as it was called itself, and a picture shows no path of the machine that it was taken on.
    demo.arg0("dromia");
    demo.arg("demo").env("CLICOLOR_FORCE", "1").stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = demo.spawn().with_context(|| format!("failed to run {}", dromia.display()))?;
    let stdout = child.stdout.take().context("the demo has no output")?;
    let (mut reader, mut lines) = (BufReader::new(stdout).lines(), Vec::new());
    let began = Instant::now();
    while let Some(text) = reader.next_line().await? {
        lines.push(TimedLine { at: began.elapsed(), text });
    }
    let status = child.wait().await?;
    ensure!(status.success(), "the demo ended with {status}");
    Ok(lines)
}

fn draw_svg(lines: &[TimedLine]) -> String {
    let (mut rows, mut shown_at, mut before) = (Vec::new(), Duration::from_millis(500), Duration::ZERO);
    for line in lines {
        shown_at += line.at.saturating_sub(before).min(PAUSE_MAX);
        before = line.at;
        rows.extend(wrap_spans(&split_styles(&line.text)).into_iter().map(|row| (shown_at, row)));
    }
    let height = BAR_PX + rows.len() * LINE_PX + MARGIN_PX;
    let width = 2 * MARGIN_PX + 780;
    let mut body = String::new();
    for (number, (at, row)) in rows.iter().enumerate() {
        let y = BAR_PX + (number + 1) * LINE_PX;
        let mut texts = String::new();
        for (bold, text) in row {
            let class = if *bold { " class=\"b\"" } else { "" };
            texts.extend(["<tspan", class, ">", &escape_xml(text), "</tspan>"]);
        }
        let delay = at.as_secs_f64();
        let written = writeln!(
            body,
            "<text class=\"l\" style=\"animation-delay:{delay:.2}s\" x=\"{MARGIN_PX}\" y=\"{y}\">{texts}</text>"
        );
        debug_assert!(written.is_ok(), "writing to a string does not fail");
    }
    format!(include_str!("picture.svg"), width = width, height = height, body = body)
}

/// Splits a line at the two styles that the demo uses: bold and plain.
fn split_styles(line: &str) -> Vec<(bool, String)> {
    let (mut spans, mut bold, mut rest) = (Vec::new(), false, line);
    while let Some((text, after)) = rest.split_once("\u{1b}[") {
        spans.push((bold, text.to_owned()));
        let (code, after) = after.split_once('m').unwrap_or(("", after));
        bold = code == "1";
        rest = after;
    }
    spans.push((bold, rest.to_owned()));
    spans.retain(|(_, text)| !text.is_empty());
    spans
}

/// Breaks a line that is wider than the terminal, between words where it can.
fn wrap_spans(spans: &[(bool, String)]) -> Vec<Vec<(bool, String)>> {
    let (mut rows, mut row, mut column) = (Vec::new(), Vec::<(bool, String)>::new(), 0);
    for (bold, text) in spans {
        for word in text.split_inclusive(' ') {
            let length = word.chars().count();
            if column > 0 && column + length > COLUMNS {
                rows.push(std::mem::replace(&mut row, vec![(false, "    ".to_owned())]));
                column = 4;
            }
            column += length;
            match row.last_mut() {
                Some((same, text)) if same == bold => text.push_str(word),
                _ => row.push((*bold, word.to_owned())),
            }
        }
    }
    rows.push(row);
    rows
}

fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_words_and_their_style() {
        let text = "\u{1b}[1m4 kill\u{1b}[0m  a <process> died";
        assert_eq!(
            split_styles(text),
            [(true, "4 kill".to_owned()), (false, "  a <process> died".to_owned())]
        );
        let picture = draw_svg(&[TimedLine { at: Duration::from_secs(90), text: text.to_owned() }]);
        assert!(picture.contains("<tspan class=\"b\">4 kill</tspan><tspan>  a &lt;process&gt; died</tspan>"));
        assert!(picture.contains("animation-delay:2.00s"), "a long pause is cut: {picture}");
    }

    #[test]
    fn a_wide_line_goes_on_below() {
        let long = "word ".repeat(40);
        let rows = wrap_spans(&split_styles(&long));
        assert_eq!(rows.len(), 3);
        let words: usize = rows.iter().flatten().map(|(_, text)| text.split_whitespace().count()).sum();
        assert_eq!(words, 40);
        assert!(rows.iter().all(|row| row.iter().map(|(_, text)| text.len()).sum::<usize>() <= COLUMNS));
    }
}
