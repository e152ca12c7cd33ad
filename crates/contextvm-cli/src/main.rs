//! `cvm`: serve, use and call MCP servers over Nostr.
mod args;
mod arguments;
mod bar;
mod command;
mod connect;
mod finding;
mod fleet;
mod keys;
mod names;
mod nearest;
mod output;
mod problem;
mod publication;
mod sample;
mod saved;
mod signals;
mod signature;
mod table;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser as _;

use args::{Cli, Command};
use output::{Out, Talk};
use problem::Problem;

fn main() -> ExitCode {
    keys::keep_out_of_core_dumps();
    let argv: Vec<OsString> = std::env::args_os().collect();
    // Known before parsing, so that a usage error is reported in the form that was asked for.
    let json = argv.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    match begin(argv) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            problem.report(json);
            ExitCode::from(problem.exit())
        }
    }
}

fn begin(argv: Vec<OsString>) -> Result<(), Problem> {
    keys::refuse_secrets(&argv)?;
    let cli = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return Err(Problem::usage(&error)),
        // Help and version are what was asked for, so they are data.
        Err(error) => return Out::new(false).text(&error.render().to_string()),
    };
    output::start_logging(&cli.global);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::internal(format!("the async runtime did not start: {error}")))?;
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(Box::pin(dispatch(cli)))));
    // A read of standard input cannot be cancelled; it must not hold up the exit, not even that of a panic.
    runtime.shutdown_background();
    outcome.unwrap_or_else(|_shown| {
        Err(Problem::internal("this is a bug of cvm, and what it says above is worth a report"))
    })
}

async fn dispatch(cli: Cli) -> Result<(), Problem> {
    let global = &cli.global;
    let mut out = Out::new(global.json);
    let talk = Talk::new(global);
    match &cli.command {
        Command::Demo(options) => Box::pin(command::demo::run(options, &mut out)).await,
        Command::Relay(options) => Box::pin(command::relay::run(options, global, &mut out, &talk)).await,
        Command::Serve(options) => Box::pin(command::serve::run(options, global, &mut out, talk)).await,
        Command::Use(options) => Box::pin(command::proxy::run(options, global, &mut out, talk)).await,
        Command::Call(options) => Box::pin(command::call::run(options, global, &mut out, &talk)).await,
        Command::Ls(options) => Box::pin(command::ls::run(options, global, &mut out, &talk)).await,
        Command::Discover(options) => {
            Box::pin(command::discover::run(options, global, &mut out, &talk)).await
        }
        Command::Inspect(options) => Box::pin(command::inspect::run(options, global, &mut out, &talk)).await,
        Command::Server(options) => Box::pin(command::server::run(options, global, &mut out, &talk)).await,
        Command::Announce(options) => Box::pin(command::announce::run(options, global, &mut out, talk)).await,
        Command::Review(options) => Box::pin(command::review::run(options, global, &mut out, &talk)).await,
        Command::Ctl(options) => command::ctl::run(options, &mut out).await,
        Command::Key(options) => command::key::run(options, &mut out),
        Command::Version => command::version::run(&mut out),
    }
}
