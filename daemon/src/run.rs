//! The process: starts the sets, listens to operators and signals, and stops in order.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::admin::{self, Admin, Command};
use crate::config::{Config, Flags, SetConfig};
use crate::pipeline::StartError;
use crate::set::Set;
use crate::source::SourceSpec;
use crate::{log, notify};

/// Something failed.
const FAILED: u8 = 1;
/// Another flagsd has the store or the state directory.
const ALREADY_RUNNING: u8 = 3;

/// How often it is looked whether the first flags are there.
const FIRST_LOOK: Duration = Duration::from_millis(5);

/// How long the sets are given to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Runs flagsd until it is told to stop.
pub(crate) fn run(config: Config, flags: Flags) -> ExitCode {
    if let Err(error) = log::start(&config.log) {
        eprintln!("flagsd: {error}");
        return ExitCode::from(crate::BAD_CONFIG);
    }
    // One thread: the work is small, and one thread's memory is, too.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("flagsd: no runtime: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let code = match runtime.block_on(tokio::task::LocalSet::new().run_until(work(config, flags))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            let running =
                error.downcast_ref::<StartError>().is_some_and(|e| matches!(e, StartError::AlreadyRunning(_)));
            ExitCode::from(if running { ALREADY_RUNNING } else { FAILED })
        }
    };
    // A thread that still resolves or reads something must not keep us.
    runtime.shutdown_background();
    code
}

async fn work(config: Config, flags: Flags) -> anyhow::Result<()> {
    let started = (Instant::now(), SystemTime::now());
    // Before anything is published: a signal from here on ends us in order.
    let mut signals = Signals::new().context("cannot handle signals")?;
    let mut sets = Vec::new();
    let mut handles = BTreeMap::new();
    for set in &config.sets {
        let (task, handle) = Set::start(&config, set).with_context(|| format!("set `{}`", set.name))?;
        handles.insert(set.name.clone(), handle);
        sets.push(task);
    }
    // Only now that every set serves what was known of it.
    for set in &mut sets {
        set.look();
    }
    let admin = Arc::new(Admin { sets: handles, state_dir: config.state_dir.clone(), started });
    // Bound before we are ready, so that who waits for that can connect.
    let management = match config.management {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?),
        None => None,
    };
    for set in &config.sets {
        let path = set.store.join(admin::SOCKET);
        match admin::listen(&path) {
            Ok(listener) => serve(listener, admin::router(Arc::clone(&admin))),
            Err(error) => tracing::warn!(path = %path.display(), %error, "flagsctl cannot reach flagsd: no socket"),
        }
    }
    if let Some(listener) = management {
        serve(listener, admin::management_router(Arc::clone(&admin)));
    }

    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for set in sets {
        tasks.spawn_local(set.run(stopped.clone()));
    }
    drop(stopped);
    let outcome = tokio::select! {
        () = oversee(&admin, &config, &flags, &mut signals) => Ok(()),
        ended = tasks.join_next() => Err(match ended {
            Some(Err(error)) => anyhow::anyhow!("a set's task failed: {error}"),
            _ => anyhow::anyhow!("a set's task ended by itself"),
        }),
    };
    notify::stopping();
    tracing::info!("stopping; readers go on with what is published");
    let _ = stop.send(true);
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(STOP_PATIENCE, all).await.is_err() {
        tracing::warn!("a set did not stop in time");
    }
    for set in &config.sets {
        let _ = std::fs::remove_file(set.store.join(admin::SOCKET));
    }
    outcome
}

fn serve<L>(listener: L, router: axum::Router)
where
    L: axum::serve::Listener,
    L::Addr: std::fmt::Debug,
{
    tokio::task::spawn_local(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "no longer listening");
        }
    });
}

/// Returns once each set has published something, or cannot be expected to soon: what starts after us finds flags where they were ever
/// known or can be had, and does not wait long where a control plane is away and nothing was ever heard of it.
async fn first_flags(admin: &Admin, config: &Config) {
    let waits_for = |set: &SetConfig| set.sources.iter().any(|source| matches!(source, SourceSpec::Control(_)));
    let is_published = |name: &str| admin.sets.get(name).is_none_or(|set| set.status.get().generation > 0);
    let last = Instant::now() + Duration::from_millis(config.control.first_wait_ms);
    let mut waits = false;
    while config.sets.iter().any(|set| waits_for(set) && !is_published(&set.name)) {
        if Instant::now() >= last {
            tracing::warn!("ready without flags: no control plane has been heard of yet");
            return;
        }
        if !std::mem::replace(&mut waits, true) {
            notify::status("waits for the first flags of a control plane");
        }
        tokio::time::sleep(FIRST_LOOK).await;
    }
}

/// Tells the service manager how we are, and obeys signals; returns when one says stop.
async fn oversee(admin: &Admin, config: &Config, flags: &Flags, signals: &mut Signals) {
    let mut is_ready = false;
    let mut first_flags = std::pin::pin!(first_flags(admin, config));
    let watchdog = notify::watchdog_interval();
    let mut proof = interval(watchdog.unwrap_or(Duration::from_secs(3_600)));
    proof.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tell = interval(Duration::from_secs(1));
    tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = summary(admin);
    loop {
        tokio::select! {
            () = &mut first_flags, if !is_ready => {
                is_ready = true;
                told = summary(admin);
                notify::ready(&told);
                tracing::info!(pid = std::process::id(), version = env!("CARGO_PKG_VERSION"), "ready: {told}");
            }
            asked = signals.next() => match asked {
                Asked::Stop => return,
                // Whoever waits for the first flags goes on waiting.
                Asked::Reload if !is_ready => reload(admin, config, flags).await,
                Asked::Reload => {
                    notify::reloading();
                    reload(admin, config, flags).await;
                    told = summary(admin);
                    notify::ready(&told);
                }
            },
            // No proof without an answer of every set: a stuck pipeline is a reason to be restarted.
            _ = proof.tick(), if watchdog.is_some() => {
                let mut alive = true;
                for name in admin.sets.keys() {
                    alive &= timeout(watchdog.unwrap_or_default(), admin.tell(name, Command::Ping)).await.is_ok_and(|a| a.is_ok());
                }
                if alive {
                    notify::alive();
                }
            }
            _ = tell.tick(), if is_ready => {
                let now = summary(admin);
                if now != told {
                    notify::status(&now);
                    told = now;
                }
            }
        }
    }
}

/// Reads the configuration anew, takes over the sources in it, and reads those anew too.
async fn reload(admin: &Admin, old: &Config, flags: &Flags) {
    tracing::info!("reloading");
    let new = Config::load(flags);
    if let Err(error) = &new {
        tracing::error!("the configuration stays as it was: {error}");
    }
    let new = new.ok();
    if let Some(new) = &new {
        for what in needs_restart(old, new) {
            tracing::warn!("{what} changed in the configuration: takes effect at the next start");
        }
    }
    for name in admin.sets.keys() {
        let set = new.as_ref().and_then(|new| new.sets.iter().find(|set| set.name == *name));
        let sources = set.map(|set| set.sources.clone());
        if let Err(refusal) = admin.tell(name, Command::Reload { sources }).await {
            tracing::error!(set = name, "cannot be reloaded: {}", refusal.detail);
        }
    }
}

fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let sets = |config: &Config| {
        config.sets.iter().map(|set| (set.name.clone(), set.store.clone(), set.selector.clone())).collect::<Vec<_>>()
    };
    let changed = [
        ("the list of sets, or a store or selector", sets(old) != sets(new)),
        ("state_dir", old.state_dir != new.state_dir),
        ("management", old.management != new.management),
        ("[log]", old.log != new.log),
        ("[guard]", old.guard != new.guard),
        ("[limits]", old.limits != new.limits),
        ("[watch]", old.watch != new.watch),
        ("[control]", old.control != new.control),
        ("[keep]", old.generations != new.generations),
        ("max_age_ms", old.max_age != new.max_age),
    ];
    changed.into_iter().filter_map(|(what, changed)| changed.then_some(what)).collect()
}

/// One line on how the sets are.
fn summary(admin: &Admin) -> String {
    let set = |(name, handle): (&String, &admin::SetHandle)| {
        let set = handle.status.get();
        let mut line = format!("{name}: generation {}, {} flags, {}", set.generation, set.flags, set.state.as_str());
        let notes = [
            (set.held.is_some(), "change held"),
            (set.refused.is_some(), "change refused"),
            (set.publish_error.is_some(), "cannot publish"),
            (set.broken_count > 0, "broken flags"),
            (!set.overrides.is_empty(), "overrides"),
        ];
        for (_, note) in notes.into_iter().filter(|(is_so, _)| *is_so) {
            line.push_str(", ");
            line.push_str(note);
        }
        line
    };
    admin.sets.iter().map(set).collect::<Vec<_>>().join("; ")
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
enum Asked {
    Stop,
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
