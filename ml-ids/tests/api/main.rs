//! The HTTP API over real sockets: every shape, every refusal, and clients that mean no good.

mod clients;
mod errors;
mod health;
mod hostile;
mod metrics;
mod model;
mod reload;
mod shapes;
mod source;
mod stream;
mod support;
