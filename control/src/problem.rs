//! What a refused request gets: a problem document (RFC 9457).

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics::counter;
use schemars::JsonSchema;
use serde::Serialize;

use crate::store::StoreError;

/// Why a request was refused. Nothing has changed then.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// A word that programs can go by; the last part of the document's `type`.
    kind: &'static str,
    detail: String,
    errors: Vec<Fault>,
    /// What is there now, where the request came too late; where the log begins, if it was about what was before.
    revision: Option<i64>,
    retry_after_s: Option<u64>,
}

/// One thing wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Fault {
    /// Where in the body, as a JSON pointer (RFC 6901); "" is all of it.
    pub(crate) pointer: String,
    pub(crate) detail: String,
}

impl From<&libflags::definition::Problem> for Fault {
    fn from(problem: &libflags::definition::Problem) -> Self {
        Self { pointer: problem.pointer.clone(), detail: problem.message.clone() }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Document<'p> {
    r#type: String,
    title: &'p str,
    status: u16,
    detail: &'p str,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    #[schemars(default)]
    errors: &'p [Fault],
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), errors: Vec::new(), revision: None, retry_after_s: None }
    }

    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", what)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// `what`, such as `project "shop"`, is archived, and whatever is in it stays as it is.
    pub(crate) fn archived(what: &str) -> Self {
        let detail = format!("the {what} is archived: nothing in it is changed until it is restored");
        Self::new(StatusCode::CONFLICT, "archived", detail)
    }

    /// Somebody else was faster; `revision` is what is there now.
    pub(crate) fn outdated(revision: i64) -> Self {
        let detail = format!("it has changed meanwhile: its revision is {revision} now");
        Self { revision: Some(revision), ..Self::new(StatusCode::PRECONDITION_FAILED, "outdated", detail) }
    }

    /// The log no longer has that; it begins at `begins`.
    pub(crate) fn gone(begins: u64) -> Self {
        let detail = format!("the log begins at revision {begins}: what was before was thrown away");
        Self { revision: i64::try_from(begins).ok(), ..Self::new(StatusCode::GONE, "log-begins-later", detail) }
    }

    /// Something in the body is not as it has to be.
    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::all_invalid(vec![Fault { pointer: pointer.into(), detail: detail.into() }])
    }

    /// The same of several things, at least one.
    pub(crate) fn all_invalid(errors: Vec<Fault>) -> Self {
        let detail = detail_of(&errors);
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
    }

    pub(crate) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// It may work later.
    pub(crate) fn come_back(status: StatusCode, kind: &'static str, detail: impl Into<String>, after_s: u64) -> Self {
        Self { retry_after_s: Some(after_s), ..Self::new(status, kind, detail) }
    }

    /// A disk is full. Somebody has to make room first, so there is no hurry.
    pub(crate) fn no_room(detail: &str) -> Self {
        Self::come_back(StatusCode::SERVICE_UNAVAILABLE, "no-room", detail, 30)
    }

    /// The pointers of its faults, with `prefix` before them.
    pub(crate) fn within(mut self, prefix: &str) -> Self {
        for error in &mut self.errors {
            error.pointer.insert_str(0, prefix);
        }
        self.told_anew()
    }

    /// Puts what is wrong below `from` below another place.
    pub(crate) fn moved(mut self, from: &str, to: &str) -> Self {
        for error in &mut self.errors {
            if let Some(inside) = error.pointer.strip_prefix(from) {
                error.pointer = format!("{to}{inside}");
            }
        }
        self.told_anew()
    }

    /// With the detail that its faults have now.
    fn told_anew(mut self) -> Self {
        if !self.errors.is_empty() {
            self.detail = detail_of(&self.errors);
        }
        self
    }

    /// What is wrong with the body, each with its place.
    pub(crate) fn faults(self) -> Vec<Fault> {
        if self.errors.is_empty() { vec![Fault { pointer: String::new(), detail: self.detail }] } else { self.errors }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// As the API tells it.
    pub(crate) fn document(&self) -> serde_json::Value {
        serde_json::json!(self.parts())
    }

    fn parts(&self) -> Document<'_> {
        Document {
            r#type: format!("urn:libflags:problem:{}", self.kind),
            title: self.status.canonical_reason().unwrap_or("Refused"),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
            revision: self.revision,
        }
    }
}

fn detail_of(errors: &[Fault]) -> String {
    match errors {
        [Fault { pointer, detail }] if pointer.is_empty() => detail.clone(),
        [Fault { pointer, detail }] => format!("{pointer}: {detail}"),
        errors => format!("{} things are wrong with the body", errors.len()),
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) => {
                tracing::warn!("the database is unavailable: {why}");
                let detail = "the database can't be written or read now; whether an earlier request happened is told by its Idempotency-Key";
                Self::come_back(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail, 1)
            }
            StoreError::Full(why) => {
                tracing::error!("the database has no room left: {why}");
                Self::no_room("there is no room left where the database writes; nothing has changed")
            }
            StoreError::Taken => Self::conflict("the key is taken"),
            StoreError::Broken(why) => {
                // Nothing of this is for strangers.
                tracing::error!("a transaction failed: {why}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here; the log says what")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = self.parts();
        counter!("flags_control_refused_total", "kind" => self.kind).increment(1);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, after.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let mut response = (self.status, Json(document)).into_response();
        response.headers_mut().extend(headers);
        response
    }
}
