//! The ML-IDS agent as a library: what the `ml-ids` binary is made of, one module a stage of the data flow.
//!
//! ```text
//! sensor ─┐
//!         ├─► features ─► model ─► detect ─► sink, respond, api
//! offline ┘
//! ```
pub mod alert;
pub mod api;
pub mod cli;
pub mod detect;
pub mod features;
pub mod histogram;
pub mod kubernetes;
pub mod model;
pub mod offline;
mod page;
pub mod privilege;
pub mod respond;
pub mod sensor;
pub mod sink;
