//! The binary: parses arguments, runs, prints the error and returns the exit code.

use std::process::ExitCode;

use hud::failure::Failure;
use hud::{cli, report, run};

fn main() -> ExitCode {
    env_logger::init();
    let config = cli::parse();
    match run::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::warn(format_args!("{error:#}"));
            ExitCode::from(Failure::exit_code(&error))
        }
    }
}
