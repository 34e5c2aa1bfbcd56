//! Traces: what a collector is told, and what happens where it is not there to be told.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, crypto};
use serde_json::json;

use crate::harness::{Client, Database, eventually, free_port};
use crate::secure::Certificate;

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Head and body of a request.
type Sent = (String, Vec<u8>);

/// Keeps what it is sent.
struct Collector {
    port: u16,
    bodies: Arc<Mutex<Vec<Sent>>>,
}

impl Collector {
    fn start() -> Self {
        Self::start_by(|stream, answer| answer(stream))
    }

    /// One that speaks TLS.
    fn start_tls(own: &Certificate) -> Self {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
        let config = Arc::new(builder.with_no_client_auth().with_single_cert(vec![own.read()], key).unwrap());
        Self::start_by(move |stream, answer| {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            if connection.complete_io(stream).is_ok() {
                answer(&mut rustls::Stream::new(&mut connection, stream));
            }
        })
    }

    /// `speak` brings a connection so far that requests come over it.
    fn start_by(speak: impl Fn(&mut TcpStream, &mut dyn FnMut(&mut dyn Talk)) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, bodies) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&bodies);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                speak(&mut stream, &mut |stream| {
                    let request = read(stream);
                    kept.lock().unwrap().push(request);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                });
            }
        });
        Self { port, bodies }
    }

    /// All spans that have come.
    fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for (_, body) in self.bodies.lock().unwrap().iter() {
            let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
            for resource in request.resource_spans {
                let about = resource.resource.unwrap().attributes;
                assert_eq!(text(&about, "service.name"), "flags-control");
                spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        spans
    }
}

trait Talk: Read + Write {}

impl<T: Read + Write> Talk for T {}

fn read(stream: &mut dyn Talk) -> Sent {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap() == 0 {
            break;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head, body)
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key}: {other:?} in {attributes:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_request_is_a_span_below_its_callers_with_its_parts_below_it() {
    let collector = Collector::start();
    let database = Database::sqlite();
    let config =
        format!("[trace]\nendpoint = \"http://127.0.0.1:{}/\"\nheaders = {{ x-team = \"flags\" }}\n", collector.port);
    let server = database.serve_with(&config);
    let admin = server.furnished();
    admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
    let path = "/api/v1/projects/shop/environments/test/flags/a";
    let traced = admin.with("traceparent", CALLER);
    traced.with("x-request-id", "mine").patch(path, json!({"state": "ENABLED"})).expect(200);
    eventually("the change is there", || traced.get("/sync/v1/shop/test/snapshot").etag() == "\"1.3\"");
    let of = |name: &str| {
        let spans = collector.spans();
        spans.into_iter().find(|span| span.name == name && hex(&span.trace_id) == CALLER[3..35])
    };
    eventually("both have come", || {
        of("PATCH /api/v1/projects/{project}/environments/{environment}/flags/{flag}").is_some()
            && of("GET /sync/v1/{project}/{environment}/snapshot").is_some()
    });
    let span = of("PATCH /api/v1/projects/{project}/environments/{environment}/flags/{flag}").unwrap();
    assert_eq!(hex(&span.parent_span_id), CALLER[36..52]);
    for (key, value) in [
        ("http.request.method", "PATCH"),
        ("http.route", "/api/v1/projects/{project}/environments/{environment}/flags/{flag}"),
        ("url.path", path),
        ("http.response.status_code", "200"),
        ("flags.request_id", "mine"),
        ("flags.environment", "shop/test"),
    ] {
        assert_eq!(text(&span.attributes, key), value);
    }
    let spans = collector.spans();
    let parts = |of: &Span| -> Vec<String> {
        let below = spans.iter().filter(|span| span.parent_span_id == of.span_id && span.trace_id == of.trace_id);
        below.map(|span| span.name.clone()).collect()
    };
    assert!(parts(&span).ends_with(&["database write".to_owned(), "publish".to_owned()]), "{:?}", parts(&span));
    let sealed = spans.iter().filter(|span| span.name == "seal");
    let above =
        |part: &Span| spans.iter().find(|span| span.span_id == part.parent_span_id).map(|span| span.name.clone());
    let sealed: Vec<_> = sealed.map(above).collect();
    assert!(sealed.contains(&Some("GET /sync/v1/{project}/{environment}/snapshot".to_owned())), "{sealed:?}");

    let (head, _) = collector.bodies.lock().unwrap()[0].clone();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    for line in ["x-team: flags", "content-type: application/x-protobuf"] {
        assert!(head.lines().any(|found| found == line), "{line} is not in {head}");
    }
    // Secrets are in no span.
    let bodies: Vec<u8> = collector.bodies.lock().unwrap().iter().flat_map(|(_, body)| body.clone()).collect();
    assert!(!bodies.windows(admin.token().len()).any(|window| window == admin.token().as_bytes()));
}

#[test]
fn the_environment_names_the_collector_and_what_waits_goes_out_at_the_end() {
    let (collector, other) = (Collector::start(), Collector::start());
    let database = Database::sqlite();
    let endpoint = format!("http://127.0.0.1:{}/otlp", collector.port);
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.into()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x".into()),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off".into()),
    ];
    let mut server =
        database.serve_in(&format!("[trace]\nendpoint = \"http://127.0.0.1:{}\"\n", other.port), &environment);
    let admin = server.admin();
    admin.get("/healthz").expect(200);
    admin.with("traceparent", CALLER).get("/readyz");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(server.child.id().try_into().unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert!(server.child.wait().unwrap().success());
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["GET /readyz"], "the caller decides what is sampled");
    let (head, _) = collector.bodies.lock().unwrap()[0].clone();
    assert!(head.starts_with("post /otlp/v1/traces http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: bearer x\r\n"), "{head}");
    assert!(other.bodies.lock().unwrap().is_empty());
}

#[test]
fn a_collector_that_hangs_or_is_away_hinders_nobody() {
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = free_port();
    for collector in [hangs.local_addr().unwrap().port(), away] {
        let database = Database::sqlite();
        let port = free_port();
        let config = format!(
            "management = \"127.0.0.1:{port}\"\n[trace]\nendpoint = \"http://127.0.0.1:{collector}\"\n[limits]\naddress_burst = 1000000\n"
        );
        let server = database.serve_with(&config);
        let management = Client::new(&format!("http://127.0.0.1:{port}"), "");
        let dropped = || {
            let text = management.get("/metrics").text;
            let line =
                text.lines().find_map(|line| line.strip_prefix("flags_control_spans_total{result=\"dropped\"} "));
            line.map_or(0.0, |number| number.parse::<f64>().unwrap())
        };
        let client = server.with_token("");
        // More than can wait, with nobody to take them: were one waited for, this would not end.
        eventually("some are dropped", || {
            (0..200).for_each(|_| drop(client.get("/healthz").expect(200)));
            dropped() > 0.0
        });
        if collector == away {
            eventually("it is said", || server.log().contains("the collector of traces takes no spans"));
            let before = dropped();
            eventually("it is tried again", || {
                client.get("/healthz").expect(200);
                dropped() > before
            });
            assert_eq!(server.log().matches("the collector of traces takes no spans").count(), 1, "{}", server.log());
        }
    }
}

#[test]
fn what_is_said_of_a_collector_and_makes_no_sense_is_refused_at_the_start() {
    let database = Database::sqlite();
    let refused = crate::harness::program(&database.url)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{said}");
}

#[test]
fn spans_go_over_tls_to_who_shows_the_right_certificate_and_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name| Certificate::make(folder.path(), name);
    let (Some(own), Some(other)) = (make("collector"), make("another")) else { return };
    let collector = Collector::start_tls(&own);
    let endpoint = format!("https://127.0.0.1:{}", collector.port);
    let database = Database::sqlite();
    let with = |trusted: &Certificate, variable: &'static str| {
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.clone().into()),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1".into()),
            ("OTEL_BSP_SCHEDULE_DELAY", "20".into()),
            (variable, trusted.certificate.clone().into()),
        ];
        database.serve_in("", &environment)
    };
    // Whom another one vouches for is told nothing; all else goes on, and the log says why.
    let server = with(&other, "OTEL_EXPORTER_OTLP_CERTIFICATE");
    let admin = server.furnished();
    eventually("it is in the log", || server.log().contains("takes no spans"));
    assert!(server.log().contains("UnknownIssuer"), "{}", server.log());
    admin.post("/api/v1/projects/shop/flags", json!({"key": "a"})).expect(201);
    admin.get("/sync/v1/shop/test/snapshot").expect(200);
    drop(server);
    assert!(collector.bodies.lock().unwrap().is_empty(), "nothing was told");
    for variable in ["OTEL_EXPORTER_OTLP_CERTIFICATE", "SSL_CERT_FILE"] {
        let server = with(&own, variable);
        let before = collector.bodies.lock().unwrap().len();
        for _ in 0..3 {
            server.admin().get("/api/v1/projects").expect(200);
        }
        eventually("spans have come", || collector.bodies.lock().unwrap().len() >= before + 3);
        assert!(!server.log().contains("takes no spans"), "{}", server.log());
    }
    for (_, body) in collector.bodies.lock().unwrap().iter() {
        let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        let spans = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        assert_eq!(spans.map(|scope| scope.spans.len()).sum::<usize>(), 1, "a batch of one");
    }
}

#[test]
fn a_collector_has_the_time_that_the_environment_says() {
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", hangs.local_addr().unwrap());
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.into()), ("OTEL_EXPORTER_OTLP_TIMEOUT", "150".into())];
    let database = Database::sqlite();
    let server = database.serve_in("", &environment);
    eventually("it is given up", || server.log().contains("it has not answered within 150ms"));
}
