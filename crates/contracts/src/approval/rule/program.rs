//! Whether a rule for a tool that runs programs allows more than its author can see.
//!
//! It knows the words of a command and reads no file: what a program does with them is unknown before it runs.

use serde_json::Value;

use super::{ArgumentPattern, ParsedRule};

/// Programs that run what their arguments say: a rule for one would be a rule for everything.
const INTERPRETERS: &[&str] = &[
    "sh", "ash", "bash", "dash", "zsh", "fish", "ksh", "mksh", "csh", "tcsh", "pwsh", "busybox", "env",
    "xargs", "nohup", "nice", "ionice", "taskset", "timeout", "setsid", "stdbuf", "parallel", "flock",
    "unshare", "chroot", "strace", "gdb", "sudo", "su", "doas", "ssh", "awk", "gawk", "mawk", "nawk", "find",
    "make", "ninja", "cargo", "npm", "npx", "pnpm", "yarn", "deno", "bun", "expect", "tclsh",
];

/// The same, of which there are many versions under names of their own.
const VERSIONED: &[&str] = &["python", "perl", "ruby", "node", "php", "lua"];

impl ParsedRule {
    /// Says why it allows too much, if it is of a tool that runs programs.
    pub fn allows_too_much(&self) -> Option<&'static str> {
        if self.is_wide() || self.arguments.is_empty() {
            return Some("a rule that allows a program needs all its words, without stars");
        }
        let is_interpreter = |text: &&str| {
            let program = text.split_whitespace().next().unwrap_or_default();
            let program = program.rsplit('/').next().unwrap_or_default();
            INTERPRETERS.contains(&program) || VERSIONED.iter().any(|name| program.starts_with(name))
        };
        if !self.looks_at("argv") || self.all_texts().iter().any(is_interpreter) {
            return Some("no rule may allow a shell, an interpreter or a program that starts others");
        }
        if self.program_name().is_some_and(depends_on_cwd) && !self.looks_at("cwd") {
            return Some(
                "a rule that allows a program by a relative path needs its directory; add cwd=DIRECTORY",
            );
        }
        None
    }

    /// Returns the first word of a program that it names.
    fn program_name(&self) -> Option<&str> {
        let argv = self.arguments.iter().find(|(name, _)| name == "argv");
        argv.and_then(|(_, wanted)| match wanted {
            ArgumentPattern::Same(Value::Array(words)) => words.first()?.as_str(),
            ArgumentPattern::Same(_) | ArgumentPattern::Like(_) => None,
        })
    }

    /// Lists every text that it names, those within JSON included.
    fn all_texts(&self) -> Vec<&str> {
        let mut texts = Vec::new();
        for (_, wanted) in &self.arguments {
            match wanted {
                ArgumentPattern::Like(text) => texts.push(text.as_str()),
                ArgumentPattern::Same(value) => collect_texts(value, &mut texts),
            }
        }
        texts
    }
}

/// Returns whether the directory in which a program is started decides which file it is. A plain name is looked for in
/// the directories of the system only, and an absolute path is one file, but for those that lead back to the directory.
fn depends_on_cwd(program: &str) -> bool {
    program.contains('/') && (!program.starts_with('/') || program.contains("/proc/"))
}

fn collect_texts<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect_texts(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect_texts(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
