//! Another entry in a model file's metadata, without anything that knows ONNX: a protobuf message is a row of fields, and
//! `metadata_props` is field 14 of the outermost one.

use anyhow::{Context as _, Result, bail};

/// Tag of `metadata_props`: field 14, length-delimited.
const METADATA: u64 = 14 << 3 | 2;

/// The model with this entry instead of any of the same key.
///
/// # Errors
/// When the bytes are no protobuf message.
pub fn with_metadata(model: &[u8], key: &str, value: &str) -> Result<Vec<u8>> {
    let (mut rest, mut changed) = (model, Vec::with_capacity(model.len() + value.len()));
    let key = field(1, key.as_bytes());
    while !rest.is_empty() {
        let whole = rest;
        let tag = varint(&mut rest)?;
        let length = match tag & 7 {
            0 => {
                varint(&mut rest)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?)?,
            5 => 4,
            other => bail!("wire type {other} in a model"),
        };
        let (content, after) = rest.split_at_checked(length).context("a field is longer than the file")?;
        rest = after;
        if tag != METADATA || !content.starts_with(&key) {
            changed.extend_from_slice(&whole[..whole.len() - rest.len()]);
        }
    }
    changed.extend(field(14, &[key, field(2, value.as_bytes())].concat()));
    Ok(changed)
}

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().context("a number breaks off")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number without an end")
}
