//! From requests to the collector: a queue that never waits, and a task that empties it.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Spans that wait.
const WAITING: usize = 2_048;

/// Spans that are sent at once.
const BATCH: usize = 512;

/// How long a batch is waited for until it is full.
const GATHER: Duration = Duration::from_secs(1);

/// How long the collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the last batch may take.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Where spans go when they end.
#[derive(Debug)]
pub(super) struct Queue(mpsc::Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.0.try_send(span).is_err() {
            dropped(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The task that brings them away.
#[derive(Debug)]
pub(crate) struct Export {
    task: JoinHandle<()>,
    stop: Arc<Notify>,
}

impl Export {
    /// Sends what waits, if that goes quickly.
    pub(crate) async fn finish(self) {
        self.stop.notify_one();
        let _ = timeout(LAST_PATIENCE, self.task).await;
    }
}

pub(super) fn start(mut exporter: impl SpanExporter + 'static, resource: &Resource) -> (Queue, Export) {
    exporter.set_resource(resource);
    let (queue, spans) = mpsc::channel(WAITING);
    let stop = Arc::new(Notify::new());
    let task = tokio::spawn(export(spans, exporter, Arc::clone(&stop)));
    (Queue(queue), Export { task, stop })
}

async fn export(mut spans: mpsc::Receiver<SpanData>, exporter: impl SpanExporter, stop: Arc<Notify>) {
    let (mut is_away, mut stops) = (false, false);
    while !stops {
        let mut batch = Vec::new();
        let gather = async {
            spans.recv_many(&mut batch, BATCH).await;
            let more = async { while batch.len() < BATCH && spans.recv_many(&mut batch, BATCH).await > 0 {} };
            let _ = timeout(GATHER, more).await;
        };
        tokio::select! {
            () = gather => {}
            () = stop.notified() => stops = true,
        }
        while let (true, Ok(span)) = (stops, spans.try_recv()) {
            batch.push(span);
        }
        if batch.is_empty() {
            continue;
        }
        let number = batch.len() as u64;
        let failure = match timeout(PATIENCE, exporter.export(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it has not answered within {PATIENCE:?}")),
        };
        match failure {
            None => {
                counter!("flags_control_spans_total", "result" => "sent").increment(number);
                if std::mem::replace(&mut is_away, false) {
                    tracing::info!("the collector of traces takes spans again");
                }
            }
            Some(why) => {
                dropped(number);
                // Said once: each second there is another batch.
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!("the collector of traces takes no spans, which are dropped: {why}");
                }
            }
        }
    }
}

fn dropped(number: u64) {
    counter!("flags_control_spans_total", "result" => "dropped").increment(number);
}
