//! The `ml-ids` binary: wires the library together, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ml_ids::cli::main()
}
