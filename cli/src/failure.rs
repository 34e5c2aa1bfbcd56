//! How a command ends: the exit code, and for one that cannot do its work the message and what to do about it.

use std::{io, process::ExitCode};

/// How a command that did its work ends. The numbers are part of the interface: scripts test them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All is well.
    Done = 0,
    /// The answer is no.
    No = 1,
    /// What was given is wrong.
    Wrong = 2,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments are wrong in a way that their parser cannot see. Exit code 2.
    Usage(String),
    /// It cannot be done here and now. Exit code 3.
    Impossible {
        /// A sentence without its end.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// Nobody takes the output.
    Output(io::Error),
}

const IMPOSSIBLE: u8 = 3;
/// What a shell reports of a program that SIGPIPE ended, as which this one passes.
const BROKEN_PIPE: u8 = 128 + 13;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Impossible { message: message.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Impossible { message, .. } => Self::Impossible { message, hint: Some(hint.into()) },
            other => other,
        }
    }

    /// With what it is about before it.
    pub(crate) fn within(self, what: &str) -> Self {
        match self {
            Self::Impossible { message, hint } => Self::Impossible { message: format!("{what}: {message}"), hint },
            other => other,
        }
    }

    /// Says it on stderr and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (message, hint, code) = match self {
            Self::Usage(message) => (message, Some("`--help` shows what is expected".to_owned()), Exit::Wrong as u8),
            Self::Impossible { message, hint } => (message, hint, IMPOSSIBLE),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return BROKEN_PIPE.into(),
            Self::Output(error) => (format!("cannot write the output: {error}"), None, IMPOSSIBLE),
        };
        // Where stderr is closed too, the exit code has to do.
        let _ = Self::write(&message, hint.as_deref());
        code.into()
    }

    fn write(message: &str, hint: Option<&str>) -> io::Result<()> {
        use io::Write as _;
        let mut stderr = io::stderr().lock();
        writeln!(stderr, "flagsctl: {message}")?;
        match hint {
            Some(hint) => writeln!(stderr, "  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        (exit as u8).into()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<libflags::Error> for Failure {
    fn from(error: libflags::Error) -> Self {
        let hint = match &error {
            libflags::Error::NoStore { .. } => Some(
                "start flagsd, name its store with --store DIR or $FLAGS_STORE, or read a definition with --file FILE",
            ),
            libflags::Error::NothingPublished { .. } => {
                Some("flagsd has not found anything to publish yet; `flagsctl status` shows its sources")
            }
            libflags::Error::Untrusted { .. } => Some(
                "a store must belong to root, to you or to its directory's owner, and be writable by its owner alone",
            ),
            _ => None,
        };
        Self::Impossible { message: error.to_string(), hint: hint.map(str::to_owned) }
    }
}
