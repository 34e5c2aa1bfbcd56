//! The process: listens, follows the database, keeps house, and stops in order.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::app::App;
use crate::clock::now_ms;
use crate::config::Config;
use crate::resource::part;
use crate::store::{Store, StoreError};
use crate::tls::Tls;
use crate::{command, listen, observe, retention, routes, scheduler, sync, trace};

/// How often what is old is thrown away, and what tokens were used for is written down.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// How long an `Idempotency-Key` is remembered.
const REMEMBERED_MS: i64 = 24 * 3_600 * 1_000;

/// Connections of requests, of the database, and what the process itself has open.
const OTHER_FILES: u64 = 500;

/// How long requests are given to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Serves until told to stop.
pub(crate) fn serve(config: Config) -> anyhow::Result<()> {
    start_log(&config.log_level)?;
    raise_limit_of_files(config.limits.streams);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(work(config));
    // A transaction that waits for a database must not keep us.
    runtime.shutdown_background();
    done
}

/// Text on a terminal, JSON elsewhere.
pub(crate) fn start_log(level: &str) -> anyhow::Result<()> {
    let level: tracing::Level = level.parse().with_context(|| format!("log_level = {level:?}"))?;
    // Who did what to tokens is written down whatever else is.
    let wanted = format!("{level},{}=info", routes::audit::TARGET);
    let log = tracing_subscriber::fmt().with_env_filter(wanted).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.with_target(false).init();
    } else {
        log.json().flatten_event(true).with_current_span(false).init();
    }
    Ok(())
}

/// Each stream is an open file, and shells allow 1024.
fn raise_limit_of_files(streams: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard.max(soft), hard)?;
        Ok(hard)
    });
    match raised {
        Ok(files) if files > streams as u64 + OTHER_FILES => {}
        Ok(files) => tracing::warn!(files, streams, "fewer files may be open than streams are admitted"),
        Err(error) => tracing::warn!("cannot raise the limit of open files: {error}"),
    }
}

async fn work(config: Config) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    command::must_be_there(&config.database)?;
    let (store, news) = Store::open(&config.database)?;
    match store.missing_steps().await {
        Ok(missing) => command::must_be_whole(&missing)?,
        // It may come back; nothing is served until then.
        Err(StoreError::Unavailable(why)) => tracing::warn!("the database is unavailable: {why}"),
        Err(error) => return Err(error.into()),
    }
    let listen = config.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let management = match config.management {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?),
        None => None,
    };
    let metrics = observe::start()?;
    let traces = trace::start(&config.trace)?;
    let tls = config.tls.clone().map(Tls::start).transpose()?;
    let app = Arc::new(App::new(config, store.clone()));
    if let Some(listener) = management {
        tokio::spawn(axum::serve(listener, observe::router(Arc::clone(&app), metrics)).into_future());
    }
    tokio::spawn(sync::follow(store, Arc::clone(&app.hub), Arc::clone(&app.auth), news));
    tokio::spawn(keep_house(Arc::clone(&app)));
    tokio::spawn(scheduler::run(Arc::clone(&app)));
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "serving");

    let (router, limits) = (routes::router(Arc::clone(&app)), app.config.limits.clone());
    let server = tokio::spawn(listen::serve(listener, tls, router, limits, app.stopping.subscribe()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    app.stopping.send_replace(true);
    app.hub.ring();
    match timeout(STOP_PATIENCE, server).await {
        Ok(ended) => ended?,
        Err(_) => tracing::warn!("some requests did not end in time"),
    }
    let _ = timeout(Duration::from_secs(1), app.auth.write_uses()).await;
    if let Some(traces) = traces {
        traces.finish().await;
    }
    Ok(())
}

async fn keep_house(app: Arc<App>) {
    let mut turn = interval(HOUSEKEEPING);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        app.limits.tidy();
        app.hub.all().into_iter().for_each(|(_, live)| live.hosts.tidy(now_ms()));
        while part::sweep(&app.store).await.is_ok_and(|gone| gone > 0) {}
        let forgotten = forget_answers(&app.store).await;
        let pruned = retention::prune(&app.store, &app.config.log).await;
        if let Err(error) = forgotten.and(pruned).and(app.auth.write_uses().await) {
            tracing::debug!("{error}");
        }
    }
}

async fn forget_answers(store: &Store) -> Result<(), StoreError> {
    let before = now_ms() - REMEMBERED_MS;
    let work = move |transaction: &mut dyn crate::store::Transaction| {
        transaction.execute("DELETE FROM idempotency WHERE created_ms < $1", &[before.into()]).map(drop)
    };
    store.write(work).await
}
