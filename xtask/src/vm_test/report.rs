//! What the guest's script wrote on the serial port, read: a line an observation, a word before it that says of what.

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::bench::Figure;

/// All that was observed in one run of the machine.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// As `uname -r` says it.
    pub(super) release: String,
    /// What did not go as it should, in the script's words.
    pub(super) notes: Vec<String>,
    /// What the verifier made of the programs.
    pub(super) verified: Vec<Figure>,
    pub(super) phases: Vec<Phase>,
    /// The script came to its end.
    pub(super) done: bool,
}

/// One sensor, from start to end.
#[derive(Debug, Default)]
pub(super) struct Phase {
    /// The attach mode.
    pub(super) mode: String,
    /// Attached; after some conversations; after a transfer in super-packets.
    pub(super) moments: Vec<Moment>,
    /// Lines of the sensor's standard error.
    pub(super) log: Vec<String>,
    /// Lines of its log files.
    pub(super) flows: Vec<Value>,
    /// How it ended.
    pub(super) exit: Option<i32>,
}

/// What sensor and kernel had counted at one moment without traffic.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// The answer of `/health`.
    pub(super) health: Value,
    /// Packets that the interface has received.
    pub(super) received: u64,
    /// Packets that it has sent; a super-packet is one.
    pub(super) sent: u64,
    /// IPv4 packets that the host at the other end has received; a super-packet is as many as it stands for.
    pub(super) segments: u64,
}

impl Report {
    /// Reads the whole text.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut report = Self::default();
        for line in text.lines() {
            report.line(line).with_context(|| format!("the script wrote a line that cannot be read: {line}"))?;
        }
        Ok(report)
    }

    fn line(&mut self, line: &str) -> anyhow::Result<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" => {}
            "kernel" => self.release = rest.to_owned(),
            "note" => self.notes.push(rest.to_owned()),
            "verify" => self.verified.push(Figure::from_json(rest).context("not a figure")?),
            "phase" => self.phases.push(Phase { mode: rest.to_owned(), ..Phase::default() }),
            "done" => self.done = true,
            _ => self.phases.last_mut().context("outside of a phase")?.line(word, rest)?,
        }
        Ok(())
    }
}

impl Phase {
    fn line(&mut self, word: &str, rest: &str) -> anyhow::Result<()> {
        match word {
            // No answer is an empty line.
            "health" => self.moments.push(Moment {
                health: if rest.is_empty() { Value::Null } else { serde_json::from_str(rest)? },
                ..Moment::default()
            }),
            "interface" => {
                let (received, sent) = rest.split_once(' ').context("two numbers expected")?;
                let moment = self.moments.last_mut().context("before /health")?;
                (moment.received, moment.sent) = (received.parse()?, sent.parse()?);
            }
            "peer" => self.moments.last_mut().context("before /health")?.segments = rest.parse()?,
            "log" => self.log.push(rest.to_owned()),
            "flow" => self.flows.push(serde_json::from_str(rest)?),
            "exit" => self.exit = Some(rest.parse()?),
            _ => bail!("an unknown word"),
        }
        Ok(())
    }
}

impl Moment {
    /// A number in the answer of `/health`, such as `/sensor/packets/ingress/seen`.
    pub(super) fn count(&self, pointer: &str) -> Option<u64> {
        self.health.pointer(pointer)?.as_u64()
    }

    /// A hook's name, or `None` where there is none.
    pub(super) fn hook(&self, direction: &str) -> Option<&str> {
        self.health.pointer("/sensor/interfaces/0")?.get(direction)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_by_its_words() {
        let text = "kernel 6.1.0\nnote odd\nphase host\nhealth {\"sensor\":{\"interfaces\":[{\"ingress\":\"xdp-native\"}]}}\n\
                    interface 3 4\npeer 5\nexit 0\nlog a b\nflow {\"proto\":\"TCP\"}\ndone\n";
        let report = Report::parse(text).unwrap();
        assert_eq!((report.release.as_str(), report.notes.as_slice()), ("6.1.0", ["odd".to_owned()].as_slice()));
        assert!(report.done);
        let [phase] = report.phases.as_slice() else { panic!("one phase expected, got {report:?}") };
        let [moment] = phase.moments.as_slice() else { panic!("one moment expected, got {phase:?}") };
        assert_eq!((moment.received, moment.sent, moment.segments), (3, 4, 5));
        assert_eq!((moment.hook("ingress"), moment.hook("egress")), (Some("xdp-native"), None));
        assert_eq!((phase.exit, phase.log.as_slice()), (Some(0), ["a b".to_owned()].as_slice()));
    }

    #[test]
    fn a_garbled_line_is_an_error_that_shows_it() {
        let error = Report::parse("kernel 6.1.0\nphase host\ninterface 3\n").unwrap_err();
        assert!(format!("{error:#}").contains("interface 3: two numbers"), "{error:#}");
    }
}
