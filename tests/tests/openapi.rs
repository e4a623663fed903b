//! `GET /openapi.json` of a real server is OpenAPI 3.1, and the server does what it says: schemathesis makes requests of it,
//! sensible ones and others, and finds no 500, no status and no body that is not in the document.

use std::{fs, process::Command, time::Duration};

use anyhow::{Result, ensure};
use ml_ids_tests::{
    agent::{Scratch, Server, run},
    cached, fixture,
};

/// With the same seed it makes the same requests.
const SEED: &str = "20261127";
/// Requests of each kind for each endpoint.
const EXAMPLES: &str = "60";
/// It takes some 15 s. One worker: with two, Python 3.11 parses source on both threads and sometimes fails at it.
const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn document_is_openapi() -> Result<()> {
    let Some(validator) = cached("venv-openapi/bin/openapi-spec-validator")? else { return Ok(()) };
    let (server, scratch) = (Server::ready(&[])?, Scratch::new("openapi")?);
    let document = server.get("/openapi.json")?.expect(200)?;
    let file = scratch.path("openapi.json");
    fs::write(&file, document.to_string())?;
    let ended = run(Command::new(validator).args(["--schema", "3.1", &file]), b"", LIMIT)?;
    ensure!(ended.code == Some(0), "{} {}", ended.text()?, ended.stderr);
    server.stop()
}

#[test]
fn server_does_what_the_document_says() -> Result<()> {
    let Some(schemathesis) = cached("venv-openapi/bin/schemathesis")? else { return Ok(()) };
    let (server, scratch) = (Server::ready(&[])?, Scratch::new("schemathesis")?);
    let mut command = Command::new(schemathesis);
    command
        .args(["--config-file".as_ref(), fixture("schemathesis.toml").as_os_str()])
        .args(["run", "--checks", "all", "--phases", "examples,coverage,fuzzing", "--no-color"])
        .args(["--seed", SEED, "--max-examples", EXAMPLES, "--generation-database", "none", "--workers", "1"])
        .arg(format!("http://{}/openapi.json", server.address))
        .env("SCHEMATHESIS_HOOKS", fixture("schemathesis_hooks.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(scratch.path(""));
    let ended = run(&mut command, b"", LIMIT)?;
    ensure!(ended.code == Some(0), "{}\n{}", ended.text()?, ended.stderr);
    ensure!(!server.log().contains("panicked"), "{}", server.log());
    server.stop()
}
