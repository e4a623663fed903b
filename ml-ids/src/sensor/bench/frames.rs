//! Frames that the bench is made with: minimal TCP segments over IPv4.

/// Bytes of the smallest Ethernet frame, without its checksum.
pub(super) const LENGTH: usize = 60;
/// Flag ACK.
pub(super) const ACK: u8 = 0x10;
/// Where the flags stand.
const FLAGS: usize = 47;

/// Ethernet, IPv4 from 10.0.0.0:1000 to 192.168.0.1:80, TCP with ACK. The destination's hardware address is nobody's, so a
/// host that receives the frame drops it as soon as it looks at it.
const FORWARD: [u8; LENGTH] = {
    let mut frame = [0; LENGTH];
    let headers = [
        0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, // Ethernet
        0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 0, 192, 168, 0, 1, // IPv4
        0x03, 0xe8, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, ACK, 0x72, 0x10, 0, 0, 0, 0, // TCP
    ];
    let mut index = 0;
    while index < headers.len() {
        frame[index] = headers[index];
        index += 1;
    }
    frame
};

/// A segment of a flow; the source address carries the flow's number.
pub(super) fn segment(flow: u32, flags: u8) -> [u8; LENGTH] {
    let mut frame = FORWARD;
    let [a, b, c, d] = flow.to_be_bytes();
    [frame[26], frame[27], frame[28], frame[29]] = [10 | a, b, c, d];
    frame[FLAGS] = flags;
    frame
}

/// The answer to [`segment`].
pub(super) fn answer(flow: u32, flags: u8) -> [u8; LENGTH] {
    let mut frame = segment(flow, flags);
    // Addresses, then ports.
    for (left, right, length) in [(26, 30, 4), (34, 36, 2)] {
        for index in 0..length {
            frame.swap(left + index, right + index);
        }
    }
    frame
}
