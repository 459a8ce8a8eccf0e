//! The policy worker alone, for the tests of this crate; what is shipped is `dromia`, which is its own worker.

use std::process::ExitCode;

fn main() -> ExitCode {
    dromia_guard::policy::enter_worker(std::env::args_os()).unwrap_or(ExitCode::FAILURE)
}
