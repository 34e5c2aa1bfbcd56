//! The commands that look at and change what a control plane holds: one file each, over [`client::Control`].

mod apply;
mod client;
mod desired;
mod environment;
pub(crate) mod flag;
mod lists;
mod log;
mod profile;
mod project;
mod schedule;
mod segment;
mod token;

pub(crate) use apply::{Apply, run as apply};
pub(crate) use environment::{Environments, run as environments};
pub(crate) use log::{Log, run as log};
pub(crate) use project::{Projects, run as projects};
pub(crate) use schedule::{Schedules, run as schedules};
pub(crate) use segment::{Segments, run as segments};
pub(crate) use token::{Tokens, run as tokens};
