//! The helper with a fault planted: it binds guards by their paths, which the tests of races must notice.

use std::process::ExitCode;

fn main() -> ExitCode {
    dromia_sandbox::plant_binding_by_path();
    dromia_sandbox::enter_helper(std::env::args_os()).unwrap_or(ExitCode::FAILURE)
}
