//! Real flagsd processes, each with a store and state of its own, seen through a client as a user's program would.

mod configuration;
mod control;
mod control_plane;
mod crash;
mod disk;
mod files;
mod guard;
mod harness;
mod lists;
mod lists_bad_days;
mod measure;
mod operator;
mod packaging;
mod process;
mod reports;
