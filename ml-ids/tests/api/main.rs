//! The HTTP API over real sockets: every shape, every refusal, and clients that mean no good.

mod clients;
mod contract;
mod errors;
mod health;
mod hostile;
mod metrics;
mod model;
mod openapi;
mod reload;
mod shapes;
mod source;
mod stream;
mod support;
