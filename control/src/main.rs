//! The control plane: where people change flags, and whence hosts get them.
//!
//! ```text
//! routes ──► resource ──► store (SQLite, PostgreSQL)        one transaction a request
//!                           │ news
//!                           ▼
//!            hosts ◄── sync: live environments in memory
//! ```
#![forbid(unsafe_code)]

mod addresses;
mod app;
mod auth;
mod client_tls;
mod clock;
mod command;
mod config;
mod definition;
mod evaluators;
mod expiry;
mod file;
mod ids;
mod limit;
mod lines;
mod listen;
mod model;
mod observe;
mod openapi;
mod parse;
mod patient;
mod places;
mod problem;
mod resource;
mod retention;
mod routes;
mod scheduler;
mod serve;
mod store;
mod strict;
mod sync;
mod tls;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use config::{Config, Flags};
use resource::token::{self, Place, Scope};
use store::{Direction, Location, Store};

/// The control plane of libflags.
#[derive(Debug, Parser)]
#[command(name = "flags-control", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API and the hosts, until told to stop
    Serve(Flags),
    /// Make the tables and the first admin token, which is printed once
    Init(Flags),
    /// Bring the tables up to this version
    Migrate {
        /// Take the last step back, with all that it keeps
        #[arg(long)]
        down: bool,
        #[command(flatten)]
        flags: Flags,
    },
    /// Write a copy of a SQLite database to a new file, also while it is served
    Backup {
        /// The file
        to: PathBuf,
        #[command(flatten)]
        flags: Flags,
    },
    /// Take an older state: hosts follow it, as of a new epoch
    Restore(command::Restore),
    /// Make an environment's flags what a flagd file says, as one change; flags that the file does not have stay
    Import(command::Import),
    /// Print the API's description (OpenAPI)
    Openapi,
    /// Print an environment's flags as a file that `import` makes the same of
    Export(command::Export),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(flags) => Config::load(&flags).and_then(serve::serve),
        Command::Init(flags) => with_new_store(&flags, init),
        Command::Migrate { down, flags } => {
            let direction = if down { Direction::Down } else { Direction::Up };
            with_new_store(&flags, async move |store| migrate(&store, direction).await)
        }
        Command::Backup { to, flags } => with_store(&flags, async move |store| Ok(store.back_up(to).await?)),
        Command::Openapi => print(&openapi::document()),
        Command::Restore(restore) => restore.run(),
        Command::Import(import) => with_store(&import.flags.clone(), async move |store| import.run(&store).await),
        Command::Export(export) => with_store(&export.flags.clone(), async move |store| export.run(&store).await),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flags-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print(document: &serde_json::Value) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(document)?);
    Ok(())
}

/// Does `work` on the database, which is there.
fn with_store(flags: &Flags, work: impl AsyncFnOnce(Store) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let database = prepared(flags)?;
    runtime()?.block_on(async { work(command::open(&database).await?).await })
}

/// The same on one that may have to be made.
fn with_new_store(flags: &Flags, work: impl AsyncFnOnce(Store) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let database = prepared(flags)?;
    runtime()?.block_on(async { work(Store::open(&database)?.0).await })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Where the database is; from now on the log says what goes wrong.
fn prepared(flags: &Flags) -> anyhow::Result<Location> {
    serve::start_log(flags.log_level.as_deref().unwrap_or("error"))?;
    Ok(Config::load(flags)?.database)
}

async fn migrate(store: &Store, direction: Direction) -> anyhow::Result<()> {
    let done = store.migrate(direction).await?;
    if done.is_empty() {
        println!("nothing to do");
    }
    for step in done {
        println!("{step}: {}", if direction == Direction::Up { "done" } else { "taken back" });
    }
    Ok(())
}

async fn init(store: Store) -> anyhow::Result<()> {
    store.migrate(Direction::Up).await?;
    let made = store.write(|transaction| {
        if !token::list(transaction, Place::default(), "", 1)?.is_empty() {
            return Err(problem::Problem::conflict("there are tokens already: whoever has an admin's can make others"));
        }
        token::create(transaction, "first admin", Scope::Admin, Place::default(), None)
    });
    let (_, secret) = made.await.map_err(|problem| anyhow::anyhow!("{}", problem.detail()))?;
    println!("{}", secret.reveal());
    eprintln!("This is the first admin token. It is not shown again.");
    Ok(())
}
