//! Which control plane, with which token: the command line, then `FLAGSCTL_…` variables, then a profile of the configuration file.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{ErrorKind, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Deserialize;

use crate::failure::Failure;

/// Which control plane, project and environment are meant.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Control plane")]
pub(crate) struct Target {
    /// The control plane, such as https://flags.example.com
    #[arg(long, value_name = "URL", env = "FLAGSCTL_URL")]
    url: Option<String>,
    /// The profile of the configuration file [default: `default`, where there is one]
    #[arg(long, value_name = "NAME", env = "FLAGSCTL_PROFILE")]
    profile: Option<String>,
    /// The configuration file [default: ~/.config/flagsctl/config.toml]
    #[arg(long, value_name = "FILE", env = "FLAGSCTL_CONFIG")]
    config: Option<PathBuf>,
    /// A file that holds the token and that only you can read; $FLAGSCTL_TOKEN is the token itself
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The project
    #[arg(long, short, value_name = "KEY", env = "FLAGSCTL_PROJECT")]
    project: Option<String>,
    /// The environment
    #[arg(long = "env", short, value_name = "KEY", env = "FLAGSCTL_ENVIRONMENT")]
    environment: Option<String>,
}

/// What the three sources come to.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Without a slash at its end.
    pub(crate) url: String,
    pub(crate) token: Secret,
    pub(crate) project: Option<String>,
    pub(crate) environment: Option<String>,
}

/// A text that is never printed by accident.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Profiles {
    profile: BTreeMap<String, Profile>,
}

/// `[profile.NAME]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Profile {
    url: Option<String>,
    token: Option<Secret>,
    /// Of a relative path: beside the configuration file.
    token_file: Option<PathBuf>,
    project: Option<String>,
    environment: Option<String>,
}

impl Target {
    /// # Errors
    /// Where a file cannot be read or may be read by others, or no URL or token is to be had.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        let profile = self.profile()?;
        let url = self.url.clone().or(profile.url.clone());
        let hint = "give it with --url, $FLAGSCTL_URL or `url` in a profile of the configuration file";
        let url = url.ok_or_else(|| Failure::new("no control plane is named").hint(hint))?;
        let is_profiles = profile.url.as_deref().is_none_or(|own| own == url);
        Ok(Settings {
            token: self.token(&profile, is_profiles)?,
            url: url.trim_end_matches('/').to_owned(),
            project: self.project.clone().or(profile.project),
            environment: self.environment.clone().or(profile.environment),
        })
    }

    fn profile(&self) -> Result<Profile, Failure> {
        let Some(path) = self.config.clone().or_else(default_path) else { return Ok(Profile::default()) };
        let (text, mode) = match read(&path) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::NotFound && self.config.is_none() && self.profile.is_none() => {
                return Ok(Profile::default());
            }
            Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
        };
        // The parser's own way to show an error prints the line, in which a token may stand.
        let profiles: Profiles = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
            Failure::new(format!("{}:{line}: {}", path.display(), error.message()))
        })?;
        if profiles.profile.values().any(|profile| profile.token.is_some()) {
            private(&path, mode)?;
        }
        let mut profiles = profiles.profile;
        let profile = match &self.profile {
            Some(name) => profiles.remove(name).ok_or_else(|| {
                let names: Vec<&str> = profiles.keys().map(String::as_str).collect();
                Failure::new(format!("{} has no profile {name:?}", path.display()))
                    .hint(format!("it has {}", if names.is_empty() { "none".to_owned() } else { names.join(", ") }))
            })?,
            None => profiles.remove("default").unwrap_or_default(),
        };
        if profile.token.is_some() && profile.token_file.is_some() {
            return Err(Failure::new(format!("a profile of {} has both `token` and `token_file`", path.display())));
        }
        let beside = |file: PathBuf| path.parent().unwrap_or(Path::new("")).join(file);
        Ok(Profile { token_file: profile.token_file.map(beside), ..profile })
    }

    fn token(&self, profile: &Profile, is_profiles: bool) -> Result<Secret, Failure> {
        let given = std::env::var("FLAGSCTL_TOKEN").ok().filter(|token| !token.is_empty());
        let token = match (&self.token_file, given) {
            (Some(file), _) => secret_in(file)?,
            (None, Some(token)) => token,
            (None, None) => match (&profile.token, &profile.token_file) {
                // Whoever can make somebody use another URL must not get the token so.
                (Some(_), _) | (_, Some(_)) if !is_profiles => {
                    return Err(Failure::new("the profile's token is for the profile's URL alone")
                        .hint("give the token for this one with $FLAGSCTL_TOKEN or --token-file"));
                }
                (Some(token), _) => token.reveal().to_owned(),
                (None, Some(file)) => secret_in(file)?,
                (None, None) => {
                    return Err(Failure::new("there is no token").hint(
                        "give it with $FLAGSCTL_TOKEN, --token-file, or `token` or `token_file` in a profile of the configuration file",
                    ));
                }
            },
        };
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::new("what is given as the token is none: a token is one word of ASCII"));
        }
        Ok(Secret(token.to_owned()))
    }
}

/// `$XDG_CONFIG_HOME/flagsctl/config.toml`
fn default_path() -> Option<PathBuf> {
    let directory = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = directory("XDG_CONFIG_HOME").or_else(|| directory("HOME").map(|home| home.join(".config")))?;
    Some(base.join("flagsctl/config.toml"))
}

fn secret_in(path: &Path) -> Result<String, Failure> {
    let (text, mode) = read(path).map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
    private(path, mode)?;
    Ok(text)
}

/// A file's text and mode, both of the one that was opened.
fn read(path: &Path) -> std::io::Result<(String, u32)> {
    let mut file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok((text, mode))
}

fn private(path: &Path, mode: u32) -> Result<(), Failure> {
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::new(format!("{path} holds a token, and others may use it: its mode is {:04o}", mode & 0o7777))
        .hint(format!("chmod 600 {path}")))
}
