//! The page at `/` in a real browser: a live alert with its reasons, search and filters, a sensor that goes away and comes
//! back, telephones and wide screens, light and dark, and nothing for axe-core to complain of.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent::{LIMIT, run},
    binary,
    browser::{Browser, key},
    fixture,
    lab::{CLIENT_V4, Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    sensor,
};
use serde_json::Value;

const PAGE: &str = "http://127.0.0.1:8000/";
/// Whether the stream of events has begun.
const LIVE: &str = "document.documentElement.dataset.link === 'live'";
const ROWS: &str = "document.querySelectorAll('#alert-list > li').length";
/// A name for the pictures, width and height.
const SIZES: [(&str, u32, u32); 2] = [("1440", 1440, 1100), ("360", 360, 740)];
/// Alerts of which a page of the list holds a part.
const ALERTS: usize = 60;
/// Alerts on a page of the list.
const PAGE_ROWS: usize = 25;

/// A sensor whose alerts outlive it.
fn start(lab: &mut Lab) -> Result<()> {
    let database = lab.directory().join("kept/alerts.db").to_string_lossy().into_owned();
    sensor::start(lab, &["-i", SERVER_IF, "--attach", "host", "--alert-db", &database])
}

/// A scan of a thousand ports, and harmless visits before and after.
fn attack(lab: &Lab) -> Result<()> {
    lab.succeed(Side::Client, &["nmap", "-sS", "-Pn", "-n", "-T4", "-p", "1-1000", SERVER_V4]).map(drop)
}

/// Everything that has been asked for was asked of `allowed`, or is in the document.
fn asked_only(browser: &Browser, allowed: &str) -> Result<()> {
    let asked = browser.requests()?;
    let elsewhere = |address: &&String| !address.starts_with(allowed) && !address.starts_with("data:");
    let elsewhere: Vec<_> = asked.iter().filter(elsewhere).collect();
    ensure!(elsewhere.is_empty() && !asked.is_empty(), "requests to others: {elsewhere:?}");
    Ok(())
}

/// Prints how long the page took from the request on: a figure for people, as a machine that is busy has no bound.
fn tell_load_time(browser: &Browser) -> Result<()> {
    let event = "performance.getEntriesByType('navigation')[0].loadEventEnd";
    browser.wait_for(&format!("{event} > 0"))?;
    let loaded = browser.run(&format!("return {event}"))?;
    eprintln!("the page has loaded within {loaded} ms");
    Ok(())
}

/// Looks at the page as it is, in every size, light and dark; takes pictures if there is a folder for them.
fn looks_right(browser: &Browser, state: &str, pictures: Option<&Path>) -> Result<()> {
    for (name, width, height) in SIZES {
        browser.resize(width, height)?;
        for scheme in ["light", "dark"] {
            browser.prefer(scheme)?;
            // Charts are drawn anew at another size and in other colours.
            browser.wait_drawn()?;
            browser.wait_for("document.querySelectorAll('.chart canvas').length === 2")?;
            let what = format!("{state} at {width} px, {scheme}");
            let wide = browser.run("return document.documentElement.scrollWidth")?;
            ensure!(wide.as_u64() <= Some(width.into()), "{what}: the page is {wide} px wide");
            let back = browser.run("return getComputedStyle(document.documentElement).backgroundColor")?;
            ensure!((scheme == "dark") == (back == "rgb(15, 19, 23)"), "{what}: the background is {back}");
            browser.is_accessible(&what)?;
            if let Some(folder) = pictures {
                browser.screenshot(&folder.join(format!("page-{state}-{name}-{scheme}.png")))?;
            }
        }
    }
    browser.prefer("light")
}

#[test]
fn an_attack_appears_while_one_looks_and_the_page_outlives_the_sensor() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    start(&mut lab)?;
    let Some(browser) = Browser::start(&mut lab)? else { return Ok(()) };
    browser.resize(1440, 1000)?;
    browser.go(PAGE)?;
    browser.wait_for(LIVE)?;
    tell_load_time(&browser)?;
    ensure!(browser.text("#alerts-empty")?.starts_with("No alerts yet"), "{}", browser.text("#alerts")?);
    ensure!(browser.text("#state")? == "Healthy", "{}", browser.text(".bar")?);
    browser.wait_for("document.querySelectorAll('.chart canvas').length === 2")?;
    browser.run("window.sameDocument = true")?;

    attack(&lab)?;
    let took = browser.wait_for(&format!("{ROWS} > 0"))?;
    eprintln!("the alert has appeared {took:?} after the end of the scan");
    browser.wait_for("document.querySelector('#live').textContent.startsWith('New alert')")?;
    browser.wait_for("/\\d{3} flows/.test(document.querySelector('#alert-list').innerText)")?;
    let row = browser.text("#alert-list > li")?;
    ensure!(row.contains(CLIENT_V4) && row.to_lowercase().contains("portscan"), "{row}");
    browser.wait_for("Number(document.querySelector('#t-alerts').textContent) > 0")?;

    // By keyboard: open, read, close, and be where one was.
    browser.run("document.querySelector('#alert-list button').focus()")?;
    browser.press(key::ENTER)?;
    browser.wait_for("document.querySelectorAll('#why > li').length >= 3")?;
    let detail = browser.text("#detail")?;
    for part in ["What to do", "Network Service Discovery", CLIENT_V4, "in this flow", "it is an alert from"] {
        ensure!(detail.contains(part), "no {part:?} in:\n{detail}");
    }
    let bars = browser.run("return [...document.querySelectorAll('#why i')].every((bar) => bar.clientWidth > 0)")?;
    ensure!(bars == true, "a contribution has no bar");
    looks_right(&browser, "alert", None)?;
    browser.press(key::ESCAPE)?;
    browser.wait_for("!document.querySelector('#detail').open")?;
    browser.wait_for("document.activeElement.closest('#alert-list')")?;
    looks_right(&browser, "overview", None)?;
    browser.resize(1440, 1000)?;

    finds_and_filters(&browser)?;
    let said = browser.console()?;
    ensure!(said.is_empty(), "the console says {said:#?}");

    // The sensor ends, and another begins.
    sensor::stop(&mut lab, libc::SIGINT)?;
    browser.wait_for("document.querySelector('#link').innerText.includes('reconnecting in')")?;
    browser.wait_for(&format!("!({LIVE})"))?;
    let script = fixture("alerts.py").to_string_lossy().into_owned();
    let database = lab.directory().join("kept/alerts.db").to_string_lossy().into_owned();
    run(Command::new("python3").args([&script, &database, &ALERTS.to_string()]), b"", LIMIT)?.expect(0)?;
    start(&mut lab)?;
    browser.wait_for(LIVE)?;
    browser.wait_for("document.querySelector('#state').innerText === 'Healthy'")?;
    browser.wait_for(&format!("window.sameDocument && {ROWS} === {PAGE_ROWS}"))?;
    turns_pages(&browser)?;
    // Requests fail while nobody answers, and until capture is attached; that is the browser's to say. Nothing else is.
    let said = browser.console()?;
    let expected = |entry: &str| entry.contains("net::ERR_") || entry.contains("503 (Service Unavailable)");
    let others: Vec<_> = said.iter().filter(|entry| !expected(entry)).collect();
    ensure!(others.is_empty(), "the console says {others:#?}");
    asked_only(&browser, PAGE)?;
    sensor::stop(&mut lab, libc::SIGINT)
}

/// Turns to the oldest alerts and back: every alert is on one page.
fn turns_pages(browser: &Browser) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut pages = Vec::new();
    for page in 1.. {
        let said = if page == 1 { "the newest".to_owned() } else { format!("page {page};") };
        browser.wait_for(&format!("document.querySelector('#page').textContent.startsWith('{said}')"))?;
        let ids =
            browser.run("return [...document.querySelectorAll('#alert-list > li')].map((row) => row.dataset.id)")?;
        let ids: Vec<String> = serde_json::from_value(ids)?;
        let fresh = ids.iter().filter(|id| seen.insert((*id).clone())).count();
        ensure!(fresh == ids.len(), "page {page} repeats {} alerts", ids.len() - fresh);
        pages.push(ids);
        if browser.run("return document.querySelector('#older').disabled")? == true {
            break;
        }
        ensure!(pages.last().is_some_and(|ids| ids.len() == PAGE_ROWS), "page {page} is not full");
        browser.click("#older")?;
    }
    ensure!(seen.len() > ALERTS && pages.len() > 2, "{} alerts on {} pages", seen.len(), pages.len());
    for (page, ids) in pages.iter().enumerate().rev().skip(1) {
        browser.click("#newer")?;
        let first = ids.first().context("an empty page")?;
        browser.wait_for(&format!("document.querySelector('#alert-list > li').dataset.id === '{first}'"))?;
        browser.wait_for(&format!("document.querySelector('#newer').disabled === {}", page == 0))?;
    }
    Ok(())
}

#[test]
fn of_a_demonstration_the_page_says_what_it_is() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let binary = binary()?.to_string_lossy().into_owned();
    lab.start(Side::Server, "demo", &[&binary, "demo", "--loop", "--listen", "127.0.0.1:8000"], &[])?;
    let ready = || lab.get("http://127.0.0.1:8000/health/ready").is_ok_and(|body| body.contains("ready"));
    wait_until(LIMIT, ready).with_context(|| lab.log("demo"))?;
    let Some(browser) = Browser::start(&mut lab)? else { return Ok(()) };
    browser.go(PAGE)?;
    browser.wait_for("/no interface is watched/i.test(document.querySelector('#notes').innerText)")?;
    browser.wait_for("document.querySelector('#health').innerText.includes('a capture that is replayed')")?;
    browser.is_accessible("the page of a demonstration")?;
    lab.stop("demo", libc::SIGINT).map(drop)
}

fn finds_and_filters(browser: &Browser) -> Result<()> {
    let all = browser.run(&format!("return {ROWS}"))?;
    browser.press("/")?;
    browser.wait_for("document.activeElement.id === 'q'")?;
    browser.press("no such thing")?;
    browser.wait_for("document.querySelector('#alerts-empty').innerText.startsWith('No alert fits')")?;
    browser.run("document.querySelector('#q').select()")?;
    browser.press(CLIENT_V4)?;
    browser.wait_for(&format!("{ROWS} === {all}"))?;
    browser.choose("#severity", "high")?;
    browser.wait_for(&format!("{ROWS} === 0"))?;
    browser.choose("#severity", "")?;
    browser.wait_for(&format!("{ROWS} === {all}"))?;
    browser.choose("#class", "Heartbleed")?;
    browser.wait_for(&format!("{ROWS} === 0"))?;
    browser.choose("#class", "")?;
    browser.wait_for(&format!("{ROWS} === {all}"))?;
    browser.run("document.querySelector('#q').select()")?;
    browser.press("\u{e017}")?;
    browser.wait_for("document.querySelector('#q').value === ''").map(drop)
}

#[test]
fn without_a_sensor_the_page_says_so_and_asks_for_the_token_that_it_needs() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let file = lab.directory().join("token");
    let token = "0123456789abcdef0123456789abcdef";
    fs::write(&file, format!("{token}\n"))?;
    let (binary, file) = (binary()?.to_string_lossy().into_owned(), file.to_string_lossy().into_owned());
    lab.start(Side::Server, "serve", &[&binary, "serve", "--listen", "127.0.0.1:8000", "--token-file", &file], &[])?;
    let ready = || lab.get("http://127.0.0.1:8000/health/ready").is_ok_and(|body| body.contains("ready"));
    wait_until(LIMIT, ready).with_context(|| lab.log("serve"))?;
    let Some(browser) = Browser::start(&mut lab)? else { return Ok(()) };
    browser.go(PAGE)?;
    browser.wait_for("document.querySelector('#token').open && document.activeElement.id === 'token-text'")?;
    browser.is_accessible("the question for the token")?;
    browser.press("not this one")?;
    browser.press(key::ENTER)?;
    browser.wait_for("document.querySelector('#token-error').innerText.includes('does not accept')")?;
    browser.press(token)?;
    browser.press(key::ENTER)?;
    browser.wait_for("document.querySelector('#bar-model').innerText.includes('default')")?;
    browser.wait_for("document.querySelector('#no-sensor').checkVisibility()")?;
    for selector in ["#traffic", "#alerts", "#flows", "#books"] {
        let seen = browser.run(&format!("return document.querySelector('{selector}').checkVisibility()"))?;
        ensure!(seen == false, "{selector} is shown without a sensor");
    }
    browser.wait_for("document.querySelector('#model').innerText.includes('classes of attacks')")?;
    browser.is_accessible("the page of a server without a sensor")?;
    // Refused requests are in the console; what a server without a sensor does not have is not asked for.
    let said = browser.console()?;
    let others: Vec<_> = said.iter().filter(|entry| !entry.contains("401")).collect();
    ensure!(others.is_empty(), "the console says {others:#?}");
    // The tab keeps it.
    browser.go(PAGE)?;
    browser.wait_for("document.querySelector('#bar-model').innerText.includes('default')")?;
    ensure!(browser.run("return document.querySelector('#token').open")? == false, "asked for again");
    asked_only(&browser, PAGE)
}

#[test]
#[ignore = "takes five minutes and writes pictures; `cargo xtask docs page` runs it"]
fn pictures_for_the_documents() -> Result<()> {
    let folder = PathBuf::from(env::var_os("ML_IDS_PICTURES").context("ML_IDS_PICTURES names no folder")?);
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let binary = binary()?.to_string_lossy().into_owned();
    // The ten minutes of its capture fill the five of the chart.
    let demo = [&binary, "demo", "--speed", "2", "--listen", "127.0.0.1:8000"];
    lab.start(Side::Server, "demo", &demo, &[("NODE_NAME", "gate-1")])?;
    wait_until(LIMIT, || lab.get("http://127.0.0.1:8000/health/ready").is_ok_and(|body| body.contains("ready")))
        .with_context(|| lab.log("demo"))?;
    let Some(browser) = Browser::start(&mut lab)? else { return Ok(()) };
    browser.resize(1440, 1100)?;
    browser.go(PAGE)?;
    browser.wait_for(LIVE)?;
    tell_load_time(&browser)?;
    let seconds = || {
        let timeline = lab.get("http://127.0.0.1:8000/timeline?seconds=300").unwrap_or_default();
        let timeline: Value = serde_json::from_str(&timeline).unwrap_or_default();
        timeline["time"].as_array().map_or(0, Vec::len)
    };
    wait_until(Duration::from_secs(330), || seconds() > 275).with_context(|| lab.log("demo"))?;
    browser.run("document.querySelector('#ranges input[value=\"300\"]').click()")?;
    browser.wait_for(&format!("{ROWS} > 2"))?;
    looks_right(&browser, "overview", Some(&folder))?;
    browser
        .run("[...document.querySelectorAll('#alert-list button')].find((row) => /SSH/.test(row.innerText)).click()")?;
    browser.wait_for("document.querySelectorAll('#why > li').length >= 3")?;
    looks_right(&browser, "alert", Some(&folder))
}
