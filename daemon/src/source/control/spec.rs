//! What a user writes to name an environment of a control plane.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use flags_sync::{PublicKey, Trust};
use hyper::Uri;

use super::tls::{OwnFiles, TlsFiles};

/// Nobody rotates through more keys at once; each costs a check of what is signed with none of them.
const MOST_KEYS: usize = 8;

/// `control+https://HOST[:PORT][/BASE]/PROJECT/ENVIRONMENT[?token-file=PATH][&key=BASE64]…[&ca-file=PATH][&client-cert-file=PATH&client-key-file=PATH]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ControlSpec {
    pub(super) tls: bool,
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// What requests call the host.
    pub(super) authority: String,
    /// Empty, or begins with a slash and does not end in one.
    base: String,
    /// `project/environment`
    pub(super) environment: String,
    /// Read anew for each connection.
    pub(super) token_file: Option<PathBuf>,
    pub(super) trust: Trust,
    /// Read anew for each connection.
    pub(super) tls_files: TlsFiles,
}

impl ControlSpec {
    /// From what follows on `control+`.
    ///
    /// # Errors
    ///
    /// What is wrong with it. The values of parameters are not repeated: somebody may have put a token there.
    pub(in super::super) fn parse(url: &str) -> Result<Self, String> {
        if url.contains('#') {
            return Err("`#` has no meaning here".to_owned());
        }
        let uri: Uri = url.parse().map_err(|error| format!("no URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("expected control+http://… or control+https://…".to_owned()),
        };
        let authority = uri.authority().ok_or("no host")?;
        if authority.as_str().contains('@') {
            return Err("no user or password belongs there; name a file with the token: ?token-file=PATH".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("no host".to_owned());
        }
        let named_port = authority.as_str().rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        if named_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err("the port is none".to_owned());
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let mut names: Vec<&str> = uri.path().trim_end_matches('/').split('/').collect();
        let (environment, project) = (names.pop().unwrap_or_default(), names.pop().unwrap_or_default());
        for (what, name) in [("project", project), ("environment", environment)] {
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
                return Err(format!("the path must end in /PROJECT/ENVIRONMENT, and {name:?} is no name of a {what}"));
            }
        }
        let mut spec = Self {
            tls,
            host,
            port,
            authority: authority.as_str().to_owned(),
            base: names.join("/"),
            environment: format!("{project}/{environment}"),
            token_file: None,
            trust: Trust::Transport,
            tls_files: TlsFiles::default(),
        };
        spec.take_parameters(uri.query().unwrap_or_default())?;
        if !tls && spec.trust == Trust::Transport && !spec.is_loopback() {
            let why = "anybody on the way could change it";
            return Err(format!(
                "http to another host needs the environment's public key (?key=BASE64), or https: {why}"
            ));
        }
        Ok(spec)
    }

    fn take_parameters(&mut self, query: &str) -> Result<(), String> {
        let mut seen: Vec<&str> = Vec::new();
        let (mut certificate, mut own_key) = (None, None);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            // Several keys are believed while one is replaced by another.
            if seen.contains(&name) && name != "key" {
                return Err(format!("parameter `{name}` is there twice"));
            }
            seen.push(name);
            let value = percent_decoded(value).ok_or_else(|| format!("parameter `{name}` is no UTF-8 text"))?;
            let path = || match &*value {
                "" => Err(format!("parameter `{name}` has no value")),
                path => std::path::absolute(path).map_err(|error| format!("parameter `{name}`: {error}")),
            };
            match name {
                "token-file" => self.token_file = Some(path()?),
                "ca-file" | "client-cert-file" | "client-key-file" if !self.tls => {
                    return Err(format!("parameter `{name}` is for https only"));
                }
                "ca-file" => self.tls_files.ca = Some(path()?),
                "client-cert-file" => certificate = Some(path()?),
                "client-key-file" => own_key = Some(path()?),
                "key" => {
                    let key: PublicKey = value.parse().map_err(|error| format!("parameter `key`: {error}"))?;
                    match &mut self.trust {
                        Trust::Keys(keys) if keys.len() == MOST_KEYS => {
                            return Err(format!("parameter `key` is there more than {MOST_KEYS} times"));
                        }
                        Trust::Keys(keys) => keys.push(key),
                        Trust::Transport => self.trust = Trust::from(key),
                    }
                }
                // Whatever it is called, it may hold a secret: its value is not repeated.
                _ => {
                    let known = "token-file, key, ca-file, client-cert-file, client-key-file";
                    return Err(format!("no parameter `{name}` is known; there is {known}"));
                }
            }
        }
        self.tls_files.own = match (certificate, own_key) {
            (Some(certificate), Some(key)) => Some(OwnFiles { certificate, key }),
            (None, None) => None,
            (Some(_), None) => return Err("parameter `client-cert-file` needs `client-key-file` beside it".to_owned()),
            (None, Some(_)) => return Err("parameter `client-key-file` needs `client-cert-file` beside it".to_owned()),
        };
        Ok(())
    }

    /// Whether connections can be made with the files that it names for TLS.
    ///
    /// # Errors
    ///
    /// A sentence that names a file, and nothing of what is in it.
    pub(crate) fn check_files(&self) -> Result<(), String> {
        if self.tls_files == TlsFiles::default() { Ok(()) } else { self.tls_files.check() }
    }

    /// Whether nobody can be between flagsd and the other end.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The path of a request: `what` is `stream` or `snapshot`.
    pub(super) fn path(&self, what: &str) -> String {
        format!("{}/sync/v1/{}/{what}", self.base, self.environment)
    }
}

/// Without its parameters: where it is, and not how it is reached. What is kept of it goes by this name, so that a new key or token
/// file does not lose it.
impl fmt::Display for ControlSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "control+{scheme}://{}{}/{}", self.authority, self.base, self.environment)
    }
}

/// `%41` as `A`; a plus sign stays one, since keys have them.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flags_sync::SecretKey;

    #[test]
    fn a_spec_says_where_and_whom_to_believe() {
        let key = SecretKey::from_seed(&[3; 32]).public();
        let url =
            format!("https://[::1]:8443/base/x/shop/production?token-file=/etc/a%20token&key={key}&ca-file=/ca.pem");
        let spec = ControlSpec::parse(&url).expect("is good");
        assert_eq!((&*spec.host, spec.port, spec.tls), ("::1", 8443, true));
        assert_eq!(spec.path("stream"), "/base/x/sync/v1/shop/production/stream");
        assert_eq!((spec.environment.as_str(), &spec.trust), ("shop/production", &Trust::from(key)));
        assert_eq!(spec.token_file.as_deref(), Some(std::path::Path::new("/etc/a token")));
        assert_eq!(spec.to_string(), "control+https://[::1]:8443/base/x/shop/production");

        let next = SecretKey::from_seed(&[4; 32]).public();
        let several = ControlSpec::parse(&format!("{url}&key={next}")).expect("is good");
        assert_eq!(several.trust, Trust::Keys(vec![key, next]));
        let keys = vec![format!("key={key}"); MOST_KEYS + 1].join("&");
        let error = ControlSpec::parse(&format!("http://h/a/b?{keys}")).expect_err("too many");
        assert!(error.contains("more than 8"), "{error}");

        let spec = ControlSpec::parse("http://localhost/shop/test/").expect("is good");
        assert_eq!((spec.port, spec.path("snapshot").as_str()), (80, "/sync/v1/shop/test/snapshot"));
        assert_eq!(ControlSpec::parse("https://flags.example/a/b").expect("is good").port, 443);
    }

    #[test]
    fn a_bad_spec_is_refused_by_what_is_wrong_and_tells_no_secret() {
        for (url, word) in [
            ("http://h", "/PROJECT/ENVIRONMENT"),
            ("http://h/shop", "project"),
            ("http://h//shop", "project"),
            ("http://h/sh%20op/test", "project"),
            ("http:///a/b", "URL"),
            ("http://h:0/a/b", "port"),
            ("http://h:99999/a/b", "port"),
            ("http://u:secret@h/a/b", "token-file"),
            ("http://h/a/b", "public key"),
            ("http://h/a/b?key=secret", "`key`"),
            ("http://127.0.0.1/a/b?token=secret", "`token`"),
            ("http://127.0.0.1/a/b?token-file=", "`token-file`"),
            ("http://127.0.0.1/a/b?token-file=/x&token-file=/y", "twice"),
            ("http://127.0.0.1/a/b?ca-file=/x", "https"),
            ("http://127.0.0.1/a/b?client-cert-file=/x&client-key-file=/secret", "https"),
            ("https://127.0.0.1/a/b?client-cert-file=/secret", "`client-key-file`"),
            ("https://127.0.0.1/a/b?client-key-file=/secret", "`client-cert-file`"),
            ("https://127.0.0.1/a/b?client-key-file=&client-cert-file=/x", "no value"),
            ("http://127.0.0.1/a/b?token-file=%f", "UTF-8"),
            ("http://127.0.0.1/a/b#c", "#"),
        ] {
            let error = ControlSpec::parse(url).expect_err(url);
            assert!(error.contains(word) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
