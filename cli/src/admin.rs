//! The way to flagsd: HTTP/1.1 on the Unix socket in the store's directory.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::{failure::Failure, source::StoreArguments};

/// The socket's name in the store's directory.
const SOCKET: &str = "flagsd.sock";

/// Publishing a million flags takes seconds; a daemon that says nothing for this long is stuck.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A flagsd that answered, and the set of its that is meant.
#[derive(Debug)]
pub(crate) struct Admin {
    socket: PathBuf,
    set: String,
    /// Its whole status when it was asked first.
    pub(crate) status: Value,
}

/// Why flagsd did not do what it was asked.
#[derive(Debug)]
pub(crate) enum AdminError {
    /// Nobody listens at the socket, or this user may not ask.
    Unreachable { socket: PathBuf, error: io::Error },
    /// The answer is none.
    Protocol { socket: PathBuf, message: String },
    /// It was refused: HTTP status and reason.
    Refused { status: u16, detail: String },
}

impl Admin {
    /// Finds the flagsd that serves the store.
    pub(crate) fn connect(store: &StoreArguments) -> Result<Self, Failure> {
        let directories = store.directories();
        let mut unreachable = None;
        for directory in &directories {
            match Self::at(directory) {
                Ok(admin) => return Ok(admin),
                // The first directory is where the store is, or is most likely to be.
                Err(AdminError::Unreachable { error, .. }) if unreachable.is_some() => drop(error),
                Err(error @ AdminError::Unreachable { .. }) => unreachable = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        let failure = match unreachable {
            Some(AdminError::Unreachable { error, .. }) => {
                let sockets: Vec<String> =
                    directories.iter().map(|directory| directory.join(SOCKET).display().to_string()).collect();
                let failure = Failure::new(format!("flagsd is not reachable at {}: {error}", sockets.join(", ")));
                return Err(failure.hint(unreachable_hint(error.kind())));
            }
            Some(error) => error.into(),
            None => Failure::new("no store was found, so neither was its flagsd").hint("name it with --store DIR"),
        };
        Err(failure)
    }

    /// The flagsd that serves the store in `directory`.
    pub(crate) fn at(directory: &Path) -> Result<Self, AdminError> {
        let socket = directory.join(SOCKET);
        let status = request(&socket, "GET", "/v1/status", None)?;
        let sets = status["sets"].as_array().map(Vec::as_slice).unwrap_or_default();
        let real = directory.canonicalize().ok();
        let serves = |set: &&Value| {
            let store = set["store"].as_str().map(Path::new);
            store == Some(directory) || (real.is_some() && store.and_then(|store| store.canonicalize().ok()) == real)
        };
        let set = match (sets.iter().find(serves), sets) {
            (Some(set), _) | (None, [set]) => set["name"].as_str(),
            _ => None,
        };
        let Some(set) = set.map(str::to_owned) else {
            let message = format!("it serves no set in {}", directory.display());
            return Err(AdminError::Protocol { socket, message });
        };
        Ok(Self { socket, set, status })
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the status says of the set.
    pub(crate) fn set_status(&self) -> &Value {
        let sets = self.status["sets"].as_array().map(Vec::as_slice).unwrap_or_default();
        sets.iter().find(|set| set["name"] == self.set.as_str()).unwrap_or(&Value::Null)
    }

    /// Posts a command to the set.
    pub(crate) fn post(&self, command: &str, body: Option<&Value>) -> Result<Value, Failure> {
        Ok(request(&self.socket, "POST", &format!("/v1/sets/{}/{command}", encoded(&self.set)), body)?)
    }

    /// Sets or, without a value, clears the local value of a flag.
    pub(crate) fn set_override(&self, key: &str, value: Option<&Value>) -> Result<Value, Failure> {
        let path = format!("/v1/sets/{}/overrides/{}", encoded(&self.set), encoded(key));
        Ok(match value {
            Some(value) => request(&self.socket, "PUT", &path, Some(&serde_json::json!({"value": value}))),
            None => request(&self.socket, "DELETE", &path, None),
        }?)
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { socket, error } => {
                write!(f, "flagsd is not reachable at {}: {error}", socket.display())
            }
            Self::Protocol { socket, message } => {
                write!(f, "the answer at {} is not flagsd's: {message}", socket.display())
            }
            Self::Refused { status, detail } => write!(f, "flagsd refuses ({status}): {detail}"),
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let failure = Failure::new(error.to_string());
        match error {
            AdminError::Unreachable { error, .. } => failure.hint(unreachable_hint(error.kind())),
            AdminError::Protocol { .. } => failure.hint("is this flagsctl of the same release as flagsd?"),
            AdminError::Refused { .. } => failure,
        }
    }
}

fn unreachable_hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => "the socket is for flagsd's own user and root",
        io::ErrorKind::ConnectionRefused => "flagsd was here and is gone: start it again",
        _ => "start flagsd, or name the store that it serves with --store DIR",
    }
}

/// Sends one request on a connection of its own.
fn request(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Result<Value, AdminError> {
    let unreachable = |error| AdminError::Unreachable { socket: socket.to_owned(), error };
    let protocol = |message: String| AdminError::Protocol { socket: socket.to_owned(), message };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    let (status, bytes) = runtime.block_on(async {
        let exchange = async {
            let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| protocol(error.to_string()))?;
            tokio::spawn(connection);
            let request = Request::builder().method(method).uri(path).header(header::HOST, "flagsd");
            let request = match body {
                Some(body) => {
                    request.header(header::CONTENT_TYPE, "application/json").body(Full::from(body.to_string()))
                }
                None => request.body(Full::from(Bytes::new())),
            };
            let request: Request<Full<Bytes>> = request.map_err(|error| protocol(error.to_string()))?;
            let response = sender.send_request(request).await.map_err(|error| protocol(error.to_string()))?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map_err(|error| protocol(error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(protocol(format!("nothing came within {} s", TIMEOUT.as_secs()))),
        }
    })?;
    let answer: Option<Value> = if bytes.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&bytes).ok() };
    match (status, answer) {
        (200..300, Some(answer)) => Ok(answer),
        (200..300, None) => Err(protocol("it is no JSON".to_owned())),
        (status, answer) => {
            let detail = answer.and_then(|answer| answer["detail"].as_str().map(str::to_owned));
            Err(AdminError::Refused { status, detail: detail.unwrap_or_else(|| "without a reason".to_owned()) })
        }
    }
}

/// A segment of a path: all but what RFC 3986 calls unreserved as %XX.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment() {
        assert_eq!(encoded("new-cart_1.~"), "new-cart_1.~");
        assert_eq!(encoded("a/b ?é"), "a%2Fb%20%3F%C3%A9");
    }
}
