//! The helper alone, for the tests of this crate; what is shipped is `dromia`, which is its own helper.

use std::process::ExitCode;

fn main() -> ExitCode {
    dromia_sandbox::enter_helper(std::env::args_os()).unwrap_or(ExitCode::FAILURE)
}
