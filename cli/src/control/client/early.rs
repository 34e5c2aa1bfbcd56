//! Answers that come before all was sent.
//!
//! ```text
//! a body is refused midway ──► the control plane answers, and hangs up ──► writing fails ──► what it answered is read
//! ```
//!
//! ureq takes a failed write for the end of everything. Here it is only the end of what is sent. (Its transports are outside of what its
//! versions promise: this file is all that knows of them.)

use std::{
    io::{self, ErrorKind, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ureq::{
    Agent, Error,
    config::Config,
    unversioned::{
        resolver::DefaultResolver,
        transport::{
            Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector,
            Transport,
        },
    },
};

/// Whether the other end has hung up on what is being sent.
#[derive(Clone, Debug, Default)]
pub(super) struct HungUp(Arc<AtomicBool>);

impl HungUp {
    /// An agent that tells of it here.
    pub(super) fn agent(&self, config: Config) -> Agent {
        let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
        // Below TLS, which has a half sent record to send before it reads anything.
        let connector = connector.chain(Listening(self.clone())).chain(RustlsConnector::default());
        Agent::with_parts(config, connector, DefaultResolver::default())
    }

    /// ORDERING: Relaxed, here and below; one thread sends, reads the body and asks.
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, is_so: bool) {
        self.0.store(is_so, Ordering::Relaxed);
    }

    /// A body that ends where nobody takes it any more.
    pub(super) fn end<R: Read>(&self, body: R) -> Ending<R> {
        self.set(false);
        Ending { body, hung_up: self.clone() }
    }
}

pub(super) struct Ending<R> {
    body: R,
    hung_up: HungUp,
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.hung_up.is_so() { Ok(0) } else { self.body.read(buffer) }
    }
}

#[derive(Debug)]
struct Listening(HungUp);

impl<In: Transport> Connector<In> for Listening {
    type Out = Connection<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Connection { inner, hung_up: self.0.clone(), is_deaf: false }))
    }
}

#[derive(Debug)]
struct Connection<T> {
    inner: T,
    hung_up: HungUp,
    is_deaf: bool,
}

impl<T: Transport> Transport for Connection<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.is_deaf {
            return Ok(());
        }
        match self.inner.transmit_output(amount, timeout) {
            Err(Error::Io(error)) if is_hang_up(error.kind()) => {
                self.is_deaf = true;
                self.hung_up.set(true);
                Ok(())
            }
            done => done,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        !self.is_deaf && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn is_hang_up(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}
