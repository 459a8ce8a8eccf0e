//! Process isolation: the backends behind the [`SandboxBackend`](dromia_contracts::sandbox::SandboxBackend) port, and the battery
//! of escape attempts that each of them must refuse. Linux only.
//!
//! Invariant: what a process may do is settled before its program starts, and by a process of its own: the *helper*,
//! which is this very program started again under the name [`HELPER_NAME`], before it has threads. `main` asks
//! [`enter_helper`] first. The helper takes the order from its standard input, a socket, sets up the sandbox, starts the
//! program and watches over it. The other end of that socket is the lifeline: when it closes, for whatever reason,
//! everything that the helper started is ended.
//!
//! What this crate refuses to do: decide who may run what (the gate does), give a process a network (one that is to
//! have a proxy gets a socket to it, which the server serves), run anything where a restriction is missing.
//!
//! Reading order: [`native`], [`bubblewrap`], [`docker`], [`firecracker`] and [`gvisor`] are the backends, [`probe`] says
//! what this machine permits; `order` is what goes to the helper and what comes back, `helper` carries it out; [`battery`]
//! tries to break out.

pub mod battery;
pub mod bubblewrap;
pub mod docker;
pub mod firecracker;
pub mod gvisor;
pub mod native;
pub mod probe;

mod helper;
mod missing_part;
mod order;
mod process;
mod proxy_socket;
mod spec;
mod standby;
mod sys;

use std::ffi::OsString;
use std::process::ExitCode;

pub use crate::bubblewrap::BubblewrapSandbox;
pub use crate::docker::{DockerEngine, DockerSandbox};
pub use crate::firecracker::{FirecrackerParts, FirecrackerSandbox};
pub use crate::gvisor::GvisorSandbox;
pub use crate::native::{NativeLevel, NativeSandbox};
pub use crate::order::GuestReporter;

/// The name (`argv[0]`) under which this program is the helper.
pub const HELPER_NAME: &str = "dromia-sandbox-helper";

/// The first argument with which the helper enters the namespaces of the strict backend before it has its order.
pub(crate) const AHEAD_FLAG: &str = "--ahead";

/// The first argument with which this program restricts itself inside of a sandbox that another program built.
pub(crate) const INSIDE_FLAG: &str = "--sandbox-inside";

/// The name under which this program is the first process of a virtual machine: where it lies in the root image.
pub const GUEST_NAME: &str = "/sbin/dromia-guest";

/// The first argument with which this program does a guest's work as an ordinary process, in the directory that follows.
pub const REHEARSAL_FLAG: &str = "--sandbox-rehearsal";

/// The first argument with which this program makes one attempt of the [`battery`].
pub const ATTEMPT_FLAG: &str = "--sandbox-attempt";

/// Has helpers that this process becomes bind guards by their paths, as they once did: the tests of races must notice it.
#[doc(hidden)]
pub fn plant_binding_by_path() {
    helper::plant_binding_by_path();
}

/// Gives this thread less of a claim on a processor than the process has: it is nicer by so much, and gives way at once where
/// another one wakes up. It is here because the system call has no safe wrapper.
pub fn lower_thread_claim(by: i32) -> std::io::Result<()> {
    sys::lower_thread_claim(by)
}

/// Does the work of the helper, or one attempt of the battery, if this process was started for it.
///
/// `main` calls it before anything else, while the process has one thread; what it returns is the process's end.
pub fn enter_helper(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let name = arguments.next()?;
    if name == HELPER_NAME {
        return Some(helper::run_helper(arguments.next().is_some_and(|flag| flag == AHEAD_FLAG)));
    }
    if name == GUEST_NAME {
        return Some(helper::run_machine());
    }
    let flag = arguments.next()?;
    if flag == INSIDE_FLAG {
        return Some(helper::run_inside(arguments));
    }
    if flag == REHEARSAL_FLAG {
        return Some(helper::run_rehearsal(arguments));
    }
    (flag == ATTEMPT_FLAG).then(|| battery::run_attempt(arguments))
}
