//! The command line.

mod csv_rows;
pub mod exit;
pub mod model;
pub mod rows;
pub mod score;
