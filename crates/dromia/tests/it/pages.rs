//! Pages whose commands are run as they stand: those in blocks of `sh`. Blocks of another kind are configurations of other
//! programs, or need root, a network or a container.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::home::{Home, stderr};
use crate::service;

/// The commands of a page, in its order.
fn commands_of(page: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = fs::read_to_string(&path).expect("the page is there");
    let blocks = text.split("\n```sh\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|block| Some(block.split_once("\n```")?.0)).collect();
    let commands = blocks.join("\n") + "\n";
    assert!(commands.contains("dromia "), "{page} has commands");
    commands
}

/// A user whose home directory has the home where the pages expect it.
struct PageUser {
    home: Home,
}

impl PageUser {
    fn new() -> Self {
        let user = Self { home: Home::new() };
        fs::rename(user.home.path(), user.directory().join(".dromia")).expect("is moved");
        symlink(".dromia", user.home.path()).expect("is linked");
        user
    }

    fn directory(&self) -> PathBuf {
        self.home.path().parent().expect("a parent").to_owned()
    }

    /// Runs commands as a person types them; says what went wrong.
    fn type_in(&self, commands: &str) -> Result<String, String> {
        let program =
            Path::new(env!("CARGO_BIN_EXE_dromia")).parent().expect("a directory").display().to_string();
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", commands]).current_dir(self.directory());
        command
            .envs(service::fake_systemd(&self.home))
            .env("HOME", self.directory())
            .env_remove("XDG_CONFIG_HOME");
        command.env_remove("DROMIA_HOME").env("USER", "someone").env("TOKEN", self.home.token_path());
        let systemd = self.directory().join("systemd").display().to_string();
        command.env("PATH", format!("{program}:{systemd}:{}", std::env::var("PATH").expect("a path")));
        let output = command.output().expect("bash runs");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(told) } else { Err(format!("{told}{}", stderr(&output))) }
    }
}

#[test]
fn the_commands_to_keep_a_server_running_do_it() {
    let user = PageUser::new();
    let server = user.home.serve();
    let told = user.type_in(&commands_of("keep-running.md")).unwrap_or_else(|told| panic!("{told}"));
    assert!(told.contains("sound") && told.contains("active (running)"), "{told}");
    assert!(user.directory().join("restored/dromia.yaml").is_file());
    drop(server);
}

#[test]
fn the_commands_of_the_backup_page_work() {
    let user = PageUser::new();
    let backups = user.directory().join("b");
    fs::create_dir(&backups).expect("is made");
    let commands = commands_of("backup.md").replace("dromia-20260314T090000Z.tar", "dromia-*.tar");
    let commands = commands.replace("/backups", backups.to_str().expect("text"));
    let told = user.type_in(&commands).unwrap_or_else(|told| panic!("{told}"));
    assert!(told.contains(".replaced-"), "{told}");
}

#[test]
fn the_commands_for_open_webui_list_agents_as_models() {
    let user = PageUser::new();
    let server = user.home.serve();
    let commands = commands_of("open-webui.md").replace("http://127.0.0.1:7700", &server.url);
    let told = user.type_in(&commands).unwrap_or_else(|told| panic!("{told}"));
    assert!(told.contains("\"assistant\""), "{told}");
}

#[test]
fn the_filters_of_the_output_page_work() {
    let user = PageUser::new();
    let server = user.home.serve();
    let told = user.type_in(&commands_of("output.md")).unwrap_or_else(|told| panic!("{told}"));
    assert!(told.ends_with("\nassistant\n0\n0\n"), "{told}");
    drop(server);
}

#[test]
fn a_page_with_a_wrong_command_is_caught() {
    let user = PageUser::new();
    let told = user.type_in("dromia backup make x.tar").expect_err("there is no such command");
    assert!(told.contains("make"), "{told}");
}
