//! Traces, told over OTLP/HTTP to a collector where one is named: a span for each request, and one for each part of it that takes time.
//!
//! ```text
//! request ──► span, child of the caller's traceparent ─┐
//!   database, publish, seal ──► spans below it ────────┴──► queue (bounded: what does not fit is dropped) ──► export, in the background
//! ```
//!
//! Where no collector is named, all of this is one look at a cell that is empty.

mod batching;
mod collector;
mod export;
mod settings;

use std::sync::OnceLock;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};

use batching::Batching;
use collector::Failure;
pub(crate) use export::Export;
pub(crate) use settings::TraceSettings;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Begins to trace, if the environment or the file names a collector. Spans go there for as long as what is returned is kept.
///
/// # Errors
/// What is said of the collector makes no sense.
pub(crate) fn start(settings: &TraceSettings) -> anyhow::Result<Option<Export>> {
    let failure = Failure::default();
    let Some(exporter) = settings.exporter(&failure)? else { return Ok(None) };
    let resource = settings.resource();
    let (queue, export) = export::start((exporter, failure), &resource, Batching::from_environment());
    let provider = SdkTracerProvider::builder().with_span_processor(queue).with_resource(resource).build();
    let _ = TRACER.set(provider.tracer("flags-control"));
    tracing::info!("requests are traced");
    Ok(Some(export))
}

/// The span of a request that is answered now.
#[derive(Debug)]
pub(crate) struct RequestSpan(Context);

impl RequestSpan {
    /// Begins one, below the span that the caller names in `traceparent`; `None` where nothing is traced.
    pub(crate) fn begin(request: &Request, route: &str, id: &str) -> Option<Self> {
        let tracer = TRACER.get()?;
        let parent =
            TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(request.headers()));
        let (method, path) = (method(request.method()), request.uri().path());
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("http.route", route.to_owned()),
            KeyValue::new("url.path", path.to_owned()),
            KeyValue::new("flags.request_id", id.to_owned()),
        ];
        attributes.extend(environment(route, path).map(|name| KeyValue::new("flags.environment", name)));
        let span = tracer.span_builder(format!("{method} {route}"));
        let span = span.with_kind(SpanKind::Server).with_attributes(attributes).start_with_context(tracer, &parent);
        Some(Self(parent.with_span(span)))
    }

    /// What `answered` comes to; its [`part`]s are below this span.
    pub(crate) async fn around<F: Future>(&self, answered: F) -> F::Output {
        answered.with_context(self.0.clone()).await
    }

    pub(crate) fn end(self, status: StatusCode) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if status.is_server_error() {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// A part of what is done for a request; it ends when this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Part {
    _span: Option<Span>,
}

/// Begins a part of the request that is answered now, if that is traced.
pub(crate) fn part(name: &'static str) -> Part {
    let begin = |tracer: &SdkTracer| {
        let is_recorded = |context: &Context| context.has_active_span() && context.span().is_recording();
        Context::map_current(|context| is_recorded(context).then(|| tracer.start_with_context(name, context)))
    };
    Part { _span: TRACER.get().and_then(begin) }
}

/// Whatever a caller makes up is one method more.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// `project/environment` of a path, by its route.
fn environment(route: &str, path: &str) -> Option<String> {
    let named =
        |name: &str| route.split('/').zip(path.split('/')).find(|(part, _)| *part == name).map(|(_, value)| value);
    Some(format!("{}/{}", named("{project}")?, named("{environment}")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_found_by_the_route() {
        let route = "/api/v1/projects/{project}/environments/{environment}/flags/{flag}";
        let path = "/api/v1/projects/shop/environments/live/flags/a";
        assert_eq!(environment(route, path).as_deref(), Some("shop/live"));
        assert_eq!(
            environment("/sync/v1/{project}/{environment}/stream", "/sync/v1/a/b/stream").as_deref(),
            Some("a/b")
        );
        assert_eq!(environment("/api/v1/projects/{project}", "/api/v1/projects/shop"), None);
    }

    #[test]
    fn where_nothing_is_traced_nothing_begins() {
        assert!(RequestSpan::begin(&Request::default(), "/", "id").is_none());
        assert!(part("x")._span.is_none());
    }
}
