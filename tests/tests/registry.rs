//! Models from a real MLflow server and a real S3 service that checks signatures: loaded by alias, followed while traffic
//! flows, kept when the server dies, and refused with words that help.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    binary, default_model,
    lab::{Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    registry::{BUCKET, MLFLOW, S3, S3_KEY, Tools, USER},
    sensor,
};
use serde_json::Value;

/// Longest wait for what takes a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);
const RELOAD: &str = "http://127.0.0.1:8000/model/reload";

/// Connections from the client, one after another, until the laboratory ends or the hour is over.
fn start_traffic(lab: &mut Lab) -> Result<()> {
    let www = lab.directory().join("www");
    fs::create_dir_all(&www)?;
    fs::write(www.join("page"), "page")?;
    let www = www.to_string_lossy().into_owned();
    let serve = ["python3", "-m", "http.server", "8080", "--bind", SERVER_V4, "--directory", &www];
    lab.start(Side::Server, "http", &serve, &[])?;
    wait_until(LIMIT, || lab.succeed(Side::Server, &["ss", "-Htln"]).is_ok_and(|table| table.contains(":8080")))?;
    let script = format!(
        "import time, urllib.request\n\
         for _ in range(30000):\n\
         \x20   urllib.request.urlopen('http://{SERVER_V4}:8080/page', timeout=20).read()\n\
         \x20   time.sleep(0.1)\n"
    );
    lab.start(Side::Client, "traffic", &["python3", "-c", &script], &[])
}

/// Waits until `/health` is as wanted. Returns it.
fn wait_for(lab: &Lab, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    wait_until(LIMIT, || {
        last = sensor::health(lab).unwrap_or_default();
        wanted(&last)
    })
    .with_context(|| format!("{what} did not happen: {last}\n{}", lab.log("sensor")))?;
    Ok(last)
}

fn scored(health: &Value) -> u64 {
    health["sensor"]["verdicts"]["scored"].as_u64().unwrap_or(0)
}

fn says(health: &Value, words: &str) -> bool {
    let reasons = health["reasons"].as_array();
    reasons.is_some_and(|all| all.iter().any(|reason| reason.as_str().is_some_and(|text| text.contains(words))))
}

/// Waits for further verdicts: flows are judged whatever the model's source does.
fn wait_for_verdicts(lab: &Lab) -> Result<()> {
    let before = scored(&sensor::health(lab)?);
    wait_for(lab, "further verdicts", |health| scored(health) > before + 5).map(drop)
}

#[test]
fn a_sensor_follows_an_alias_while_traffic_flows_and_outlives_the_server() -> Result<()> {
    let (Some(tools), Some(mut lab)) = (Tools::find()?, Lab::build()?) else { return Ok(()) };
    let artefacts = lab.directory().join("artefacts").to_string_lossy().into_owned();
    let proxied = ["--serve-artifacts", "--artifacts-destination", artefacts.as_str()];
    tools.start_mlflow(&mut lab, &proxied, &[])?;
    let register =
        |lab: &Lab, file: &Path, alias| tools.registry(lab, &["register", &file.to_string_lossy(), "ids", alias], &[]);
    let one = tools.variant(&lab, "one.onnx", &["--version", "one"])?;
    let two = tools.variant(&lab, "two.onnx", &["--version", "two", "--rename", " (two)"])?;
    let foreign = tools.variant(&lab, "foreign.onnx", &["--version", "foreign", "--profile", "cic2017"])?;
    ensure!(register(&lab, &one, "prod")? == "1");

    let cache = lab.directory().join("cache").to_string_lossy().into_owned();
    let by_alias = ["-i", SERVER_IF, "--attach", "host", "--model", "mlflow:ids@prod", "--model-cache", &cache];
    let asked = [&by_alias[..], &["--mlflow-tracking-uri", MLFLOW, "--model-refresh", "1s"]].concat();
    sensor::start(&mut lab, &[&asked[..], &["--shadow", "mlflow:ids/1"]].concat())?;
    start_traffic(&mut lab)?;
    let first = wait_for(&lab, "verdicts", |health| scored(health) > 10)?;
    ensure!(first["model"]["resolved"] == "mlflow:ids/1" && first["model"]["version"] == "one", "{first}");

    ensure!(register(&lab, &two, "prod")? == "2");
    let second = wait_for(&lab, "the second model", |health| health["model"]["resolved"] == "mlflow:ids/2")?;
    ensure!(second["model"]["version"] == "two" && second["model"]["cached"] == false, "{second}");
    wait_for_verdicts(&lab)?;

    // A model for flows that are counted otherwise is no model for this sensor.
    ensure!(register(&lab, &foreign, "prod")? == "3");
    let refused = wait_for(&lab, "the refusal", |health| says(health, "profile cic2017"))?;
    ensure!(refused["model"]["version"] == "two" && refused["status"] == "degraded", "{refused}");
    let answer = lab.succeed(Side::Server, &["curl", "-sS", "-X", "POST", "-w", " %{http_code}", RELOAD])?;
    ensure!(answer.contains("profile cic2017") && answer.ends_with(" 422"), "{answer}");
    tools.registry(&lab, &["alias", "ids", "prod", "2"], &[])?;
    wait_for(&lab, "the way back", |health| !says(health, "profile cic2017"))?;

    // The shadow is the first model: it calls attacks otherwise than the second.
    let flow = r#"{"Flow Duration": 4987, "Total Fwd Packets": 12}"#;
    lab.succeed(Side::Server, &["curl", "-sSf", "-d", flow, "-H", "content-type: application/json", PREDICT])?;
    let compared = wait_for(&lab, "a disagreement", |health| health["shadow"]["labels_differ"].as_u64() > Some(0))?;
    ensure!(compared["shadow"]["model"]["version"] == "one", "{compared}");

    lab.kill("mlflow")?;
    let alone = wait_for(&lab, "the server's death", |health| says(health, "is away"))?;
    ensure!(alone["model"]["version"] == "two" && alone["status"] == "degraded", "{alone}");
    wait_for_verdicts(&lab)?;
    let answer = lab.succeed(Side::Server, &["curl", "-sS", "-X", "POST", "-w", " %{http_code}", RELOAD])?;
    ensure!(answer.contains("cannot be reached") && answer.ends_with(" 502"), "{answer}");
    // Every flow has its verdict: the books balance.
    sensor::stop(&mut lab, libc::SIGTERM)?;
    let versions: Vec<String> = verdicts_of(&lab)?;
    ensure!(versions.is_sorted() && versions.first().is_some_and(|first| first == "one"), "{versions:?}");
    ensure!(versions.last().is_some_and(|last| last == "two"), "{versions:?}");

    // Started again while the server is away: the last good model works, and that is said.
    sensor::start(&mut lab, &asked)?;
    let cached = wait_for(&lab, "a start from the cache", |health| health["model"]["cached"] == true)?;
    ensure!(cached["model"]["resolved"] == "mlflow:ids/2" && says(&cached, "from the cache"), "{cached}");
    wait_for_verdicts(&lab)?;
    sensor::stop(&mut lab, libc::SIGTERM)?;

    // Without a cache there is no model.
    let arguments = ["model", "check", "mlflow:ids@prod", "--mlflow-tracking-uri", MLFLOW];
    let (code, _, error) = ml_ids(&lab, &arguments, &[])?;
    ensure!(code == Some(3) && error.contains("cannot be reached"), "{code:?}: {error}");
    Ok(())
}

const PREDICT: &str = "http://127.0.0.1:8000/predict";

/// The models' versions in the order in which verdicts that are no alerts were written.
fn verdicts_of(lab: &Lab) -> Result<Vec<String>> {
    let text = fs::read_to_string(lab.directory().join("logs/negative_predictions.log"))?;
    let version = |line: &str| {
        let event: Value = serde_json::from_str(line)?;
        Ok(event["ml"]["version"].as_str().unwrap_or_default().to_owned())
    };
    text.lines().map(version).collect()
}

/// Runs `ml-ids` in the server's namespace with further variables. Returns its exit code and what it printed.
fn ml_ids(lab: &Lab, arguments: &[&str], environment: &[(&str, &str)]) -> Result<(Option<i32>, String, String)> {
    let binary = binary()?.to_string_lossy().into_owned();
    let variables: Vec<String> = environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut argv = vec!["env"];
    argv.extend(variables.iter().map(String::as_str));
    argv.push(&binary);
    argv.extend(arguments);
    let output = lab.output(Side::Server, &argv)?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

#[test]
fn passwords_and_signatures_open_a_registry_on_s3_and_wrong_ones_are_told_so() -> Result<()> {
    let (Some(tools), Some(mut lab)) = (Tools::find()?, Lab::build()?) else { return Ok(()) };
    tools.start_s3(&mut lab)?;
    let ((user, password), (id, secret)) = (USER, S3_KEY);
    let login = [("MLFLOW_TRACKING_USERNAME", user), ("MLFLOW_TRACKING_PASSWORD", password)];
    let key = [("MLFLOW_S3_ENDPOINT_URL", S3), ("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
    let config = lab.directory().join("auth.ini");
    let users = lab.directory().join("users.db");
    fs::write(
        &config,
        format!(
            "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{}\nadmin_username = {user}\n\
             admin_password = {password}\nauthorization_function = \
             mlflow.server.auth:authenticate_request_basic_auth\n",
            users.display()
        ),
    )?;
    let config = config.to_string_lossy().into_owned();
    let root = format!("s3://{BUCKET}/runs");
    let arguments = ["--app-name", "basic-auth", "--no-serve-artifacts", "--default-artifact-root", root.as_str()];
    let server = [("MLFLOW_AUTH_CONFIG_PATH", config.as_str()), ("MLFLOW_FLASK_SERVER_SECRET_KEY", "for-tests")];
    tools.start_mlflow(&mut lab, &arguments, &[&server[..], &key].concat())?;
    let model = tools.variant(&lab, "model.onnx", &["--version", "guarded"])?;
    // What S3 services other than Amazon's understand.
    let plain = [("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"), ("AWS_DEFAULT_REGION", "us-east-1")];
    let all = [&login[..], &key, &plain].concat();
    ensure!(tools.registry(&lab, &["register", &model.to_string_lossy(), "ids", "prod"], &all)? == "1");

    let check = ["model", "check", "mlflow:ids@prod", "--mlflow-tracking-uri", MLFLOW];
    let (code, output, error) = ml_ids(&lab, &check, &[&login[..], &key].concat())?;
    ensure!(code == Some(0) && output.contains("guarded (mlflow:ids/1)"), "{code:?}: {output}{error}");
    // By number, by the old spelling, and the newest.
    for source in ["mlflow:ids/1", "models:/ids@prod", "mlflow:ids", "models:/ids/latest"] {
        let arguments = ["model", "inspect", "--json", source, "--mlflow-tracking-uri", MLFLOW];
        let (code, output, error) = ml_ids(&lab, &arguments, &[&login[..], &key].concat())?;
        ensure!(code == Some(0) && output.contains(r#""resolved": "mlflow:ids/1""#), "{source}: {output}{error}");
    }

    let refused = |arguments: &[&str], environment: &[(&str, &str)], words: &[&str]| -> Result<()> {
        let (code, output, error) = ml_ids(&lab, arguments, environment)?;
        ensure!(code == Some(3), "{environment:?} ended with {code:?}: {output}{error}");
        for words in words {
            ensure!(error.contains(words), "`{words}` is not in: {error}");
        }
        for secret in ["not-the-password", "not-the-secret", password, secret] {
            ensure!(!error.contains(secret) && !output.contains(secret), "a secret is shown: {error}");
        }
        Ok(())
    };
    let wrong = [("MLFLOW_TRACKING_USERNAME", user), ("MLFLOW_TRACKING_PASSWORD", "not-the-password")];
    refused(&check, &[&wrong[..], &key].concat(), &["answers 401", "password or token is wrong"])?;
    refused(&check, &key, &["answers 401", "MLFLOW_TRACKING_USERNAME"])?;
    let wrong =
        [("MLFLOW_S3_ENDPOINT_URL", S3), ("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", "not-the-secret")];
    refused(
        &check,
        &[&login[..], &wrong].concat(),
        &["answers 403", "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"],
    )?;
    refused(&check, &[&login[..], &key[..1]].concat(), &["answers 403", "set AWS_ACCESS_KEY_ID"])?;
    let unknown = ["model", "check", "mlflow:ids@none", "--mlflow-tracking-uri", MLFLOW];
    refused(&unknown, &[&login[..], &key].concat(), &["answers 400", "none"])?;
    let unknown = ["model", "check", "mlflow:nobody", "--mlflow-tracking-uri", MLFLOW];
    refused(&unknown, &[&login[..], &key].concat(), &["answers 404", "nobody"])?;

    // The object itself, by a name that has to be encoded in the address and in the signature alike.
    let object = "own models/ids+one.onnx";
    let place = lab.directory().join("s3").join(BUCKET).join(object);
    fs::create_dir_all(place.parent().context("a folder")?)?;
    fs::copy(&model, &place)?;
    let source = format!("s3://{BUCKET}/{object}");
    let fetched = lab.directory().join("fetched.onnx").to_string_lossy().into_owned();
    let (code, output, error) = ml_ids(&lab, &["model", "fetch", &source, "-o", &fetched], &key)?;
    ensure!(code == Some(0) && fs::read(&fetched)? == fs::read(&model)?, "{code:?}: {output}{error}");
    let sums = lab.directory().join("sums").to_string_lossy().into_owned();
    fs::write(&sums, &output)?;
    lab.succeed(Side::Server, &["sha256sum", "--check", &sums])?;
    let missing = format!("s3://{BUCKET}/nothing");
    refused(&["model", "fetch", &missing, "-o", &fetched], &key, &["answers 404", "NoSuchKey"])?;
    let other = ["model", "check", &source, "--model-sha256", &"0".repeat(64)];
    refused(&other, &key, &["SHA-256"])?;
    Ok(())
}

#[test]
fn a_model_on_the_web_is_fetched_over_tls_from_a_server_that_is_known() -> Result<()> {
    let (Some(tools), Some(mut lab)) = (Tools::find()?, Lab::build()?) else { return Ok(()) };
    let certificate = tools.start_https(&mut lab)?;
    fs::copy(default_model(), lab.directory().join("m.onnx"))?;
    let check = ["model", "check", "https://localhost:8443/m.onnx"];
    let (code, _, error) = ml_ids(&lab, &check, &[])?;
    ensure!(code == Some(3) && error.contains("certificate"), "{code:?}: {error}");
    let known = [("SSL_CERT_FILE", certificate.as_str())];
    let (code, output, error) = ml_ids(&lab, &check, &known)?;
    ensure!(code == Some(0) && output.contains(" fits: "), "{code:?}: {output}{error}");
    // The certificate is for another name.
    let (code, _, error) = ml_ids(&lab, &["model", "check", "https://127.0.0.1:8443/m.onnx"], &known)?;
    ensure!(code == Some(3) && error.contains("certificate"), "{code:?}: {error}");
    Ok(())
}
