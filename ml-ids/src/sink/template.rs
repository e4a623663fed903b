//! Bodies of webhooks: JSON with `{{field.path}}` where a field of the event goes.
//!
//! Within quotes a field becomes text, escaped for JSON; elsewhere the JSON of its value, `null` if the event lacks it. So what
//! is in an event, a label from a model's file for example, cannot break out of its place.

use serde_json::Value;

/// Receivers that understand Slack's messages. The fields are plain text: nothing in them is markup or calls on somebody.
const SLACK: &str = r#"{
  "text": "ML-IDS alert",
  "blocks": [{
    "type": "section",
    "text": {
      "type": "plain_text",
      "emoji": false,
      "text": "{{alert.signature}}, severity {{alert.severity}}, {{alert.change}}\n{{alert.title}}\n{{alert.count}} flows since {{alert.first_seen}}, score {{alert.score}}, sensor {{host}}"
    }
  }]
}"#;
/// Templates by name.
const KNOWN: [(&str, &str); 1] = [("slack", SLACK)];

/// A template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field {
        path: Vec<String>,
        /// Within quotes.
        quoted: bool,
    },
}

/// Why a template is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without an end.
    #[error("line {0}: {{{{ without }}}}")]
    Open(usize),
    /// Something else than a path.
    #[error("line {0}: write {{{{alert.signature}}}}, the names of fields with dots between them")]
    Path(usize),
    /// Not JSON, whatever the fields are.
    #[error("with the fields filled in it is no JSON: {0}")]
    Json(String),
}

impl Template {
    /// The template of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        KNOWN.iter().find(|(known, _)| *known == name).and_then(|(_, text)| Self::parse(text).ok())
    }

    /// Reads a template.
    ///
    /// # Errors
    /// When it would not make JSON.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (mut pieces, mut rest, mut quoted, mut lines) = (Vec::new(), text, false, 1);
        while let Some((before, after)) = rest.split_once("{{") {
            quoted = in_quotes(before, quoted);
            lines += before.matches('\n').count();
            let (path, after) = after.split_once("}}").ok_or(TemplateError::Open(lines))?;
            let path: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
            let is_name = |name: &String| {
                !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ' ' | '/'))
            };
            if !path.iter().all(is_name) {
                return Err(TemplateError::Path(lines));
            }
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Field { path, quoted });
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        let template = Self(pieces);
        match serde_json::from_str::<Value>(&template.fill(&Value::Null)) {
            Ok(_) => Ok(template),
            Err(error) => Err(TemplateError::Json(error.to_string())),
        }
    }

    /// The body for an event.
    #[must_use]
    pub fn fill(&self, event: &Value) -> String {
        let mut body = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => body.push_str(text),
                Piece::Field { path, quoted } => {
                    let value = path.iter().try_fold(event, |value, name| match value {
                        Value::Array(values) => values.get(name.parse::<usize>().ok()?),
                        value => value.get(name),
                    });
                    match (value, quoted) {
                        (value, false) => body.push_str(&value.unwrap_or(&Value::Null).to_string()),
                        (None | Some(Value::Null), true) => {}
                        (Some(Value::String(text)), true) => body.push_str(&escaped(text)),
                        (Some(value), true) => body.push_str(&escaped(&value.to_string())),
                    }
                }
            }
        }
        body
    }
}

/// Whether the end of `text` lies in a JSON string, when its begin does or not.
fn in_quotes(text: &str, mut quoted: bool) -> bool {
    let mut escape = false;
    for c in text.chars() {
        match c {
            _ if escape => escape = false,
            '\\' if quoted => escape = true,
            '"' => quoted = !quoted,
            _ => {}
        }
    }
    quoted
}

/// The text as it stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(template: &str, event: &Value) -> Value {
        serde_json::from_str(&Template::parse(template).unwrap().fill(event)).unwrap()
    }

    #[test]
    fn fields_are_text_within_quotes_and_values_elsewhere() {
        let event = json!({ "a": { "b": 1.5 }, "list": ["x", "y"], "text": "t" });
        let template = r#"{"in": "<{{a.b}}> {{text}} {{ list.1 }} {{none.at.all}}", "out": {{a}}, "gone": {{gone}}, "t": {{text}}}"#;
        let expected = json!({ "in": "<1.5> t y ", "out": { "b": 1.5 }, "gone": null, "t": "t" });
        assert_eq!(filled(template, &event), expected);
    }

    #[test]
    fn a_hostile_field_stays_in_its_place() {
        for hostile in ["\"}, {\"", "\\", "\\\"", "{{src_ip}}", "\n\u{0}\u{2028}", "<!channel>"] {
            let event = json!({ "x": hostile, "object": { hostile: hostile } });
            assert_eq!(
                filled(r#"{"a": "\"{{x}}", "b": {{x}}}"#, &event),
                json!({ "a": format!("\"{hostile}"), "b": hostile })
            );
            let whole = filled(r#"["{{object}}"]"#, &event);
            assert_eq!(serde_json::from_str::<Value>(whole[0].as_str().unwrap()).unwrap(), event["object"]);
        }
    }

    #[test]
    fn what_makes_no_json_is_refused_with_the_line() {
        for (text, words) in [
            ("{\"a\":\n \"{{b\"}", "line 2: {{ without }}"),
            ("{\"a\": \"{{b..c}}\"}", "line 1: write {{alert.signature}}"),
            ("{\"a\": \"{{}}\"}", "line 1: write"),
            ("{\"a\": b}", "no JSON"),
            ("Alert {{label}}", "no JSON"),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_templates_that_come_along_are_valid_and_say_who_and_what() {
        for (name, _) in KNOWN {
            assert!(Template::named(name).is_some(), "{name}");
        }
        assert_eq!(Template::named("teams"), None);
        let event = json!({ "alert": { "signature": "ML-IDS DoS", "severity": 1, "change": "opened", "title": "DoS by 10.0.0.1" } });
        let body: Value = serde_json::from_str(&Template::named("slack").unwrap().fill(&event)).unwrap();
        let text = body["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(text.starts_with("ML-IDS DoS, severity 1, opened\nDoS by 10.0.0.1\n"), "{text}");
    }
}
