//! What the service manager is told, where there is one.

use std::time::Duration;

use sd_notify::NotifyState;

/// The set is up: what a unit of `Type=notify` waits for.
pub(crate) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A line for `systemctl status`.
pub(crate) fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// SIGHUP is being worked on; [`ready`] ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "no monotonic clock"),
    }
}

/// The daemon is on its way out.
pub(crate) fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping; readers go on with what is published")]);
}

/// Proof of life.
pub(crate) fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often to give proof of life: twice in the time the service manager allows. `None` where it wants none.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|allowed| allowed / 2)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
