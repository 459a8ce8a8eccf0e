//! What a shell offers for a line that somebody has begun, asked of the shell itself: it loads the script that the binary
//! prints for it, and what it would show is taken down.
//!
//! Bash calls the function that the script bound to the name, as its line editor does. Fish has a word for the question.
//! Zsh completes only where somebody types, so one shell types into another and that one writes down what it is given.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::home::{Home, stderr};

/// How many seconds a shell may take, begun by a busy machine.
const SECONDS: &str = "120";

const BASH: &str = r#"
source "$1"
bound=$(complete -p dromia)
bound=${bound##*-F }
bound=${bound%% *}
read -ra COMP_WORDS <<< "$2"
[[ $2 != *" " ]] || COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"$bound" dromia "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

const FISH: &str = "source $argv[1]; complete -C $argv[2]";

/// The shell that types: into one that has read the other script.
const ZSH: &str = r#"
zmodload zsh/zpty || exit 3
zpty typed "zsh -f -i"
zpty -w typed "source ${(q)1}"
zpty -w -n typed "$2"$'\t'
while zpty -r typed piece; do :; done
cat -- "$3"
"#;

/// The shell that is typed into: what is offered goes into a file, and after the first question it ends.
const ZSH_TYPED: &str = r#"
fpath=(${0:h}/functions $fpath)
autoload -U compinit
compinit -u -D
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)* ]]; then
        builtin compadd "$@"
        return
    fi
    local -a offered
    builtin compadd -A offered "$@"
    print -rl -- $offered >> ${OFFERED}
    builtin compadd "$@"
}
comppostfuncs=(exit)
"#;

/// A home, and a directory with the scripts of all shells.
struct Desk {
    home: Home,
    place: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { home: Home::new(), place: tempfile::tempdir().expect("a directory") };
        std::fs::create_dir(desk.path("functions")).expect("it can be made");
        for (shell, file) in [("bash", "dromia.bash"), ("fish", "dromia.fish"), ("zsh", "functions/_dromia")]
        {
            let printed = desk.home.run(&["completions", shell]);
            assert!(printed.status.success(), "{shell}: {}", stderr(&printed));
            std::fs::write(desk.path(file), printed.stdout).expect("it is written");
        }
        std::fs::write(desk.path("typed.zsh"), ZSH_TYPED).expect("it is written");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// What a shell offers for a line, each word once, without what is said about it.
    fn offered(&self, shell: &str, line: &str) -> Vec<String> {
        let offered = self.path("offered");
        std::fs::write(&offered, "").expect("it is written");
        let (script, typed) = (self.path(&format!("dromia.{shell}")), self.path("typed.zsh"));
        let mut command = Command::new("timeout");
        command.arg(SECONDS).arg(shell);
        match shell {
            "bash" => command.args(["--norc", "--noprofile", "-c", BASH, "bash"]).arg(script).arg(line),
            "fish" => command.args(["--no-config", "-c", FISH]).arg(script).arg(line),
            _ => command.args(["-f", "-c", ZSH, "zsh"]).arg(typed).arg(line).arg(&offered),
        };
        let output = command
            .env_clear()
            .env("PATH", path_with_the_program())
            .env("HOME", self.place.path())
            .env("DROMIA_HOME", self.home.path())
            .env("OFFERED", &offered)
            .env("TERM", "xterm")
            .stdin(std::process::Stdio::null())
            .output()
            .expect("coreutils are there");
        let said = stderr(&output);
        let is_fine = output.status.success() && said.is_empty();
        assert!(is_fine, "{line:?} in {shell} (`make setup` installs it): {} {said}", output.status);
        let text = String::from_utf8(output.stdout).expect("it is text");
        let words = text.lines().map(|line| line.split('\t').next().unwrap_or_default().trim());
        let mut words: Vec<_> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        words.sort();
        words.dedup();
        words
    }
}

/// The shells find the program by its name, as everybody's do.
fn path_with_the_program() -> OsString {
    let program = Path::new(env!("CARGO_BIN_EXE_dromia")).parent().expect("it is in a directory");
    let mut path = OsString::from(program);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
    path
}

#[test]
fn all_shells_complete_commands_verbs_and_existing_names() {
    let desk = Desk::new();
    let tree = desk.home.run(&["help", "commands", "--json"]);
    let tree: Value = serde_json::from_slice(&tree.stdout).expect("a document");
    let rows = tree["items"].as_array().expect("rows").iter();
    let verbs = rows
        .filter_map(|row| row["command"].as_str()?.strip_prefix("agent "))
        .filter(|verb| !verb.contains(' '));
    let verbs: Vec<_> = verbs.map(str::to_owned).collect();
    assert!(verbs.len() > 5, "{tree}");
    for shell in ["bash", "zsh", "fish"] {
        let nouns = desk.offered(shell, "dromia ag");
        assert!(nouns.contains(&"agent".to_owned()), "{shell}: {nouns:?}");
        assert!(nouns.iter().all(|noun| noun.starts_with("ag")), "{shell}: {nouns:?}");
        let offered = desk.offered(shell, "dromia agent ");
        assert!(verbs.iter().all(|verb| offered.contains(verb)), "{shell}: {offered:?} of {verbs:?}");
        assert_eq!(desk.offered(shell, "dromia agent pau"), ["pause"], "{shell}");
        let flags = desk.offered(shell, "dromia --no-i");
        assert_eq!(flags, ["--no-input"], "{shell}");
        assert_eq!(desk.offered(shell, "dromia model test scr"), ["scripted"], "{shell}: a name of the file");
    }
}
