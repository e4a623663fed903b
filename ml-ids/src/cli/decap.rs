//! `--decap`: the tunnels that are looked into, for every command that reads packets.

use clap::ValueEnum;
use ml_ids_common::Decap;

/// The flag.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct DecapArgs {
    /// Count the packets inside of these tunnels instead of the tunnels' own, a list with commas
    #[arg(long, value_enum, value_name = "TUNNELS", value_delimiter = ',')]
    decap: Vec<Tunnel>,
}

impl DecapArgs {
    /// The tunnels named.
    pub(super) fn tunnels(&self) -> Decap {
        self.decap.iter().fold(Decap::NONE, |all, tunnel| all.with(tunnel.kind()))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tunnel {
    /// VXLAN, UDP ports 4789 and 8472
    Vxlan,
    /// Geneve, UDP port 6081
    Geneve,
    /// GRE with IP or Ethernet inside, and ERSPAN
    Gre,
    /// IPv4 or IPv6 in either
    Ipip,
    /// All of these
    All,
}

impl Tunnel {
    const fn kind(self) -> Decap {
        match self {
            Self::Vxlan => Decap::VXLAN,
            Self::Geneve => Decap::GENEVE,
            Self::Gre => Decap::GRE,
            Self::Ipip => Decap::IPIP,
            Self::All => Decap::ALL,
        }
    }
}
