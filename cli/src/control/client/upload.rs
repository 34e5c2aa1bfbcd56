//! Bodies that are sent as they are read.
//!
//! ```text
//! Expect: 100-continue ──► who may not write, or comes too late, hears so before a byte is sent
//! 429, 503 ──► as of any request, where the body can be read again
//! refused while it is sent ──► what the answer says, and no more is sent
//! the connection breaks ──► told, and nothing is changed: nobody's gigabyte is sent again unasked
//! ```

use std::{
    io::{self, Read},
    thread,
    time::Duration,
};

use ureq::SendBody;

use super::{Answer, Control, LONGEST_WAIT, RETRIES, Raw, WriteArguments, if_match};
use crate::failure::Failure;

/// From connecting to the answer's end. The control plane gives up after 10 min, unless it is told otherwise.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3600);

/// What is sent as it is read.
pub(in crate::control) trait Streamed: Read {
    /// Its `Content-Type`.
    fn content_type(&self) -> &'static str;
    /// Whether it is packed by gzip.
    fn is_packed(&self) -> bool;
    /// Goes back to its begin; false where there is no way back.
    fn rewind(&mut self) -> io::Result<bool>;
}

impl Control {
    /// Changes something by a body of any length.
    pub(in crate::control) fn upload(
        &self,
        method: &str,
        path: &str,
        body: &mut dyn Streamed,
        arguments: &WriteArguments,
        if_revision: Option<i64>,
    ) -> Result<Answer, Failure> {
        let path = arguments.with_query(path);
        let mut headers = vec![("content-type", body.content_type().to_owned()), ("expect", "100-continue".to_owned())];
        headers.extend(body.is_packed().then(|| ("content-encoding", "gzip".to_owned())));
        headers.extend(if_revision.map(if_match));
        let mut tried = 0;
        loop {
            let broken = |why: String| {
                let url = &self.settings.url;
                Failure::new(format!("{url} has not taken it all: {why}; nothing is known to have changed"))
            };
            let raw = self.stream(method, &path, &headers, body).map_err(|error| {
                let hung_up = self.hung_up.is_so().then_some("it hung up, and has not said why: ");
                broken(format!("{}{error}", hung_up.unwrap_or_default()))
            })?;
            if self.hung_up.is_so() && raw.status < 400 {
                return Err(broken(format!("it answered {} before that", raw.status)));
            }
            match raw.wait() {
                Some(wait) if tried < RETRIES && wait <= LONGEST_WAIT && body.rewind().unwrap_or(false) => {
                    tried += 1;
                    thread::sleep(wait);
                }
                _ => return self.answer(raw),
            }
        }
    }

    fn stream(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &mut dyn Streamed,
    ) -> Result<Raw, ureq::Error> {
        let mut body = self.hung_up.end(body);
        let request = self.request(method, path, headers).body(SendBody::from_reader(&mut body))?;
        let request = self.agent.configure_request(request).timeout_global(Some(TIMEOUT)).build();
        Raw::read(self.agent.run(request)?)
    }
}
