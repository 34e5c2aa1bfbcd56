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

use super::batching::Batching;
use super::collector::Failure;

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

pub(super) fn start(
    (mut exporter, failure): (impl SpanExporter + 'static, Failure),
    resource: &Resource,
    batching: Batching,
) -> (Queue, Export) {
    exporter.set_resource(resource);
    let (queue, spans) = mpsc::channel(batching.waiting);
    let stop = Arc::new(Notify::new());
    let task = tokio::spawn(export(spans, (exporter, failure), batching, Arc::clone(&stop)));
    (Queue(queue), Export { task, stop })
}

async fn export(
    mut spans: mpsc::Receiver<SpanData>,
    (exporter, failure): (impl SpanExporter, Failure),
    Batching { batch: most, gather, patience, .. }: Batching,
    stop: Arc<Notify>,
) {
    let (mut is_away, mut stops) = (false, false);
    while !stops {
        let mut batch = Vec::new();
        let gathered = async {
            spans.recv_many(&mut batch, most).await;
            let more = async {
                while batch.len() < most {
                    let room = most - batch.len();
                    if spans.recv_many(&mut batch, room).await == 0 {
                        break;
                    }
                }
            };
            let _ = timeout(gather, more).await;
        };
        tokio::select! {
            () = gathered => {}
            () = stop.notified() => stops = true,
        }
        while let (true, Ok(span)) = (stops, spans.try_recv()) {
            batch.push(span);
        }
        if batch.is_empty() {
            continue;
        }
        let number = batch.len() as u64;
        let failure = match timeout(patience, exporter.export(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(failure.take().unwrap_or_else(|| error.to_string())),
            Err(_) => Some(format!("it has not answered within {patience:?}")),
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
