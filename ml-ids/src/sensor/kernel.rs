//! What the running kernel can do, found out by trying, and the object as that kernel takes it.
//!
//! The programs are one object for all kernels from 5.10 on. What a kernel lacks is switched off by a read-only global,
//! so that its verifier drops the branch, or taken out of the object before it is loaded.

use std::borrow::Cow;

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
    util::KernelVersion,
};

use super::{
    SensorError,
    refusal::{os_error, refused},
};

/// Section of the XDP programs that take frames in several buffers, and what older kernels call one that does not.
const FRAGS_SECTION: &[u8] = b"xdp.frags\0";
const PLAIN_SECTION: &[u8] = b"xdp\0frags\0";

/// What differs between kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// XDP programs may be given frames in several buffers and can ask for the whole length (Linux 5.18 and later). Without,
    /// native XDP refuses MTUs above some 3.5 KB, and such an interface is watched by generic XDP.
    pub(super) frags: bool,
}

impl Kernel {
    /// Asks the running kernel.
    ///
    /// # Errors
    /// When it lacks what nothing stands in for, or lets nobody load a program.
    pub(super) fn probe() -> Result<Self, SensorError> {
        // Otherwise the loader takes it for a kernel without global data, and says nothing that helps.
        if let Err(error) = is_program_supported(ProgramType::SchedClassifier)
            && os_error(&error) == Some(libc::EPERM)
        {
            return Err(refused("egress")(error));
        }
        // Whatever the probe cannot tell shows when the programs are loaded, with a message that says more.
        if matches!(is_map_supported(MapType::RingBuf), Ok(false)) {
            let found = KernelVersion::current().map_or_else(|_| "unknown".to_owned(), |version| version.to_string());
            return Err(SensorError::OldKernel { lacks: "ring buffers for eBPF programs", found });
        }
        // The length helper and the flag came with the same release.
        let frags = !matches!(is_helper_supported(ProgramType::Xdp, BpfHelper::BPF_FUNC_xdp_get_buff_len), Ok(false));
        Ok(Self { frags })
    }

    /// The object to load.
    pub(super) fn fit<'a>(&self, object: &'a [u8]) -> Cow<'a, [u8]> {
        if self.frags { Cow::Borrowed(object) } else { Cow::Owned(without_frags(object)) }
    }
}

/// Renames the section, in the string tables of ELF and of BTF: aya takes the load flag that older kernels refuse from
/// nothing but this name, and offers no way to take it back.
fn without_frags(object: &[u8]) -> Vec<u8> {
    let mut object = object.to_vec();
    let mut start = 0;
    while let Some(rest) = object.get_mut(start..)
        && let Some(found) = rest.windows(FRAGS_SECTION.len()).position(|window| window == FRAGS_SECTION)
    {
        if let Some(name) = rest.get_mut(found..found + FRAGS_SECTION.len()) {
            name.copy_from_slice(PLAIN_SECTION);
        }
        start += found + FRAGS_SECTION.len();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_kernel_gets_the_object_without_the_frags_flag_and_of_the_same_size() {
        let object = b"\0.relxdp.frags\0xdp.frags\0classifier\0";
        assert_eq!(&*Kernel { frags: false }.fit(object), b"\0.relxdp\0frags\0xdp\0frags\0classifier\0");
        assert_eq!(&*Kernel { frags: true }.fit(object), object);
    }
}
