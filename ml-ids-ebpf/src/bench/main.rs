//! What `cargo xtask bench` compares the real programs with, and what makes its traffic. An object of its own; nothing
//! in it is ever attached.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod flood;
mod floor;
#[path = "../frame.rs"]
mod frame;
mod insert;
mod locks;
mod record;
#[path = "../scratch.rs"]
#[expect(dead_code, reason = "the comparisons cut nothing into segments")]
mod scratch;
mod split;
mod wire;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// Nothing at all: what a test run itself costs.
#[xdp(frags)]
fn empty_ingress(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Nothing at all, at the other hook.
#[classifier]
fn empty_egress(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// The licence that GPL-only helpers ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Required by the compiler; nothing refers to it.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
