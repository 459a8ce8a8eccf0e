//! Monitors that do not do what they are there for. None of them is a machine.

use super::*;

const SOON: Duration = Duration::from_millis(400);
const LATE: Duration = Duration::from_mins(1);

fn started(script: &str) -> MonitorProcess {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(std::process::Stdio::null());
    MonitorProcess::start_monitor(command).expect("a shell runs")
}

/// Waits until a monitor has said something: a busy machine starts even a shell late.
fn has_spoken(started: &MonitorProcess) {
    let until = Instant::now() + LATE;
    while started.words.lock().expect("nobody panicked").is_empty() {
        assert!(Instant::now() < until, "nothing was said");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn listener() -> (tempfile::TempDir, UnixListener) {
    let directory = tempfile::tempdir().expect("a directory");
    let listener = UnixListener::bind(directory.path().join("v.sock_1024")).expect("a socket");
    (directory, listener)
}

#[test]
fn a_monitor_that_exits_is_reported_with_its_last_words() {
    let (_directory, listener) = listener();
    let began = Instant::now();
    let problem = started("echo first; echo 'no /dev/kvm' >&2; exit 3").accept_guest(&listener, LATE);
    let problem = problem.expect_err("nobody calls");
    assert!(
        problem.contains("exit status: 3") && problem.ends_with("; its last output: no /dev/kvm"),
        "{problem}"
    );
    assert!(began.elapsed() < LATE / 2);
    let problem = started("exit 0").accept_guest(&listener, LATE).expect_err("nobody calls");
    assert!(problem.ends_with("(exit status: 0)"), "{problem}");
}

#[test]
fn a_monitor_whose_guest_never_calls_is_ended() {
    let (_directory, listener) = listener();
    let mut hangs = started("echo booting; exec sleep 600");
    let pid = hangs.child.id();
    has_spoken(&hangs);
    let problem = hangs.accept_guest(&listener, SOON).expect_err("nobody calls");
    assert_eq!(problem, "no guest connected within 0.4 s; its last output: booting");
    drop(hangs);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "it is ended and buried");
}

#[test]
fn a_monitor_that_floods_its_output_is_read_and_forgotten() {
    let (_directory, listener) = listener();
    let mut floods = started("while :; do echo 'the same line, again and again'; done");
    has_spoken(&floods);
    floods.accept_guest(&listener, SOON).expect_err("nobody calls");
    let kept = floods.words.lock().expect("nobody panicked").len();
    assert!((1..=WORDS_BYTES_MAX).contains(&kept), "{kept} bytes");
    // The flood goes on, so its last line may be only begun.
    let words = floods.last_words();
    let line = words.strip_prefix("; its last output: ").expect("it has spoken");
    assert!("the same line, again and again".contains(line), "{words}");
}

#[test]
fn words_of_a_guest_write_nothing_into_a_terminal() {
    let (_directory, listener) = listener();
    let problem =
        started("printf 'a\\033[2Jb\\007\\n'").accept_guest(&listener, LATE).expect_err("nobody calls");
    assert!(problem.ends_with("; its last output: a[2Jb"), "{problem:?}");
}

#[test]
fn a_calling_guest_is_accepted() {
    let (directory, listener) = listener();
    let mut waits = started("exec sleep 600");
    let caller = UnixStream::connect(directory.path().join("v.sock_1024")).expect("it is listened to");
    let line = waits.accept_guest(&listener, LATE).expect("it called");
    drop(caller);
    let mut heard = Vec::new();
    (&line).read_to_end(&mut heard).expect("it is read");
    assert!(heard.is_empty());
}
