//! Markdown at a terminal, however its pieces come.

use super::*;

const PAINTED: MarkdownLook = MarkdownLook { columns: 40, is_painted: true, is_plain: true };

const ANSWER: &str = "# Title\n\n\nThis has **bold words**, *italic*, `cargo test` and run_0123456789abcdef which stays \
                      whole.\n\n- first item that is longer than the line is\n  1. nested\n> quoted text that goes on \
                      and on and on\n\n```rust\nfn main() { println!(\"a line that is longer than forty columns\"); }\n\n```\n\n| a | \
                      b |\n|---|---|\nsee [docs](https://x.example/a) and **kwargs";

fn render(look: MarkdownLook, pieces: &[&str]) -> String {
    let mut printer = MarkdownPrinter::new(look);
    let mut out: String = pieces.iter().map(|piece| printer.push_text(piece)).collect();
    out.push_str(&printer.finish());
    out
}

/// What stays on a screen: neither styles nor a word that was taken back.
fn screen(text: &str) -> String {
    let mut lines = vec![String::new()];
    let (mut rest, mut back) = (text, 0);
    while let Some(c) = rest.chars().next() {
        let line = lines.last_mut().unwrap();
        let Some(sequence) = rest.strip_prefix("\x1b[") else {
            rest = &rest[c.len_utf8()..];
            if c == '\n' {
                lines.push(String::new());
            } else {
                line.push(c);
            }
            continue;
        };
        let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        match &sequence[end..=end] {
            "D" => back = sequence[..end].parse().unwrap(),
            "K" => line.truncate(line.char_indices().rev().nth(back - 1).unwrap().0),
            style => assert_eq!(style, "m"),
        }
        rest = &sequence[end + 1..];
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_answer_is_rendered_without_breaking_words() {
    insta::assert_snapshot!(screen(&render(PAINTED, &[ANSWER])), @r#"
    Title

    This has bold words, italic, cargo test
    and run_0123456789abcdef which stays
    whole.

    - first item that is longer than the
      line is
      1. nested
    > quoted text that goes on and on and
    > on

      fn main() { println!("a line that is longer than forty columns"); }


    | a | b |
    |---|---|
    see docs (https://x.example/a) and
    **kwargs
    "#);
}

#[test]
fn an_answer_looks_the_same_however_its_pieces_come() {
    let whole = render(PAINTED, &[ANSWER]);
    for look in [PAINTED, MarkdownLook { is_plain: false, ..PAINTED }] {
        let whole = screen(&render(look, &[ANSWER]));
        for length in [1, 2, 3, 7, 50] {
            let pieces: Vec<String> = ANSWER
                .chars()
                .collect::<Vec<_>>()
                .chunks(length)
                .map(|piece| piece.iter().collect())
                .collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let pieced = screen(&render(look, &pieces));
            assert_eq!(pieced, whole, "{length}");
        }
    }
    assert!(whole.contains(&format!("{}bold{0:#}", Style::new().bold())), "{whole:?}");
}

#[test]
fn the_first_word_is_shown_at_once() {
    let mut printer = MarkdownPrinter::new(MarkdownLook { is_plain: false, ..PAINTED });
    assert_eq!(printer.push_text("Hel"), "Hel");
    assert_eq!(printer.push_text("lo there"), "lo there");
}

#[test]
fn without_colour_markers_stay_and_lines_fit() {
    let look = MarkdownLook { is_painted: false, ..PAINTED };
    let out = render(look, &[ANSWER]);
    assert!(
        out.contains("# Title") && out.contains("**bold words**") && out.contains("```rust\nfn main"),
        "{out}"
    );
    assert!(!out.contains('\x1b'), "{out:?}");
    let text = out.lines().filter(|line| !line.contains("println"));
    assert_eq!(text.filter(|line| line.chars().count() > 40).count(), 0, "{out}");
}

#[test]
fn a_fence_of_code_keeps_its_lines_and_empty_lines() {
    let out = render(PAINTED, &["```\na\n\n\n  b\n```\nend"]);
    assert_eq!(out, "  a\n\n\n    b\nend\n");
    assert_eq!(render(PAINTED, &["\n\na\n\n\nb\n\n"]), "a\n\nb\n");
}

#[test]
fn a_paragraph_of_a_page_is_one_line() {
    let page = "# A\n\nOne\ntwo.\n- an item\n  goes on\n- next\n\n1. first\n2. second\n\n```sh\na\nb\n```\nafter\n| x |\n|---|\n";
    let joined = "# A\n\nOne two.\n- an item goes on\n- next\n\n1. first\n2. second\n\n```sh\na\nb\n```\nafter\n| x |\n|---|";
    assert_eq!(join_paragraphs(page), joined);
}
