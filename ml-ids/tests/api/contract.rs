//! Every answer that a test gets is held against `GET /openapi.json`: its status must be in the document, and its body must
//! be what the document says.

use std::{collections::HashMap, sync::Mutex};

use jsonschema::Validator;
use ml_ids::api::Limits;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::{Answer, Server};

static DOCUMENT: OnceCell<Value> = OnceCell::const_new();
static VALIDATORS: Mutex<Option<HashMap<String, Validator>>> = Mutex::new(None);

/// The document, which all servers share, from one of its own: tests count connections.
async fn document() -> &'static Value {
    let fetch = async || {
        let server = Server::without_model(Limits::default(), false).await;
        let mut connection = server.connect().await;
        connection.write("GET /openapi.json HTTP/1.1\r\nHost: test\r\n\r\n").await;
        connection.read().await.accepted()
    };
    DOCUMENT.get_or_init(fetch).await
}

/// What is wrong with an answer; `None` if nothing is, or if the request is for nothing that there is.
pub(crate) async fn breach(request: &[u8], answer: &Answer) -> Option<String> {
    let document = document().await;
    let line = String::from_utf8_lossy(request.split(|byte| *byte == b'\r').next()?).into_owned();
    let (method, target) = line.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
    let path = target.split('?').next()?;
    let operation = document["paths"].get(path)?.get(method.to_ascii_lowercase())?;
    let Some(reply) = operation["responses"].get(answer.status.to_string()) else {
        return Some(format!("{line}: status {} is not in the document", answer.status));
    };
    let Some(content) = reply.get("content") else {
        return (!answer.body.is_empty()).then(|| format!("{line}: {} has a body", answer.status));
    };
    let media = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let Some(schema) = content.get(media).map(|media| &media["schema"]) else {
        return Some(format!("{line}: {} of type '{media}' is not in the document", answer.status));
    };
    let body = if media == "application/json" {
        answer.json()
    } else if media == "application/x-ndjson" {
        let line: Value =
            json!({"anyOf": [{"$ref": "#/components/schemas/Verdict"}, {"$ref": "#/components/schemas/Error"}]});
        let lines = answer.text();
        return lines.lines().find_map(|text| match serde_json::from_str(text) {
            Ok(body) => fault(document, &line, &body),
            Err(error) => Some(format!("{text} is not JSON: {error}")),
        });
    } else {
        answer.text().into()
    };
    fault(document, schema, &body).map(|fault| format!("{line}: {}: {fault}", answer.status))
}

fn fault(document: &Value, schema: &Value, body: &Value) -> Option<String> {
    let mut validators = VALIDATORS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let validators = validators.get_or_insert_default();
    let validator = validators.entry(schema.to_string()).or_insert_with(|| {
        let mut root = schema.clone();
        root["components"] = document["components"].clone();
        jsonschema::draft202012::new(&root).expect("a schema")
    });
    let error = validator.iter_errors(body).next()?;
    Some(format!("{} at {} of {body}", error, error.instance_path()))
}
