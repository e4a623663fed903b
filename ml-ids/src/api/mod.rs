//! The HTTP API: what clients send, what they get back, and what they may cost.
//!
//! ```text
//! server (places, TLS, limits, drain) ─► access ─► routes ─► index | health | model | metrics | reload | predict
//!                                                                                            │
//!              body, window (bytes) ─► predict_body (shapes) ─► row + units (78 numbers) ─► predictor ─► answer
//! ```
//!
//! An answer's [`Content`](content::Content) is whole, or comes in pieces while the client reads: lines of verdicts while
//! the request still arrives ([`predict_lines`]), or [`events`].
//!
//! Nothing here knows the model or the sensor: it asks them through [`Predictor`], [`ModelSource`], [`ModelWatch`] and
//! [`SensorHealth`].

mod access;
mod alerts;
mod answer;
mod body;
mod catalogue;
mod content;
mod error;
mod events;
mod features;
mod fixed;
mod flows;
mod follow;
mod health;
mod index;
mod interface;
mod limits;
mod metrics;
mod model;
mod openapi;
mod parameters;
mod places;
mod predict;
mod predict_body;
mod predict_lines;
mod predictor;
mod preview;
mod privileges;
mod pulse;
mod query;
mod reload;
mod requests;
mod routes;
mod row;
mod scorer;
mod server;
mod state;
mod table;
mod timed;
mod timeline;
mod tls;
mod token;
mod units;
mod walk;
mod window;
mod worded;

pub use access::{Access, AccessError, AccessFiles, AccessHealth};
pub use catalogue::{ANY, Endpoint, Media, Parameter, ROUTES, Reply, Route, UNAUTHORIZED};
pub use flows::{Flags, FlowSource, OpenFlow, OpenFlows};
pub use health::{
    BlockHealth, FlowBooks, HookPackets, Measures, OpenedAlerts, PacketBooks, QueueHealth, SensorHealth,
    SensorSnapshot, TableFill, VerdictCounts,
};
pub use interface::{Attach, Egress, Ingress, InterfaceHealth, InterfaceState};
pub use limits::Limits;
pub use predictor::{
    ClassDetails, Contribution, Explanation, ModelCard, ModelDetails, ModelSource, ModelWatch, Prediction, Predictor,
    Refresh, ReloadError, ReloadStatus, Reloaded, ShadowHealth, SourceLooks,
};
pub use preview::{rows_of_json, rows_of_lines};
pub use privileges::{PrivilegeHealth, PrivilegeState};
pub use server::serve;
pub use state::AppState;
pub use timeline::{Totals, record};
pub use tls::TlsError;
pub use token::TokenError;
pub use units::TimeUnit;
