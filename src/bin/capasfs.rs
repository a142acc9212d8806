//! `capasfs`: the driver (daemon, mount helper and `mount_program` in one).

use std::process::ExitCode;

fn main() -> ExitCode {
    let code = capas::mount::serve::run(
        std::env::args_os(),
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    );
    ExitCode::from(code)
}
