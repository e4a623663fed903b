//! A Parquet file, written while its rows are made: columns are gathered until a row group is full, and what has been
//! written is out of memory but for a few kilobytes a row group, which the file's end needs.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parquet::{
    basic::{Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType, ZstdLevel},
    data_type::{BoolType, ByteArrayType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::{Type, TypePtr},
};

use super::columns::{Column, Columns, Kind, Spec, Values};

/// Rows of a row group: with the 78 features about 24 MB before compression. More would gain little in size, and fewer
/// make the file's end larger.
pub const GROUP_ROWS: usize = 32_768;
/// Of zstd; higher ones cost more time than they save space.
const ZSTD_LEVEL: i32 = 3;

/// A Parquet file in the making. Without [`Self::finish`] it is not one.
pub struct RowGroups<W: Write + Send> {
    file: SerializedFileWriter<W>,
    pending: Columns,
}

impl<W: Write + Send> RowGroups<W> {
    /// Starts a file of these columns.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn new(out: W, specs: &[Spec]) -> io::Result<Self> {
        let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(io_error)?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("ml-ids version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(level))
            // Of pages they would be kept in memory until the end.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let file = SerializedFileWriter::new(out, schema(specs).map_err(io_error)?, Arc::new(properties));
        Ok(Self { file: file.map_err(io_error)?, pending: Columns::new(specs) })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&mut self, rows: Columns) -> io::Result<()> {
        self.pending.append(rows);
        if self.pending.rows >= GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    /// Writes what is left and the file's end, and returns what is written to.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        if self.pending.rows > 0 {
            self.write_group()?;
        }
        let mut out = self.file.into_inner().map_err(io_error)?;
        out.flush()?;
        Ok(out)
    }

    fn write_group(&mut self) -> io::Result<()> {
        let mut group = self.file.next_row_group().map_err(io_error)?;
        for column in &self.pending.columns {
            write_column(&mut group, column).map_err(io_error)?;
        }
        group.close().map_err(io_error)?;
        self.pending.clear();
        Ok(())
    }
}

fn write_column<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    column: &Column,
) -> Result<(), ParquetError> {
    let Some(mut writer) = group.next_column()? else {
        return Err(ParquetError::General("a row has more values than the file has columns".to_owned()));
    };
    let present = column.present.as_deref();
    match &column.values {
        Values::Text(values) => writer.typed::<ByteArrayType>().write_batch(values, present, None)?,
        Values::Whole(values) => writer.typed::<Int64Type>().write_batch(values, present, None)?,
        Values::Real(values) => writer.typed::<DoubleType>().write_batch(values, present, None)?,
        Values::Flag(values) => writer.typed::<BoolType>().write_batch(values, present, None)?,
    };
    writer.close()
}

fn schema(specs: &[Spec]) -> Result<TypePtr, ParquetError> {
    let field = |spec: &Spec| {
        let (physical, logical) = match spec.kind {
            Kind::Text => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Whole => (PhysicalType::INT64, None),
            Kind::Real => (PhysicalType::DOUBLE, None),
            Kind::Flag => (PhysicalType::BOOLEAN, None),
            Kind::Time => (PhysicalType::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        };
        let repetition = if spec.optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
        let built = Type::primitive_type_builder(spec.name, physical)
            .with_logical_type(logical)
            .with_repetition(repetition)
            .build();
        built.map(Arc::new)
    };
    let fields = specs.iter().map(field).collect::<Result<_, _>>()?;
    Ok(Arc::new(Type::group_type_builder("flows").with_fields(fields).build()?))
}

/// What the system said, where it did: callers tell a closed pipe from others.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
