//! Programs: what the sandbox is asked for, and what is told of what it says.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dromia_contracts::sandbox::{
    Ending, Mount, Process, ProcessEvent, ProcessSpec, Sandbox, SandboxError, Sandboxes, Stream, Tier,
};
use dromia_contracts::{BoxFuture, TenantId};

use crate::support::{Bench, TENANT};

/// A machine whose sandbox plays what it is told to, and remembers what it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// What the next process says; without it there is no sandbox.
    pub(crate) script: Mutex<Option<Vec<ProcessEvent>>>,
    /// What was asked for.
    pub(crate) asked: Arc<Mutex<Vec<ProcessSpec>>>,
}

impl Sandboxes for Played {
    fn pick(&self, tenant: TenantId) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, SandboxError>> {
        assert_eq!(tenant, TENANT, "it is asked for the tenant that calls");
        let script = self.script.lock().expect("nobody panicked").clone();
        let asked = Arc::clone(&self.asked);
        Box::pin(async move {
            match script {
                Some(script) => Ok(Arc::new(Stage { script, asked }) as Arc<dyn Sandbox>),
                None => Err(SandboxError::Unavailable {
                    missing: "the kernel has no Landlock".to_owned(),
                    fix: "boot with lsm=landlock".to_owned(),
                }),
            }
        })
    }
}

#[derive(Debug)]
struct Stage {
    script: Vec<ProcessEvent>,
    asked: Arc<Mutex<Vec<ProcessSpec>>>,
}

impl Sandbox for Stage {
    fn name(&self) -> &'static str {
        "played"
    }

    fn tier(&self) -> Tier {
        Tier::Process
    }

    fn workspace(&self, spec: &ProcessSpec) -> PathBuf {
        spec.workspace.clone()
    }

    fn place<'mount>(&self, mount: &'mount Mount) -> &'mount Path {
        &mount.source
    }

    fn start(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Box<dyn Process>, SandboxError>> {
        self.asked.lock().expect("nobody panicked").push(spec);
        let script = self.script.clone().into_iter();
        Box::pin(async move { Ok(Box::new(Acted(script)) as Box<dyn Process>) })
    }
}

#[derive(Debug)]
struct Acted(std::vec::IntoIter<ProcessEvent>);

impl Process for Acted {
    fn next(&mut self) -> BoxFuture<'_, Option<ProcessEvent>> {
        Box::pin(std::future::ready(self.0.next()))
    }

    fn stop(&mut self) {}
}

fn plays(bench: &Bench, output: &[&[u8]], ending: Ending) {
    let piece =
        |bytes: &&[u8]| ProcessEvent::Output { stream: Stream::Out, bytes: Bytes::copy_from_slice(bytes) };
    let script = output.iter().map(piece).chain([ProcessEvent::Ended(ending)]).collect();
    *bench.sandboxes.script.lock().expect("nobody panicked") = Some(script);
}

#[tokio::test]
async fn without_a_sandbox_nothing_runs_and_what_is_missing_is_said() {
    let bench = Bench::new();
    let told = bench.told("exec", r#"{"argv":["ls"]}"#).await;
    assert_eq!(
        told,
        "failed: no sandbox, so nothing runs: the kernel has no Landlock; boot with lsm=landlock"
    );
    assert!(!bench.workspace().exists(), "nothing was made");
}

#[tokio::test]
async fn what_was_judged_is_what_the_sandbox_is_asked_for() {
    let bench = Bench::new();
    plays(&bench, &[b"hi\n"], Ending::Exited { code: 0 });
    let told =
        bench.told("exec", r#"{"argv":["printf","%s; rm -rf /","$HOME"],"cwd":"a/./b","timeout_s":7}"#).await;
    assert!(told.starts_with("ok: [exit code 0; played]") && told.ends_with("hi\n"), "{told}");
    let told = bench.told("shell.execute", r#"{"command":"ls | wc -l"}"#).await;
    assert!(told.starts_with("ok: "), "{told}");
    let asked = bench.sandboxes.asked.lock().expect("nobody panicked").clone();
    assert_eq!(asked[0].argv, ["printf", "%s; rm -rf /", "$HOME"]);
    assert_eq!(asked[0].cwd, Path::new("a/b"));
    assert_eq!((asked[0].limits.wall_ms, asked[0].limits.cpu_ms), (7_000, 28_000));
    assert_eq!(asked[1].argv, ["/bin/sh", "-c", "ls | wc -l"]);
    assert_eq!(asked[1].cwd, Path::new(""));
    for spec in &asked {
        assert_eq!(spec.workspace, bench.workspace().canonicalize().expect("it was made"));
        assert!(spec.env.is_empty() && spec.mounts.is_empty());
    }
}

#[tokio::test]
async fn a_program_that_ends_badly_is_a_failure_with_its_output() {
    let bench = Bench::new();
    plays(&bench, &[b"no such test\n"], Ending::Exited { code: 2 });
    let told = bench.told("exec", r#"{"argv":["make"]}"#).await;
    assert!(told.starts_with("failed: [exit code 2; played]") && told.contains("no such test"), "{told}");
}

#[tokio::test]
async fn the_whole_of_a_long_output_can_be_read_from_the_workspace() {
    let bench = Bench::new();
    let long = vec![b'x'; 100_000];
    plays(&bench, &[&long], Ending::Exited { code: 0 });
    let told = bench.told("exec", r#"{"argv":["flood"]}"#).await;
    assert!(told.len() < 40_000, "{} bytes are told", told.len());
    let (_, rest) = told.split_once("[all 100000 bytes are in ").expect("it says where the whole is");
    let path = rest.split(']').next().expect("a path");
    let kept = std::fs::read(bench.workspace().join(path)).expect("it is kept");
    assert_eq!(kept, long);
}
