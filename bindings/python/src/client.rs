//! The client: the flags of one flag set on this host.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use libflags::definition::Selector;
use libflags::{OpenOptions, Pinned, Want};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyAny, PyBool, PyInt, PyString};

use crate::answer::{self, Source};
use crate::context::Context;
use crate::details::Details;
use crate::error::{Error, to_python};
use crate::flag::Flag;
use crate::snapshot::Snapshot;
use crate::status::Status;

/// The flags of one flag set, as ``flagsd`` publishes them on this host.
#[pyclass(frozen, module = "libflags")]
pub(crate) struct Client {
    client: libflags::Client,
    is_closed: AtomicBool,
}

impl Client {
    /// The client, unless it has been closed.
    #[inline]
    pub(crate) fn open(&self) -> Option<&libflags::Client> {
        // ORDERING: stands alone; who closes a client while another thread evaluates gets either answer.
        (!self.is_closed.load(Ordering::Relaxed)).then_some(&self.client)
    }
}

impl Source for Client {
    #[inline]
    fn bool(&self, key: &str, context: &Context<'_, '_>, default: bool) -> bool {
        self.open().map_or(default, |client| client.bool(key, context, default))
    }

    #[inline]
    fn int(&self, key: &str, context: &Context<'_, '_>, default: i64) -> i64 {
        self.open().map_or(default, |client| client.int(key, context, default))
    }

    #[inline]
    fn float(&self, key: &str, context: &Context<'_, '_>, default: f64) -> f64 {
        self.open().map_or(default, |client| client.float(key, context, default))
    }

    #[inline]
    fn text<R>(&self, key: &str, context: &Context<'_, '_>, read: impl FnOnce(&str) -> R) -> Option<R> {
        self.open()?.with_string(key.as_bytes(), context, |text| text.map(read))
    }

    fn pin(&self) -> Option<Pinned> {
        self.open().map(libflags::Client::snapshot)
    }
}

#[pymethods]
impl Client {
    #[new]
    #[pyo3(signature = (store=None, *, wait=true, selector=None))]
    fn new(py: Python<'_>, store: Option<PathBuf>, wait: bool, selector: Option<&str>) -> PyResult<Self> {
        let selector = selector.map(Selector::parse).transpose().map_err(value_error)?;
        let options = OpenOptions::new().wait(wait);
        let options = store.into_iter().fold(options, OpenOptions::store);
        let mut client = py
            .detach(|| libflags::Client::open_with(&options))
            .map_err(|error| to_python("open the flag store", error))?;
        if let Some(selector) = &selector {
            client = client.with_selector(selector).map_err(value_error)?;
        }
        Ok(Self { client, is_closed: AtomicBool::new(false) })
    }

    /// A client over a flag definition file, without ``flagsd``: for tests and development.
    #[staticmethod]
    fn from_file(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let client = py
            .detach(|| libflags::Client::from_file(&path))
            .map_err(|error| to_python("read the flag definition", error))?;
        Ok(Self { client, is_closed: AtomicBool::new(false) })
    }

    /// Reads the file of ``from_file`` again and gives what is wrong with it, a line for each problem.
    fn reload(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let problems = py.detach(|| self.client.reload()).map_err(|error| match error {
            // Not the snapshot's fault: there is no file to read.
            error @ libflags::Error::Payload(_) => Error::new_err(format!("failed to reload the client: {error}")),
            error => to_python("read the flag definition again", error),
        })?;
        Ok(problems.iter().map(ToString::to_string).collect())
    }

    /// Ends the use of this client: from now on every evaluation returns its default.
    fn close(&self) {
        // ORDERING: stands alone, see `open`.
        self.is_closed.store(true, Ordering::Relaxed);
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (exc_type, exc_value, traceback, /))]
    fn __exit__(&self, exc_type: &Bound<'_, PyAny>, exc_value: &Bound<'_, PyAny>, traceback: &Bound<'_, PyAny>) {
        let _ = (exc_type, exc_value, traceback);
        self.close();
    }

    /// Pins the current version of all flags, so that many evaluations agree with each other.
    fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.pin())
    }

    /// The flag ``key`` as an object that remembers where it lies, for the hottest paths.
    fn flag(slf: &Bound<'_, Self>, key: &Bound<'_, PyString>) -> Flag {
        Flag::new(slf, key)
    }

    /// How fresh the flags are.
    fn status(&self) -> Status {
        Status::new(self.client.status())
    }

    /// The flag's value, a boolean; ``default`` where there is none.
    #[pyo3(signature = (key, default, context=None))]
    fn get_boolean_value<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyBool>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBool>> {
        answer::boolean(self, key, default, context)
    }

    /// The flag's value, text; ``default`` where there is none.
    #[pyo3(signature = (key, default, context=None))]
    fn get_string_value<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyString>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyString>> {
        answer::string(self, key, default, context)
    }

    /// The flag's value, a whole number; ``default`` where there is none.
    #[pyo3(signature = (key, default, context=None))]
    fn get_integer_value<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyInt>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        answer::integer(self, key, default, context)
    }

    /// The flag's value, a number; ``default`` where there is none.
    #[pyo3(signature = (key, default, context=None))]
    fn get_float_value<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        answer::float(self, key, default, context)
    }

    /// The flag's value, an object or array; ``default`` where there is none.
    #[pyo3(signature = (key, default, context=None))]
    fn get_object_value<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        answer::object(self, key, default, context)
    }

    /// As ``get_boolean_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (key, default, context=None, *, targeting_key=None))]
    fn get_boolean_details<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyBool>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, key, Want::Bool, default, context, targeting_key)
    }

    /// As ``get_string_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (key, default, context=None, *, targeting_key=None))]
    fn get_string_details<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyString>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, key, Want::Text, default, context, targeting_key)
    }

    /// As ``get_integer_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (key, default, context=None, *, targeting_key=None))]
    fn get_integer_details<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyInt>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, key, Want::Int, default, context, targeting_key)
    }

    /// As ``get_float_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (key, default, context=None, *, targeting_key=None))]
    fn get_float_details<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::check_number(default)?;
        answer::details(self, key, Want::Float, default, context, targeting_key)
    }

    /// As ``get_object_value``, with variant, reason, error and metadata.
    #[pyo3(signature = (key, default, context=None, *, targeting_key=None))]
    fn get_object_details<'py>(
        &self,
        key: &Bound<'py, PyString>,
        default: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        targeting_key: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Details> {
        answer::details(self, key, Want::Json, default, context, targeting_key)
    }
}

fn value_error(error: impl ToString) -> PyErr {
    PyValueError::new_err(error.to_string())
}
