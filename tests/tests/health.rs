//! `/health` tells the truth before, while and after a model is loaded, and the three kinds of client get from the real
//! model what they expect. Models come through named pipes, so that the tests decide when loading ends.

use std::{fs, io::Write as _, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use ml_ids::{
    features::{FEATURE_COUNT, FEATURES},
    model::{Kind, Model},
};
use ml_ids_tests::{
    agent::{LIMIT, Scratch, Server, ml_ids, run},
    default_model, fixture,
    lab::wait_until,
};
use serde_json::{Map, Value, json};

/// Requires what must hold while there is no model. It must not become healthy by being asked, nor by waiting.
fn not_yet(server: &Server) -> Result<()> {
    for _ in 0..2 {
        let health = server.get("/health")?.expect(200)?;
        ensure!(health["status"] == "degraded" && health["model_initialized"] == false, "{health}");
        ensure!(health["model"].is_null() && health["reasons"] == json!(["no model loaded yet"]), "{health}");
        let ready = server.get("/health/ready")?.expect(503)?;
        ensure!(ready["detail"].as_str().is_some_and(|detail| detail.contains("model")), "{ready}");
        let refused = server.predict(&json!({"Flow Duration": 1}))?;
        refused.expect(503)?;
        ensure!(refused.head.contains("retry-after"), "{}", refused.head);
        server.get("/health/live")?.expect(200)?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[test]
fn health_tells_the_truth_before_while_and_after_the_model_is_loaded() -> Result<()> {
    let scratch = Scratch::new("health")?;
    let pipe = scratch.pipe("model.onnx")?;
    let server = Server::start(&["--model", &pipe])?;
    not_yet(&server).context("nobody has opened the pipe")?;
    let model = fs::read(default_model())?;
    let (first, rest) = model.split_at(model.len() / 2);
    let mut writer = fs::File::options().write(true).open(&pipe)?;
    not_yet(&server).context("nothing is written")?;
    writer.write_all(first)?;
    not_yet(&server).context("half of the model is written")?;
    writer.write_all(rest)?;
    not_yet(&server).context("the pipe is still open")?;
    drop(writer);
    server.wait_ready()?;
    let health = server.get("/health")?.expect(200)?;
    ensure!(health["status"] == "healthy" && health["model_initialized"] == true, "{health}");
    ensure!(health["reasons"] == json!([]) && health["sensor"].is_null(), "{health}");
    let sum = run(Command::new("sha256sum").arg(default_model()), b"", LIMIT)?.expect(0)?;
    let sum = sum.text()?.split(' ').next().context("sha256sum says nothing")?;
    ensure!(health["model"]["sha256"] == sum, "sha256sum says {sum}: {health}");
    ensure!(health["model"]["source"] == pipe.as_str(), "{health}");
    server.predict(&json!({"Flow Duration": 1}))?.expect(200)?;
    server.stop()
}

#[test]
fn refused_model_ends_the_server_with_a_reason() -> Result<()> {
    let scratch = Scratch::new("refused")?;
    let pipe = scratch.pipe("model.onnx")?;
    let mut server = Server::start(&["--model", &pipe])?;
    server.get("/health/ready")?.expect(503)?;
    let mut cut = fs::read(default_model())?;
    cut.truncate(cut.len() / 2);
    fs::write(&pipe, cut)?;
    let code = server.wait()?;
    wait_until(LIMIT, || server.log().contains("is refused: ")).with_context(|| server.log())?;
    ensure!(code == Some(3) && !server.log().contains("panicked"), "{code:?}: {}", server.log());
    Ok(())
}

#[test]
fn server_that_waits_for_its_model_ends_when_asked() -> Result<()> {
    let scratch = Scratch::new("waiting")?;
    let pipe = scratch.pipe("model.onnx")?;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut server = Server::start(&["--model", &pipe])?;
        server.get("/health/live")?.expect(200)?;
        server.signal(signal)?;
        let code = server.wait()?;
        ensure!(code == Some(0), "signal {signal}: {code:?}: {}", server.log());
    }
    Ok(())
}

/// The flows of a capture of this repository as `ml-ids score` sees them.
fn scored(capture: &str) -> Result<Vec<Map<String, Value>>> {
    let capture = fixture(&format!("handmade/{capture}"));
    let ended = ml_ids(&["score", &capture.to_string_lossy()], b"")?.expect(0)?;
    Ok(ended.text()?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// The features of such a flow as an object for `/predict`.
fn features(flow: &Map<String, Value>) -> Map<String, Value> {
    let named = FEATURES.iter().filter_map(|feature| Some((feature.name.to_owned(), flow.get(feature.name)?.clone())));
    named.collect()
}

#[test]
fn three_kinds_of_client_get_the_verdicts_that_score_gives() -> Result<()> {
    let server = Server::ready(&[])?;
    let mut flows = scored("random.pcap")?;
    // JSON has no Infinity, so rates of flows without duration are words, which a client cannot post.
    flows.retain(|flow| FEATURES.iter().all(|feature| flow.get(feature.name).is_some_and(Value::is_number)));
    ensure!(flows.len() > 400, "{} flows", flows.len());
    let (mut benign, mut attacks) = (0, 0);
    for flow in flows.iter().take(100) {
        // What the old document asks for: a flat object in, a list of one integer out, 0 = benign.
        let answer = server.predict(&Value::Object(features(flow)))?.expect(200)?;
        ensure!(answer["prediction"] == json!([flow["Class"]]), "{answer} for {flow:?}");
        ensure!(answer["label"] == flow["Label"], "{answer} for {flow:?}");
        ensure!((answer["prediction"][0] == 0) == (answer["label"] == "BENIGN"), "{answer}");
        ensure!(answer["warnings"] == json!([]), "{answer}");
        *(if answer["prediction"][0] == 0 { &mut benign } else { &mut attacks }) += 1;
    }
    ensure!(benign > 0 && attacks > 0, "{benign} benign, {attacks} attacks: one kind is not tested");

    // The generated client: rows of 78 numbers in, a list of labels out.
    let rows: Vec<Vec<&Value>> =
        flows.iter().map(|flow| FEATURES.iter().filter_map(|feature| flow.get(feature.name)).collect()).collect();
    ensure!(rows.iter().all(|row| row.len() == FEATURE_COUNT), "a feature is missing");
    let answer = server.predict(&json!({ "features": rows }))?.expect(200)?;
    let labels: Vec<&Value> = flows.iter().map(|flow| &flow["Label"]).collect();
    ensure!(answer["predictions"] == json!(labels), "{}", answer["predictions"]);

    // The Python client: its own names, durations in seconds, addresses beside them; any 2xx.
    let flow = json!({
        "src_ip": "10.0.0.1", "dst_ip": "10.0.0.2", "src_port": 40000, "dst_port": 80, "protocol": 6,
        "timestamp": "2026-11-22 10:00:00", "flow_duration": 2.5, "tot_fwd_pkts": 6, "tot_bwd_pkts": 4,
        "totlen_fwd_pkts": 600, "totlen_bwd_pkts": 400, "flow_iat_max": 1.25,
    });
    let answer = server.predict(&flow)?.expect(200)?;
    ensure!(answer["prediction"][0].is_u64(), "{answer}");
    ensure!(answer["warnings"].to_string().contains("converted to microseconds"), "{answer}");
    server.stop()
}

#[test]
fn explanation_is_the_models_own_and_adds_up() -> Result<()> {
    let server = Server::ready(&[])?;
    let model = Model::load(&default_model().to_string_lossy().parse()?)?;
    for flow in scored("odd.pcap")?.iter().chain(&scored("tcp_basic.pcap")?) {
        let answer = server.predict(&Value::Object(features(flow)))?.expect(200)?;
        let mut row = [0.0; FEATURE_COUNT];
        for (value, feature) in row.iter_mut().zip(&FEATURES) {
            *value = flow[feature.name].as_f64().with_context(|| format!("{flow:?}"))?;
        }
        let contributions = model.explain(&row).context("the default model explains")?;
        let class = usize::try_from(answer["prediction"][0].as_u64().context("a class")?)?;
        let base = model.base_rate(class).context("the default model has base rates")?;
        let sum: f64 = contributions.iter().map(|part| f64::from(part.contribution)).sum();
        let (space, whole, unit) = match model.kind() {
            Kind::Forest => ("probability", &answer["probability"], ""),
            Kind::Boosted => ("margin", &answer["explained"]["score"], " raw score"),
            Kind::Stacking => bail!("a stacking has no explanation"),
        };
        let whole = whole.as_f64().context("a number")?;
        ensure!((whole - f64::from(base) - sum).abs() < 1e-4, "{base} and {sum} for {answer}");

        let shown = answer["explanation"].as_array().context("an explanation")?;
        ensure!(shown.len() == contributions.len().min(5), "{answer}");
        ensure!(answer["explained"]["space"] == space, "{answer}");
        ensure!(
            answer["explained"]["base"].as_f64().is_some_and(|shown| (shown - f64::from(base)).abs() < 1e-6),
            "{answer}"
        );
        let mut last = f64::INFINITY;
        for part in shown {
            let value = part["contribution"].as_f64().context("a number")?;
            ensure!(value.abs() <= last, "not the strongest first: {answer}");
            last = value.abs();
            let position = FEATURES.iter().position(|feature| part["feature"] == feature.name).context("a feature")?;
            let own = contributions.iter().find(|own| own.feature == position).context("a contribution")?;
            ensure!((value - f64::from(own.contribution)).abs() < 1e-6, "{part} is not {own:?}");
            ensure!(part["value"].as_f64() == Some(row[position]), "{part} is not {}", row[position]);
            let text = part["text"].as_str().context("words")?;
            ensure!(
                text.starts_with(FEATURES[position].name) && text.ends_with(&format!("{value:+.2}{unit}")),
                "{part}"
            );
        }
    }
    server.stop()
}

/// Every command of `docs/API.md` is run, and has the status that the page gives after `# ` at its end.
#[test]
fn curl_commands_of_the_api_document_give_what_it_says() -> Result<()> {
    let server = Server::ready(&[])?;
    let page = fs::read_to_string(ml_ids_tests::root().join("docs/API.md"))?;
    let commands: Vec<&str> =
        page.lines().filter(|line| line.starts_with("curl ") || line.starts_with("printf ")).collect();
    ensure!(commands.len() >= 8, "{} commands", commands.len());
    for command in commands {
        let (command, status) = command.rsplit_once(" # ").with_context(|| format!("no status: {command}"))?;
        ensure!(command.contains("127.0.0.1:8000"), "another address: {command}");
        let here = command.replace("127.0.0.1:8000", &server.address.to_string());
        let shell = format!("{here} -w '\\n%{{http_code}}'");
        let ended = run(Command::new("sh").args(["-c", &shell]), b"", LIMIT)?.expect(0)?;
        let (body, code) = ended.text()?.rsplit_once('\n').context("curl says nothing")?;
        ensure!(code == status, "{code} instead of {status}: {command}: {body}");
        // Prometheus reads lines of its own, and a browser a page.
        let is_json = !command.contains("/metrics") && !command.contains("text/html");
        ensure!(is_json || !body.is_empty(), "an empty body: {command}");
        for line in body.lines().filter(|_| is_json) {
            serde_json::from_str::<Value>(line).with_context(|| format!("no JSON: {command}: {line}"))?;
        }
    }
    server.stop()
}
