//! `cargo xtask manifests`: what is deployed, held against the schemas of those who read it, offline. Kubernetes manifests as
//! kustomize writes them, the Compose project, the GitHub workflow, the Jenkinsfile's grammar, all YAML, and the bill of materials.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};

use crate::{dist, process, setup, workspace};

/// Kustomizations that a user applies.
const KUSTOMIZATIONS: [&str; 3] =
    ["deploy/kubernetes/base", "deploy/kubernetes/overlays/privileged", "deploy/kubernetes/overlays/pods"];
/// Kinds that no Kubernetes knows by itself.
const FOREIGN_KINDS: [&str; 1] = ["PodMonitor"];
/// Documents with a schema that check-jsonschema brings.
const DOCUMENTS: [(&str, &str); 2] =
    [("vendor.compose-spec", "deploy/compose/compose.yaml"), ("vendor.github-workflows", ".github/workflows/ci.yml")];
/// Folders whose YAML is linted.
const YAML: [&str; 2] = ["deploy", ".github"];
const RULES: &str = "{extends: relaxed, rules: {line-length: disable, document-start: disable, braces: disable}}";

/// Prints where the first syntax error of a Groovy file is.
const GROOVY: &str = r"
import sys, tree_sitter, tree_sitter_groovy
parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_groovy.language()))
tree = parser.parse(open(sys.argv[1], 'rb').read())
nodes = [tree.root_node]
while nodes:
    node = nodes.pop()
    if node.is_error or node.is_missing:
        sys.exit(f'{sys.argv[1]}:{node.start_point[0] + 1}: this is not Groovy')
    nodes += node.children
";

/// Fails with what does not fit the schema of a bill of materials.
const CYCLONEDX: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
wrong = JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read())
sys.exit(str(wrong) if wrong else 0)
";

/// Checks everything and says what has been checked.
pub(crate) fn main() -> anyhow::Result<ExitCode> {
    setup::provide_lint()?;
    for line in check()? {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each thing that was checked. Needs the environment that [`setup::provide_lint`] makes.
///
/// # Errors
/// The first thing that is wrong, or a program that is missing.
pub(crate) fn check() -> anyhow::Result<Vec<String>> {
    let root = workspace::root();
    let mut checked = Vec::new();
    for kustomization in KUSTOMIZATIONS {
        checked.extend(kubernetes(&root, kustomization)?);
    }
    for (schema, document) in DOCUMENTS {
        said(module("check_jsonschema")?.args(["--builtin-schema", schema]).arg(root.join(document)))?;
        checked.push(format!("{document}: fits {schema}"));
    }
    let files = YAML.iter().map(|part| root.join(part));
    said(module("yamllint")?.args(["--strict", "--config-data", RULES]).args(files))?;
    checked.push("all YAML: yamllint has nothing to say".to_owned());
    said(Command::new(setup::lint_interpreter()?).args(["-c", GROOVY]).arg(root.join("Jenkinsfile")))?;
    checked.push("Jenkinsfile: parsed as Groovy".to_owned());
    checked.push(xtask_commands(&root)?);
    let bill = scratch("bill.cdx.json")?;
    dist::write_bill(&bill)?;
    said(Command::new(setup::lint_interpreter()?).args(["-c", CYCLONEDX]).arg(&bill))?;
    checked.push("bill of materials: fits CycloneDX 1.5".to_owned());
    Ok(checked)
}

fn kubernetes(root: &Path, kustomization: &str) -> anyhow::Result<Vec<String>> {
    let started = Instant::now();
    let kubectl = setup::kubectl()?.context("kubectl is missing; `cargo xtask setup --tests` fetches it")?;
    let manifests = said(Command::new(kubectl).arg("kustomize").arg(root.join(kustomization)))?;
    let file = scratch(&format!("{}.yaml", kustomization.replace('/', "-")))?;
    fs::write(&file, &manifests).with_context(|| format!("cannot write {}", file.display()))?;
    let report = said(module("kubernetes_validate")?.arg("--strict").arg(&file))?;
    let mut checked = Vec::new();
    for line in report.lines() {
        // It lets pass what it has no schema for.
        let unknown = line.contains("find schema for kind");
        if unknown && !FOREIGN_KINDS.iter().any(|kind| line.contains(kind)) {
            bail!("{kustomization}: {line}");
        }
        if let Some((_, what)) = line.split_once(" passed for resource ") {
            checked.push(format!("{kustomization}: {what}"));
        }
    }
    ensure!(!checked.is_empty(), "kubernetes-validate has looked at nothing of {kustomization}:\n{report}");
    if manifests.contains("runAsUser: 0\n") && manifests.contains("hostPath:") {
        ensure!(
            gives_folders(&manifests),
            "{kustomization}: the node's folders stay root's, whom the sensor does not stay"
        );
        checked.push(format!("{kustomization}: the node's folders are given to the sensor's account"));
    }
    checked.push(format!(
        "{kustomization}: {} bytes, built and held against the schemas in {:.1} s",
        manifests.len(),
        started.elapsed().as_secs_f64()
    ));
    Ok(checked)
}

/// Whether a container that starts first gives the folders that the sensor writes to to the account that it becomes.
fn gives_folders(manifests: &str) -> bool {
    let Some((_, first)) = manifests.split_once("initContainers:\n") else { return false };
    let command = ["chown", "65532:65532", "/app/logs", "/var/lib/ml-ids"];
    let lines: Vec<&str> = first.lines().map(|line| line.trim().trim_start_matches("- ").trim_matches('"')).collect();
    lines.windows(command.len()).any(|window| window == command)
}

/// CI calls commands of xtask that exist, and nothing else that builds or tests.
fn xtask_commands(root: &Path) -> anyhow::Result<String> {
    use clap::CommandFactory as _;

    let known = crate::Arguments::command();
    let mut calls = 0;
    for file in ["Jenkinsfile", ".github/workflows/ci.yml"] {
        let text = fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !is_comment(line)) {
            let Some((_, call)) = line.split_once("cargo ") else { continue };
            let words: Vec<&str> = call.split_whitespace().map(|word| word.trim_matches(['\'', '"', '`'])).collect();
            ensure!(words.first() == Some(&"xtask"), "{file}:{}: calls cargo and not xtask: {call}", number + 1);
            let words = words.iter().skip(1).take_while(|word| !matches!(**word, ">" | "&&" | "|"));
            let arguments = std::iter::once("xtask").chain(words.copied());
            known
                .clone()
                .try_get_matches_from(arguments)
                .with_context(|| format!("{file}:{}: `cargo xtask` does not know this", number + 1))?;
            calls += 1;
        }
    }
    ensure!(calls > 0, "CI calls nothing");
    Ok(format!("CI: {calls} commands, all known to xtask"))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with(['#', '/'])
}

/// A Python module's program.
fn module(name: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(setup::lint_interpreter()?);
    command.args(["-m", name]).current_dir(workspace::root());
    Ok(command)
}

/// What a program says, on either output, when it succeeds.
fn said(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", process::shown(command)))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{} failed:\n{out}{err}", process::shown(command));
    Ok(if out.is_empty() { err.into_owned() } else { out.into_owned() })
}

fn scratch(name: &str) -> anyhow::Result<PathBuf> {
    let folder = workspace::target().join("xtask");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.join(name))
}
