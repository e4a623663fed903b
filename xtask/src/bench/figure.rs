//! A measured number with its name and unit, and the two ways to print it.

use serde_json::{Value, json};

/// One measured number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) bench: String,
    pub(crate) figure: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
}

impl Figure {
    pub(crate) fn new(bench: &str, figure: &str, value: f64, unit: &str) -> Self {
        Self { bench: bench.into(), figure: figure.into(), value, unit: unit.into() }
    }

    /// One line of JSON.
    pub(crate) fn to_json(&self) -> String {
        let Self { bench, figure, value, unit } = self;
        json!({"bench": bench, "figure": figure, "value": value, "unit": unit}).to_string()
    }

    /// Reads what [`Self::to_json`] writes. `None` for anything else.
    pub(crate) fn from_json(line: &str) -> Option<Self> {
        let object: Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| object.get(name)?.as_str().map(str::to_owned);
        Some(Self {
            bench: text("bench")?,
            figure: text("figure")?,
            value: object.get("value")?.as_f64()?,
            unit: text("unit")?,
        })
    }
}

/// A table for people.
pub(crate) fn table(title: &str, figures: &[Figure]) -> String {
    let values: Vec<String> = figures.iter().map(|figure| number(figure.value)).collect();
    let name_width = figures.iter().map(|figure| figure.figure.chars().count()).max().unwrap_or(0);
    let value_width = values.iter().map(String::len).max().unwrap_or(0);
    let mut text = format!("{title}\n");
    for (Figure { figure, unit, .. }, value) in figures.iter().zip(&values) {
        text += &format!("  {figure:<name_width$}  {value:>value_width$} {unit}\n");
    }
    text
}

/// Three or more significant digits, thousands set apart.
fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_survives_its_line_of_json() {
        let figure = Figure::new("extract", "packets a CPU second", 1234.5, "packets/s");
        assert_eq!(Figure::from_json(&figure.to_json()), Some(figure));
        assert_eq!(Figure::from_json("{\"bench\": \"x\"}"), None);
        assert_eq!(Figure::from_json("a log line"), None);
    }

    #[test]
    fn a_table_lines_up() {
        let figures = [Figure::new("b", "short", 1.0, "s"), Figure::new("b", "rather long", 1_234_567.8, "packets/s")];
        assert_eq!(table("b", &figures), "b\n  short             1.00 s\n  rather long  1,234,568 packets/s\n");
    }

    #[test]
    fn negative_numbers_keep_their_sign_apart_from_the_commas() {
        assert_eq!(number(-123_456.0), "-123,456");
    }
}
