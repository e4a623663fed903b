//! What the kernel's sweep does, for a replay that goes on as a live sensor would: flows end by time alone, and their entries
//! are given back.

use ml_ids_common::{EndReason, FlowRecord, LINGER_US, Life, SweepAction};

use super::{Replay, Slot, hash};

/// Fewer entries that are not in use are left where they are.
const FEW: usize = 1024;

impl Replay {
    /// Ends what is due at `now_us` of the capture's clock without another packet, by the rules of the kernel's sweep.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn sweep<E>(&mut self, now_us: u64, emit: &mut impl FnMut(FlowRecord) -> Result<(), E>) -> Result<(), E> {
        let mut vacant = 0;
        for Slot(flow) in &mut self.flows {
            match flow.sweep(now_us, LINGER_US, self.profile) {
                SweepAction::Keep => {}
                SweepAction::Emit(reason) => {
                    self.counters.flows.emitted += 1;
                    let ended = FlowRecord::finish(*flow, reason);
                    flow.life = Life::Emitted as u8;
                    emit(ended)?;
                }
                SweepAction::Discard => {
                    self.counters.flows.discarded += 1;
                    flow.life = Life::Emitted as u8;
                }
                SweepAction::Free | SweepAction::Evict => {
                    flow.vacate();
                    vacant += 1;
                }
            }
        }
        if vacant > FEW.max(self.flows.len() / 2) {
            self.compact();
        }
        Ok(())
    }

    /// Ends the flows that are still open, because the sensor is stopped. Returns how many were emitted, and how many are too
    /// short for the profile; the books do not count them as ended by themselves.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn flush<E>(&mut self, emit: &mut impl FnMut(FlowRecord) -> Result<(), E>) -> Result<(u64, u64), E> {
        let (mut flushed, mut discarded) = (0, 0);
        for Slot(flow) in self.flows.iter_mut().filter(|Slot(flow)| flow.life == Life::Open as u8) {
            if flow.packets() < self.profile.min_packets() {
                discarded += 1;
            } else {
                flushed += 1;
                emit(FlowRecord::finish(*flow, EndReason::Shutdown))?;
            }
            flow.vacate();
        }
        Ok((flushed, discarded))
    }

    /// Forgets the five-tuples that have no flow.
    fn compact(&mut self) {
        let Self { flows, table, hasher, .. } = self;
        flows.retain(|Slot(flow)| flow.life != Life::Vacant as u8);
        flows.shrink_to(2 * flows.len());
        table.clear();
        for (index, Slot(flow)) in (0..).zip(flows.iter()) {
            let rehash = |index: &u32| flows.get(*index as usize).map_or(0, |Slot(flow)| hash(hasher, &flow.key));
            table.insert_unique(hash(hasher, &flow.key), index, rehash);
        }
        table
            .shrink_to(flows.len(), |index| flows.get(*index as usize).map_or(0, |Slot(flow)| hash(hasher, &flow.key)));
    }
}
