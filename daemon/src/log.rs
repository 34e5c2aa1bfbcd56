//! Log lines on standard error: text on a terminal, JSON elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, LogSettings};

/// Starts logging.
///
/// # Errors
///
/// A sentence about a level that is none.
pub(crate) fn start(settings: &LogSettings) -> Result<(), String> {
    let targets: Targets = settings.level.parse().map_err(|error| {
        format!("log.level = \"{}\": {error}; expected such as info, or info,flagsd::source=debug", settings.level)
    })?;
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    // Where standard error is closed, complaining there would be a panic.
    let layer = fmt::layer().log_internal_errors(false);
    let layer = if json {
        layer.json().flatten_event(true).with_current_span(false).with_writer(std::io::stderr).boxed()
    } else {
        let ansi = std::io::stderr().is_terminal();
        layer.with_ansi(ansi).with_target(false).with_writer(std::io::stderr).boxed()
    };
    // A second start, as in tests, keeps the first.
    let _ = tracing_subscriber::registry().with(layer.with_filter(targets)).try_init();
    Ok(())
}
