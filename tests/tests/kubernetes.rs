//! Events name the pods of both ends, as an API server tells of them: before it is there, while it changes its mind, cuts
//! connections and forgets its history, and when it is away again; after that it wants another token. Capture goes on through
//! all of it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    fixture,
    lab::{CLIENT_V4, Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    root, sensor,
};
use serde_json::{Value, json};

/// Longest wait for what takes seconds on an idle machine.
const SOON: Duration = Duration::from_secs(60);
const TOKEN: &str = "a-token-for-tests";
/// The one that takes its place: those of service accounts last an hour.
const LATER_TOKEN: &str = "another-token-for-tests";
const NODE: &str = "worker-1";
const PORT: &str = "6443";

/// The folder that the API server answers from.
struct Cluster(PathBuf);

impl Cluster {
    fn prepare(lab: &Lab) -> Result<Self> {
        let folder = lab.directory().join("cluster");
        fs::create_dir(&folder)?;
        fs::write(folder.join("changes.jsonl"), "")?;
        fs::write(folder.join("token"), TOKEN)?;
        let certificate = certificates(lab, &folder)?;
        let cluster = Self(folder);
        cluster.list("pods.json")?;
        let token = cluster.0.join("token");
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{
                "name": "test",
                "cluster": { "server": format!("https://127.0.0.1:{PORT}"), "certificate-authority": certificate },
            }],
            "users": [{ "name": "sensor", "user": { "tokenFile": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "sensor" } }],
        });
        fs::write(cluster.kubeconfig(), kubeconfig.to_string())?;
        Ok(cluster)
    }

    fn kubeconfig(&self) -> String {
        self.0.join("kubeconfig").to_string_lossy().into_owned()
    }

    /// From now on this is the list.
    fn list(&self, name: &str) -> Result<()> {
        let new = self.0.join("pods.new");
        fs::copy(fixture("kubernetes").join(name), &new)?;
        Ok(fs::rename(new, self.0.join("pods.json"))?)
    }

    /// This happens next.
    fn change(&self, name: &str) -> Result<()> {
        let text = fs::read(fixture("kubernetes").join(name))?;
        Ok(fs::File::options().append(true).open(self.0.join("changes.jsonl"))?.write_all(&text)?)
    }

    fn start(&self, lab: &mut Lab, token: &str) -> Result<()> {
        let [script, folder] =
            [&fixture("kubernetes/api_server.py"), &self.0].map(|path| path.to_string_lossy().into_owned());
        let argv = ["python3", &script, &folder, PORT, token, NODE];
        lab.start_group(Side::Server, "api-server", &argv, &[])
    }
}

/// Makes an authority, and a certificate of it for the server. Returns the authority's file.
fn certificates(lab: &Lab, folder: &Path) -> Result<String> {
    let place = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (authority, authority_key) = (place("ca.pem"), place("ca-key.pem"));
    let (certificate, key) = (place("cert.pem"), place("key.pem"));
    let new =
        ["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let own = ["-subj", "/CN=authority", "-keyout", &authority_key, "-out", &authority];
    lab.succeed(Side::Server, &[&new[..], &own].concat())?;
    let names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"];
    let signed = ["-subj", "/CN=kubernetes", "-CA", &authority, "-CAkey", &authority_key];
    let files = ["-keyout", &key, "-out", &certificate];
    lab.succeed(Side::Server, &[&new[..], &signed, &names, &files].concat())?;
    Ok(authority)
}

/// What the newest flow from one host of the laboratory to the other says of pods, after a scan of some ports.
fn seen(lab: &Lab, ports: &str) -> Result<Vec<Value>> {
    let before = sensor::events(lab).map_or(0, |events| events.len());
    lab.succeed(Side::Client, &["nmap", "-sS", "-Pn", "-n", "-T4", "-p", ports, SERVER_V4])?;
    wait_until(SOON, || sensor::events(lab).is_ok_and(|events| events.len() >= before + 5)).context("no flows")?;
    let first: u16 = ports.split('-').next().unwrap_or_default().parse()?;
    let ours = |event: &Value| {
        event["src_ip"] == CLIENT_V4
            && event["dest_ip"] == SERVER_V4
            && event["dest_port"].as_u64() >= Some(first.into())
    };
    Ok(sensor::events(lab)?.into_iter().filter(ours).collect())
}

fn notes(lab: &Lab) -> String {
    sensor::health(lab).map(|health| health["notes"].to_string()).unwrap_or_default()
}

fn end(lab: &Lab, ports: &str, end: &str) -> Result<Value> {
    let events = seen(lab, ports)?;
    let event = events.last().context("no flow between the hosts")?;
    Ok(event["kubernetes"][end].clone())
}

fn renamed(lab: &Lab, ports: &str) -> Result<bool> {
    Ok(end(lab, ports, "dest")?["pod"] == "web-7f9c6b5d44-m2w8s")
}

#[test]
fn events_name_the_pods_of_both_ends_and_the_api_server_may_come_and_go() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let cluster = Cluster::prepare(&lab)?;
    let kubeconfig = format!("KUBECONFIG={}", cluster.kubeconfig());
    // Nobody is there to answer yet.
    begin(&mut lab, &kubeconfig)?;
    wait_until(SOON, || notes(&lab).contains("names of the pods of worker-1 are not known: the API server"))
        .with_context(|| format!("nothing is said: {}", notes(&lab)))?;
    ensure!(sensor::health(&lab)?["status"] == "healthy", "{}", sensor::health(&lab)?);
    ensure!(end(&lab, "101-120", "dest")? == Value::Null, "a name from nowhere");

    cluster.start(&mut lab, TOKEN)?;
    let known = |lab: &Lab| !notes(lab).contains("names of the pods");
    wait_until(SOON, || known(&lab)).with_context(|| format!("{}\n{}", notes(&lab), lab.log("api-server")))?;
    let web = json!({
        "pod": "web-6d4cf56db6-x7k2p", "namespace": "shop", "workload": { "kind": "Deployment", "name": "web" }
    });
    let events = seen(&lab, "201-220")?;
    let event = events.last().context("no flow")?;
    // The other end's address is a node's and was a job's: neither is a name for it.
    ensure!(event["kubernetes"] == json!({ "dest": web }), "{event}");
    let schema: Value = serde_json::from_str(&fs::read_to_string(root().join("docs/schema/eve.schema.json"))?)?;
    let schema = jsonschema::draft202012::new(&schema).map_err(|error| anyhow::anyhow!("{error}"))?;
    schema.validate(event).map_err(|error| anyhow::anyhow!("{error}: {event}"))?;

    // A pod comes, a bookmark, and the connection breaks.
    cluster.change("changes.jsonl")?;
    wait_until(SOON, || lab.log("api-server").contains("CUT")).context("the watch ended before")?;
    let crawler = json!({
        "pod": "crawler-0", "namespace": "batch", "workload": { "kind": "StatefulSet", "name": "crawler" }
    });
    ensure!(end(&lab, "301-320", "src")? == crawler, "{}", end(&lab, "321-330", "src")?);

    // The history is gone: the list is asked for again, and has other pods.
    wait_until(SOON, || lab.log("api-server").matches("WATCH").count() >= 2).context("it does not watch on")?;
    cluster.list("pods_later.json")?;
    let lists = |lab: &Lab| lab.log("api-server").matches("LIST").count();
    let before = lists(&lab);
    cluster.change("gone.jsonl")?;
    wait_until(SOON, || lists(&lab) > before).with_context(|| lab.log("api-server"))?;
    ensure!(renamed(&lab, "401-420")? || renamed(&lab, "421-440")?, "it has the old name: {}", lab.log("api-server"));

    // What is known stays when nobody answers.
    lab.kill("api-server")?;
    wait_until(SOON, || notes(&lab).contains("s old: the API server")).with_context(|| notes(&lab))?;
    ensure!(renamed(&lab, "501-520")?, "the name is gone with the server");
    let metrics = lab.get("http://127.0.0.1:8000/metrics")?;
    ensure!(metrics.contains("ml_ids_kubernetes_up_to_date 0"), "{metrics}");

    // Another token: the file is read again, by whom the sensor has become. A client may keep it for a minute.
    fs::write(cluster.0.join("token"), LATER_TOKEN)?;
    cluster.start(&mut lab, LATER_TOKEN)?;
    wait_until(SOON * 2, || known(&lab)).with_context(|| format!("{}\n{}", notes(&lab), lab.log("api-server")))?;
    sensor::stop(&mut lab, libc::SIGTERM)
}

fn begin(lab: &mut Lab, kubeconfig: &str) -> Result<()> {
    let binary = ml_ids_tests::binary()?.to_string_lossy().into_owned();
    let logs = lab.directory().join("logs").to_string_lossy().into_owned();
    let argv = ["env", kubeconfig, &*binary, "run", "--log-dir", &logs, "-i", SERVER_IF, "--attach", "host"];
    let pods = ["--kubernetes", "--node-name", NODE, "--no-alert-db"];
    lab.start(Side::Server, "sensor", &[&argv[..], &pods].concat(), &[("LOG_NEGATIVE_PREDICTIONS", "true")])?;
    let ready = || lab.get("http://127.0.0.1:8000/health/ready").is_ok_and(|body| body.contains("ready"));
    wait_until(SOON, ready).with_context(|| format!("the sensor did not become ready:\n{}", lab.log("sensor")))
}
