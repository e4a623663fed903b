//! The other design, in which the kernel sends a record of each packet and user space counts: both halves of its cost,
//! beside ours, where the kernel counts and user space meets a flow once.

use std::convert::Infallible;

use aya::maps::RingBuf;
use ml_ids_common::{Fragment, Hook, Packet, Profile, TcpFlags};

use super::{
    Report, figure,
    frames::{ACK, segment},
    least,
    programs::{Programs, time},
    thread_time,
    wire::PacketRecord,
};
use crate::{
    offline::Replay,
    sensor::{KernelReplay, Options, SensorError},
};

/// Packets of a round; the ring buffer has room for them.
const REPEAT: u32 = 200_000;
const ROUNDS: u32 = 9;

pub(super) fn measure(report: Report<'_>) -> Result<(), SensorError> {
    let mut programs = Programs::load()?;
    let mut ours = KernelReplay::load(&Options::default(), false)?;
    let records = programs.map("PACKETS")?;
    let mut records = RingBuf::try_from(records).map_err(|source| SensorError::Map { map: "PACKETS", source })?;
    let (sender, counter) = (programs.runner("record")?, ours.runner(Hook::Ingress)?);
    let frame = segment(1, ACK);
    let mut flows = Replay::new(Profile::Fixed);
    let (mut kernel, mut user, mut own) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        own = least([own, time(&counter, &frame, REPEAT)?]);
        kernel = least([kernel, time(&sender, &frame, REPEAT)?]);
        let began = thread_time();
        let mut read = 0u32;
        while let Some(item) = records.next() {
            let Some(record) = PacketRecord::from_bytes(&item) else { continue };
            let Ok(()) = flows.frame(Ok(record.packet()), record.length as usize, record.now_ns / 1_000, &mut |_| {
                Ok::<(), Infallible>(())
            });
            read += 1;
        }
        if read != REPEAT {
            return Err(SensorError::Missing("records of all packets"));
        }
        user = least([user, (thread_time() - began).as_nanos() as f64 / f64::from(read)]);
    }
    let mut figure = |name: &str, value, unit| figure(report, name, value, unit);
    figure("a record a packet: kernel", kernel, "ns/packet");
    figure("a record a packet: user space", user, "ns/packet");
    figure("flows counted in the kernel: kernel", own, "ns/packet");
    figure("a record a packet / flows counted in the kernel", (kernel + user) / own, "times");
    Ok(())
}

impl PacketRecord {
    /// Reads what the program has written.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<Self>() {
            return None;
        }
        let record: *const Self = bytes.as_ptr().cast();
        // SAFETY: as many bytes as the structure has, of which every pattern is valid.
        Some(unsafe { record.read_unaligned() })
    }

    fn packet(&self) -> Packet {
        Packet {
            key: self.key,
            from_b: self.from_b != 0,
            one_host: self.key.one_host(),
            header: self.header,
            flags: TcpFlags(self.flags),
            window: self.window,
            payload: self.payload,
            padded_payload: self.padded_payload,
            copies: 1,
            fragment: Fragment::NONE,
            datagram: 0,
        }
    }
}
