//! What the control plane reaches: issue-sized figures, with real processes on loopback.
//!
//! ```text
//! load (a process, one thread) ──HTTP──► flags-control ──► SQLite, PostgreSQL on a disk
//!                                             │
//!                                  streams ◄──┴──► flagsd ──► store ──► a reader in C
//! ```
//!
//! Server, load, database and readers share the machine's processors; what each took is told where it matters.

mod floor;
mod hosts;
mod http;
mod large;
mod load;
mod plane;
mod postgres;
mod reports;
mod segments;
mod snapshots;
mod visible;
mod writes;

pub(crate) use hosts::Cost;
pub(crate) use load::work;
pub(crate) use plane::Database;
pub(crate) use reports::Reported;
pub(crate) use segments::Uploaded;
pub(crate) use visible::Seen;

use crate::Row;
use crate::lab::Target;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "control-visible",
        about: "a change committed (SQLite) to the answer of a reader in C, through flagsd, 1 000 flags; median and p99",
        unit: "ms",
        target: Target::MedianAndP99AtMost(3.0, 10.0),
        measure: |lab| visible::from_commit(lab, 0),
    },
    Row {
        name: "control-visible-100",
        about: "the same with 100 more streams attached",
        unit: "ms",
        target: Target::MedianAndP99AtMost(3.0, 10.0),
        measure: |lab| visible::from_commit(lab, 100),
    },
    Row {
        name: "control-asked",
        about: "the same without those streams, from the request's first byte: the write itself, and the disk's, in it",
        unit: "ms",
        target: Target::None,
        measure: visible::from_request,
    },
    Row {
        name: "control-streams",
        about: "resident memory of a process that holds 10 000 streams, 1 000 flags",
        unit: "MiB",
        target: Target::AtMost(600.0),
        measure: hosts::memory,
    },
    Row {
        name: "control-deliver",
        about: "one change committed to the last of 10 000 streams read",
        unit: "ms",
        target: Target::AtMost(1_000.0),
        measure: hosts::delivery,
    },
    Row {
        name: "control-host-cpu-10",
        about: "processor time of the server for each further stream and change, 10 streams",
        unit: "µs",
        target: Target::None,
        measure: |lab| hosts::cost(lab, 0, hosts::Of::Cpu),
    },
    Row {
        name: "control-host-cpu-100",
        about: "the same, 100 streams",
        unit: "µs",
        target: Target::None,
        measure: |lab| hosts::cost(lab, 1, hosts::Of::Cpu),
    },
    Row {
        name: "control-host-cpu-1k",
        about: "the same, 1 000 streams",
        unit: "µs",
        target: Target::None,
        measure: |lab| hosts::cost(lab, 2, hosts::Of::Cpu),
    },
    Row {
        name: "control-host-cpu-10k",
        about: "the same, 10 000 streams",
        unit: "µs",
        target: Target::None,
        measure: |lab| hosts::cost(lab, 3, hosts::Of::Cpu),
    },
    Row {
        name: "control-host-mem-10",
        about: "resident memory of the server for each further stream, 10 streams",
        unit: "KiB",
        target: Target::None,
        measure: |lab| hosts::cost(lab, 0, hosts::Of::Memory),
    },
    Row {
        name: "control-host-mem-100",
        about: "the same, 100 streams",
        unit: "KiB",
        target: Target::None,
        measure: |lab| hosts::cost(lab, 1, hosts::Of::Memory),
    },
    Row {
        name: "control-host-mem-1k",
        about: "the same, 1 000 streams",
        unit: "KiB",
        target: Target::None,
        measure: |lab| hosts::cost(lab, 2, hosts::Of::Memory),
    },
    Row {
        name: "control-host-mem-10k",
        about: "the same, 10 000 streams",
        unit: "KiB",
        target: Target::None,
        measure: |lab| hosts::cost(lab, 3, hosts::Of::Memory),
    },
    Row {
        name: "control-host-growth",
        about: "processor time for a stream and change, 10 000 streams over 100: constant is 1, less is better",
        unit: "×",
        target: Target::AtMost(1.2),
        measure: |lab| hosts::growth(lab, hosts::Of::Cpu),
    },
    Row {
        name: "control-host-floor-100",
        about: "a bare loop that writes the same event to as many sockets, for each write: 100 sockets",
        unit: "µs",
        target: Target::None,
        measure: |lab| hosts::cost(lab, 1, hosts::Of::Floor),
    },
    Row {
        name: "control-host-floor-10k",
        about: "the same, 10 000 sockets",
        unit: "µs",
        target: Target::None,
        measure: |lab| hosts::cost(lab, 3, hosts::Of::Floor),
    },
    Row {
        name: "control-host-floor-growth",
        about: "the bare loop's time for a write, 10 000 sockets over 100: what of control-host-growth is the kernel's",
        unit: "×",
        target: Target::None,
        measure: |lab| hosts::growth(lab, hosts::Of::Floor),
    },
    Row {
        name: "control-reports",
        about: "reports taken of 10 000 hosts, 64 connections that stay",
        unit: "/s",
        target: Target::AtLeast(1_000.0),
        measure: |lab| reports::rate(lab, reports::Over::Kept),
    },
    Row {
        name: "control-reports-own",
        about: "the same, each on a connection of its own, as flagsd sends them",
        unit: "/s",
        target: Target::AtLeast(1_000.0),
        measure: |lab| reports::rate(lab, reports::Over::Own),
    },
    Row {
        name: "control-report-cpu",
        about: "processor time of the server for a report, over connections that stay",
        unit: "µs",
        target: Target::None,
        measure: |lab| reports::cpu(lab, reports::Over::Kept),
    },
    Row {
        name: "control-report-cpu-own",
        about: "the same, each on a connection of its own",
        unit: "µs",
        target: Target::None,
        measure: |lab| reports::cpu(lab, reports::Over::Own),
    },
    Row {
        name: "control-report-mem",
        about: "resident memory of the server for 10 000 hosts that have reported",
        unit: "MiB",
        target: Target::None,
        measure: reports::memory,
    },
    Row {
        name: "control-304",
        about: "snapshots answered 304, 64 connections that stay, 1 000 flags",
        unit: "/s",
        target: Target::AtLeast(20_000.0),
        measure: |lab| snapshots::rate(lab, snapshots::Answer::NotModified),
    },
    Row {
        name: "control-full",
        about: "whole snapshots, 64 connections that stay, 1 000 flags",
        unit: "/s",
        target: Target::AtLeast(5_000.0),
        measure: |lab| snapshots::rate(lab, snapshots::Answer::Whole),
    },
    Row {
        name: "control-disk",
        about: "4 KiB written and made durable (fdatasync) where the databases are: what one commit alone can't go below",
        unit: "ms",
        target: Target::None,
        measure: writes::disk,
    },
    Row {
        name: "control-writes-sqlite",
        about: "changes committed in SQLite (WAL, synchronous=FULL), one environment, 32 connections",
        unit: "/s",
        target: Target::AtLeast(1_000.0),
        measure: writes::sqlite,
    },
    Row {
        name: "control-writes-pg",
        about: "changes committed in PostgreSQL (fsync on), one environment, 32 connections",
        unit: "/s",
        target: Target::AtLeast(300.0),
        measure: writes::postgres,
    },
    Row {
        name: "control-write-100k",
        about: "one write in an environment of 100 000 flags, request to answer (SQLite)",
        unit: "ms",
        target: Target::AtMost(20.0),
        measure: large::write,
    },
    Row {
        name: "control-ready-100k",
        about: "start after a kill -9 to ready, 100 000 flags (SQLite)",
        unit: "s",
        target: Target::AtMost(3.0),
        measure: large::ready,
    },
    Row {
        name: "control-first-100k",
        about: "the same, to the first whole snapshot received",
        unit: "s",
        target: Target::None,
        measure: large::first_snapshot,
    },
    Row {
        name: "control-segment-upload",
        about: "a list of 1 000 000 ids (36 bytes each, in no order) put in the place of another, first byte sent to answer (SQLite)",
        unit: "s",
        target: Target::AtMost(10.0),
        measure: segments::upload,
    },
    Row {
        name: "control-segment-on-host",
        about: "the same, to the answer of a reader in C by a rule that uses the list, through flagsd",
        unit: "s",
        target: Target::AtMost(20.0),
        measure: segments::on_host,
    },
    Row {
        name: "control-segment-add",
        about: "100 ids added to such a list, first byte sent to the answer of the reader in C",
        unit: "s",
        target: Target::None,
        measure: segments::add,
    },
];
