//! `hud`: arguments in, exit code out.

use std::process::ExitCode;

use hud::failure::Failure;
use hud::{cli, run};

fn main() -> ExitCode {
    env_logger::init();
    let config = cli::parse();
    match run::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hud: {error:#}");
            ExitCode::from(Failure::exit_code(&error))
        }
    }
}
