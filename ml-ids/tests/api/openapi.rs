//! The document, the router and the page in `docs/` tell the same; what the document says of answers is checked with every
//! answer of the other tests, too ([`crate::contract`]).

use std::collections::BTreeSet;

use ml_ids::{
    api::{ANY, ROUTES, UNAUTHORIZED},
    features::FEATURES,
};
use serde_json::{Value, json};

use crate::support::Server;

const PAGE: &str = include_str!("../../../docs/API.md");

/// First cells of the rows of the table of the page below a heading row.
fn first_cells(heading: &str) -> Vec<&'static str> {
    let rows = PAGE.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    rows.take_while(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1)).map(str::trim).collect()
}

#[tokio::test]
async fn router_document_and_page_have_the_same_endpoints() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.accepted();
    let paths = document["paths"].as_object().unwrap();
    let of_document: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |key| (path, key)))
        .map(|(path, method)| format!("`{} {path}`", method.to_uppercase()))
        .collect();
    let of_table: BTreeSet<String> = ROUTES.iter().map(|route| format!("`{} {}`", route.method, route.path)).collect();
    let of_page: BTreeSet<String> = first_cells("| endpoint |")
        .into_iter()
        .map(|cell| cell.split(['?', '`']).nth(1).unwrap())
        .map(|cell| format!("`{cell}`"))
        .collect();
    assert_eq!(of_document, of_table);
    assert_eq!(of_page, of_table);
    for route in &ROUTES {
        let known = server.send(format!("{} {} HTTP/1.1\r\nHost: test\r\n\r\n", route.method, route.path)).await;
        assert!(known.status != 405, "{}", route.path);
        let other = server.send(format!("PATCH {} HTTP/1.1\r\nHost: test\r\n\r\n", route.path)).await;
        other.refused(405);
        assert!(other.header("allow").unwrap().contains(route.method.as_str()), "{}", route.path);
    }
}

#[tokio::test]
async fn page_tells_every_status_of_the_document() {
    let of_table: BTreeSet<u16> = ROUTES
        .iter()
        .flat_map(|route| route.answers)
        .chain(&ANY)
        .chain([&UNAUTHORIZED])
        .map(|reply| reply.status)
        .filter(|status| *status >= 400)
        .chain([404, 405])
        .collect();
    let of_page: BTreeSet<u16> = first_cells("| status |")
        .into_iter()
        .flat_map(|cell| cell.split(", "))
        .map(|status| status.parse().unwrap())
        .collect();
    assert_eq!(of_page, of_table);
}

#[tokio::test]
async fn features_have_all_their_names() {
    let server = Server::start().await;
    let answer = server.get("/features").await;
    let table = answer.accepted();
    let first = &table["features"][0];
    assert_eq!(
        (&first["index"], &first["names"]),
        (
            &json!(0),
            &json!({"machine_learning_cve": "Destination Port", "cicflowmeter4": "Dst Port",
                    "cicflowmeter2018": "Dst Port", "python": "dst_port"})
        )
    );
    for (feature, told) in FEATURES.iter().zip(table["features"].as_array().unwrap()) {
        assert_eq!((told["names"]["python"].as_str(), told["unit"].as_str()), (feature.python, Some(feature.unit)));
    }
}

#[tokio::test]
async fn what_never_changes_is_fetched_once() {
    let server = Server::start().await;
    for path in ["/features", "/openapi.json"] {
        let tag = server.get(path).await.header("etag").unwrap().to_owned();
        let again =
            |tag: &str| server.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nIf-None-Match: {tag}\r\n\r\n"));
        for known in [&*tag, &format!("\"x\", W/{tag}"), "*"] {
            let answer = again(known).await;
            assert_eq!((answer.status, answer.body.len(), answer.header("etag")), (304, 0, Some(&*tag)), "{known}");
        }
        assert_eq!(again("\"x\"").await.status, 200);
    }
}

#[tokio::test]
async fn examples_are_answered_and_are_what_their_schema_says() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.accepted();
    let content = &document["paths"]["/predict"]["post"]["requestBody"]["content"];
    let mut schema = content["application/json"]["schema"].clone();
    schema["components"] = document["components"].clone();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let examples = content["application/json"]["examples"].as_object().unwrap();
    assert!(examples.len() >= 5);
    for (name, example) in examples {
        assert!(schema.is_valid(&example["value"]), "{name}");
        server.post(example["value"].to_string()).await.accepted();
    }
    for (name, example) in content["application/x-ndjson"]["examples"].as_object().unwrap() {
        let lines = example["value"].as_str().unwrap();
        let answer = server.post_as("/predict", "Content-Type: application/x-ndjson\r\n", lines).await.text();
        assert!(answer.lines().all(|line| line.contains("\"label\"")), "{name}: {answer}");
    }
}

/// The schema refuses what the server refuses.
#[tokio::test]
async fn schema_and_server_agree_on_what_is_a_request() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.accepted();
    let mut schema =
        document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"].clone();
    schema["components"] = document["components"].clone();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let row = vec![1; 78];
    let bodies: [(Value, bool); 14] = [
        (json!({}), false),
        (json!([]), false),
        (json!({"foo": 1}), false),
        (json!({"foo": 1, "Idle Min": 1}), true),
        (json!({"Idle Min": "1"}), false),
        (json!({"features": row}), true),
        (json!({"features": row, "Idle Min": "x"}), false),
        (json!({"features": row, "flows": [{"dst_port": 1}]}), false),
        (json!({"features": [row, vec![1; 76]]}), true),
        (json!({"features": [row, vec![1; 77]]}), false),
        (json!({"features": {"Idle Min": 1}}), true),
        (json!({"flows": [{"dst_port": 1}, {"Tot Fwd Pkts": 2.5}]}), true),
        (json!({"flows": [{"dst_port": 1}, {}]}), false),
        (json!({"flows": []}), false),
    ];
    for (body, is_request) in bodies {
        assert_eq!(schema.is_valid(&body), is_request, "the schema of {body}");
        assert_eq!(server.post(body.to_string()).await.status, if is_request { 200 } else { 422 }, "{body}");
    }
}
