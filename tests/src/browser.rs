//! Chromium in a laboratory, driven over WebDriver. It runs in a process namespace of its own, so that nothing of it outlives
//! the laboratory, and in the network namespace of the server, so that it reaches the sensor and nobody else.

use std::{
    fmt,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use fantoccini::{Client, ClientBuilder, Locator, wd::WebDriverCompatibleCommand};
use hyper::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use url::{ParseError, Url};

use crate::{
    cached,
    lab::{Lab, Side},
};

/// The name of its process in the laboratory.
const NAME: &str = "browser";
/// What a browser needs in a sandbox of a test, and what it does by itself and need not.
const FLAGS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
];
/// Longest time that anything on a page may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Keys that are not characters, as WebDriver names them.
pub mod key {
    /// Enter.
    pub const ENTER: &str = "\u{e007}";
    /// Escape.
    pub const ESCAPE: &str = "\u{e00c}";
}

/// A browser with one tab.
pub struct Browser {
    runtime: Runtime,
    client: Client,
    /// axe-core, which finds what people with other eyes and hands stumble over.
    axe: String,
}

impl Browser {
    /// Starts Chromium beside the server. `None`, said loudly, if something is not there that setup installs; the caller then
    /// skips. The calling thread is in the server's network namespace from then on.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(lab: &mut Lab) -> Result<Option<Self>> {
        for program in ["chromium", "chromedriver"] {
            if Command::new(program).arg("--version").output().is_err() {
                eprintln!("SKIPPED: {program} is not there; `cargo xtask setup --tests` installs it");
                return Ok(None);
            }
        }
        let Some(axe) = cached("tools/axe-core/axe.min.js")? else { return Ok(None) };
        let axe = std::fs::read_to_string(axe)?;
        let driver = ["unshare", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "chromedriver", "--port=0"];
        let home = lab.directory().join("home").to_string_lossy().into_owned();
        std::fs::create_dir_all(&home)?;
        lab.start(Side::Server, NAME, &driver, &[("HOME", &home)])?;
        lab.wait_for_log(NAME, "started successfully on port")?;
        let log = lab.log(NAME);
        let port = log.split_once("successfully on port ").and_then(|(_, rest)| rest.split_once('.'));
        let (port, _) = port.with_context(|| format!("no port: {log}"))?;
        lab.enter(Side::Server)?;
        let profile = format!("--user-data-dir={}", lab.directory().join("profile").display());
        let flags: Vec<&str> = FLAGS.into_iter().chain([profile.as_str()]).collect();
        let wanted = json!({
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        let Value::Object(wanted) = wanted else { bail!("capabilities are an object") };
        // One thread, this one, which is in the namespace.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut builder = ClientBuilder::new(HttpConnector::new());
        let address = format!("http://127.0.0.1:{port}");
        let client = runtime.block_on(builder.capabilities(wanted).connect(&address));
        let client = client.with_context(|| format!("no session: {}", lab.log(NAME)))?;
        Ok(Some(Self { runtime, client, axe }))
    }

    /// Opens an address.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub fn go(&self, address: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.client.goto(address))?)
    }

    /// Runs the body of a function in the page. Returns what it returns.
    ///
    /// # Errors
    /// When it throws.
    pub fn run(&self, script: &str) -> Result<Value> {
        self.runtime.block_on(self.client.execute(script, Vec::new())).with_context(|| script.to_owned())
    }

    /// The text of an element; empty if there is none.
    ///
    /// # Errors
    /// When the page is gone.
    pub fn text(&self, selector: &str) -> Result<String> {
        let found = self.run(&format!("return document.querySelector({})?.innerText ?? ''", json!(selector)))?;
        Ok(found.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an expression is true. Returns how long that took.
    ///
    /// # Errors
    /// When it is not within 30 s, with what the page shows.
    pub fn wait_for(&self, expression: &str) -> Result<Duration> {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            if self.run(&format!("return Boolean({expression})"))? == true {
                return Ok(begun.elapsed());
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("{expression} is not true within {LIMIT:?}; the page shows:\n{}", self.text("body")?)
    }

    /// Waits until what has changed is on the screen: two frames, in which sizes are observed and charts are drawn, and the
    /// end of what moves.
    ///
    /// # Errors
    /// When it is not within 30 s.
    pub fn wait_drawn(&self) -> Result<()> {
        self.run(
            "window.isDrawn = false; \
             requestAnimationFrame(() => requestAnimationFrame(() => { window.isDrawn = true; }))",
        )?;
        self.wait_for("window.isDrawn && document.getAnimations().every((one) => one.playState !== 'running')")
            .map(drop)
    }

    /// Presses keys where the focus is.
    ///
    /// # Errors
    /// When nothing takes them.
    pub fn press(&self, keys: &str) -> Result<()> {
        self.runtime.block_on(async { Ok(self.client.active_element().await?.send_keys(keys).await?) })
    }

    /// Clicks on an element as a person does: it has to be visible, and nothing may lie over it.
    ///
    /// # Errors
    /// When that does not hold.
    pub fn click(&self, selector: &str) -> Result<()> {
        self.runtime.block_on(async { Ok(self.client.find(Locator::Css(selector)).await?.click().await?) })
    }

    /// Chooses an option of a list.
    ///
    /// # Errors
    /// When there is no such option.
    pub fn choose(&self, selector: &str, option: &str) -> Result<()> {
        self.runtime.block_on(async {
            let list = self.client.find(Locator::Css(selector)).await?;
            Ok(list.select_by_value(option).await?)
        })
    }

    /// Gives the page a size in pixels, as of a telephone or a screen.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.debug("Emulation.setDeviceMetricsOverride", size).map(drop)
    }

    /// Lets the user prefer `light` or `dark`.
    ///
    /// # Errors
    /// When the browser refuses.
    pub fn prefer(&self, scheme: &str) -> Result<()> {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.debug("Emulation.setEmulatedMedia", features).map(drop)
    }

    /// What is visible, as PNG.
    ///
    /// # Errors
    /// When it cannot be taken or written.
    pub fn screenshot(&self, file: &Path) -> Result<()> {
        let png = self.runtime.block_on(self.client.screenshot())?;
        std::fs::write(file, png).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Requires that axe-core finds nothing to say of the page as it is now.
    ///
    /// # Errors
    /// With what it finds.
    pub fn is_accessible(&self, state: &str) -> Result<()> {
        // WebDriver's scripts are no part of the page: its policy does not have to let them in.
        self.run(&format!("if (!window.axe) {{ {};\nwindow.axe = axe; }}", self.axe))?;
        let script = "const done = arguments[0]; axe.run(document).then(({ violations, passes }) => done({ passes: passes.length, \
                      violations: violations.map(({ id, help, nodes }) => ({ id, help, at: nodes.map((node) => node.html) })) \
                      }), (error) => done({ error: String(error) }))";
        let found = self.runtime.block_on(self.client.execute_async(script, Vec::new()))?;
        ensure!(found["violations"] == json!([]), "{state}: {found:#}");
        // It has looked.
        ensure!(found["passes"].as_u64() > Some(20), "{state}: {found:#}");
        Ok(())
    }

    /// What the page has logged since it was last asked: its level, where it comes from, and what.
    ///
    /// # Errors
    /// When the browser does not tell.
    pub fn console(&self) -> Result<Vec<String>> {
        let log = self.ask(Method::POST, "se/log", json!({ "type": "browser" }))?;
        let entries = log.as_array().context("no log")?.iter();
        Ok(entries.map(|entry| format!("{} {}: {}", entry["level"], entry["source"], entry["message"])).collect())
    }

    /// The addresses of all requests of pages since it was last asked; those of the browser's own are left out.
    ///
    /// # Errors
    /// When the browser does not tell.
    pub fn requests(&self) -> Result<Vec<String>> {
        let log = self.ask(Method::POST, "se/log", json!({ "type": "performance" }))?;
        let mut addresses = Vec::new();
        for entry in log.as_array().context("no log")? {
            let message: Value = serde_json::from_str(entry["message"].as_str().context("no message")?)?;
            let sent = &message["message"]["params"];
            let is_own = sent["documentURL"].as_str().is_some_and(|document| document.starts_with("chrome:"));
            if message["message"]["method"] == "Network.requestWillBeSent" && !is_own {
                let address = &sent["request"]["url"];
                addresses.push(address.as_str().context("no address")?.to_owned());
            }
        }
        Ok(addresses)
    }

    fn debug(&self, command: &str, parameters: Value) -> Result<Value> {
        self.ask(Method::POST, "goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    fn ask(&self, method: Method, path: &'static str, body: Value) -> Result<Value> {
        let wanted = Extension { method, path, body };
        self.runtime.block_on(self.client.issue_cmd(wanted)).with_context(|| path)
    }
}

/// A command of chromedriver that is not in the standard.
#[derive(Debug)]
struct Extension {
    method: Method,
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _address: &Url) -> (Method, Option<String>) {
        (self.method.clone(), Some(self.body.to_string()))
    }
}

impl fmt::Debug for Browser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Browser").finish_non_exhaustive()
    }
}
