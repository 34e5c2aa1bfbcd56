//! Where definitions come from. A source is asked to look at what it names; what was last read well stays with it until
//! something better is there.

mod control;
mod dir;
mod file;
mod spec;
mod tracked;
mod watch;

#[cfg(test)]
pub(crate) use control::Touched;
pub(crate) use control::{Connection, ControlFeed, ControlSpec, Definition, LinkReport, News, Patch, Published, Taken};
pub(crate) use file::{Stamp, trace};
pub(crate) use spec::SourceSpec;
pub(crate) use tracked::{Health, Look, Source, SourceReport};
pub(crate) use watch::{Places, Watcher};
