//! `POST /model/reload`, and what `GET /health` says of where the model comes from.

use std::sync::Arc;

use ml_ids::api::{ReloadError, ReloadStatus, Reloaded};

use crate::{
    source::{Told, card},
    support::Server,
};

const RELOAD: &str = "POST /model/reload HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn a_reload_tells_the_model_before_and_after() {
    let server = Server::start().await;
    assert_eq!(server.send(RELOAD).await.status, 503, "nothing to reload from");
    let (old, new) = (card("1"), card("2"));
    server.state.set_model_source(Told::new(Ok(Reloaded { status: ReloadStatus::Swapped, old, new })));
    let answer = server.send(RELOAD).await;
    assert_eq!(answer.status, 200);
    let json = answer.json();
    assert_eq!((json["status"].as_str(), json["old"]["version"].as_str()), (Some("swapped"), Some("1")), "{json}");
    assert_eq!(json["new"]["resolved"], "mlflow:ids/2");
    assert_eq!(server.get("/model/reload").await.status, 405);
}

#[tokio::test]
async fn a_reload_that_fails_says_why_and_whose_fault_it_is() {
    for (error, status) in [
        (ReloadError::Source("http://registry answers 401".to_owned()), 502),
        (ReloadError::Refused("the model is of profile fixed".to_owned()), 422),
    ] {
        let server = Server::start().await;
        server.state.set_model_source(Told::new(Err(error.clone())));
        let answer = server.send(RELOAD).await;
        let (ReloadError::Source(reason) | ReloadError::Refused(reason)) = error else { panic!("busy") };
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status, detail), (status, format!("{reason}; the model at work stays")));
    }
}

#[tokio::test]
async fn a_second_reload_at_a_time_is_a_conflict() {
    let server = Arc::new(Server::start().await);
    let (old, new) = (card("1"), card("1"));
    let told = Told::new(Ok(Reloaded { status: ReloadStatus::Unchanged, old, new }));
    *told.shut.lock().unwrap() = true;
    server.state.set_model_source(told.clone());
    let first = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.send(RELOAD).await.status }
    });
    let arrived = told.clone();
    tokio::task::spawn_blocking(move || {
        drop(arrived.changed.wait_while(arrived.waiting.lock().unwrap(), |waiting| *waiting == 0).unwrap());
    })
    .await
    .unwrap();
    assert_eq!(server.send(RELOAD).await.status, 409);
    *told.shut.lock().unwrap() = false;
    told.changed.notify_all();
    assert_eq!(first.await.unwrap(), 200);
}

#[tokio::test]
async fn health_says_where_the_model_comes_from_and_how_its_shadow_compares() {
    let server = Server::start().await;
    let before = server.get("/health").await.json();
    assert_eq!((before["status"].as_str(), before["shadow"].is_null()), (Some("healthy"), true), "{before}");
    server.state.set_model_source(Told::new(Err(ReloadError::Busy)));
    let health = server.get("/health").await.json();
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["reasons"][0], "mlflow:ids@prod is away");
    assert_eq!(health["shadow"]["labels_differ"], 2);
    assert_eq!(health["shadow"]["disagreements"]["BENIGN -> DoS Hulk"], 2);
    assert_eq!(health["model"]["cached"], false);
}
