//! What core calls an error, as Python exceptions: one class a kind.

use libflags::definition::DefinitionError;
use pyo3::exceptions::PyException;
use pyo3::{PyErr, create_exception};

create_exception!(
    libflags,
    Error,
    PyException,
    "What everything raised by libflags derives from. Evaluating raises none of it."
);
create_exception!(
    libflags,
    StoreNotFound,
    Error,
    "No store was found; the text names every path tried and why it was not used."
);
create_exception!(libflags, NothingPublished, Error, "There is a store, but no version has been published in it yet.");
create_exception!(
    libflags,
    UntrustedStore,
    Error,
    "A file of the store could be written by somebody who has no business with it."
);
create_exception!(libflags, CorruptStore, Error, "The bytes of a file are not what they must be.");
create_exception!(libflags, UnknownFormat, Error, "The store is of a format version that this library does not read.");
create_exception!(libflags, InvalidDefinition, Error, "A flag definition cannot be read at all.");
create_exception!(
    libflags,
    IoError,
    Error,
    "The operating system refused an operation on a file; the text names both."
);

/// The exception for `error`, met while trying to `what`.
pub(crate) fn to_python(what: &str, error: libflags::Error) -> PyErr {
    let text = format!("failed to {what}: {error}");
    match &error {
        libflags::Error::NoStore { .. } => StoreNotFound::new_err(text),
        libflags::Error::NothingPublished { .. } => NothingPublished::new_err(text),
        libflags::Error::Io { .. } | libflags::Error::Definition(DefinitionError::Io { .. }) => IoError::new_err(text),
        libflags::Error::Untrusted { .. } => UntrustedStore::new_err(text),
        libflags::Error::Corrupt { .. } | libflags::Error::Payload(_) => CorruptStore::new_err(text),
        libflags::Error::UnknownFormat { .. } => UnknownFormat::new_err(text),
        libflags::Error::Definition(_) => InvalidDefinition::new_err(text),
        _ => Error::new_err(text),
    }
}
