//! The Python face of libflags: `libflags._libflags`.
//!
//! Its reference is the stub file, `python/libflags/_libflags.pyi`.

mod answer;
mod client;
mod context;
mod details;
mod error;
mod flag;
mod json;
mod names;
mod snapshot;
mod status;

/// The native part of libflags.
// No state is shared but what is built for it (the client, `names`), so the module does without the GIL.
#[pyo3::pymodule(gil_used = false)]
mod _libflags {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::client::Client;
    #[pymodule_export]
    use crate::details::Details;
    #[pymodule_export]
    use crate::error::{
        CorruptStore, Error, InvalidDefinition, IoError, NothingPublished, StoreNotFound, UnknownFormat, UntrustedStore,
    };
    #[pymodule_export]
    use crate::flag::Flag;
    #[pymodule_export]
    use crate::snapshot::Snapshot;
    #[pymodule_export]
    use crate::status::Status;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
