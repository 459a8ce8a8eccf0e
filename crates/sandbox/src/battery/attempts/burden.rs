//! What attempts use up (memory, processes, threads, disk), and what they leave behind.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::ATTEMPT_FLAG;
use crate::battery::scene::AttemptScene;
use crate::sys;

/// The name under which an attempt starts itself again, to hold memory.
pub(in crate::battery) const HOLD: &str = "hold";

/// How long something too large is held, so that the meter sees it, also on a busy machine: it looks every half second
/// on an idle one.
pub(super) const HELD_FOR: Duration = Duration::from_secs(3);

/// Touches that much memory, holds it for a while, and lets it go.
pub(super) fn hold_memory(bytes: u64) {
    let mut memory = vec![0_u8; usize::try_from(bytes).unwrap_or(usize::MAX)];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    std::thread::sleep(HELD_FOR);
    drop(std::hint::black_box(memory));
}

/// What each of several processes does: holds half of what all may have.
pub(in crate::battery) fn hold_half_memory(scene: &AttemptScene) {
    hold_memory(scene.limits.memory_bytes / 2);
}

pub(super) fn memory_of_many() -> io::Result<()> {
    let words: Vec<_> = std::env::args_os().collect();
    let [program, _, _, scene] = &words[..] else { return Err(io::Error::other("there is no scene")) };
    let children: Vec<Child> = (0..4)
        .map(|_| Command::new(program).args([ATTEMPT_FLAG, HOLD]).arg(scene).spawn())
        .collect::<io::Result<_>>()?;
    let ends: Vec<_> = children.into_iter().map(|mut child| child.wait()).collect::<io::Result<_>>()?;
    if ends.iter().all(std::process::ExitStatus::success) {
        Ok(())
    } else {
        Err(io::Error::other("one died"))
    }
}

pub(super) fn many_processes(scene: &AttemptScene) -> io::Result<()> {
    let mut children = Vec::new();
    let mut result = Ok(());
    for _ in 0..scene.limits.processes * 2 {
        let child = Command::new("sleep").arg("5").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        match child {
            Ok(child) => children.push(child),
            Err(problem) => {
                result = Err(problem);
                break;
            }
        }
    }
    std::thread::sleep(HELD_FOR);
    for child in &mut children {
        child.kill()?;
        child.wait()?;
    }
    result
}

/// The same, started by another thread than the first.
pub(super) fn many_processes_of_a_thread(scene: &AttemptScene) -> io::Result<()> {
    let started = std::thread::scope(|scope| scope.spawn(|| many_processes(scene)).join());
    started.map_err(|_| io::Error::other("a thread died"))?
}

/// Holds more memory than it may, in a shared mapping without a file, and lets go of the pages that it has seen.
pub(super) fn shared_memory(scene: &AttemptScene) -> io::Result<()> {
    let held =
        sys::share_memory(usize::try_from(scene.limits.memory_bytes + (64 << 20)).unwrap_or(usize::MAX))?;
    std::thread::sleep(HELD_FOR);
    drop(held);
    Ok(())
}

pub(super) fn many_threads(scene: &AttemptScene) -> io::Result<()> {
    let threads: Vec<_> = (0..scene.limits.processes * 2)
        .map(|_| {
            let builder = std::thread::Builder::new().stack_size(64 << 10);
            builder.spawn(|| std::thread::sleep(HELD_FOR))
        })
        .collect::<io::Result<_>>()?;
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a thread died"))?;
    }
    Ok(())
}

pub(super) fn write_much(path: &Path, bytes: u64) -> io::Result<()> {
    let piece = vec![1_u8; 1 << 20];
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        file.write_all(&piece)?;
        left = left.saturating_sub(piece.len() as u64);
    }
    Ok(())
}

/// What does something in the workspace once the judge has seen this attempt's end, however long that takes.
const LATER: &str = "later() { while test -e running; do sleep 0.1; done; echo x > late; }; ";

/// Leaves a process behind that does something later.
pub(super) fn leave_process(scene: &AttemptScene, script: &str, is_session: bool) -> io::Result<()> {
    let mut command = if is_session { Command::new("setsid") } else { Command::new("sh") };
    if is_session {
        command.arg("sh");
    }
    let child: Child = command
        .args(["-c", &format!("{LATER}{script}")])
        .current_dir(&scene.workspace)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // It is left behind on purpose; the process that inherits it reaps it.
    std::mem::forget(child);
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}
