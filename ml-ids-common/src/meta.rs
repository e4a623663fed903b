//! What a pinned flow table says of itself, so that an agent that finds it knows whether it can go on with it.

/// Found in [`TableMeta::magic`] when the table has been prepared to the end.
pub const TABLE_READY: u64 = u64::from_le_bytes(*b"ml-ids t");

/// The one element of the map `META`. Written by the agent alone, through a memory mapping, so that it outlives the agent
/// even when that is killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TableMeta {
    /// [`TABLE_READY`], written after everything else.
    pub magic: u64,
    /// Digest of everything that the programs are loaded with.
    pub globals: u64,
    /// Inode of the network namespace whose interfaces are watched.
    pub namespace: u64,
    /// Records that an agent has taken out of the ring buffer.
    pub taken: u64,
    /// Of these, records whose verdict has been written.
    pub judged: u64,
    /// Slots.
    pub max_flows: u32,
    /// Bytes of the ring buffer.
    pub ring_bytes: u32,
    /// [`crate::Profile`] as its number.
    pub profile: u32,
    /// Process that works on the table, 0 when it has left in order.
    pub owner: u32,
}

const _: () = assert!(size_of::<TableMeta>() == 56);
