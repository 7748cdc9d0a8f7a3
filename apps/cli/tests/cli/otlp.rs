//! Spans and figures, as a collector of OpenTelemetry gets them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::support::Scratch;

/// A collector: where it is, and what comes there.
fn collector() -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (came, comes) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Some(request) = taken(stream.unwrap()) else {
                continue;
            };
            if came.send(request).is_err() {
                return;
            }
        }
    });
    (url, comes)
}

/// A request, which is answered well.
fn taken(stream: TcpStream) -> Option<(String, Value)> {
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    while line.trim() != "" {
        line.clear();
        from.read_line(&mut line).ok()?;
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    from.get_mut().write_all(answer.as_bytes()).ok()?;
    Some((path, serde_json::from_slice(&body).ok()?))
}

fn spans(body: &Value) -> &[Value] {
    let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
    spans.as_array().unwrap()
}

fn field<'a>(span: &'a Value, name: &str) -> &'a str {
    let fields = span["attributes"].as_array().unwrap();
    let field = fields.iter().find(|field| field["key"] == name);
    field.map_or("", |field| {
        field["value"]["stringValue"].as_str().unwrap_or_default()
    })
}

#[test]
fn a_collector_gets_the_spans_of_a_trace_that_somebody_has_begun_and_the_figures() {
    let scratch = Scratch::new("otlp");
    let (url, comes) = collector();
    scratch.file(
        "orders.csv",
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n\
         536365,85123A,HOLDER,6,2010-12-01 08:26:00,2.55,17850,United Kingdom\n",
    );
    let demo = scratch.start(&format!(
        "demo --keep --listen 127.0.0.1:0 --orders orders.csv --provider reliable --set otlp={url}"
    ));
    let server = scratch.path(".anabranch/demo/log/server.json");
    let (mut figures, mut is_sent) = (None, false);
    let traced = loop {
        let (path, body) = comes.recv().unwrap();
        if path == "/v1/metrics" {
            figures = Some(body);
        } else if let Some(span) = spans(&body)
            .iter()
            .find(|span| span["traceId"] == "0af7651916cd43dd8448eb211c80319c" && span["kind"] == 4)
        {
            assert_eq!(path, "/v1/traces");
            let service = &body["resourceSpans"][0]["resource"]["attributes"][0];
            assert_eq!(service["value"]["stringValue"], "demo");
            break span.clone();
        }
        if !is_sent {
            // It serves by now.
            let present: Value = serde_json::from_slice(&std::fs::read(&server).unwrap()).unwrap();
            let address = present["url"]
                .as_str()
                .unwrap()
                .trim_start_matches("http://")
                .to_owned();
            let mut stream = TcpStream::connect(&address).unwrap();
            let body = "{\"percent\":5}";
            write!(
                stream,
                "POST /commands/price/85123A?type=RaisePrice HTTP/1.1\r\nhost: {address}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\
                 traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            is_sent = true;
        }
    };
    assert_eq!(traced["name"], "send price");
    assert_eq!(traced["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(field(&traced, "messaging.system"), "anabranch");
    assert_eq!(field(&traced, "messaging.destination.name"), "price");
    assert_eq!(field(&traced, "messaging.operation.type"), "send");
    let figures = figures.unwrap_or_else(|| {
        let mut rest = comes.iter().filter(|(path, _)| path == "/v1/metrics");
        rest.next().unwrap().1
    });
    let all = &figures["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
    let head = all
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "anabranch_log_head");
    let points = &head.unwrap()["gauge"]["dataPoints"];
    assert!(points[0]["asInt"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    demo.terminate();
    demo.finish().ok();
}

#[test]
fn a_collector_that_is_away_holds_nothing_up_and_is_told_once() {
    let scratch = Scratch::new("otlp-away");
    let mut server =
        scratch.start("serve --log ./log --listen 127.0.0.1:0 --set otlp=http://127.0.0.1:1");
    assert!(server.error_line().contains("http://127.0.0.1:"));
    scratch.run("append a/1 --type T --log ./log").ok();
    server.terminate();
    let done = server.finish();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let told = done.stderr.matches("does not take them").count();
    assert_eq!(told, 1, "{}", done.stderr);
}
