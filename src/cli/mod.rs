//! The command line: what the user typed, checked, and the only place that prints, reads the clock or decides the exit.

mod args;
mod explain;
mod generate;
mod pages;
mod print;
mod print_state;
mod progress;
mod settings;
mod simulate;
mod simulate_text;
mod state;
mod state_args;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use args::{Args, Command, EndArgs, RenderArgs, RevokeArgs, RunArgs, VerifyArgs};
use progress::ShownProgress;

use crate::error::{Error, Kind, Result};
use crate::interrupt::Interrupt;
use crate::runs;
use crate::storage::{Disk, RealDisk};

/// Parses the command line, does what it says, and returns the exit code of design section 8.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match dispatch(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(error.kind.exit_code())
        }
    }
}

fn dispatch(args: Args) -> Result<u8> {
    match args.command {
        Command::Run(args) => run(&args),
        Command::Check(args) => {
            let (settings, json) = settings::check(&args)?;
            let checked = runs::check(&settings)?;
            print::out(&if json { format!("{:#}\n", checked.to_json()) } else { print::checked(&checked) })?;
            Ok(0)
        }
        Command::Render(args) => render(&args),
        Command::Commit(args) => end(&args, runs::commit_held),
        Command::Discard(args) => end(&args, runs::discard_held),
        Command::Revoke(args) => revoke(args),
        Command::Verify(args) => verify(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::State(args) => state::run(&args.command),
        Command::Generate(args) => generate::generate(&args),
        Command::Simulate(args) => simulate::simulate(&args),
        Command::Completions { shell } => pages::completions(shell),
        Command::Man { out } => pages::man(&out),
    }
}

fn run(args: &RunArgs) -> Result<u8> {
    let settings = settings::run(args, now_micros(), random_id())?;
    use_threads(settings::threads(args.threads, settings.memory))?;
    stop_on_signals(&settings.input.interrupt)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let progress = ShownProgress::new(args.quiet, args.verbose > 0);
    let finished = runs::run(disk, &settings, &progress);
    progress.finish();
    let finished = finished?;
    if args.json {
        print::out(&print::finished_json(&finished))?;
    } else if !args.quiet {
        print::out(&print::finished(&finished, args.verbose > 0))?;
    }
    Ok(finished.exit_code)
}

/// The first Ctrl-C or termination asks the run to stop, and it removes what it staged; the second ends the process at once, and
/// the next start cleans up.
fn stop_on_signals(interrupt: &Interrupt) -> Result<()> {
    for signal in [SIGINT, SIGTERM] {
        let flag = interrupt.flag();
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&flag))
            .and_then(|_| flag::register(signal, flag))
            .map_err(|e| Error::new(Kind::Internal, "cannot listen to signals").caused_by(e))?;
    }
    Ok(())
}

type End = fn(Arc<dyn Disk>, &Path, Option<&Path>, Duration) -> Result<runs::Ended>;

fn end(args: &EndArgs, end: End) -> Result<u8> {
    let wait = settings::wait_lock(&args.wait_lock)?;
    let ended = end(Arc::new(RealDisk), &args.run_dir, args.state.as_deref(), wait)?;
    print::out(&print::ended(&ended))?;
    Ok(ended.exit_code)
}

/// Sets the number of worker threads; 0 is one a core.
fn use_threads(threads: usize) -> Result<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|e| Error::new(Kind::Internal, "cannot start the worker threads").caused_by(e))
}

fn revoke(args: RevokeArgs) -> Result<u8> {
    let wait_lock = settings::wait_lock(&args.wait_lock)?;
    let RevokeArgs { run_dir, reason, state, .. } = args;
    let settings = runs::RevokeSettings { run_dir, reason, state, wait_lock, now: now_micros() };
    print::out(&print::revoked(&runs::revoke(Arc::new(RealDisk), &settings)?))?;
    Ok(0)
}

fn verify(args: &VerifyArgs) -> Result<u8> {
    let verified = runs::verify(&args.run_dir)?;
    print::out(&print::verified(&verified))?;
    if !args.input.is_empty() {
        let settings = runs::RederiveSettings { inputs: args.input.clone(), exclude: args.exclude.clone() };
        print::out(&print::rederived(&runs::rederive(&verified, &settings)?))?;
    }
    Ok(0)
}

fn render(args: &RenderArgs) -> Result<u8> {
    let rendered = runs::render(&settings::render(args)?)?;
    print::out(&rendered.text)?;
    Ok(u8::from(rendered.stopped))
}

fn now_micros() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

/// 128 random bits for the id of a new state.
fn random_id() -> u128 {
    let word = || u128::from(RandomState::new().hash_one(now_micros()));
    word() << 64 | word()
}
