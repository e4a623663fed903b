//! The HTTP API: what clients send, what they get back, and what they may cost.
//!
//! ```text
//! server (places, TLS, limits, drain) ─► access ─► routes ─► index | health | model | metrics | reload | predict
//!                                                                                            │
//!                     body (bytes) ─► predict_body (shapes) ─► row + units (78 numbers) ─► predictor ─► answer
//! ```
//!
//! Nothing here knows the model or the sensor: it asks them through [`Predictor`], [`ModelSource`], [`ModelWatch`] and
//! [`SensorHealth`].

mod access;
mod answer;
mod body;
mod error;
mod flows;
mod health;
mod index;
mod limits;
mod metrics;
mod model;
mod places;
mod predict;
mod predict_body;
mod predictor;
mod pulse;
mod query;
mod reload;
mod routes;
mod row;
mod server;
mod state;
mod table;
mod timed;
mod tls;
mod token;
mod units;
mod walk;

pub use access::{Access, AccessError, AccessFiles, AccessHealth};
pub use flows::{Flags, FlowSource, OpenFlow, OpenFlows};
pub use health::{
    Attach, BlockHealth, Egress, FlowBooks, HookPackets, Ingress, InterfaceHealth, InterfaceState, PacketBooks,
    QueueHealth, SensorHealth, SensorSnapshot, TableFill, VerdictCounts,
};
pub use limits::Limits;
pub use predictor::{
    ClassDetails, Contribution, Explanation, ModelCard, ModelDetails, ModelSource, ModelWatch, Prediction, Predictor,
    ReloadError, ReloadStatus, Reloaded, ShadowHealth,
};
pub use routes::{Endpoint, ROUTES, Route};
pub use server::serve;
pub use state::AppState;
pub use tls::TlsError;
pub use token::TokenError;
pub use units::TimeUnit;
