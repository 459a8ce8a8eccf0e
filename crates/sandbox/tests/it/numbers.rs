//! What a program that does nothing but fork takes of the machine, also where the server is root, whom `RLIMIT_NPROC` does
//! not hold.

use dromia_contracts::sandbox::{LimitKind, ProcessExit};
use dromia_sandbox::probe::{self, BackendKind};

use crate::support::{machine, run, script};

/// The first kernel whose process namespaces have numbers of their own is 6.14. Without one there is nothing to test, and
/// that is no success.
fn needs_numbers_of_namespaces() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("it is told");
    let mut words = release.split('.').map(|word| word.parse::<u32>().unwrap_or_default());
    let is_new = (words.next(), words.next()) >= (Some(6), Some(14));
    assert!(
        is_new,
        "Linux {release} gives process namespaces no numbers of their own: test on 6.14 or newer"
    );
}

#[tokio::test]
async fn a_program_has_few_process_numbers_and_cannot_raise_them() {
    needs_numbers_of_namespaces();
    let all = std::fs::read_to_string("/proc/sys/kernel/pid_max").expect("it is told");
    let backend = probe::probe_one(&machine(None), BackendKind::Strict).state.expect("it works");
    let dir = tempfile::tempdir().expect("a directory");
    let text =
        "cat /proc/sys/kernel/pid_max; echo 32768 > /proc/sys/kernel/pid_max; cat /proc/sys/kernel/pid_max";
    let told = run(&*backend, script(dir.path(), text)).await;
    assert_eq!(told.out, "431\n431\n", "{told:?}");
    assert_eq!(
        std::fs::read_to_string("/proc/sys/kernel/pid_max").expect("it is told"),
        all,
        "the machine keeps its own"
    );
}

/// Each of its processes starts two more, ten times, and none ends: more than two thousand, unless the kernel refuses.
#[tokio::test]
async fn the_kernel_stops_a_fork_bomb_before_the_meter() {
    needs_numbers_of_namespaces();
    let backend = probe::probe_one(&machine(None), BackendKind::Strict).state.expect("it works");
    let dir = tempfile::tempdir().expect("a directory");
    let text = "bomb() { : > $1; [ ${#1} -gt 10 ] || { bomb ${1}a & bomb ${1}b & }; sleep 9; }; bomb x";
    let told = run(&*backend, script(dir.path(), text)).await;
    assert_eq!(told.ending, ProcessExit::Killed { limit: LimitKind::Processes }, "{told:?}");
    let begun = std::fs::read_dir(dir.path()).expect("it is there").count();
    assert!((16..=430).contains(&begun), "{begun} processes began");
}

/// The kernel gives a number once, and those below 300 never again, so whoever forks for long must find some above.
#[tokio::test]
async fn a_sequentially_forking_program_never_exhausts_its_numbers() {
    let backend = probe::probe_one(&machine(None), BackendKind::Strict).state.expect("it works");
    let dir = tempfile::tempdir().expect("a directory");
    let text = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo $i | cat | cat > last || exit 1; done; cat last; \
                i=0; while [ $i -lt 100 ]; do i=$((i+1)); sleep 1 & done; wait; echo all";
    let told = run(&*backend, script(dir.path(), text)).await;
    assert_eq!(
        (told.ending.clone(), &*told.out),
        (ProcessExit::Exited { code: 0 }, "400\nall\n"),
        "{told:?}"
    );
}
