//! Where spans go: what the environment says by the names of OpenTelemetry's specification, and the file below that.

use std::collections::HashMap;
use std::env;

use anyhow::Context;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use serde::Deserialize;

use super::collector::{Collector, Failure};

/// Any of these names a collector.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// `[trace]`
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TraceSettings {
    /// As `OTEL_EXPORTER_OTLP_ENDPOINT`: spans go to `/v1/traces` below it.
    pub(crate) endpoint: Option<String>,
    /// For the collector, most often who we are.
    pub(crate) headers: HashMap<String, String>,
}

impl TraceSettings {
    /// What takes spans to the collector; `None` where none is named. Why it can't comes out of `failure`.
    pub(super) fn exporter(&self, failure: &Failure) -> anyhow::Result<Option<SpanExporter>> {
        let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found.eq_ignore_ascii_case(value));
        if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
            return Ok(None);
        }
        let named = ENDPOINTS.into_iter().find(|name| env::var(name).is_ok_and(|value| !value.is_empty()));
        if named.is_none() && self.endpoint.is_none() {
            return Ok(None);
        }
        let collector = Collector::new(failure.clone());
        let exporter = SpanExporter::builder().with_http().with_http_client(collector);
        let exporter = exporter.with_protocol(Protocol::HttpBinary).with_headers(self.headers.clone());
        // Its time is ours to look at, and so is its queue. One batch after the other: what fails is dropped, and the next tries again.
        let mut exporter = exporter.with_retry_policy(RetryPolicy::disabled());
        if let (None, Some(endpoint)) = (named, &self.endpoint) {
            exporter = exporter.with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')));
        }
        Ok(Some(exporter.build().with_context(|| named.unwrap_or("trace.endpoint").to_owned())?))
    }

    /// What all spans say of where they come from.
    pub(super) fn resource(&self) -> Resource {
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_attribute(version);
        let names_itself = env::var("OTEL_SERVICE_NAME").is_ok()
            || env::var("OTEL_RESOURCE_ATTRIBUTES").is_ok_and(|attributes| attributes.contains("service.name="));
        if names_itself { resource.build() } else { resource.with_service_name("flags-control").build() }
    }
}
