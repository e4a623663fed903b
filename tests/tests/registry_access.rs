//! Who may fetch a model: passwords, tokens, signatures and certificates before a real MLflow server, a real S3 service that
//! checks signatures, and a web server. Who may not is refused with words that help.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    default_model, files,
    lab::{Lab, Side},
    registry::{BUCKET, Door, MLFLOW, PLAIN_S3, S3, S3_KEY, TOKEN, Tools, USER, ensure_refused, ml_ids, run},
    training::Training,
};

#[test]
fn passwords_and_signatures_open_a_registry_on_s3_and_wrong_ones_are_told_so() -> Result<()> {
    let (Some(tools), Some(mut lab)) = (Tools::find()?, Lab::build()?) else { return Ok(()) };
    tools.start_s3(&mut lab)?;
    let ((user, password), (id, secret)) = (USER, S3_KEY);
    let login = [("MLFLOW_TRACKING_USERNAME", user), ("MLFLOW_TRACKING_PASSWORD", password)];
    let key = [("MLFLOW_S3_ENDPOINT_URL", S3), ("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
    let root = format!("s3://{BUCKET}/runs");
    let arguments = ["--no-serve-artifacts", "--default-artifact-root", root.as_str()];
    tools.start_guarded_mlflow(&mut lab, Door::Password, &arguments, &key)?;
    let model = tools.variant(&lab, "model.onnx", &["--version", "guarded"])?;
    let all = [&login[..], &key, &PLAIN_S3].concat();
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

    let refused = |arguments: &[&str], environment: &[(&str, &str)], words: &[&str]| {
        let secrets = ["not-the-password", "not-the-secret", password, secret];
        ensure_refused(ml_ids(&lab, arguments, environment)?, words, &secrets).context(format!("{arguments:?}"))
    };
    let wrong = [("MLFLOW_TRACKING_USERNAME", user), ("MLFLOW_TRACKING_PASSWORD", "not-the-password")];
    refused(&check, &[&wrong[..], &key].concat(), &["answers 401", "password is wrong", "MLFLOW_TRACKING_PASSWORD"])?;
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
fn a_token_opens_a_registry_that_keeps_its_files_in_s3() -> Result<()> {
    let (Some(tools), Some(training), Some(mut lab)) = (Tools::find()?, Training::find()?, Lab::build()?) else {
        return Ok(());
    };
    tools.start_s3(&mut lab)?;
    let (id, secret) = S3_KEY;
    let key = [("MLFLOW_S3_ENDPOINT_URL", S3), ("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
    let destination = format!("s3://{BUCKET}/runs");
    let arguments = ["--serve-artifacts", "--artifacts-destination", destination.as_str()];
    tools.start_guarded_mlflow(&mut lab, Door::Token, &arguments, &[&key[..], &PLAIN_S3].concat())?;

    // Training logs, registers and moves the alias; it has the token and no key to S3, and so has the sensor.
    let token = [("MLFLOW_TRACKING_TOKEN", TOKEN)];
    let registered = ["--mlflow-uri", MLFLOW, "--register", "office", "--alias", "champion"];
    let train = training.office(lab.directory(), &registered)?;
    let (code, output, error) = run(&lab, &words(&train), &token)?;
    ensure!(code == Some(0) && output.contains("mlflow:office@champion"), "{code:?}: {output}{error}");
    let model = fs::read(lab.directory().join("office.onnx"))?;

    let fetched = lab.directory().join("fetched.onnx");
    let out = fetched.to_string_lossy().into_owned();
    let fetch = |source: &str, environment: &[(&str, &str)]| -> Result<()> {
        let arguments = ["model", "fetch", source, "-o", &out, "--mlflow-tracking-uri", MLFLOW];
        let (code, output, error) = ml_ids(&lab, &arguments, environment)?;
        ensure!(code == Some(0) && fs::read(&fetched)? == model, "{source}: {code:?}: {output}{error}");
        Ok(fs::remove_file(&fetched)?)
    };
    fetch("mlflow:office@champion", &token)?;
    fetch(&address_of(&lab.directory().join("s3"))?, &key)?;
    let check = ["model", "check", "mlflow:office@champion", "--mlflow-tracking-uri", MLFLOW];
    let (code, output, error) = ml_ids(&lab, &check, &token)?;
    ensure!(code == Some(0) && output.contains("(mlflow:office/1)"), "{code:?}: {output}{error}");

    let wrong = [("MLFLOW_TRACKING_TOKEN", "not-the-token")];
    let secrets = [TOKEN, "not-the-token"];
    ensure_refused(ml_ids(&lab, &check, &[])?, &["answers 401", "MLFLOW_TRACKING_TOKEN"], &secrets)?;
    let advice = "the token is wrong: check MLFLOW_TRACKING_TOKEN";
    ensure_refused(ml_ids(&lab, &check, &wrong)?, &["answers 401", advice], &secrets)?;
    let alias = training.command(&["alias", "office", "1", "other", "--mlflow-uri", MLFLOW]);
    let (code, output, error) = run(&lab, &words(&alias), &wrong)?;
    ensure!(code == Some(1) && error.contains("401") && error.contains("MLFLOW_TRACKING_TOKEN"), "{output}{error}");
    ensure!(!error.contains("not-the-token"), "the token is shown: {error}");
    let (code, output, error) = run(&lab, &words(&alias), &token)?;
    ensure!(code == Some(0), "{code:?}: {output}{error}");
    Ok(())
}

/// The S3 address of the only model file in the service's folder.
fn address_of(folder: &Path) -> Result<String> {
    let found = files(&folder.join(BUCKET), &["onnx"])?;
    let [file] = found.as_slice() else { anyhow::bail!("{found:?} instead of one model file") };
    Ok(format!("s3://{}", file.strip_prefix(folder)?.display()))
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
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
