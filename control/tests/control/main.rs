//! The control plane as its users see it: the real program, over HTTP, on SQLite and on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod admission;
mod alerts;
mod answers;
mod bad_days;
mod changes;
mod clock;
mod failover;
mod full_disk;
mod hanging;
mod harness;
mod hostile;
mod hosts;
mod life;
mod limits;
mod lists;
mod log;
mod metadata;
mod migrations;
mod openapi;
mod operations;
mod packaging;
mod postgres;
mod reports;
mod restore;
mod schedules;
mod secure;
mod segments;
mod signing_keys;
mod storm;
mod streams;
mod tokens;
mod traces;
mod transfer;
mod uploads;
