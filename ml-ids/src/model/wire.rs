//! A reader of protobuf's wire format that allocates nothing.
//!
//! Decoding is where a small hostile file becomes a large one: two bytes of an empty message cost hundreds in memory.
//! The scan walks the bytes with this reader first and counts, so that what is decoded afterwards has a known bound.

use thiserror::Error;

/// Why bytes are not protobuf as ONNX uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// A field or a number ends behind the end of the file or of the message around it.
    #[error(
        "the file is cut short or is not protobuf, so it is no ONNX model; copy it again, or export the model to ONNX"
    )]
    Truncated,
    /// A number of more than 64 bits.
    #[error("a number is longer than 64 bits, so this is not protobuf and no ONNX model; export the model to ONNX")]
    LongVarint,
    /// Field number 0, a group, or a wire type that does not exist.
    #[error("field key {0} has no meaning in an ONNX file, so this is not one; export the model to ONNX")]
    BadKey(u64),
    /// A field has another wire type than ONNX gives it.
    #[error("field {0} has the wrong wire type for an ONNX file, so this is not one; export the model to ONNX")]
    WrongType(u32),
}

/// The content of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// An integer; nothing here needs its value.
    Varint,
    /// Four bytes, a float32 for example.
    Fixed32,
    /// Eight bytes.
    Fixed64,
    /// A string, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field<'a> {
    /// The number in the .proto file.
    pub(super) number: u32,
    /// What it holds.
    pub(super) value: Value<'a>,
}

impl<'a> Field<'a> {
    /// The bytes of a string or message field.
    pub(super) fn bytes(&self) -> Result<&'a [u8], WireError> {
        match self.value {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::WrongType(self.number)),
        }
    }

    /// How many integers this occurrence of a repeated integer field carries, packed or not.
    pub(super) fn count_integers(&self) -> Result<usize, WireError> {
        match self.value {
            Value::Varint => Ok(1),
            // Each varint ends with its only byte below 0x80.
            Value::Bytes(bytes) => Ok(bytes.iter().filter(|&&byte| byte < 0x80).count()),
            _ => Err(WireError::WrongType(self.number)),
        }
    }

    /// How many float32 this occurrence of a repeated float field carries, packed or not.
    pub(super) fn count_floats(&self) -> Result<usize, WireError> {
        match self.value {
            Value::Fixed32 => Ok(1),
            Value::Bytes(bytes) => Ok(bytes.len() / 4),
            _ => Err(WireError::WrongType(self.number)),
        }
    }
}

/// The fields of a message, in file order. Ends after the first error.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads the fields of `message`.
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::LongVarint)
    }

    fn field(&mut self) -> Result<Field<'a>, WireError> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|&number| number != 0).ok_or(WireError::BadKey(key))?;
        let value = match key & 7 {
            0 => {
                self.varint()?;
                Value::Varint
            }
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            _ => return Err(WireError::BadKey(key)),
        };
        Ok(Field { number, value })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Result<Field<'_>, WireError>> {
        Fields::of(bytes).collect()
    }

    #[test]
    fn fields_of_each_wire_type_are_read() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x1d, 0, 0, 0x80, 0x3f, 0x21, 0, 0, 0, 0, 0, 0, 0, 0];
        let numbers: Vec<_> = read(&bytes).into_iter().map(|field| field.unwrap()).collect();
        assert_eq!(numbers[0], Field { number: 1, value: Value::Varint });
        assert_eq!(numbers[1], Field { number: 2, value: Value::Bytes(b"hi") });
        assert_eq!(numbers[2], Field { number: 3, value: Value::Fixed32 });
        assert_eq!(numbers[3], Field { number: 4, value: Value::Fixed64 });
    }

    #[test]
    fn a_length_behind_the_end_is_truncated() {
        assert_eq!(read(&[0x12, 0x7f, 1, 2]), [Err(WireError::Truncated)]);
        assert_eq!(
            read(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            [Err(WireError::Truncated)]
        );
    }

    #[test]
    fn groups_and_field_zero_are_refused() {
        assert_eq!(read(&[0x0b, 0x0c]), [Err(WireError::BadKey(0x0b))]);
        assert_eq!(read(&[0x00, 0x01]), [Err(WireError::BadKey(0))]);
    }

    #[test]
    fn a_number_without_an_end_is_refused() {
        assert_eq!(read(&[0x80; 12]), [Err(WireError::LongVarint)]);
    }

    #[test]
    fn packed_and_single_numbers_are_counted_alike() {
        let packed = Field { number: 8, value: Value::Bytes(&[0x01, 0x96, 0x01, 0x00]) };
        assert_eq!(packed.count_integers(), Ok(3));
        assert_eq!(Field { number: 8, value: Value::Varint }.count_integers(), Ok(1));
        assert_eq!(Field { number: 7, value: Value::Bytes(&[0; 12]) }.count_floats(), Ok(3));
        assert_eq!(Field { number: 7, value: Value::Varint }.count_floats(), Err(WireError::WrongType(7)));
    }
}
