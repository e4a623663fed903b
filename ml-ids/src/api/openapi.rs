//! `GET /openapi.json`: the table of endpoints in the words of OpenAPI 3.1.

use std::sync::LazyLock;

use hyper::HeaderMap;
use serde_json::{Map, Value, json};

use super::{
    access::is_open,
    answer::Answer,
    catalogue::{ANY, Media, ROUTES, Reply, Route, UNAUTHORIZED},
    fixed::Fixed,
};
use crate::features::{Dialect, FEATURES};

/// Schemas of bodies and parameters, and examples of request bodies by the name of their schema. What has the names of
/// features is added by [`values`] and [`named`].
const SCHEMAS: &str = include_str!("schemas.json");

pub(crate) fn openapi(headers: &HeaderMap) -> Answer {
    static DOCUMENT: LazyLock<Fixed> = LazyLock::new(|| Fixed::json(&document()));
    DOCUMENT.answer(headers)
}

fn document() -> Value {
    let mut parts: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    let (mut schemas, examples) = (parts["schemas"].take(), parts["examples"].take());
    (schemas["Values"], schemas["Named"]) = (values(), named());
    let mut paths = Map::new();
    for route in &ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route, &examples);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ml-ids",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Verdicts of an intrusion detection sensor. GET answers HEAD, too; what is not here is 404, another \
                            method 405 with Allow.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        // A token is asked for where the server was started with one.
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "a line of the server's --token-file" },
            },
            "schemas": schemas,
        },
    })
}

fn operation(route: &Route, examples: &Value) -> Value {
    let mut operation = json!({ "operationId": format!("{:?}", route.endpoint), "summary": route.summary });
    if is_open(route.path) {
        operation["security"] = json!([]);
    }
    if !route.parameters.is_empty() {
        let parameters = route.parameters.iter().map(|parameter| {
            let schema = reference(parameter.schema);
            json!({ "name": parameter.name, "in": "query", "description": parameter.meaning, "schema": schema })
        });
        operation["parameters"] = parameters.collect();
    }
    if !route.body.is_empty() {
        let mut body = content(route.body);
        for Media(media, schema) in route.body {
            if let Some(examples) = examples.get(schema) {
                body[media]["examples"] = examples.clone();
            }
        }
        operation["requestBody"] = json!({ "required": true, "content": body });
    }
    let mut replies: Vec<&Reply> = route.answers.iter().collect();
    for reply in &ANY {
        if !replies.iter().any(|own| own.status == reply.status) {
            replies.push(reply);
        }
    }
    if !is_open(route.path) {
        replies.push(&UNAUTHORIZED);
    }
    replies.sort_by_key(|reply| reply.status);
    let answers: Map<String, Value> = replies.iter().map(|reply| (reply.status.to_string(), response(reply))).collect();
    operation["responses"] = answers.into();
    operation
}

fn response(reply: &Reply) -> Value {
    let mut response = json!({ "description": reply.when });
    let header = match reply.status {
        401 => Some(("WWW-Authenticate", json!({ "required": true, "schema": { "const": "Bearer" } }))),
        429 => Some(("Retry-After", json!({ "required": true, "schema": { "type": "integer" } }))),
        304 => Some(("ETag", json!({ "required": true, "schema": { "type": "string" } }))),
        _ => None,
    };
    if let Some((name, header)) = header {
        response["headers"] = json!({ name: header });
    }
    if !reply.media.is_empty() {
        response["content"] = content(reply.media);
    }
    response
}

fn content(media: &[Media]) -> Value {
    let typed = |Media(media, schema): &Media| {
        let schema = if schema.is_empty() { json!({ "type": "object" }) } else { reference(schema) };
        ((*media).to_owned(), json!({ "schema": schema }))
    };
    media.iter().map(typed).collect::<Map<_, _>>().into()
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// Every name of a feature with what its value may be. Times of the Python client may be seconds, which have to be numbers
/// of a float32 in microseconds, too.
fn values() -> Value {
    let mut properties = Map::new();
    for (dialect, feature) in
        Dialect::ALL.iter().flat_map(|dialect| FEATURES.iter().map(move |feature| (dialect, feature)))
    {
        if let Some(name) = feature.name_in(*dialect) {
            let is_time = *dialect == Dialect::Python && feature.unit == "us";
            let schema = if is_time { "Time" } else { "Number" };
            properties.entry(name).or_insert_with(|| reference(schema));
        }
    }
    json!({ "description": "Features by any of their names; see GET /features.", "type": "object", "properties": properties })
}

/// At least one of the names.
fn named() -> Value {
    let values = values();
    let names = values["properties"].as_object().into_iter().flat_map(Map::keys);
    let any: Vec<Value> = names.map(|name| json!({ "required": [name] })).collect();
    json!({ "description": "At least one known feature.", "anyOf": any })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                        assert!(document.pointer(&target[1..]).is_some(), "{target}");
                    }
                    map.values().for_each(|value| check(value, document));
                }
                Value::Array(list) => list.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        let document = document();
        assert_eq!(document["paths"].as_object().unwrap().len(), ROUTES.len());
        check(&document, &document);
    }
}
