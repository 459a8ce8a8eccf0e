//! What the live line leaves on a screen, played by a terminal of one line.

use std::io::Write;
use std::sync::{Arc, Mutex};

use super::*;
use crate::args::GlobalOptions;
use crate::context::CommandContext;
use crate::format::ColorMode;

#[derive(Clone, Default)]
struct TestScreen(Arc<Mutex<Vec<u8>>>);

impl TestScreen {
    fn bytes(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }

    /// The lines that a person sees in the end.
    fn lines(&self) -> Vec<String> {
        let plain = self.bytes().replace("\u{1b}[2m", "").replace("\u{1b}[0m", "");
        let (mut lines, mut line, mut column) = (Vec::new(), Vec::new(), 0);
        let mut chars = plain.chars();
        while let Some(c) = chars.next() {
            match c {
                '\n' => {
                    lines.push(String::from_iter(std::mem::take(&mut line)).trim_end().to_owned());
                    column = 0;
                }
                '\r' => column = 0,
                '\u{1b}' => {
                    assert_eq!((chars.next(), chars.next()), (Some('['), Some('K')), "no other escape");
                    line.truncate(column);
                }
                c => {
                    line.resize(line.len().max(column + 1), ' ');
                    line[column] = c;
                    column += 1;
                }
            }
        }
        lines.push(String::from_iter(line).trim_end().to_owned());
        lines
    }
}

impl Write for TestScreen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal for both outputs, of 20 columns.
fn context(screen: &TestScreen) -> CommandContext {
    let mut context = CommandContext::of_process(String::new());
    (context.out, context.err) = (Box::new(screen.clone()), Box::new(screen.clone()));
    (context.out_is_terminal, context.err_is_terminal) = (true, true);
    context.color_hints = crate::format::ColorHints::default();
    context.terminal.shows_unicode = true;
    context.terminal.is_accessible = false;
    context.terminal.err_columns = Some(Box::new(|| Some(20)));
    context
}

fn global(color: ColorMode) -> GlobalOptions {
    GlobalOptions { color, ..GlobalOptions::default() }
}

#[expect(clippy::unnecessary_wraps, reason = "what is drawn may be nothing")]
fn still(text: &str) -> Option<LiveText> {
    Some(LiveText { before: text.to_owned(), clock: LiveClock::Still, after: String::new() })
}

async fn draw(output: &mut CommandOutput<'_>) {
    output.draw_live_while(sleep(REDRAW_REST * 2)).await;
}

#[tokio::test(start_paused = true)]
async fn the_live_line_is_gone_before_anything_is_printed() {
    for color in [ColorMode::Always, ColorMode::Never] {
        let screen = TestScreen::default();
        let mut context = context(&screen);
        let global = global(color);
        let mut output = CommandOutput::new(&mut context, &global);
        output.show_live(still("one is long enough to be cut")).expect("it is shown");
        draw(&mut output).await;
        assert_eq!(screen.lines(), ["one is long enough…"]);
        output.show_live(still("two")).expect("it is shown");
        draw(&mut output).await;
        assert_eq!(screen.lines(), ["two"], "{color:?}");
        output.print_notice("a notice").expect("it is printed");
        draw(&mut output).await;
        assert_eq!(screen.lines(), ["a notice", "two"]);
        output.print_text("an answer").expect("it is printed");
        draw(&mut output).await;
        assert_eq!(screen.lines(), ["a notice", "an answer"], "nothing is drawn behind an open line");
        output.print_text(" ends\n").expect("it is printed");
        draw(&mut output).await;
        output.show_live(None).expect("it is erased");
        assert_eq!(screen.lines(), ["a notice", "an answer ends", ""]);
        assert_eq!(screen.bytes().contains('\u{1b}'), color == ColorMode::Always);
    }
}

#[tokio::test(start_paused = true)]
async fn plain_lines_are_appended_once_and_never_written_over() {
    for is_accessible in [true, false] {
        let screen = TestScreen::default();
        let mut context = context(&screen);
        context.terminal.shows_unicode = is_accessible;
        context.terminal.is_accessible = is_accessible;
        let global = global(ColorMode::Always);
        let mut output = CommandOutput::new(&mut context, &global);
        let thinking = LiveText {
            before: "thinking".to_owned(),
            clock: LiveClock::Since(Instant::now()),
            after: " (small)".to_owned(),
        };
        output.show_live(Some(thinking.clone())).expect("it is shown");
        draw(&mut output).await;
        output.show_live(Some(thinking)).expect("it is shown");
        output.show_live(None).expect("it is over");
        assert_eq!(screen.bytes(), "thinking (small)\n");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_drawn_for_a_program() {
    let screen = TestScreen::default();
    for (is_terminal, jsonl) in [(false, false), (true, true)] {
        let mut context = context(&screen);
        context.err_is_terminal = is_terminal;
        let global = GlobalOptions { jsonl, ..global(ColorMode::Always) };
        let mut output = CommandOutput::new(&mut context, &global);
        output.show_live(still("one")).expect("it is left out");
        draw(&mut output).await;
    }
    assert_eq!(screen.bytes(), "");
}

#[test]
fn a_line_is_cut_between_characters_and_columns() {
    for (text, columns, cut) in [
        ("plain", 6, "plain"),
        ("plain", 5, "pla…"),
        ("日本語", 7, "日本語"),
        ("日本語", 6, "日本…"),
        ("日本語", 5, "日…"),
        ("x", 1, ""),
        ("x", 0, ""),
    ] {
        assert_eq!(cut_to_columns(text, columns), cut, "{text:?} in {columns}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_clock_counts_up_and_down() {
    let now = Instant::now();
    let text = |clock| LiveText { before: "x".into(), clock, after: "!".into() };
    assert_eq!(text(LiveClock::Since(now)).text_at(now + Duration::from_millis(2_900)), "x 2 s!");
    let end = now + Duration::from_secs(4);
    assert_eq!(text(LiveClock::Until(end)).text_at(now + Duration::from_millis(100)), "x 4 s!");
    assert_eq!(text(LiveClock::Until(end)).text_at(end + Duration::from_secs(1)), "x 0 s!");
    assert_eq!(text(LiveClock::Since(now)).lasting_text(end), "x!");
}
