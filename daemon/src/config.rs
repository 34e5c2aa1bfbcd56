//! Configuration: a TOML file, overlaid by `FLAGSD_…` variables, overlaid by flags.
//!
//! Every layer is checked on its own first, so that an unknown key is an error which names the key and where it stands.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use libflags::definition::Selector;
use serde::Deserialize;

use crate::place;
use crate::source::SourceSpec;

/// What one flagsd does, every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where last-known-good segments are kept; `None` where no directory could be found.
    pub(crate) state_dir: Option<PathBuf>,
    /// The TCP address of health and metrics; `None` is off.
    pub(crate) management: Option<SocketAddr>,
    pub(crate) log: LogSettings,
    pub(crate) guard: GuardSettings,
    pub(crate) limits: LimitSettings,
    pub(crate) watch: WatchSettings,
    pub(crate) control: ControlSettings,
    /// How many generations are kept for `rollback`.
    pub(crate) generations: usize,
    /// Without a confirmation by the sources for this long, the state is `stale`.
    pub(crate) max_age: Duration,
    pub(crate) sets: Vec<SetConfig>,
}

/// One flag set.
#[derive(Clone, Debug)]
pub(crate) struct SetConfig {
    pub(crate) name: String,
    /// The directory with the control page and the segments.
    pub(crate) store: PathBuf,
    /// In rising precedence.
    pub(crate) sources: Vec<SourceSpec>,
    pub(crate) selector: Selector,
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state_dir {
            Some(path) => writeln!(f, "state_dir = {}", path.display())?,
            None => writeln!(f, "state_dir: none can be written; nothing survives a reboot")?,
        }
        match self.management {
            Some(address) => writeln!(f, "management = {address}")?,
            None => writeln!(f, "management = off")?,
        }
        for set in &self.sets {
            writeln!(f, "set {}\n  store = {}", set.name, set.store.display())?;
            for source in &set.sources {
                writeln!(f, "  source = {source}")?;
            }
            if !set.selector.to_string().is_empty() {
                writeln!(f, "  selector = {}", set.selector)?;
            }
        }
        Ok(())
    }
}

/// What stands on the command line.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Flags {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", env = "FLAGSD_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// The flag set that --store and --source speak about
    #[arg(long, value_name = "NAME", env = "FLAGSD_SET")]
    pub(crate) set: Option<String>,

    /// Directory to publish the set in [default: /run/flags/SET, else a directory of the user's]
    #[arg(long, value_name = "DIR", env = "FLAGSD_STORE")]
    pub(crate) store: Option<PathBuf>,

    /// Where flags come from: file:PATH, dir:PATH or control+https://HOST/PROJECT/ENVIRONMENT; repeated, a later one wins [env: FLAGSD_SOURCES=, parted by commas]
    #[arg(long = "source", value_name = "SOURCE")]
    pub(crate) sources: Vec<String>,

    /// Directory for last-known-good segments [default: /var/lib/flags, else a directory of the user's]
    #[arg(long, value_name = "DIR", env = "FLAGSD_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// TCP address for /healthz, /readyz and /metrics [default: off]
    #[arg(long, value_name = "ADDRESS:PORT", env = "FLAGSD_MANAGEMENT")]
    pub(crate) management: Option<String>,

    /// error, warn, info, debug, trace, or such as "info,flagsd::source=debug"
    #[arg(long, value_name = "LEVEL", env = "FLAGSD_LOG_LEVEL")]
    pub(crate) log_level: Option<String>,

    /// auto (text on a terminal, JSON elsewhere), text or json
    #[arg(long, value_name = "FORMAT", env = "FLAGSD_LOG_FORMAT")]
    pub(crate) log_format: Option<String>,
}

/// Why a configuration is refused: a sentence that names the layer and the key.
#[derive(Debug)]
pub(crate) struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Text,
    Json,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSettings {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// `[guard]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GuardSettings {
    /// A change that removes or disables more than this share of the flags is held; 100 holds nothing.
    pub(crate) max_loss_percent: u8,
    /// Sets with fewer flags than this are never held.
    pub(crate) min_flags: usize,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self { max_loss_percent: 50, min_flags: 10 }
    }
}

/// `[limits]`: what is refused when a definition is compiled. Absent ones keep the library's defaults.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitSettings {
    pub(crate) flags: Option<usize>,
    pub(crate) document_bytes: Option<usize>,
    pub(crate) key_bytes: Option<usize>,
    pub(crate) variants: Option<usize>,
    pub(crate) rule_depth: Option<usize>,
    pub(crate) rule_nodes: Option<usize>,
    pub(crate) list_ids: Option<usize>,
}

/// `[watch]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WatchSettings {
    /// How long files must be quiet before they are read.
    pub(crate) debounce_ms: u64,
    /// How often files are looked at although nothing was reported.
    pub(crate) poll_ms: u64,
    /// How long a file must be gone from a directory before its flags go.
    pub(crate) removal_grace_ms: u64,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self { debounce_ms: 5, poll_ms: 5_000, removal_grace_ms: 2_000 }
    }
}

/// `[control]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ControlSettings {
    /// How often the snapshot is asked for while the stream can't be had.
    pub(crate) poll_ms: u64,
    /// A stream without any event for so long is given up; the control plane sends one every 10 s.
    pub(crate) idle_ms: u64,
    /// How long the service manager waits at most for the first flags of a control plane, where nothing is known of it.
    pub(crate) first_wait_ms: u64,
    /// Within this time it is told what was published here, at a random moment; 0: never.
    pub(crate) report_ms: u64,
    /// What this host is called there; empty: by its own name.
    pub(crate) host: String,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self { poll_ms: 10_000, idle_ms: 30_000, first_wait_ms: 5_000, report_ms: 10_000, host: String::new() }
    }
}

impl ControlSettings {
    /// What this host is called.
    pub(crate) fn host_name(&self) -> String {
        if !self.host.is_empty() {
            return self.host.clone();
        }
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
    }
}

/// The control plane takes a host for behind that has not reported after a minute and a half.
const REPORT_MS_AT_MOST: u64 = 60_000;

/// `[keep]`
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct KeepSettings {
    generations: usize,
}

impl Default for KeepSettings {
    fn default() -> Self {
        Self { generations: 10 }
    }
}

/// `[[set]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetSettings {
    name: String,
    store: Option<PathBuf>,
    #[serde(default)]
    sources: Vec<String>,
    selector: Option<String>,
}

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    state_dir: Option<PathBuf>,
    management: Option<String>,
    max_age_ms: Option<u64>,
    log: LogSettings,
    guard: GuardSettings,
    limits: LimitSettings,
    watch: WatchSettings,
    control: ControlSettings,
    keep: KeepSettings,
    set: Vec<SetSettings>,
}

/// Variables that [`Flags`] reads itself.
const FLAG_VARIABLES: &[&str] = &[
    "FLAGSD_CONFIG",
    "FLAGSD_SET",
    "FLAGSD_STORE",
    "FLAGSD_SOURCES",
    "FLAGSD_STATE_DIR",
    "FLAGSD_MANAGEMENT",
    "FLAGSD_LOG_LEVEL",
    "FLAGSD_LOG_FORMAT",
];

impl Config {
    /// The configuration that `flags`, the process's environment and the file they name make.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or any key or value that is not understood, in whichever layer.
    pub(crate) fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let text = match &flags.config {
            Some(path) => Some((
                path.as_path(),
                std::fs::read_to_string(path).map_err(|error| refuse(format!("{}: {error}", path.display())))?,
            )),
            None => None,
        };
        let file = text.as_ref().map(|(path, text)| (*path, text.as_str()));
        Self::from_layers(file, std::env::vars_os(), flags)
    }

    fn from_layers(
        file: Option<(&Path, &str)>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &Flags,
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            Some((path, text)) => {
                let in_file = |error: toml::de::Error| refuse(format!("{}: {}", path.display(), one_line(&error)));
                toml::from_str::<Settings>(text).map_err(in_file)?;
                text.parse::<toml::Table>().map_err(in_file)?
            }
            None => toml::Table::new(),
        };
        let mut env_sources = None;
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with("FLAGSD_")) else { continue };
            let value = value.to_str().ok_or_else(|| refuse(format!("{name} is not UTF-8")))?;
            if name == "FLAGSD_SOURCES" {
                env_sources = Some(value.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect());
            }
            if FLAG_VARIABLES.contains(&name) {
                continue;
            }
            let layer = variable_as_table(name, value);
            layer.clone().try_into::<Settings>().map_err(|error| {
                refuse(format!("environment variable {name}={value}: {}", error.message().trim_end()))
            })?;
            overlay(&mut table, layer);
        }
        let mut settings: Settings = table.try_into().map_err(|error: toml::de::Error| refuse(one_line(&error)))?;
        settings.take_flags(flags, env_sources)?;
        settings.finish()
    }
}

impl Settings {
    fn take_flags(&mut self, flags: &Flags, env_sources: Option<Vec<String>>) -> Result<(), ConfigError> {
        if let Some(state_dir) = &flags.state_dir {
            self.state_dir = Some(state_dir.clone());
        }
        if let Some(management) = &flags.management {
            self.management = Some(management.clone());
        }
        if let Some(level) = &flags.log_level {
            self.log.level.clone_from(level);
        }
        if let Some(format) = &flags.log_format {
            self.log.format = match format.as_str() {
                "auto" => LogFormat::Auto,
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                other => return Err(refuse(format!("log format `{other}`: expected auto, text or json"))),
            };
        }
        let sources = if flags.sources.is_empty() { env_sources } else { Some(flags.sources.clone()) };
        let speaks_of_a_set = flags.set.is_some() || flags.store.is_some() || sources.is_some();
        if !speaks_of_a_set && !self.set.is_empty() {
            return Ok(());
        }
        let place = match &flags.set {
            Some(name) => self.set.iter().position(|set| set.name == *name),
            None if self.set.len() > 1 => {
                return Err(refuse("--store and --source need --set NAME: the file has several sets".to_owned()));
            }
            None => (!self.set.is_empty()).then_some(0),
        };
        let place = place.unwrap_or_else(|| {
            let name = flags.set.clone().unwrap_or_else(|| "default".to_owned());
            self.set.push(SetSettings { name, store: None, sources: Vec::new(), selector: None });
            self.set.len() - 1
        });
        if let Some(set) = self.set.get_mut(place) {
            if let Some(store) = &flags.store {
                set.store = Some(store.clone());
            }
            if let Some(sources) = sources {
                set.sources = sources;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Config, ConfigError> {
        if self.guard.max_loss_percent > 100 {
            return Err(refuse(format!("guard.max_loss_percent = {}: at most 100", self.guard.max_loss_percent)));
        }
        if self.keep.generations == 0 {
            return Err(refuse("keep.generations = 0: at least 1".to_owned()));
        }
        if self.watch.poll_ms == 0 {
            return Err(refuse("watch.poll_ms = 0: at least 1".to_owned()));
        }
        if self.control.poll_ms == 0 || self.control.idle_ms == 0 {
            return Err(refuse("control.poll_ms and control.idle_ms: at least 1".to_owned()));
        }
        if self.control.report_ms > REPORT_MS_AT_MOST {
            let asked = self.control.report_ms;
            return Err(refuse(format!("control.report_ms = {asked}: at most {REPORT_MS_AT_MOST}")));
        }
        if self.control.host.len() > 253 || self.control.host.chars().any(char::is_control) {
            return Err(refuse("control.host: at most 253 bytes, no control characters".to_owned()));
        }
        let management = match self.management.as_deref() {
            None | Some("" | "off") => None,
            Some(address) => Some(
                address.parse().map_err(|_| refuse(format!("management = \"{address}\": expected ADDRESS:PORT")))?,
            ),
        };
        let (mut names, mut stores) = (BTreeSet::new(), BTreeSet::new());
        let mut sets = Vec::new();
        for set in self.set {
            let set = set.finish()?;
            if !names.insert(set.name.clone()) {
                return Err(refuse(format!("set `{}` is there twice", set.name)));
            }
            if !stores.insert(set.store.clone()) {
                return Err(refuse(format!("set `{}`: another set has the store {}", set.name, set.store.display())));
            }
            sets.push(set);
        }
        Ok(Config {
            state_dir: self.state_dir.map(|path| absolute(&path)).transpose()?.or_else(place::default_state_dir),
            management,
            log: self.log,
            guard: self.guard,
            limits: self.limits,
            watch: self.watch,
            control: self.control,
            generations: self.keep.generations,
            max_age: Duration::from_millis(self.max_age_ms.unwrap_or(60_000)),
            sets,
        })
    }
}

impl SetSettings {
    fn finish(self) -> Result<SetConfig, ConfigError> {
        let name = self.name;
        let first = name.chars().next().is_some_and(|first| first.is_ascii_alphanumeric());
        if !first || name.len() > 64 || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            return Err(refuse(format!("set name `{name}`: 1 to 64 letters, digits, `.`, `_`, `-`, no sign first")));
        }
        if self.sources.is_empty() {
            return Err(refuse(format!(
                "set `{name}` has no source: name one with --source file:PATH or sources = [..]"
            )));
        }
        let mut sources = Vec::new();
        for text in &self.sources {
            let spec: SourceSpec = text.parse().map_err(|error| refuse(format!("set `{name}`: {error}")))?;
            if sources.contains(&spec) {
                return Err(refuse(format!("set `{name}`: source {text} is there twice")));
            }
            sources.push(spec);
        }
        let store = match self.store {
            Some(store) => absolute(&store)?,
            None => place::default_store(&name)
                .ok_or_else(|| refuse(format!("set `{name}`: no directory for its store, name one with --store")))?,
        };
        let selector = Selector::parse(self.selector.as_deref().unwrap_or_default())
            .map_err(|error| refuse(format!("set `{name}`: {error}")))?;
        Ok(SetConfig { name, store, sources, selector })
    }
}

/// `FLAGSD_GUARD__MIN_FLAGS=3` as `guard = { min_flags = 3 }`: two underscores part table and key. A value that is no
/// TOML literal is text.
fn variable_as_table(name: &str, value: &str) -> toml::Table {
    let path = name.trim_start_matches("FLAGSD_").to_ascii_lowercase();
    let literal = format!("value = {value}").parse::<toml::Table>().ok().and_then(|mut table| table.remove("value"));
    let mut value = literal.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut parts: Vec<&str> = path.split("__").collect();
    let first = parts.remove(0);
    for part in parts.into_iter().rev() {
        value = toml::Value::Table(toml::Table::from_iter([(part.to_owned(), value)]));
    }
    toml::Table::from_iter([(first.to_owned(), value)])
}

fn overlay(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

/// `line 3: unknown field ..` instead of toml's drawing over several lines.
fn one_line(error: &toml::de::Error) -> String {
    let drawing = error.to_string();
    let place = drawing.lines().next().and_then(|line| line.strip_prefix("TOML parse error at "));
    let message = error.message().trim_end().replace('\n', "; ");
    match place {
        Some(place) => format!("{place}: {message}"),
        None => message,
    }
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|error| refuse(format!("path `{}`: {error}", path.display())))
}

fn refuse(message: String) -> ConfigError {
    ConfigError(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &Flags) -> Result<Config, String> {
        let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let path = Path::new("flagsd.toml");
        Config::from_layers(Some((path, file)), environment, flags).map_err(|error| error.to_string())
    }

    const ONE_SET: &str = "[[set]]\nname = \"a\"\nstore = \"/s/a\"\nsources = [\"file:/f\"]\n";

    #[test]
    fn flags_win_over_variables_over_the_file() {
        let file =
            format!("state_dir = \"/file\"\nmax_age_ms = 1\n[guard]\nmin_flags = 1\nmax_loss_percent = 7\n{ONE_SET}");
        let environment = [("FLAGSD_GUARD__MIN_FLAGS", "2"), ("FLAGSD_MAX_AGE_MS", "2"), ("FLAGSD_SOURCES", "dir:/e")];
        let config = load(&file, &environment, &Flags::default()).expect("is good");
        assert_eq!(config.guard, GuardSettings { max_loss_percent: 7, min_flags: 2 });
        assert_eq!(config.max_age, Duration::from_millis(2));
        assert_eq!(config.state_dir.as_deref(), Some(Path::new("/file")));
        assert_eq!(config.sets[0].sources, [SourceSpec::Dir("/e".into())]);

        let flags = Flags {
            state_dir: Some("/flag".into()),
            sources: vec!["file:/x".to_owned(), "dir:/y".to_owned()],
            ..Flags::default()
        };
        let config = load(&file, &environment, &flags).expect("is good");
        assert_eq!(config.state_dir.as_deref(), Some(Path::new("/flag")));
        assert_eq!(config.sets[0].sources, [SourceSpec::File("/x".into()), SourceSpec::Dir("/y".into())]);
        assert_eq!(config.sets[0].store, Path::new("/s/a"));
    }

    #[test]
    fn errors_name_the_key_and_its_place() {
        #[expect(clippy::type_complexity, reason = "a table")]
        let cases: &[(&str, &[(&str, &str)], &[&str])] = &[
            ("[gard]\n", &[], &["flagsd.toml", "line 1", "gard"]),
            ("[guard]\nmin_flag = 3\n", &[], &["flagsd.toml", "line 2", "min_flag"]),
            ("[guard]\nmin_flags = \"x\"\n", &[], &["line 2", "invalid type"]),
            ("[guard]\nmax_loss_percent = 101\n", &[], &["guard.max_loss_percent", "101"]),
            ("= 3\n", &[], &["flagsd.toml", "line 1"]),
            ("", &[("FLAGSD_STORRE", "/x")], &["FLAGSD_STORRE", "storre"]),
            ("", &[("FLAGSD_GUARD__NIX", "1")], &["FLAGSD_GUARD__NIX", "nix"]),
            ("", &[("FLAGSD_KEEP__GENERATIONS", "0")], &["keep.generations"]),
            ("management = \"here\"\n", &[], &["management", "here"]),
        ];
        for (file, environment, words) in cases {
            let file = format!("{file}{}", if file.starts_with('=') { "" } else { ONE_SET });
            let error = load(&file, environment, &Flags::default()).expect_err("is refused");
            for word in *words {
                assert!(error.contains(word), "{word:?} is missing in {error:?}");
            }
        }
    }

    #[test]
    fn sets_are_checked() {
        let second = |name: &str, store: &str| {
            format!("{ONE_SET}[[set]]\nname = \"{name}\"\nstore = \"{store}\"\nsources = [\"file:/g\"]\n")
        };
        let check = |file: &str| load(file, &[], &Flags::default());
        assert_eq!(check(&second("b", "/s/b")).expect("is good").sets.len(), 2);
        assert!(check(&second("a", "/s/b")).expect_err("same name").contains("`a` is there twice"));
        assert!(check(&second("b", "/s/a")).expect_err("same store").contains("/s/a"));
        assert!(check(&second("../b", "/s/b")).expect_err("a path").contains("set name"));
        assert!(check("[[set]]\nname = \"a\"\nstore = \"/s\"\n").expect_err("no source").contains("no source"));
        let flags = Flags { sources: vec!["file:/x".to_owned()], ..Flags::default() };
        assert!(load(&second("b", "/s/b"), &[], &flags).expect_err("which one").contains("--set"));
        let flags = Flags { set: Some("b".to_owned()), ..flags };
        let config = load(&second("b", "/s/b"), &[], &flags).expect("is good");
        assert_eq!(config.sets[1].sources, [SourceSpec::File("/x".into())]);
    }

    #[test]
    fn sources_of_later_versions_say_so() {
        for source in ["http://h/flags.json", "https://h/x", "grpc://h:1", "s3://bucket"] {
            let flags = Flags { sources: vec![source.to_owned()], ..Flags::default() };
            let error = load("", &[], &flags).expect_err("is refused");
            assert!(error.contains(source) && error.contains("not supported by this version"), "{error}");
        }
    }
}
