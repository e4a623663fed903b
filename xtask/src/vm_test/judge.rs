//! What must hold of a run, checked against what was observed.

use serde_json::Value;

use super::report::{Moment, Phase, Report};

/// The port that every conversation over TCP goes to, and how many there are, the transfer in super-packets included.
const PORT: u64 = 8080;
const CONVERSATIONS: usize = 11;
/// Segments that the transfer in super-packets takes at the least: 512 KiB in segments of 1,448 bytes.
const SEGMENTS: u64 = 512 * 1024 / 1448;
/// What the kernel's console may not show.
const COMPLAINTS: [&str; 5] = ["BUG:", "WARNING:", "Oops", "Kernel panic", "rcu: INFO"];

/// One thing that must hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) what: String,
    /// Why it does not hold.
    pub(super) fault: Option<String>,
}

/// Checks a run.
pub(super) fn judge(report: &Report, console: &str) -> Vec<Check> {
    let mut checks = Checks(Vec::new());
    checks.holds("the script came to its end", report.done, || report.notes.join("; "));
    checks.holds("nothing odd happened", report.notes.is_empty(), || report.notes.join("; "));
    let complaint = console.lines().find(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)));
    checks.holds("the kernel did not complain", complaint.is_none(), || complaint.unwrap_or_default().to_owned());
    checks.holds("the verifier took every program", !report.verified.is_empty(), || "no figure of it".to_owned());
    for mode in ["host", "mirror"] {
        match report.phases.iter().find(|phase| phase.mode == mode) {
            Some(phase) => phase_checks(&mut checks, phase),
            None => checks.holds(&format!("{mode}: the sensor was started"), false, String::new),
        }
    }
    checks.0
}

fn phase_checks(checks: &mut Checks, phase: &Phase) {
    let mode = &phase.mode;
    let errors = || phase.log.iter().rev().take(5).rev().cloned().collect::<Vec<_>>().join(" | ");
    let attached = phase.moments.iter().all(|moment| moment.hook("ingress").is_some());
    let [before, talked, transferred] = phase.moments.as_slice() else {
        return checks.holds(&format!("{mode}: the sensor was watched"), false, errors);
    };
    checks.holds(&format!("{mode}: the sensor attaches"), attached, errors);
    let egress = before.hook("egress").is_some();
    checks.holds(&format!("{mode}: sent packets are watched in host mode only"), egress == (mode == "host"), errors);
    let healthy =
        phase.moments.iter().all(|moment| moment.health.get("status").is_some_and(|status| status == "healthy"));
    checks.holds(&format!("{mode}: /health says healthy"), healthy, || {
        let reasons = phase.moments.iter().filter_map(|moment| moment.health.get("reasons"));
        reasons.map(Value::to_string).collect::<Vec<_>>().join(", ")
    });

    let grown = |from: &Moment, to: &Moment, pointer: &str| {
        to.count(pointer).unwrap_or(0).saturating_sub(from.count(pointer).unwrap_or(0))
    };
    let received = grown(before, talked, "/sensor/packets/ingress/seen");
    checks.equal(&format!("{mode}: every received packet is counted"), received, talked.received - before.received);
    if egress {
        let sent = grown(before, talked, "/sensor/packets/egress/seen");
        checks.equal(&format!("{mode}: every sent packet is counted"), sent, talked.sent - before.sent);
        let segments = grown(talked, transferred, "/sensor/packets/egress/in_flow");
        let arrived = transferred.segments - talked.segments;
        checks.equal(&format!("{mode}: a super-packet counts as its segments"), segments, arrived);
        checks.holds(&format!("{mode}: the transfer was large"), arrived >= SEGMENTS, || format!("{arrived} segments"));
    }

    let is_conversation = |flow: &&Value| {
        ["src_port", "dest_port"].iter().any(|port| flow.get(port).and_then(Value::as_u64) == Some(PORT))
    };
    let conversations = phase.flows.iter().filter(is_conversation).count();
    checks.equal(
        &format!("{mode}: every conversation is a flow in the log"),
        conversations as u64,
        CONVERSATIONS as u64,
    );
    checks.holds(&format!("{mode}: the sensor ends in order"), phase.exit == Some(0), errors);
    let balanced = phase.log.iter().any(|line| line.ends_with("the books balance"));
    checks.holds(&format!("{mode}: the books balance"), balanced, errors);
}

struct Checks(Vec<Check>);

impl Checks {
    fn holds(&mut self, what: &str, holds: bool, why_not: impl FnOnce() -> String) {
        self.0.push(Check { what: what.to_owned(), fault: (!holds).then(why_not) });
    }

    fn equal(&mut self, what: &str, found: u64, expected: u64) {
        // Nothing at all is no proof.
        self.holds(what, found == expected && found > 0, || format!("{found} instead of {expected}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn moment(seen: u64, health: &str) -> Moment {
        let packets = json!({"ingress": {"seen": seen}, "egress": {"seen": seen, "in_flow": seen}});
        let interfaces = json!([{"ingress": "xdp-native", "egress": "clsact"}]);
        let health = json!({"status": health, "sensor": {"interfaces": interfaces, "packets": packets}});
        Moment { health, received: seen + 7, sent: seen + 9, segments: seen }
    }

    fn host() -> Phase {
        Phase {
            mode: "host".to_owned(),
            moments: vec![moment(0, "healthy"), moment(100, "healthy"), moment(600, "healthy")],
            log: vec!["[INFO] the books balance".to_owned()],
            flows: vec![json!({"src_port": 40000, "dest_port": PORT}); CONVERSATIONS],
            exit: Some(0),
        }
    }

    fn faults(phase: &Phase) -> Vec<String> {
        let mut checks = Checks(Vec::new());
        phase_checks(&mut checks, phase);
        checks.0.into_iter().filter(|check| check.fault.is_some()).map(|check| check.what).collect()
    }

    #[test]
    fn a_run_in_which_all_agrees_has_no_fault() {
        assert_eq!(faults(&host()), [""; 0]);
    }

    #[test]
    fn a_packet_that_was_not_counted_is_a_fault() {
        let mut phase = host();
        phase.moments[1].received += 1;
        assert_eq!(faults(&phase), ["host: every received packet is counted"]);
    }

    #[test]
    fn a_sensor_that_did_not_start_is_a_fault_with_its_last_words() {
        let phase = Phase { mode: "host".to_owned(), log: vec!["refused".to_owned()], ..Phase::default() };
        let mut checks = Checks(Vec::new());
        phase_checks(&mut checks, &phase);
        assert_eq!(checks.0, [Check { what: "host: the sensor was watched".into(), fault: Some("refused".into()) }]);
    }

    #[test]
    fn a_complaint_of_the_kernel_is_a_fault() {
        let checks = judge(&Report::default(), "quiet\n[ 1.0] WARNING: CPU: 0 PID: 1 at kernel/bpf\n");
        let fault = checks.into_iter().find(|check| check.what == "the kernel did not complain").unwrap().fault;
        assert_eq!(fault.as_deref(), Some("[ 1.0] WARNING: CPU: 0 PID: 1 at kernel/bpf"));
    }
}
