//! Whatever clients send to `ml-ids serve`, it is refused with the status that `docs/API.md` promises, and the server serves
//! others as before.

use std::{io::Write as _, net::TcpStream, thread};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::agent::Server;
use serde_json::json;

#[test]
fn bodies_that_are_no_flows_get_their_status_and_a_reason() -> Result<()> {
    let server = Server::ready(&[])?;
    let json_type = "content-type: application/json\r\n";
    let deep = "[".repeat(100_000);
    let deep_flow = format!("{{\"Flow Duration\":{}{}}}", "[".repeat(500), "]".repeat(500));
    let many = json!({ "features": vec![vec![0; 78]; 10_001] }).to_string();
    let large = vec![b' '; (8 << 20) + 1];
    let flow = r#"{"Flow Duration": 1}"#;
    let cases: [(&str, &str, &[u8], u16); 24] = [
        ("empty", json_type, b"", 400),
        ("blank", json_type, b" \n", 400),
        ("text", json_type, b"Flow Duration=1", 400),
        ("cut", json_type, br#"{"Flow Duration": 1"#, 400),
        ("two objects", json_type, br#"{"Flow Duration": 1} {}"#, 400),
        ("not UTF-8", json_type, b"{\"Flow Duration\xff\": \"\xc3\x28\"}", 400),
        ("UTF-16", json_type, b"\xff\xfe{\0\"\0F\0\"\0:\x001\0}\0", 400),
        ("depth", json_type, deep.as_bytes(), 422),
        ("depth within a flow", json_type, deep_flow.as_bytes(), 422),
        ("a list", json_type, b"[1, 2, 3]", 422),
        ("a number", json_type, b"7", 422),
        ("null", json_type, b"null", 422),
        ("no known name", json_type, br#"{"colour": 1}"#, 422),
        ("text for a number", json_type, br#"{"Flow Duration": "1"}"#, 422),
        ("NaN", json_type, br#"{"Flow Duration": NaN}"#, 422),
        ("out of range", json_type, br#"{"Flow Duration": 1e300}"#, 422),
        ("a row too short", json_type, br#"{"features": [1, 2, 3]}"#, 422),
        ("no rows", json_type, br#"{"features": []}"#, 422),
        ("too many rows", json_type, many.as_bytes(), 413),
        ("too large", json_type, &large, 413),
        ("a form", "content-type: application/x-www-form-urlencoded\r\n", flow.as_bytes(), 415),
        ("a picture", "content-type: image/png\r\n", b"\x89PNG", 415),
        ("gzip", "content-type: application/json\r\ncontent-encoding: gzip\r\n", b"\x1f\x8b\x08", 415),
        ("strict", json_type, b"{}", 422),
    ];
    for (what, headers, body, status) in cases {
        let answer = server.post("/predict", headers, body).with_context(|| what.to_owned())?;
        let detail = answer.expect(status).with_context(|| what.to_owned())?;
        ensure!(detail["detail"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {detail}");
        ensure!(answer.head.contains("content-type: application/json"), "{what}: {}", answer.head);
        ensure!(answer.body.len() < 1_000, "{what}: {} bytes of reason", answer.body.len());
    }
    server.post("/predict?strict=1", json_type, flow.as_bytes())?.expect(422)?;
    let allow = server.get("/predict")?;
    allow.expect(405)?;
    ensure!(allow.head.contains("allow: post"), "{}", allow.head);
    server.get("/../etc/passwd")?.expect(404)?;
    server.send(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n").map(|answer| assert_eq!(answer.status, 400))?;
    // After all that it serves as before.
    server.post("/predict", json_type, flow.as_bytes())?.expect(200)?;
    server.stop()
}

/// Clients that come in crowds, break off, or say less than they announced, do not keep the server from others or from
/// ending.
#[test]
fn clients_that_break_off_harm_nobody() -> Result<()> {
    let server = Server::ready(&[])?;
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..64)
            .map(|number| {
                let address = server.address;
                scope.spawn(move || -> Result<()> {
                    let mut stream = TcpStream::connect(address)?;
                    let request =
                        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{\"Flow Duration\": 1";
                    stream.write_all(&request[..request.len() * number / 64])?;
                    Ok(())
                })
            })
            .collect();
        for client in clients {
            client.join().expect("no panic in a client")?;
        }
        Ok(())
    })?;
    let health = server.get("/health")?.expect(200)?;
    ensure!(health["status"] == "healthy", "{health}");
    server.predict(&json!({"Flow Duration": 1}))?.expect(200)?;
    server.stop()
}
