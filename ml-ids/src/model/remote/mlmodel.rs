//! `MLmodel`, the YAML card of a model that MLflow logged: where its ONNX file is.
//!
//! Read event by event: aliases are never expanded, so a small file stays small.

use std::path::{Component, Path};

use saphyr_parser::{Event, Parser};

/// Deepest nesting that is followed.
const DEPTH: usize = 32;

/// The path of the ONNX file beside the card: `flavors.onnx.data`.
pub(super) fn onnx_file(card: &str) -> Result<String, String> {
    let data = value_at(card, ["flavors", "onnx", "data"])?;
    let file = data.ok_or_else(|| {
        "holds no ONNX model; log it with mlflow.onnx.log_model, or register it with `python -m ml_ids_training register`"
            .to_owned()
    })?;
    let plain = !file.is_empty() && Path::new(&file).components().all(|part| matches!(part, Component::Normal(_)));
    if plain { Ok(file) } else { Err("has an MLmodel file that points outside of the model".to_owned()) }
}

/// Where in the document the parser is.
enum Level {
    /// In a mapping: the key whose value is next, if it was read.
    Mapping(Option<String>),
    Sequence,
}

/// The text at a path of mappings; `None` if there is none.
fn value_at<const N: usize>(text: &str, path: [&str; N]) -> Result<Option<String>, String> {
    let mut levels: Vec<Level> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| format!("has an MLmodel file that is no YAML: {error}"))?;
        match event {
            Event::MappingStart(..) => levels.push(Level::Mapping(None)),
            Event::SequenceStart(..) => levels.push(Level::Sequence),
            Event::MappingEnd | Event::SequenceEnd => {
                levels.pop();
                ended_value(&mut levels);
            }
            Event::Scalar(value, ..) => match levels.last_mut() {
                Some(Level::Mapping(key @ None)) => *key = Some(value.into_owned()),
                _ => {
                    if is_at(&levels, &path) {
                        return Ok(Some(value.into_owned()));
                    }
                    ended_value(&mut levels);
                }
            },
            Event::Alias(_) => match levels.last_mut() {
                Some(Level::Mapping(key @ None)) => *key = Some(String::new()),
                _ => ended_value(&mut levels),
            },
            _ => {}
        }
        if levels.len() > DEPTH {
            return Err("has an MLmodel file that is nested too deeply".to_owned());
        }
    }
    Ok(None)
}

/// The value of a key has been read: the next thing in the mapping is a key. A mapping that was itself a key leaves one
/// that matches nothing.
fn ended_value(levels: &mut [Level]) {
    if let Some(Level::Mapping(key)) = levels.last_mut() {
        *key = if key.is_some() { None } else { Some(String::new()) };
    }
}

fn is_at(levels: &[Level], path: &[&str]) -> bool {
    levels.len() == path.len()
        && levels
            .iter()
            .zip(path)
            .all(|(level, name)| matches!(level, Level::Mapping(Some(key)) if key.as_str() == *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = "artifact_path: model
flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_version: 1.23.2
    providers:
    - CUDAExecutionProvider
    - [a, {data: wrong.onnx}]
  python_function:
    data: other.onnx
    env: {conda: conda.yaml}
";

    #[test]
    fn the_onnx_file_is_found_among_other_flavours() {
        assert_eq!(onnx_file(CARD).unwrap(), "model.onnx");
        let behind = "flavors:\n  python_function: {data: a}\n  ? [b, c]\n  : d\n  onnx: {data: \"m.onnx\"}\n";
        assert_eq!(onnx_file(behind).unwrap(), "m.onnx");
    }

    #[test]
    fn a_model_of_another_flavour_is_refused_with_what_to_do() {
        let error = onnx_file("flavors:\n  sklearn:\n    data: m.pkl\n").unwrap_err();
        assert!(error.contains("mlflow.onnx.log_model"), "{error}");
        assert!(onnx_file("onnx: {data: m.onnx}").is_err() && onnx_file("").is_err());
    }

    #[test]
    fn paths_that_leave_the_model_are_refused() {
        for path in ["../m.onnx", "/etc/m.onnx", "a/../../m", "\"\""] {
            assert!(onnx_file(&format!("flavors: {{onnx: {{data: {path}}}}}")).is_err(), "{path}");
        }
    }

    #[test]
    fn hostile_yaml_ends_with_an_error_soon() {
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (name, before) in ('b'..='z').zip('a'..='y') {
            bomb += &format!("{name}: &{name} [*{before},*{before},*{before},*{before},*{before},*{before}]\n");
        }
        assert!(onnx_file(&bomb).is_err());
        assert!(onnx_file(&"[".repeat(100_000)).is_err());
        assert!(onnx_file("flavors: {onnx: {data: *unknown}}").is_err());
        assert!(onnx_file("\u{0}\t- : [").is_err());
    }
}
