//! The installer, from a release folder that the release script makes of the program that is tested.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::home::stderr;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts")
}

/// A small program in the place of the real one, which a debug build makes too large to copy often.
const SMALL: &str = "#!/bin/sh\necho dromia 0.0.0\n";

struct Release {
    dir: tempfile::TempDir,
}

impl Release {
    fn new(program: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("program"), program).expect("is written");
        fs::create_dir(dir.path().join("home")).expect("is made");
        let made = Self { dir };
        let status = Command::new("chmod").arg("755").arg(made.path("program")).status();
        assert!(status.expect("chmod runs").success());
        made.pack(&made.path("program"));
        made
    }

    fn pack(&self, program: &Path) {
        let packed =
            Command::new(scripts().join("release.sh")).arg(self.path("release")).arg(program).output();
        let packed = packed.expect("the script runs");
        assert!(packed.status.success(), "{}", stderr(&packed));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self) -> PathBuf {
        self.path("release").join(format!("dromia-{}-linux", std::env::consts::ARCH))
    }

    fn install_with(&self, script: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new("sh");
        command.arg(script).args(arguments).env("HOME", self.path("home"));
        command.output().expect("the script runs")
    }

    fn install(&self, arguments: &[&str]) -> Output {
        self.install_with(&self.path("release/install.sh"), arguments)
    }

    fn installed(&self) -> PathBuf {
        self.path("home/.local/bin/dromia")
    }

    /// What lies in the directory, also what is hidden.
    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("home/.local/bin")) else { return Vec::new() };
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_release_installs_without_root_and_names_the_next_step() {
    let release = Release::new(SMALL);
    let planned = release.install(&["--dry-run"]);
    assert!(planned.status.success() && stdout(&planned).contains("would write"), "{}", stderr(&planned));
    assert_eq!(release.names(), Vec::<String>::new());
    for _ in 0..2 {
        let done = release.install(&[]);
        assert!(done.status.success(), "{}", stderr(&done));
        let told = stdout(&done);
        assert!(told.contains("installed dromia 0.0.0") && told.contains("export PATH="), "{told}");
        assert!(told.ends_with("next:  dromia demo\n"), "{told}");
        assert_eq!(release.names(), ["dromia"]);
    }
    let elsewhere = release.path("bin").display().to_string();
    let done = release.install(&["--dir", &elsewhere]);
    assert!(done.status.success() && release.path("bin/dromia").exists(), "{}", stderr(&done));
}

#[test]
fn the_tested_program_is_packed_and_starts() {
    let release = Release::new(SMALL);
    release.pack(Path::new(env!("CARGO_BIN_EXE_dromia")));
    let done = release.install(&[]);
    assert!(done.status.success(), "{}", stderr(&done));
    let version = Command::new(release.installed()).arg("version").output().expect("it starts");
    assert_eq!(stdout(&version), format!("dromia {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn an_installer_refuses_what_it_cannot_trust() {
    let release = Release::new(SMALL);
    let refused = |arguments: &[&str], says: &str| {
        let output = release.install(arguments);
        assert!(!output.status.success() && stderr(&output).contains(says), "{}", stderr(&output));
        assert_eq!(release.names(), Vec::<String>::new(), "{says}");
    };
    refused(&["--from", "http://127.0.0.1:9/"], "only https://");
    refused(&["--sha256", &"0".repeat(64)], "was expected");
    refused(&["--from", "/nonexistent"], "failed to get SHA256SUMS");
    refused(&["--frm", "x"], "unknown option");
    let sums = release.path("release/SHA256SUMS");
    let listed = fs::read(&sums).expect("is read");
    fs::write(&sums, "").expect("is written");
    refused(&[], "has no digest");
    fs::write(&sums, listed).expect("is written");
    assert!(refuses_changed(&release, &release.path("release/install.sh")));
    let broken = Release::new(SMALL);
    fs::write(broken.program(), "#!/bin/sh\nexit 1\n").expect("is written");
    let digest = Command::new("sha256sum").arg(broken.program()).output().expect("coreutils are there");
    let line = stdout(&digest).replace(&format!("{}/", broken.path("release").display()), "");
    fs::write(broken.path("release/SHA256SUMS"), line).expect("is written");
    let output = broken.install(&[]);
    assert!(stderr(&output).contains("does not start") && broken.names().is_empty(), "{}", stderr(&output));
}

/// Whether an installer refuses a program that was changed after it was packed.
fn refuses_changed(release: &Release, script: &Path) -> bool {
    fs::write(release.program(), SMALL.replace("0.0.0", "6.6.6")).expect("is written");
    let output = release.install_with(script, &["--from", release.path("release").to_str().expect("text")]);
    !output.status.success() && release.names().is_empty()
}

#[test]
fn an_installer_that_compares_no_digest_is_caught() {
    let release = Release::new(SMALL);
    let script = fs::read_to_string(release.path("release/install.sh")).expect("is read");
    let careless = script.replace("[ \"$found\" = \"$digest\" ] ||", "true ||");
    assert_ne!(careless, script);
    let path = release.path("careless.sh");
    fs::write(&path, careless).expect("is written");
    assert!(!refuses_changed(&release, &path));
}

/// What the program is built of lies in what the image's build gets: cargo lists the files beside the program.
#[test]
fn the_image_is_built_from_every_file_the_program_includes() {
    let root = scripts().join("..").canonicalize().expect("the root");
    let read = |path: &Path| fs::read_to_string(path).expect("is read");
    let (recipe, context) = (read(&root.join("Dockerfile")), read(&root.join(".dockerignore")));
    let program = Path::new(env!("CARGO_BIN_EXE_dromia")).canonicalize().expect("the program");
    // What the build itself writes may lie below the root too: the image's build writes its own.
    let built = program.parent().expect("a directory");
    let files = read(&program.with_extension("d"));
    let included: BTreeSet<String> = files
        .split_whitespace()
        .filter_map(|file| fs::canonicalize(file.trim_end_matches(':')).ok())
        .filter(|file| !file.starts_with(built))
        // Clippy, which runs in the build, reads its own settings; the image is built without it.
        .filter(|file| {
            file.parent() != Some(root.as_path()) || file.extension().is_none_or(|kind| kind != "toml")
        })
        .filter_map(|file| {
            file.strip_prefix(&root).ok()?.components().next()?.as_os_str().to_owned().into_string().ok()
        })
        .collect();
    assert!(included.contains("crates") && included.contains("docs"), "{included:?}");
    for name in included {
        assert!(recipe.contains(&format!("COPY {name} {name}\n")), "the Dockerfile does not copy {name}");
        assert!(context.contains(&format!("!{name}\n")), ".dockerignore leaves {name} out");
    }
}
