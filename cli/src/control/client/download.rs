//! Answers that are read as they come.

use std::{io::Read, thread};

use super::{Control, LONGEST_WAIT, RETRIES, Raw, upload};
use crate::{failure::Failure, output::Output};

impl Control {
    /// Prints what is at `path`, of any length; `what` it is.
    pub(in crate::control) fn print(&self, path: &str, what: &str, output: &mut Output) -> Result<(), Failure> {
        let mut body = self.download(path)?;
        let mut buffer = vec![0; 64 << 10];
        loop {
            match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => output.raw(&buffer[..read])?,
                Err(error) => return Err(Failure::new(format!("the control plane has not sent all {what}: {error}"))),
            }
        }
    }

    /// What is at `path`, of any length. What breaks off ends in an error of the reader.
    pub(in crate::control) fn download(&self, path: &str) -> Result<impl Read + use<>, Failure> {
        let failed = |error: ureq::Error| {
            Failure::new(format!("no answer from {}: {error}", self.settings.url))
                .hint("is the URL right, and the control plane up?")
        };
        let mut tried = 0;
        loop {
            let request = self.request("GET", path, &[]).body(()).map_err(|error| failed(error.into()))?;
            let request = self.agent.configure_request(request).timeout_global(Some(upload::TIMEOUT)).build();
            let response = self.agent.run(request).map_err(failed)?;
            if response.status().is_success() {
                return Ok(response.into_body().into_reader());
            }
            let raw = Raw::read(response).map_err(failed)?;
            match raw.wait() {
                Some(wait) if tried < RETRIES && wait <= LONGEST_WAIT => {
                    tried += 1;
                    thread::sleep(wait);
                }
                _ => return Err(self.answer(raw).err().unwrap_or_else(|| Failure::new("an answer without a body"))),
            }
        }
    }
}
