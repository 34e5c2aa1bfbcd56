//! From an evaluation to what Python is handed: the same for a client, a pinned version and a flag.
//!
//! The `value` half is the hot one: it makes nothing but the answer's own object. Whatever may run Python code of others
//! (parsing JSON makes containers, which may start a garbage collection) happens on a pinned version, outside of the reader's
//! critical section.

use libflags::{ErrorCode, FlagValue, Pinned, Want};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString};

use crate::context::{Context, Fault, Mapping};
use crate::details::Details;
use crate::json;

/// What can be asked for flags by key.
pub(crate) trait Source {
    fn bool(&self, key: &str, context: &Context<'_, '_>, default: bool) -> bool;
    fn int(&self, key: &str, context: &Context<'_, '_>, default: i64) -> i64;
    fn float(&self, key: &str, context: &Context<'_, '_>, default: f64) -> f64;
    /// `read` is called with the flag's text, or not at all; it must not run Python code.
    fn text<R>(&self, key: &str, context: &Context<'_, '_>, read: impl FnOnce(&str) -> R) -> Option<R>;
    /// The version in use; `None` once closed.
    fn pin(&self) -> Option<Pinned>;
}

/// How a flag is read, if its context can be.
struct Question<'a, 'py> {
    py: Python<'py>,
    key: &'a Bound<'py, PyString>,
    context: Option<&'a Bound<'py, PyAny>>,
}

impl<'py> Question<'_, 'py> {
    /// The answer; `None` where the caller's default stands.
    #[inline]
    fn ask<R>(&self, read: impl FnOnce(&str, &Context<'_, 'py>) -> Option<R>) -> PyResult<Option<R>> {
        let fault = Fault::default();
        let context = Context::new(self.py, Mapping::optional(self.context)?, None, &fault);
        // A key that UTF-8 has no form for is no flag's.
        let Some(key) = utf8(self.key) else { return Ok(None) };
        let answer = read(key, &context);
        if fault.is_noted() {
            fault.message(self.py)?;
            return Ok(None);
        }
        Ok(answer)
    }
}

#[inline]
pub(crate) fn boolean<'py>(
    source: &impl Source,
    key: &Bound<'py, PyString>,
    default: &Bound<'py, PyBool>,
    context: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBool>> {
    let py = key.py();
    let answer =
        Question { py, key, context }.ask(|key, context| Some(source.bool(key, context, default.is_true())))?;
    Ok(answer.map_or_else(|| default.clone(), |answer| PyBool::new(py, answer).to_owned()))
}

#[inline]
pub(crate) fn string<'py>(
    source: &impl Source,
    key: &Bound<'py, PyString>,
    default: &Bound<'py, PyString>,
    context: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyString>> {
    let py = key.py();
    let answer =
        Question { py, key, context }.ask(|key, context| source.text(key, context, |text| PyString::new(py, text)))?;
    Ok(answer.unwrap_or_else(|| default.clone()))
}

pub(crate) fn integer<'py>(
    source: &impl Source,
    key: &Bound<'py, PyString>,
    default: &Bound<'py, PyInt>,
    context: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = key.py();
    // A default beyond 64 bits is no flag's value: any number tells it apart as well.
    let stand_in = default.extract().unwrap_or(i64::MIN);
    let answer = Question { py, key, context }.ask(|key, context| Some(source.int(key, context, stand_in)))?;
    match answer {
        Some(answer) if answer != stand_in => Ok(PyInt::new(py, answer).into_any()),
        _ => Ok(default.clone().into_any()),
    }
}

pub(crate) fn float<'py>(
    source: &impl Source,
    key: &Bound<'py, PyString>,
    default: &Bound<'py, PyAny>,
    context: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = key.py();
    check_number(default)?;
    let stand_in = default.extract().unwrap_or(f64::NAN);
    let answer = Question { py, key, context }.ask(|key, context| Some(source.float(key, context, stand_in)))?;
    match answer {
        Some(answer) if answer.to_bits() != stand_in.to_bits() => Ok(PyFloat::new(py, answer).into_any()),
        _ => Ok(default.clone()),
    }
}

pub(crate) fn object<'py>(
    source: &impl Source,
    key: &Bound<'py, PyString>,
    default: &Bound<'py, PyAny>,
    context: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = key.py();
    let answer = Question { py, key, context }.ask(|key, context| {
        let pinned = source.pin()?;
        match pinned.evaluate(key, Want::Json, context).value {
            Some(FlagValue::Json(text)) => json::parse(py, text).ok(),
            _ => None,
        }
    })?;
    Ok(answer.unwrap_or_else(|| default.clone()))
}

/// The answer with its reason.
pub(crate) fn details<'py>(
    source: &impl Source,
    key: &Bound<'py, PyString>,
    want: Want,
    default: &Bound<'py, PyAny>,
    context: Option<&Bound<'py, PyAny>>,
    targeting_key: Option<&Bound<'py, PyAny>>,
) -> PyResult<Details> {
    let py = key.py();
    let fault = Fault::default();
    let context = Context::new(py, Mapping::optional(context)?, targeting_key, &fault);
    let refuse = |code, message| Details::refused(key, default, code, message);
    let Some(text) = utf8(key) else {
        return Ok(refuse(ErrorCode::FlagNotFound, "the key is not valid text".to_owned()));
    };
    let Some(pinned) = source.pin() else {
        return Ok(refuse(ErrorCode::ProviderNotReady, "the client or snapshot is closed".to_owned()));
    };
    let evaluation = pinned.evaluate(text, want, &context);
    if fault.is_noted() {
        return Ok(refuse(ErrorCode::InvalidContext, fault.message(py)?));
    }
    let value = match evaluation.value.map(|value| to_python(py, value)) {
        Some(Ok(value)) => value,
        Some(Err(error)) => return Ok(refuse(ErrorCode::ParseError, format!("flag '{text}': {error}"))),
        None => default.clone(),
    };
    let message = evaluation.error.map(|code| describe(code, text, want));
    Details::new(key, value, &evaluation, message)
}

/// A float's default, which may be an `int` as everywhere in Python.
///
/// # Errors
/// `TypeError` for anything else.
pub(crate) fn check_number(default: &Bound<'_, PyAny>) -> PyResult<()> {
    if default.is_instance_of::<PyFloat>() || default.is_instance_of::<PyInt>() {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "argument 'default': '{}' is not an instance of 'float'",
        default.get_type().name()?
    )))
}

#[inline]
fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a str> {
    text.to_str().ok()
}

fn to_python<'py>(py: Python<'py>, value: FlagValue<'_>) -> serde_json::Result<Bound<'py, PyAny>> {
    Ok(match value {
        FlagValue::Bool(value) => PyBool::new(py, value).to_owned().into_any(),
        FlagValue::Int(value) => PyInt::new(py, value).into_any(),
        FlagValue::Float(value) => PyFloat::new(py, value).into_any(),
        FlagValue::Text(text) => PyString::new(py, text).into_any(),
        FlagValue::Json(text) => json::parse(py, text)?,
    })
}

fn describe(code: ErrorCode, key: &str, want: Want) -> String {
    let wanted = match want {
        Want::Any => "of this type",
        Want::Bool => "a boolean",
        Want::Int => "a whole number",
        Want::Float => "a number",
        Want::Text => "text",
        Want::Json => "an object",
    };
    match code {
        ErrorCode::FlagNotFound => format!("no flag has the key '{key}'"),
        ErrorCode::TypeMismatch => format!("the value of flag '{key}' is not {wanted}"),
        ErrorCode::ParseError => format!("flag '{key}' is broken, or its rule's result is no finite number"),
        ErrorCode::General => {
            format!("the rule of flag '{key}' names no variant, or needs too much memory or too many steps")
        }
        ErrorCode::ProviderNotReady => "no store has been attached yet".to_owned(),
        ErrorCode::InvalidContext => "the context cannot be read".to_owned(),
        other => other.as_str().to_owned(),
    }
}
