//! Changes one entry of `providers:` or `models:` in the text and leaves every other line as it is.
//!
//! It knows lines, not YAML: a block is a top-level key with its entries indented below it. What it does not know for
//! sure it refuses, naming the line (a block in flow style, an anchor, a line it cannot place). The caller reads the
//! new text and compares what it means with what was meant, so a mistake here can only be a refusal.

use std::ops::Range;

/// Says where and why a text is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {why}")]
pub(crate) struct YamlEditError {
    /// The line, counted from 1.
    pub(crate) line: usize,
    /// What it is.
    pub(crate) why: &'static str,
}

/// Sets an entry: `entry` is its lines, without the indentation of the block.
pub(crate) fn put_entry(
    text: &str,
    block: &str,
    name: &str,
    entry: &[String],
) -> Result<String, YamlEditError> {
    let mut page = YamlLines::from_text(text);
    let Some(found) = page.find_block(block)? else {
        page.begin_block(block, entry);
        return Ok(page.join_lines());
    };
    let indented = |indent: usize| {
        let lines = entry.iter().map(|line| format!("{}{line}", " ".repeat(indent)));
        lines.collect::<Vec<_>>()
    };
    if let Some(old) = page.find_entry(&found, name)? {
        let mut lines = indented(found.indent);
        let comments = page.lines[old.clone()].iter().skip(1).map(|line| line.trim());
        let kept = comments.filter(|line| line.starts_with('#'));
        let kept = kept.map(|line| format!("{}{line}", " ".repeat(found.indent + 2)));
        drop(lines.splice(1..1, kept.collect::<Vec<_>>()));
        page.replace_lines(old, lines);
    } else {
        page.replace_lines(found.end..found.end, indented(found.indent));
        if found.is_flow_empty {
            page.set_head(found.head, block, "");
        }
    }
    Ok(page.join_lines())
}

/// Removes an entry; the text stays as it is where there is none.
pub(crate) fn remove_entry(text: &str, block: &str, name: &str) -> Result<String, YamlEditError> {
    let mut page = YamlLines::from_text(text);
    let Some(found) = page.find_block(block)? else { return Ok(page.join_lines()) };
    let Some(old) = page.find_entry(&found, name)? else { return Ok(page.join_lines()) };
    page.replace_lines(old, Vec::new());
    let is_empty = page.find_block(block)?.is_some_and(|block| block.is_empty);
    if is_empty {
        page.set_head(found.head, block, " {}");
    }
    Ok(page.join_lines())
}

/// A text as lines without their ends.
struct YamlLines {
    lines: Vec<String>,
    end: &'static str,
}

/// A top-level key with what is indented below it.
#[derive(Debug)]
struct YamlBlock {
    head: usize,
    /// Behind its last line that is its own.
    end: usize,
    indent: usize,
    is_empty: bool,
    is_flow_empty: bool,
}

impl YamlLines {
    fn from_text(text: &str) -> Self {
        let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let lines = text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect();
        Self { lines, end }
    }

    fn join_lines(self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), self.end]).collect()
    }

    fn replace_lines(&mut self, range: Range<usize>, lines: Vec<String>) {
        drop(self.lines.splice(range, lines));
    }

    /// Finds a block.
    fn find_block(&self, name: &str) -> Result<Option<YamlBlock>, YamlEditError> {
        let is_marker =
            |line: &str| line.starts_with("---") || line.starts_with("...") || line.starts_with('%');
        if let Some((at, line)) =
            self.lines.iter().enumerate().find(|(_, line)| is_said(line) && !is_marker(line))
            && line.trim_start().starts_with(['{', '['])
        {
            return Err(YamlEditError { line: at + 1, why: "begins a document in flow style" });
        }
        let Some(head) =
            self.lines.iter().position(|line| indent_width(line) == 0 && line_key(line) == Some(name))
        else {
            return Ok(None);
        };
        let rest = without_comment(after_key(&self.lines[head]));
        let is_flow_empty = matches!(rest, "{}" | "{ }" | "~" | "null");
        if !rest.is_empty() && !is_flow_empty {
            return Err(YamlEditError { line: head + 1, why: "has a block in flow style or with an anchor" });
        }
        let is_next = |line: &String| is_said(line) && indent_width(line) == 0;
        let below = self.lines[head + 1..].iter().position(is_next);
        let mut end = below.map_or(self.lines.len(), |below| head + 1 + below);
        // Comments and blank lines before the next key belong to it.
        while end > head + 1 && !is_said(&self.lines[end - 1]) && indent_width(&self.lines[end - 1]) == 0 {
            end -= 1;
        }
        let first = self.lines[head + 1..end].iter().find(|line| is_said(line));
        Ok(Some(YamlBlock {
            head,
            end,
            indent: first.map_or(2, |line| indent_width(line)),
            is_empty: first.is_none(),
            is_flow_empty,
        }))
    }

    /// Finds the lines of an entry.
    fn find_entry(&self, block: &YamlBlock, name: &str) -> Result<Option<Range<usize>>, YamlEditError> {
        let mut begins = Vec::new();
        for at in block.head + 1..block.end {
            let line = &self.lines[at];
            if !is_said(line) || indent_width(line) > block.indent {
                continue;
            }
            match line_key(line) {
                Some(key) if indent_width(line) == block.indent => begins.push((at, key)),
                _ => {
                    return Err(YamlEditError {
                        line: at + 1,
                        why: "is not the first line of an entry in its block",
                    });
                }
            }
        }
        let Some(index) = begins.iter().position(|(_, key)| *key == name) else { return Ok(None) };
        let begin = begins[index].0;
        let mut end = begins.get(index + 1).map_or(block.end, |(next, _)| *next);
        // Comments at the level of the entries belong to the next one.
        while end > begin + 1
            && !is_said(&self.lines[end - 1])
            && indent_width(&self.lines[end - 1]) <= block.indent
        {
            end -= 1;
        }
        Ok(Some(begin..end))
    }

    /// Begins a block: providers go before models, anything else at the end.
    fn begin_block(&mut self, name: &str, entry: &[String]) {
        let mut at = self.lines.len();
        if name == "providers"
            && let Some(models) =
                self.lines.iter().position(|line| indent_width(line) == 0 && line_key(line) == Some("models"))
        {
            at = models;
            while at > 0 && self.lines[at - 1].starts_with('#') && at > 1 {
                at -= 1;
            }
        }
        let head = std::iter::once(format!("{name}:"));
        let lines: Vec<_> = head.chain(entry.iter().map(|line| format!("  {line}"))).collect();
        self.replace_lines(at..at, lines);
    }

    /// Rewrites the line of a block's key; its comment stays.
    fn set_head(&mut self, at: usize, name: &str, value: &str) {
        let rest = after_key(&self.lines[at]);
        let comment = rest.find('#').map_or("", |hash| &rest[hash..]);
        let space = if comment.is_empty() { "" } else { "  " };
        self.lines[at] = format!("{name}:{value}{space}{comment}");
    }
}

/// Tells whether a line says something: it is neither blank nor a comment.
fn is_said(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#')
}

fn indent_width(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The key that a line begins with, plain or in simple quotes.
fn line_key(line: &str) -> Option<&str> {
    split_key(line).map(|(key, _)| key)
}

/// The rest of a line behind its key.
fn after_key(line: &str) -> &str {
    split_key(line).map_or("", |(_, rest)| rest)
}

fn split_key(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start_matches(' ');
    let quoted = ['"', '\''].into_iter().find_map(|quote| line.strip_prefix(quote).map(|rest| (quote, rest)));
    let (key, rest) = if let Some((quote, rest)) = quoted {
        rest.split_once(quote).filter(|(key, _)| !key.contains('\\'))?
    } else {
        let (end, _) = line.match_indices(':').find(|(at, _)| {
            let next = line[at + 1..].chars().next();
            next.is_none_or(|next| next == ' ')
        })?;
        line.split_at(end)
    };
    let rest = rest.trim_start().strip_prefix(':')?;
    let plain =
        quoted.is_some() || !key.starts_with(['-', '?', '{', '[', '}', ']', '&', '*', '!', '|', '>', '#']);
    (plain && !key.is_empty() && (rest.is_empty() || rest.starts_with(' '))).then(|| (key.trim_end(), rest))
}

fn without_comment(rest: &str) -> &str {
    let rest = rest.trim();
    if rest.starts_with('#') {
        return "";
    }
    rest.find(" #").map_or(rest, |at| rest[..at].trim_end())
}

/// Writes a name as YAML reads it back: plain where that is safe, in quotes otherwise.
pub(crate) fn name_text(name: &str) -> String {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let word = name.bytes().all(good) && name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&name);
    if word && !reserved { name.to_owned() } else { double_quote(name) }
}

/// Writes a text in double quotes. JSON is YAML.
pub(crate) fn double_quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
