//! Configuration: a TOML file, overlaid by `FLAGS_CONTROL_…` variables and flags.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Deserialize;

use crate::store::Location;
use crate::trace::TraceSettings;

/// What stands on the command line.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Flags {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", env = "FLAGS_CONTROL_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Where everything is kept: sqlite:PATH or postgres://… [default: sqlite:flags-control.db]
    #[arg(long, value_name = "DATABASE", env = "FLAGS_CONTROL_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,

    /// The TCP address to serve on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT", env = "FLAGS_CONTROL_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,

    /// The TCP address of /metrics, /healthz and /readyz for operators [default: off]
    #[arg(long, value_name = "ADDRESS:PORT", env = "FLAGS_CONTROL_MANAGEMENT")]
    pub(crate) management: Option<SocketAddr>,

    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", env = "FLAGS_CONTROL_LOG_LEVEL")]
    pub(crate) log_level: Option<String>,
}

/// What one process does, every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) database: Location,
    pub(crate) listen: SocketAddr,
    pub(crate) management: Option<SocketAddr>,
    pub(crate) log_level: String,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) sync: SyncSettings,
    pub(crate) limits: LimitSettings,
    pub(crate) log: LogSettings,
    pub(crate) trace: TraceSettings,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    database: Option<String>,
    listen: Option<SocketAddr>,
    management: Option<SocketAddr>,
    log_level: Option<String>,
    tls: Option<TlsSettings>,
    sync: SyncSettings,
    limits: LimitSettings,
    log: LogSettings,
    trace: TraceSettings,
}

/// `[log]`: what is kept of the environments' changes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSettings {
    /// How long; absent: for ever.
    pub(crate) keep_days: Option<u32>,
    /// How many of each environment, whatever their age.
    pub(crate) keep_changes: u32,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { keep_days: None, keep_changes: 10_000 }
    }
}

/// `[tls]`: files in PEM, read anew when they change.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSettings {
    /// The server's certificate, and those between it and an authority that clients know.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The authorities of hosts' certificates. Where it is set, nobody follows an environment without one.
    pub(crate) client_ca: Option<PathBuf>,
}

/// `[sync]`
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SyncSettings {
    /// How long a stream is silent at most. Hosts give up one that is silent for three times the default.
    pub(crate) heartbeat_ms: u64,
    /// Of parts of id lists that are kept in memory, as they are stored.
    pub(crate) part_cache_bytes: u64,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self { heartbeat_ms: 10_000, part_cache_bytes: 64 << 20 }
    }
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitSettings {
    /// Of one token, on average, of the management API.
    pub(crate) requests_per_second: u32,
    /// Of one token, at once.
    pub(crate) burst: u32,
    /// Of hosts with one token, on average: streams, snapshots, parts. A whole fleet may share one.
    pub(crate) sync_requests_per_second: u32,
    /// Of them, at once.
    pub(crate) sync_burst: u32,
    /// Of one address, on average, whoever asks. Hosts may share one.
    pub(crate) address_requests_per_second: u32,
    /// Of one address, at once.
    pub(crate) address_burst: u32,
    /// Of hosts with one token, on average and at once: what they say they have published.
    pub(crate) reports_per_second: u32,
    /// That this process holds.
    pub(crate) streams: usize,
    /// Of the streams, uploads, downloads and imports that there may be at once: so many in a hundred are kept for tokens that hold few.
    pub(crate) kept_percent: u8,
    /// Of all kinds that this process holds; others are closed at once.
    pub(crate) connections: usize,
    /// The same of one address, streams included; absent: a quarter of all. Hosts may share one, behind a proxy or a translated network.
    pub(crate) address_connections: Option<usize>,
    /// Requests of the management API at once. Half of them may be reads; hosts are not counted.
    pub(crate) management_requests: usize,
    /// From a connection's beginning, or its last answer, until the head of its next request is there.
    pub(crate) header_seconds: u64,
    /// How long a client may take nothing of what is sent to it.
    pub(crate) write_seconds: u64,
    /// Of a request's body.
    pub(crate) body_bytes: usize,
    /// Of a file that is imported.
    pub(crate) import_bytes: usize,
    /// Of files that this process takes at once; each is in memory as a whole.
    pub(crate) imports: usize,
    /// Of an id list's body, unpacked.
    pub(crate) upload_bytes: u64,
    /// Of an id list.
    pub(crate) segment_ids: usize,
    /// Of id lists that this process takes at once.
    pub(crate) uploads: usize,
    /// Of id lists that this process gives at once; a thread reads each.
    pub(crate) downloads: usize,
    /// From an upload's first byte to its answer, and from a download's head to its end.
    pub(crate) upload_seconds: u64,
    /// From a request's first byte to its answer's; streams are not bounded.
    pub(crate) request_seconds: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            requests_per_second: 200,
            burst: 1_000,
            sync_requests_per_second: 5_000,
            sync_burst: 20_000,
            address_requests_per_second: 5_000,
            address_burst: 20_000,
            reports_per_second: 2_000,
            streams: 12_000,
            kept_percent: 16,
            connections: 16_000,
            address_connections: None,
            management_requests: 256,
            header_seconds: 20,
            write_seconds: 30,
            body_bytes: 1 << 20,
            import_bytes: 64 << 20,
            imports: 4,
            upload_bytes: 1 << 30,
            segment_ids: 10_000_000,
            uploads: 4,
            downloads: 16,
            upload_seconds: 600,
            request_seconds: 10,
        }
    }
}

impl LimitSettings {
    /// Connections of one address, at least one.
    pub(crate) fn connections_of_one(&self) -> usize {
        self.address_connections.unwrap_or(self.connections / 4).max(1)
    }
}

/// What variables of the environment begin with.
const PREFIX: &str = "FLAGS_CONTROL_";

/// Variables that [`Flags`] reads itself; one of them may hold a password.
const FLAG_VARIABLES: [&str; 5] = ["CONFIG", "DATABASE", "LISTEN", "MANAGEMENT", "LOG_LEVEL"];

impl File {
    /// A file's text, and above it what variables say: `FLAGS_CONTROL_LIMITS__STREAMS=500` is `limits.streams = 500`.
    fn from_layers(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> anyhow::Result<Self> {
        let mut table = toml::Table::new();
        if let Some((path, text)) = file {
            table = toml::from_str(text).with_context(|| path.display().to_string())?;
        }
        for (name, value) in environment {
            let Some(key) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            if FLAG_VARIABLES.contains(&key) {
                continue;
            }
            let value = value.to_str().with_context(|| format!("{PREFIX}{key} is not UTF-8"))?;
            let layer = variable(key, value).with_context(|| format!("{PREFIX}{key} names no key"))?;
            overlay(&mut table, layer);
        }
        table.try_into().or_else(|error| {
            if let Some((path, text)) = file {
                // What is wrong with the file alone is told with its place there.
                toml::from_str::<Self>(text).with_context(|| path.display().to_string())?;
            }
            Err(error).with_context(|| format!("variables {PREFIX}…"))
        })
    }
}

/// A key by its name in the environment; what is no TOML is text.
fn variable(key: &str, value: &str) -> Option<toml::Table> {
    let key = key.to_ascii_lowercase().replace("__", ".");
    let text = toml::Value::String(value.to_owned()).to_string();
    [value, &text].into_iter().find_map(|value| format!("{key} = {value}").parse().ok())
}

/// Lays sections over sections, key by key.
fn overlay(table: &mut toml::Table, layer: toml::Table) {
    for (name, value) in layer {
        match (table.get_mut(&name), value) {
            (Some(toml::Value::Table(section)), toml::Value::Table(keys)) => section.extend(keys),
            (_, value) => drop(table.insert(name, value)),
        }
    }
}

impl Config {
    /// # Errors
    /// A sentence that names the layer and the key.
    pub(crate) fn load(flags: &Flags) -> anyhow::Result<Self> {
        let text = match &flags.config {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                Some((path.as_path(), text))
            }
            None => None,
        };
        let text = text.as_ref().map(|(path, text)| (*path, text.as_str()));
        let file = File::from_layers(text, std::env::vars_os())?;
        let database = flags.database.clone().or(file.database).unwrap_or("sqlite:flags-control.db".to_owned());
        let listen = flags.listen.or(file.listen);
        Ok(Self {
            database: database.parse().map_err(anyhow::Error::msg)?,
            listen: listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            management: flags.management.or(file.management),
            log_level: flags.log_level.clone().or(file.log_level).unwrap_or_else(|| "info".to_owned()),
            tls: file.tls,
            sync: file.sync,
            limits: file.limits,
            log: file.log,
            trace: file.trace,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)]) -> Result<File, String> {
        let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        File::from_layers(Some((Path::new("control.toml"), file)), environment).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn variables_win_over_the_file_key_by_key() {
        let file = "[limits]\nstreams = 1\nburst = 2\n[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n";
        let environment = [
            ("FLAGS_CONTROL_LIMITS__STREAMS", "3"),
            ("FLAGS_CONTROL_LOG__KEEP_DAYS", "4"),
            ("FLAGS_CONTROL_TLS__CLIENT_CA", "/a \"b\""),
            ("FLAGS_CONTROL_DATABASE", "no business of this"),
            ("FLAGSD_LIMITS__STREAMS", "5"),
        ];
        let file = load(file, &environment).expect("is good");
        assert_eq!((file.limits.streams, file.limits.burst, file.log.keep_days), (3, 2, Some(4)));
        let tls = file.tls.expect("is there");
        assert_eq!((tls.key, tls.client_ca), ("/k".into(), Some("/a \"b\"".into())));
        assert!(load("", &[]).expect("is good").tls.is_none());
        // Of a section, some in the file and some not.
        let tls = load("[tls]\nkey = \"/k\"\n", &[("FLAGS_CONTROL_TLS__CERTIFICATE", "/c")]).expect("is good").tls;
        assert_eq!(tls.expect("is there").certificate, Path::new("/c"));
    }

    #[test]
    fn errors_name_the_key_and_its_place() {
        #[expect(clippy::type_complexity, reason = "a table")]
        let cases: &[(&str, &[(&str, &str)], &[&str])] = &[
            ("[limit]\n", &[], &["control.toml", "line 1", "limit"]),
            ("[limits]\nstreams = \"x\"\n", &[], &["control.toml", "line 2", "invalid type"]),
            ("", &[("FLAGS_CONTROL_LIMITS__STREAM", "1")], &["variables FLAGS_CONTROL_", "`stream`", "`limits`"]),
            ("", &[("FLAGS_CONTROL_LIMITS__STREAMS", "x")], &["variables", "invalid type", "`limits.streams`"]),
            ("", &[("FLAGS_CONTROL_TLS__KEY", "/k")], &["variables", "missing field `certificate`"]),
            ("", &[("FLAGS_CONTROL_NOTHING", "1")], &["variables", "unknown field `nothing`"]),
            ("", &[("FLAGS_CONTROL_A B", "1")], &["FLAGS_CONTROL_A B", "no key"]),
        ];
        for (file, environment, words) in cases {
            let error = load(file, environment).expect_err("is refused");
            for word in *words {
                assert!(error.contains(word), "{word:?} is missing in {error:?}");
            }
        }
    }
}
