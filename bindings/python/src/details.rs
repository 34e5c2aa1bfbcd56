//! An evaluation's answer with its reason, as a Python object.

use libflags::{ErrorCode, Evaluation, Reason, ScalarRef};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// An evaluation's answer and the reason for it, with the fields of OpenFeature's ``FlagEvaluationDetails``.
#[pyclass(frozen, generic, module = "libflags")]
#[derive(Debug)]
pub(crate) struct Details {
    /// The key that was asked for.
    #[pyo3(get)]
    flag_key: Py<PyString>,
    /// The flag's value, or the caller's default.
    #[pyo3(get)]
    value: Py<PyAny>,
    /// The name of the variant; ``None`` where the caller's default stands.
    #[pyo3(get)]
    variant: Option<Py<PyString>>,
    /// Why, in OpenFeature's words.
    #[pyo3(get)]
    reason: Py<PyString>,
    /// What went wrong, where the reason is ``ERROR``.
    #[pyo3(get)]
    error_code: Option<Py<PyString>>,
    /// The same for people.
    #[pyo3(get)]
    error_message: Option<String>,
    /// The flag set's metadata overlaid by the flag's own.
    #[pyo3(get)]
    flag_metadata: Py<PyDict>,
}

impl Details {
    /// What `evaluation` says, with `value` for its value.
    pub(crate) fn new<'py>(
        key: &Bound<'py, PyString>,
        value: Bound<'py, PyAny>,
        evaluation: &Evaluation<'_>,
        error_message: Option<String>,
    ) -> PyResult<Self> {
        let py = key.py();
        let flag_metadata = PyDict::new(py);
        for (name, scalar) in evaluation.metadata.iter() {
            flag_metadata.set_item(name, scalar_to_python(py, scalar)?)?;
        }
        Ok(Self {
            flag_key: key.clone().unbind(),
            value: value.unbind(),
            variant: evaluation.variant.map(|variant| PyString::new(py, variant).unbind()),
            reason: PyString::intern(py, evaluation.reason.as_str()).unbind(),
            error_code: evaluation.error.map(|code| PyString::intern(py, code.as_str()).unbind()),
            error_message,
            flag_metadata: flag_metadata.unbind(),
        })
    }

    /// The caller's default, for a reason that lies on Python's side.
    pub(crate) fn refused(
        key: &Bound<'_, PyString>,
        default: &Bound<'_, PyAny>,
        code: ErrorCode,
        message: String,
    ) -> Self {
        let py = key.py();
        Self {
            flag_key: key.clone().unbind(),
            value: default.clone().unbind(),
            variant: None,
            reason: PyString::intern(py, Reason::Error.as_str()).unbind(),
            error_code: Some(PyString::intern(py, code.as_str()).unbind()),
            error_message: Some(message),
            flag_metadata: PyDict::new(py).unbind(),
        }
    }
}

#[pymethods]
impl Details {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = format!("Details(flag_key={}", self.flag_key.bind(py).repr()?);
        text += &format!(", value={}", self.value.bind(py).repr()?);
        if let Some(variant) = &self.variant {
            text += &format!(", variant={}", variant.bind(py).repr()?);
        }
        text += &format!(", reason={}", self.reason.bind(py).repr()?);
        if let Some(code) = &self.error_code {
            text += &format!(", error_code={}", code.bind(py).repr()?);
        }
        if let Some(message) = &self.error_message {
            text += &format!(", error_message={}", PyString::new(py, message).repr()?);
        }
        Ok(text + &format!(", flag_metadata={})", self.flag_metadata.bind(py).repr()?))
    }
}

/// A whole number as an `int`, as JSON's readers in Python have it.
fn scalar_to_python<'py>(py: Python<'py>, scalar: ScalarRef<'_>) -> PyResult<Bound<'py, PyAny>> {
    match scalar {
        ScalarRef::Bool(value) => value.into_bound_py_any(py),
        ScalarRef::Text(text) => text.into_bound_py_any(py),
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 53 bits")]
        ScalarRef::Number(number) if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 => {
            (number as i64).into_bound_py_any(py)
        }
        ScalarRef::Number(number) => number.into_bound_py_any(py),
    }
}
