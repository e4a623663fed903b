//! The replay as `/health` and `/flows` show it: one interface, which says that it is none.

use std::sync::Arc;

use ml_ids_common::{Counters, FlowState};

use crate::{
    api::{Attach, FlowSource, Ingress, InterfaceHealth, InterfaceState, OpenFlows, TableFill},
    cli::wiring::{Front, open_flows},
    offline::{MAX_FLOWS, ReplayState, Speed},
};

/// The name of the interface that is none.
pub(super) const INTERFACE: &str = "demo";

/// A replay behind the API.
pub(super) struct DemoView {
    pub(super) replay: Arc<ReplayState>,
    pub(super) speed: Speed,
}

impl Front for DemoView {
    fn counters(&self) -> Counters {
        self.replay.counters()
    }

    fn interfaces(&self) -> Vec<InterfaceHealth> {
        vec![InterfaceHealth {
            name: INTERFACE.to_owned(),
            index: None,
            state: InterfaceState::Attached,
            attach: Attach::Mirror,
            ingress: Some(Ingress::Replay),
            egress: None,
            problems: Vec::new(),
        }]
    }

    fn table(&self) -> TableFill {
        let (capacity, used) = (MAX_FLOWS as u64, self.replay.entries());
        let memory_bytes = used * size_of::<FlowState>() as u64;
        TableFill { capacity, used, fill: used as f64 / capacity as f64, memory_bytes, pressed: false, presses: 0 }
    }

    fn notes(&self) -> Vec<String> {
        let pace = match self.speed {
            Speed::Times(times) => format!("{times} times as fast as it was recorded"),
            Speed::Max => "as fast as its flows are judged".to_owned(),
        };
        let over = if *self.replay.over().borrow() { "; it is over" } else { "" };
        let mut notes = vec![format!("demonstration: a capture is replayed {pace}, and no interface is watched{over}")];
        notes.extend(self.replay.damage().map(|damage| format!("demonstration: {damage}")));
        let jumps = self.replay.jumps();
        if jumps > 0 {
            notes.push(format!(
                "demonstration: the capture's clock jumped by more than an hour and was brought back ({jumps} times)"
            ));
        }
        notes
    }
}

impl FlowSource for DemoView {
    fn look(&self, most: usize) -> Result<OpenFlows, String> {
        Ok(open_flows(self.replay.look(most), |_| Some(INTERFACE.to_owned())))
    }
}
