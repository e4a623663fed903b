//! What a body of `/predict` would be scored as, without a server or a model: the whole path from bytes to feature vectors.

use super::{
    TimeUnit,
    error::ApiError,
    predict_body::{Body, parse_json, parse_lines},
    row::Row,
};
use crate::features::FeatureVector;

/// The rows of a JSON body in their order.
///
/// # Errors
/// What a client would be told.
pub fn rows_of_json(body: &[u8], row_limit: usize, unit: TimeUnit) -> Result<Vec<FeatureVector>, String> {
    let rows = match parse_json(body, row_limit).map_err(told)? {
        Body::Single(row) => vec![*row],
        Body::Batch(rows) => rows,
        Body::Table(table) => table.rows,
    };
    rows.into_iter().enumerate().map(|(number, row)| finish(number, row, unit)).collect()
}

/// The row of each line of an NDJSON body that is not blank, or what the client would be told of that line.
#[must_use]
pub fn rows_of_lines(body: &[u8], unit: TimeUnit) -> Vec<Result<FeatureVector, String>> {
    let lines = parse_lines(body, 0).into_iter().enumerate();
    lines.map(|(number, row)| finish(number, row.map_err(told)?, unit)).collect()
}

fn finish(number: usize, row: Row, unit: TimeUnit) -> Result<FeatureVector, String> {
    row.finish(number, false, unit).map(|ready| ready.values).map_err(|fault| told(fault.into()))
}

fn told(error: ApiError) -> String {
    serde_json::to_string(&error.detail()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::find;

    #[test]
    fn a_body_is_read_into_the_values_that_the_model_gets() {
        let (index, _) = find("Flow Duration").unwrap();
        let rows = rows_of_json(br#"[{"Flow Duration": 7}]"#, 1, TimeUnit::default()).unwrap();
        assert_eq!(rows[0][index], 7.0);
        let lines = rows_of_lines(b"{\"Flow Duration\": 7}\n\n[]\n", TimeUnit::default());
        assert_eq!(lines[0].as_ref().map(|row| row[index]), Ok(7.0));
        assert_eq!((lines.len(), lines[1].is_err()), (2, true));
    }

    #[test]
    fn a_fault_is_what_the_client_is_told() {
        let told = rows_of_json(br#"{"Flow Duration": "x"}"#, 1, TimeUnit::default()).unwrap_err();
        assert!(told.contains("Flow Duration"), "{told}");
    }
}
