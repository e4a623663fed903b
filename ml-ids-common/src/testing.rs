//! Frames built by hand, header by header from the inside out, for the tests of this crate.

use std::{vec, vec::Vec};

use crate::{Decap, Packet, Profile, Skip, SliceReader, parse_ethernet};

/// Behind an Ethernet header.
pub(crate) fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A VLAN tag of VLAN 5 and what comes after the EtherType of the tag.
pub(crate) fn tagged(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 5];
    bytes.extend_from_slice(&ethertype.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// IPv4 from 10.0.0.`from` to 10.0.0.`to`. `fragment` is the word of flags and offset; the identification is 7.
pub(crate) fn ipv4(from: u8, to: u8, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (20 + payload.len() as u16).to_be_bytes();
    let [flags, offset] = fragment.to_be_bytes();
    let mut bytes = vec![0x45, 0, high, low, 0, 7, flags, offset, 64, protocol, 0, 0, 10, 0, 0, from, 10, 0, 0, to];
    bytes.extend_from_slice(payload);
    bytes
}

/// IPv6 from fd00::`from` to fd00::`to`.
pub(crate) fn ipv6(from: u8, to: u8, next: u8, payload: &[u8]) -> Vec<u8> {
    let [high, low] = (payload.len() as u16).to_be_bytes();
    let mut bytes = vec![0x60, 0, 0, 0, high, low, next, 64];
    for host in [from, to] {
        bytes.extend_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// An IPv6 fragment header with identification 7.
pub(crate) fn fragment_header(next: u8, offset: u16, more: bool) -> [u8; 8] {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    [next, 0, high, low, 0, 0, 0, 7]
}

/// A UDP datagram.
pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&from.to_be_bytes());
    bytes.extend_from_slice(&to.to_be_bytes());
    bytes.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

/// One after the other.
pub(crate) fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub(crate) fn parse(frame: &[u8]) -> Result<Packet, Skip> {
    parse_in_tunnels(frame, Decap::NONE)
}

pub(crate) fn parse_in_tunnels(frame: &[u8], decap: Decap) -> Result<Packet, Skip> {
    parse_ethernet(&SliceReader(frame), frame.len() as u32, Profile::Fixed, decap)
}

/// Source and destination as their last byte and port, and the protocol.
pub(crate) fn five_tuple(packet: &Packet) -> (u8, u16, u8, u16, u8) {
    let last = |address: crate::Address| address.0[3].to_ne_bytes()[3];
    let key = packet.key;
    let (a, b) = ((last(key.addr_a), key.port_a), (last(key.addr_b), key.port_b));
    let ((source, source_port), (destination, destination_port)) = if packet.from_b { (b, a) } else { (a, b) };
    (source, source_port, destination, destination_port, key.protocol)
}
